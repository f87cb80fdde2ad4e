//! What is fixed when the program is loaded: frozen into its read-only data, so that the verifier sees constants.

use core::mem::size_of;

use crate::hash::HashKey;

/// Load-time settings of the balancer program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Secret multipliers of the flow hash.
    pub key: HashKey,
    /// Buckets of the flow table minus one; the number of buckets is a power of two.
    pub bucket_mask: u32,
    /// Rows of BACKENDS, and of the slot counters for each CPU.
    pub slots: u32,
    /// 1 if the 5-tuple of each stored flow is kept for listings.
    pub flow_tuples: u32,
    /// New flows stored in a window on one CPU at most ([`crate::guard`]); 0: no guard.
    pub guard_per_window: u32,
}

const _: () = assert!(size_of::<Settings>() == size_of::<HashKey>() + 16);
