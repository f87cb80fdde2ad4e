//! Numbers that follow from a seed.

use std::cell::Cell;

use lb_common::hash::SplitMix64;

pub(crate) struct Random(Cell<SplitMix64>);

impl Random {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(Cell::new(SplitMix64(seed)))
    }

    pub(crate) fn word(&self) -> u64 {
        let mut numbers = self.0.get();
        let word = numbers.draw();
        self.0.set(numbers);
        word
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
