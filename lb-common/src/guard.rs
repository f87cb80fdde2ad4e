//! The flood guard's arithmetic: how many new flows a CPU has seen in the present window, as one word; and the row of
//! the GUARD map, which a CPU has for this, for its clock and for what else a new flow needs.

use crate::flow::{TICK_SHIFT, TICKS};

/// Words of a CPU's row: one cache line.
pub const GUARD_WORDS: usize = 8;
/// The word of a CPU's row that is its [`GuardWord`].
pub const COUNT_WORD: usize = 0;
/// The word of a CPU's row that is its [`ClockWord`].
pub const CLOCK_WORD: usize = 1;
/// The word of a CPU's row that is [`IdleTicks`](crate::idle::IdleTicks): the longest idle times of all services, the
/// same in all rows, written by user space.
pub const IDLE_WORD: usize = 2;

/// Nanoseconds of a window as a power of two: 2^24 ns, 16.8 ms. A few ticks of the coarse clock, and short enough for a
/// flood to be met at once.
pub const WINDOW_SHIFT: u32 = 24;

/// The window of a moment of CLOCK_MONOTONIC in nanoseconds. Wraps after two years.
#[inline(always)]
#[must_use]
pub const fn window_of(monotonic_ns: u64) -> u32 {
    (monotonic_ns >> WINDOW_SHIFT) as u32
}

/// The tick of flow entries that a window is in: [`crate::flow::tick_of`] any of its moments.
#[inline(always)]
#[must_use]
pub const fn tick_of_window(window: u32) -> u16 {
    (window >> (TICK_SHIFT - WINDOW_SHIFT)) as u16 & (TICKS - 1)
}

/// When a CPU looked at the clock last, in jiffies (upper half, without those above 2^32), and the window that it saw.
/// The jiffies come again after 49 days or more: only a CPU that saw no packet for exactly as long, or none since the
/// map was made, five minutes after boot (when the jiffies pass 0), takes the old window for the present one, for a
/// jiffy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClockWord(pub u64);

impl ClockWord {
    /// Packs the word.
    #[inline(always)]
    #[must_use]
    pub const fn new(jiffies: u64, window: u32) -> Self {
        Self((jiffies << 32) | window as u64)
    }

    /// The window, if it was seen in this jiffy.
    #[inline(always)]
    #[must_use]
    pub const fn window_at(self, jiffies: u64) -> Option<u32> {
        if self.0 >> 32 == jiffies & u32::MAX as u64 { Some(self.0 as u32) } else { None }
    }
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
    use crate::flow::tick_of;

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
    fn the_tick_of_a_window_is_the_tick_of_each_of_its_moments() {
        for tick in [0, 1, 7, 2_047, 2_048, 2_049, (1 << 31) - 1] {
            let first = tick << TICK_SHIFT;
            for at in [first, first + 1, first + (1 << WINDOW_SHIFT), first + ((1 << TICK_SHIFT) - 1)] {
                assert_eq!(tick_of_window(window_of(at)), tick_of(at), "{at}");
            }
        }
    }

    #[test]
    fn a_window_is_known_in_the_jiffy_that_it_was_seen_in() {
        for jiffies in [0, 7, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let word = ClockWord::new(jiffies, 5);
            assert_eq!(word.window_at(jiffies), Some(5), "{jiffies}");
            assert_eq!(word.window_at(jiffies.wrapping_add(1)), None, "{jiffies}");
        }
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
