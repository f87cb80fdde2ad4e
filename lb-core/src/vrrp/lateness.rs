//! How punctual the one is that keeps leases: by how much it woke late, ever, of late, and how often.

use std::time::Duration;

/// Waking up later than this is counted: half of the shortest advert interval.
pub const LATE: Duration = Duration::from_millis(5);

/// What the worst *of late* is about: the last one to two of these. Long enough that no scrape misses it, short enough
/// that an alert ends when the cause has.
pub const LATENESS_WINDOW: Duration = Duration::from_secs(300);

/// Bounds of the histogram: from a timer on an idle machine, by [`LATE`], to what costs the role at the usual interval.
pub const LATENESS_BOUNDS: [Duration; 10] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_millis(1),
    LATE,
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(1_500),
];

/// Wake-ups that were due, by how late they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// The worst of all.
    pub max: Duration,
    /// Those later than [`LATE`].
    pub late: u64,
    /// All of them.
    pub count: u64,
    /// Of all.
    pub sum: Duration,
    /// By bound, each wake-up in the first one that it does not exceed; what exceeds them all is in none.
    buckets: [u64; LATENESS_BOUNDS.len()],
    window: Window,
}

/// The worst of this window and of the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    number: u64,
    worst: Duration,
    before: Duration,
}

impl Window {
    /// As it is in the window of `now`.
    fn at(self, now: Duration) -> Self {
        let number = now.as_secs() / LATENESS_WINDOW.as_secs();
        match number.saturating_sub(self.number) {
            0 => self,
            1 => Self { number, worst: Duration::ZERO, before: self.worst },
            _ => Self { number, worst: Duration::ZERO, before: Duration::ZERO },
        }
    }
}

impl Lateness {
    /// A wake-up at `now` that was due so long before.
    pub fn note(&mut self, now: Duration, late: Duration) {
        self.max = self.max.max(late);
        self.late += u64::from(late > LATE);
        self.count += 1;
        self.sum = self.sum.saturating_add(late);
        let fits = LATENESS_BOUNDS.iter().zip(&mut self.buckets).find(|(bound, _)| late <= **bound);
        if let Some((_, bucket)) = fits {
            *bucket += 1;
        }
        self.window = self.window.at(now);
        self.window.worst = self.window.worst.max(late);
    }

    /// The worst of late.
    #[must_use]
    pub fn recent_max(&self, now: Duration) -> Duration {
        let window = self.window.at(now);
        window.worst.max(window.before)
    }

    /// The histogram: each of [`LATENESS_BOUNDS`] with the number of wake-ups that were no later.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let sum = |total: &mut u64, here: &u64| {
            *total += here;
            Some(*total)
        };
        LATENESS_BOUNDS.into_iter().zip(self.buckets.iter().scan(0, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn noted(all: &[u64]) -> Lateness {
        let mut lateness = Lateness::default();
        for millis in all {
            lateness.note(ms(1_000), ms(*millis));
        }
        lateness
    }

    #[test]
    fn each_wake_up_counts_from_its_bound_on_and_late_is_what_exceeds_five_milliseconds() {
        let lateness = noted(&[0, 5, 6, 2_000]);
        assert_eq!((lateness.count, lateness.late, lateness.max, lateness.sum), (4, 2, ms(2_000), ms(2_011)));
        let counts: Vec<u64> = lateness.cumulative().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1, 1, 2, 3, 3, 3, 3, 3]);
    }

    #[test]
    fn bounds_of_the_histogram_grow() {
        assert!(LATENESS_BOUNDS.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn worst_of_late_is_forgotten_after_one_to_two_windows_and_the_worst_of_all_never() {
        let mut lateness = Lateness::default();
        let (start, window) = (LATENESS_WINDOW * 7, LATENESS_WINDOW);
        lateness.note(start, ms(900));
        assert_eq!(lateness.recent_max(start + window * 2 - ms(1)), ms(900));
        lateness.note(start + window, ms(3));
        assert_eq!(lateness.recent_max(start + window), ms(900));
        assert_eq!(lateness.recent_max(start + window * 2), ms(3));
        assert_eq!(lateness.recent_max(start + window * 3), Duration::ZERO);
        assert_eq!(lateness.max, ms(900));
    }
}
