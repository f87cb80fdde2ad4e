//! Alarms about the data path: what enters one, and what it takes to leave it again, so that a value at the threshold
//! does not enter and leave all the time.

use std::time::Duration;

/// How long nothing must have been counted until it is over.
pub const CALM: Duration = Duration::from_secs(10);

/// The flow table is too full: above half of its entries flows begin to find no place. Left below 45 %.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadAlarm {
    raised: bool,
}

/// An alarm began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is raised from now on.
    Entered,
    /// It is over.
    Left,
}

impl LoadAlarm {
    /// Whether it is raised.
    #[must_use]
    pub const fn is_raised(&self) -> bool {
        self.raised
    }

    /// Takes note of the entries in use.
    pub fn observe(&mut self, used: u64, capacity: u64) -> Option<Change> {
        let (used, capacity) = (u128::from(used), u128::from(capacity));
        if !self.raised && used * 2 > capacity {
            self.raised = true;
            return Some(Change::Entered);
        }
        if self.raised && used * 100 < capacity * 45 {
            self.raised = false;
            return Some(Change::Left);
        }
        None
    }
}

/// Something happens that should not, as a counter tells that only grows: new flows come faster than they may be
/// stored, redirected frames are lost. Entered with the first time, left after [`CALM`] without another.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrowthAlarm {
    counted: Option<u64>,
    growth: Option<Growth>,
}

/// A time of growth, from the first to the last so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// When it was first seen.
    pub since: Duration,
    /// When it was last seen.
    pub last: Duration,
    /// How much was counted in it.
    pub count: u64,
}

/// A time of growth began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrowthChange {
    /// It has begun.
    Entered(Growth),
    /// It is over.
    Left(Growth),
}

impl GrowthAlarm {
    /// The growth that goes on, if one does.
    #[must_use]
    pub const fn growth(&self) -> Option<Growth> {
        self.growth
    }

    /// Takes note of the counter. What it says first belongs to the past.
    pub fn observe(&mut self, now: Duration, counter: u64) -> Option<GrowthChange> {
        let more = counter.wrapping_sub(self.counted.unwrap_or(counter));
        self.counted = Some(counter);
        match &mut self.growth {
            None if more > 0 => {
                let growth = Growth { since: now, last: now, count: more };
                self.growth = Some(growth);
                Some(GrowthChange::Entered(growth))
            }
            Some(growth) if more > 0 => {
                growth.last = now;
                growth.count = growth.count.saturating_add(more);
                None
            }
            Some(growth) if now.saturating_sub(growth.last) >= CALM => {
                let growth = *growth;
                self.growth = None;
                Some(GrowthChange::Left(growth))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_more_than_half_full_raises_the_alarm_until_it_is_well_below() {
        let mut alarm = LoadAlarm::default();
        let changes = [0, 512, 513, 900, 512, 461, 460, 461, 512, 513].map(|used| alarm.observe(used, 1_024));
        let (entered, left) = (Some(Change::Entered), Some(Change::Left));
        assert_eq!(changes, [None, None, entered, None, None, None, left, None, None, entered]);
        assert!(alarm.is_raised());
    }

    #[test]
    fn the_largest_numbers_are_compared_without_overflow() {
        let mut alarm = LoadAlarm::default();
        assert_eq!(alarm.observe(u64::MAX, u64::MAX), Some(Change::Entered));
        assert_eq!(alarm.observe(u64::MAX / 2, u64::MAX), None);
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn growth_begins_with_the_first_time_and_ends_after_calm() {
        let mut alarm = GrowthAlarm::default();
        assert_eq!(alarm.observe(at(0), 0), None);
        let begun = Growth { since: at(1), last: at(1), count: 7 };
        assert_eq!(alarm.observe(at(1), 7), Some(GrowthChange::Entered(begun)));
        assert_eq!(alarm.observe(at(2), 10), None);
        assert_eq!(alarm.observe(at(11), 10), None, "nine seconds of calm");
        assert_eq!(alarm.observe(at(11), 11), None, "and on it goes");
        assert_eq!(alarm.observe(at(20), 11), None);
        let ended = Growth { since: at(1), last: at(11), count: 11 };
        assert_eq!(alarm.observe(at(21), 11), Some(GrowthChange::Left(ended)));
        assert_eq!(alarm.growth(), None);
        assert!(matches!(alarm.observe(at(22), 12), Some(GrowthChange::Entered(Growth { count: 1, .. }))));
    }

    #[test]
    fn what_an_earlier_daemon_saw_is_no_growth_of_this_one() {
        let mut alarm = GrowthAlarm::default();
        assert_eq!(alarm.observe(at(0), 1_000_000), None);
        assert_eq!(alarm.observe(at(1), 1_000_000), None);
        assert!(matches!(
            alarm.observe(at(2), 1_000_001),
            Some(GrowthChange::Entered(Growth { count: 1, .. }))
        ));
    }
}
