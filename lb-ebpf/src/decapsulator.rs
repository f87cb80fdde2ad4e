//! The decapsulator's world on BPF maps.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::maps::lpm_trie::Key;
use lb_common::decap::{DecapOutcome, DecapWorld};

use crate::frame::Frame;
use crate::maps;

/// The key of an LPM trie placed so that its address part, four bytes behind the prefix length, is where the verifier
/// allows writes of eight bytes to the stack.
#[repr(C, align(8))]
struct Aligned<T> {
    before: u32,
    key: Key<T>,
}

impl<T> Aligned<T> {
    #[inline(always)]
    const fn new(prefix_length: u32, address: T) -> Self {
        Self { before: 0, key: Key::new(prefix_length, address) }
    }
}

impl DecapWorld for Frame<'_> {
    #[inline(always)]
    fn is_balancer4(&self, address: u32) -> bool {
        maps::DECAP_FROM4.get(&Aligned::new(32, address).key).is_some()
    }

    #[inline(always)]
    fn is_balancer6(&self, address: &[u32; 4]) -> bool {
        maps::DECAP_FROM6.get(&Aligned::new(128, *address).key).is_some()
    }

    #[inline(always)]
    fn vip4(&self, address: u32) -> bool {
        maps::DECAP_VIPS4.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn vip6(&self, address: &[u32; 4]) -> bool {
        maps::DECAP_VIPS6.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn count(&self, outcome: DecapOutcome) {
        // SAFETY: the helper has no preconditions.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        let row = cpu.wrapping_mul(maps::DECAP_COUNTERS_PER_CPU).wrapping_add(outcome as u32);
        if let Some(place) = maps::DECAP_COUNTERS.get_ptr_mut(row) {
            // SAFETY: inside the map; only this CPU writes the row.
            let now = unsafe { place.read() };
            // SAFETY: as above.
            unsafe { place.write(now.wrapping_add(1)) };
        }
    }
}
