//! Instructions that Rust does not emit by itself: compare-exchange on a map value, and an addition that stays as it is.
//! `core::sync::atomic` has no read-modify-write for the BPF target; the instruction
//! itself (Linux 5.12) works from inline assembly.

/// Replaces the word at `place` by `new` if it is `old`; says whether it did.
///
/// # Safety
/// `place` points to an aligned word inside a map value of which the verifier knows the bounds.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> bool {
    let seen: u64;
    // SAFETY: the caller vouches for the place; the instruction touches nothing else but r0.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            new = in(reg) new,
            inlateout("r0") old => seen,
        );
    }
    seen == old
}

/// The same on the host, so that the crate can be checked there.
///
/// # Safety
/// `place` points to an aligned word that is valid for reads and writes.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> bool {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: the caller vouches for the place.
    let word = unsafe { AtomicU64::from_ptr(place) };
    word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Adds to the word at `place`, which other CPUs may add to at the same time.
///
/// # Safety
/// As for [`compare_exchange`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn add_atomically(place: *mut u64, amount: u64) {
    // SAFETY: the caller vouches for the place; the instruction touches nothing else.
    unsafe {
        core::arch::asm!("lock *(u64 *)({place} + 0) += {amount}", place = in(reg) place, amount = in(reg) amount);
    }
}

/// The same on the host, so that the crate can be checked there.
///
/// # Safety
/// `place` points to an aligned word that is valid for reads and writes.
#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
pub unsafe fn add_atomically(place: *mut u64, amount: u64) {
    use core::sync::atomic::{AtomicU64, Ordering};
    // SAFETY: the caller vouches for the place.
    unsafe { AtomicU64::from_ptr(place) }.fetch_add(amount, Ordering::Relaxed);
}

/// The address behind a value of this type, calculated without letting the compiler know, so that it reads what the
/// loader put there instead of what it compiled in, and leaves a comparison with the end of a frame in the form that
/// the verifier recognises.
///
/// A real instruction: an empty one would give two source lines to the next, which the kernel refuses.
#[inline(always)]
#[must_use]
pub fn behind<T>(place: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut place = place;
        // SAFETY: adds a constant to a register, nothing else.
        unsafe {
            core::arch::asm!("{0} += {1}", inlateout(reg) place, const size_of::<T>(), options(pure, nomem, nostack))
        }
        place
    }
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(place.wrapping_add(size_of::<T>()))
}
