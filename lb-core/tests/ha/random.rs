//! Numbers that follow from a seed.

use lb_common::hash::SplitMix64;

pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self(SplitMix64(seed))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.0.draw()) * u128::from(end);
        u64::try_from(product >> 64).expect("below the end")
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below the end")
    }

    /// Once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number of nanoseconds: between so many hundredths of an interval.
    pub(crate) fn hundredths(&mut self, interval: u64, from: u64, to: u64) -> u64 {
        interval / 100 * from + self.below(interval / 100 * (to - from) + 1)
    }
}
