//! The flood guard's arithmetic: how many new flows a CPU has seen in the present window, as one word.

/// Nanoseconds of a window as a power of two: 2^24 ns, 16.8 ms. A few ticks of the coarse clock, and short enough for a
/// flood to be met at once.
pub const WINDOW_SHIFT: u32 = 24;

/// The window of a moment of CLOCK_MONOTONIC in nanoseconds. Wraps after two years.
#[inline(always)]
#[must_use]
pub const fn window_of(monotonic_ns: u64) -> u32 {
    (monotonic_ns >> WINDOW_SHIFT) as u32
}

/// New flows in a window that keep to a rate; 0, which is no guard, only for 0.
#[must_use]
pub const fn per_window(per_second: u32) -> u32 {
    (((per_second as u64) << WINDOW_SHIFT).div_ceil(1_000_000_000)) as u32
}

/// Number of a window (upper half) and the new flows in it (lower half).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GuardWord(pub u64);

impl GuardWord {
    /// Packs the word.
    #[inline(always)]
    #[must_use]
    pub const fn new(window: u32, count: u32) -> Self {
        Self(((window as u64) << 32) | count as u64)
    }

    /// The word after one more new flow in `window`.
    #[inline(always)]
    #[must_use]
    pub const fn count(self, window: u32) -> Self {
        if (self.0 >> 32) as u32 == window {
            Self::new(window, (self.0 as u32).saturating_add(1))
        } else {
            Self::new(window, 1)
        }
    }

    /// Whether the flow that was counted last may be stored.
    #[inline(always)]
    #[must_use]
    pub const fn admits(self, limit: u32) -> bool {
        self.0 as u32 <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_limit_are_admitted_in_each_window() {
        let mut word = GuardWord::default();
        for window in [1, 2, 9, u32::MAX, 0] {
            let admitted = (0..10).filter(|_| {
                word = word.count(window);
                word.admits(4)
            });
            assert_eq!(admitted.collect::<std::vec::Vec<_>>(), [0, 1, 2, 3], "window {window}");
        }
    }

    #[test]
    fn a_count_never_wraps_to_admit_again() {
        let full = GuardWord::new(7, u32::MAX).count(7);
        assert_eq!(full, GuardWord::new(7, u32::MAX));
        assert!(!full.admits(u32::MAX - 1));
    }

    #[test]
    fn windows_follow_the_clock() {
        assert_eq!((window_of((1 << 24) - 1), window_of(1 << 24)), (0, 1));
        assert_eq!(window_of(u64::MAX), u32::MAX);
    }

    #[test]
    fn a_rate_becomes_flows_of_a_window_and_only_none_becomes_none() {
        for (per_second, expected) in
            [(0, 0), (1, 1), (59, 1), (60, 2), (500_000, 8_389), (u32::MAX, 72_057_595)]
        {
            assert_eq!(per_window(per_second), expected, "{per_second}");
        }
    }
}
