//! A memory-mapped array map: reads and writes without system calls.

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};

/// The values of a BPF array map with `BPF_F_MMAPABLE` (Linux 5.5), shared with the kernel and other processes.
pub struct Mapped<T> {
    memory: MmapRaw,
    entries: usize,
    value: PhantomData<T>,
}

/// Types whose values may lie in a mapped array: `repr(C)`, no padding, any bytes are a value, size a multiple of eight.
///
/// # Safety
/// All of the above must hold.
pub unsafe trait Row {}

// SAFETY: integers, and lb-common's map rows, whose layouts are asserted there.
unsafe impl Row for u64 {}
// SAFETY: as above.
unsafe impl Row for [u64; 8] {}
// SAFETY: as above.
unsafe impl Row for [u16; 32] {}
// SAFETY: as above.
unsafe impl Row for lb_common::egress::EgressRow {}
// SAFETY: as above.
unsafe impl Row for lb_common::egress::EgressFaults {}
// SAFETY: as above.
unsafe impl Row for lb_common::egress::WatchRow {}
// SAFETY: as above.
unsafe impl Row for lb_common::counters::SlotCounter {}
// SAFETY: as above; the atomic word has the layout of a u64.
unsafe impl Row for lb_common::backend::BackendRow {}
// SAFETY: as above.
unsafe impl Row for super::layout::Meta {}
// SAFETY: as above.
unsafe impl Row for lb_common::trace::TraceRow {}
// SAFETY: forty octets of a tuple as five words.
unsafe impl Row for [u64; 5] {}

impl<T: Row> Mapped<T> {
    /// Maps the array behind `map`, which has `entries` values of type `T`.
    ///
    /// # Errors
    /// If the kernel refuses, for instance because the map is not mappable or smaller.
    pub fn new(map: impl AsFd, entries: u32) -> Result<Self> {
        ensure!(size_of::<T>().is_multiple_of(8), "array values are rounded up to eight bytes");
        let entries = entries as usize;
        let memory = MmapOptions::new()
            .len(entries * size_of::<T>())
            .map_raw(map.as_fd().as_raw_fd())
            .context("the map could not be mapped into memory")?;
        Ok(Self { memory, entries, value: PhantomData })
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are no values.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Words of eight bytes in all values.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.entries * (size_of::<T>() / 8)
    }

    /// One aligned word, counted from the start of the array.
    ///
    /// # Panics
    /// If there is no such word.
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words(), "word {index} of {}", self.words());
        // SAFETY: inside the mapping, as just checked.
        let place = unsafe { self.memory.as_mut_ptr().cast::<u64>().add(index) };
        // SAFETY: aligned (the mapping is to a page), valid as long as self, and only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(place) }
    }

    /// All words, from the start of the array.
    #[must_use]
    pub fn all_words(&self) -> &[AtomicU64] {
        let first = self.memory.as_mut_ptr().cast::<AtomicU64>();
        // SAFETY: the mapping is aligned to a page, has that many words, is valid as long as self, and is only ever accessed
        // atomically; an atomic word has the layout of a u64.
        unsafe { std::slice::from_raw_parts(first, self.words()) }
    }

    /// One aligned half word, counted from the start of the array.
    ///
    /// # Panics
    /// If there is no such half word.
    #[must_use]
    pub fn short(&self, index: usize) -> &AtomicU16 {
        assert!(index < self.words() * 4, "short {index} of {}", self.words() * 4);
        // SAFETY: inside the mapping, as just checked.
        let place = unsafe { self.memory.as_mut_ptr().cast::<u16>().add(index) };
        // SAFETY: as for words.
        unsafe { AtomicU16::from_ptr(place) }
    }

    /// One value, word by word; a value that is written meanwhile may be torn.
    #[must_use]
    pub fn read(&self, index: usize) -> T {
        let words = size_of::<T>() / 8;
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        for word in 0..words {
            let bits = self.word(index * words + word).load(Ordering::Acquire);
            // SAFETY: `word` is below the number of words of the value.
            let place = unsafe { value.as_mut_ptr().cast::<u64>().add(word) };
            // SAFETY: inside the value; rows are aligned to at most eight bytes, which write_unaligned does not need.
            unsafe { place.write_unaligned(bits) };
        }
        // SAFETY: all words were written, and any bytes are a value of a row.
        unsafe { value.assume_init() }
    }

    /// Writes one value, word by word from `from_word` on.
    pub fn write(&self, index: usize, value: &T, from_word: usize) {
        let words = size_of::<T>() / 8;
        for word in from_word..words {
            // SAFETY: `word` is below the number of words of the value.
            let place = unsafe { std::ptr::from_ref(value).cast::<u64>().add(word) };
            // SAFETY: inside the value.
            let bits = unsafe { place.read_unaligned() };
            self.word(index * words + word).store(bits, Ordering::Release);
        }
    }
}
