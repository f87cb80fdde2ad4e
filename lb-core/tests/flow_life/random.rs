//! Numbers that follow from a seed: splitmix64.

use std::cell::Cell;

pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    pub(crate) fn word(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&self, end: usize) -> usize {
        let product = u128::from(self.word()) * end as u128;
        usize::try_from(product >> 64).expect("below the end")
    }

    /// Once in `times`.
    pub(crate) fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }
}
