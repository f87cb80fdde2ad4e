//! When many backends are probed for the first time.

use std::time::Duration;

/// Within this time all backends nothing is known about have been probed once, however many they are.
const COLD: Duration = Duration::from_millis(100);

/// The first two probes of a backend, counted from the moment it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The first one, soon: until then the backend does not serve.
    pub(super) first: Duration,
    /// One more, early: from here on the backends take turns over the whole interval.
    pub(super) phase: Duration,
}

/// The start of number `rank` (from 0) of `count` backends that were added together.
pub(super) fn start(rank: usize, count: usize, interval: Duration) -> Start {
    let share = |window: Duration| {
        let (rank, count) = (u128::try_from(rank).unwrap_or(0), u128::try_from(count.max(1)).unwrap_or(1));
        // At most the window's own nanoseconds, which fit unless it is longer than 584 years.
        Duration::from_nanos(u64::try_from(window.as_nanos() * rank / count).unwrap_or(0))
    };
    let first = share(COLD.min(interval));
    Start { first, phase: first + share(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn backend_alone_is_probed_at_once() {
        assert_eq!(start(0, 1, ms(1000)), Start { first: ms(0), phase: ms(0) });
    }

    #[test]
    fn many_are_probed_within_100_ms_and_then_take_turns_over_the_interval() {
        let starts: Vec<Start> = (0..10).map(|rank| start(rank, 10, ms(2000))).collect();
        for (rank, at) in (0..).zip(&starts) {
            assert_eq!(*at, Start { first: ms(10 * rank), phase: ms(210 * rank) });
        }
    }

    #[test]
    fn interval_shorter_than_the_cold_window_is_the_window() {
        assert_eq!(start(3, 4, ms(40)), Start { first: ms(30), phase: ms(60) });
    }
}
