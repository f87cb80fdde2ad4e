//! Alarms about the flow table: what enters one, and what it takes to leave it again, so that a value at the threshold
//! does not enter and leave all the time.

use std::time::Duration;

/// New flows must have been within the rate for this long until a flood is over.
pub const FLOOD_CALM: Duration = Duration::from_secs(10);

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

/// New flows come faster than they may be stored. Entered with the first that was not stored for that, left after
/// [`FLOOD_CALM`] without another.
#[derive(Clone, Copy, Debug, Default)]
pub struct FloodAlarm {
    counted: Option<u64>,
    flood: Option<Flood>,
}

/// A flood, from its first flow that was not stored to the last one so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// When it was first seen.
    pub since: Duration,
    /// When it was last seen.
    pub last: Duration,
    /// Flows that were not stored.
    pub flows: u64,
}

/// A flood began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodChange {
    /// It has begun.
    Entered(Flood),
    /// It is over.
    Left(Flood),
}

impl FloodAlarm {
    /// The flood that goes on, if one does.
    #[must_use]
    pub const fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// Takes note of the counter of flows that the guard kept out. What it says first belongs to the past.
    pub fn observe(&mut self, now: Duration, guarded: u64) -> Option<FloodChange> {
        let more = guarded.wrapping_sub(self.counted.unwrap_or(guarded));
        self.counted = Some(guarded);
        match &mut self.flood {
            None if more > 0 => {
                let flood = Flood { since: now, last: now, flows: more };
                self.flood = Some(flood);
                Some(FloodChange::Entered(flood))
            }
            Some(flood) if more > 0 => {
                flood.last = now;
                flood.flows = flood.flows.saturating_add(more);
                None
            }
            Some(flood) if now.saturating_sub(flood.last) >= FLOOD_CALM => {
                let flood = *flood;
                self.flood = None;
                Some(FloodChange::Left(flood))
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
    fn a_flood_begins_with_the_first_flow_kept_out_and_ends_after_calm() {
        let mut alarm = FloodAlarm::default();
        assert_eq!(alarm.observe(at(0), 0), None);
        let begun = Flood { since: at(1), last: at(1), flows: 7 };
        assert_eq!(alarm.observe(at(1), 7), Some(FloodChange::Entered(begun)));
        assert_eq!(alarm.observe(at(2), 10), None);
        assert_eq!(alarm.observe(at(11), 10), None, "nine seconds of calm");
        assert_eq!(alarm.observe(at(11), 11), None, "and on it goes");
        assert_eq!(alarm.observe(at(20), 11), None);
        let ended = Flood { since: at(1), last: at(11), flows: 11 };
        assert_eq!(alarm.observe(at(21), 11), Some(FloodChange::Left(ended)));
        assert_eq!(alarm.flood(), None);
        assert!(matches!(alarm.observe(at(22), 12), Some(FloodChange::Entered(Flood { flows: 1, .. }))));
    }

    #[test]
    fn what_an_earlier_daemon_saw_is_no_flood_of_this_one() {
        let mut alarm = FloodAlarm::default();
        assert_eq!(alarm.observe(at(0), 1_000_000), None);
        assert_eq!(alarm.observe(at(1), 1_000_000), None);
        assert!(matches!(
            alarm.observe(at(2), 1_000_001),
            Some(FloodChange::Entered(Flood { flows: 1, .. }))
        ));
    }
}
