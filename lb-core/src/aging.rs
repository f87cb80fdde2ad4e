//! When an entry of the flow table has been idle for too long.

use std::time::Duration;

use lb_common::flow::{FlowEntry, TICK_SHIFT, TICKS, age};

use crate::config::Timeouts;

/// How long a flow of which only the first packet was seen is kept: longer than TCP repeats a SYN (RFC 6298 with six
/// repetitions ends after 63 s), short enough for a flood of them.
pub const UNCONFIRMED_IDLE: Duration = Duration::from_secs(64);

/// Idle times of a service in ticks of the flow table, rounded up: a flow is never given up early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    established: u16,
    closing: u16,
    udp: u16,
    unconfirmed: u16,
}

impl From<&Timeouts> for Idle {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            established: ticks(timeouts.established),
            closing: ticks(timeouts.closing),
            udp: ticks(timeouts.udp),
            unconfirmed: ticks(UNCONFIRMED_IDLE.min(timeouts.established)),
        }
    }
}

impl Idle {
    /// Whether an entry is past its time at tick `now`.
    #[must_use]
    pub fn is_over(&self, entry: FlowEntry, now: u16) -> bool {
        let limit = if entry.is(FlowEntry::UDP) {
            self.udp
        } else if entry.is(FlowEntry::CLOSING) {
            self.closing
        } else if entry.is(FlowEntry::CONFIRMED) {
            self.established
        } else {
            self.unconfirmed
        };
        age(now, entry.tick()) > limit
    }
}

/// Ticks after which at least this time has passed, whatever the moment within the first one. At most what a signed age
/// can say.
fn ticks(time: Duration) -> u16 {
    let whole = time.as_nanos().div_ceil(1 << TICK_SHIFT);
    u16::try_from(whole).unwrap_or(u16::MAX).min(TICKS / 2 - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_nanos(1 << TICK_SHIFT);

    fn idle() -> Idle {
        Idle::from(&Timeouts { established: TICK * 100, closing: TICK * 3, udp: TICK * 7 })
    }

    #[test]
    fn each_kind_of_flow_has_its_own_time() {
        let confirmed = FlowEntry::CONFIRMED;
        for (state, limit) in [
            (confirmed, 100),
            (confirmed | FlowEntry::CLOSING, 3),
            (FlowEntry::UDP, 7),
            (FlowEntry::UDP | confirmed, 7),
            (0, 8),
            (confirmed | FlowEntry::EXCEPTION, 100),
        ] {
            let entry = FlowEntry::new(1, 1, 10, state);
            assert!(!idle().is_over(entry, 10 + limit), "state {state:#b}: kept at {limit}");
            assert!(idle().is_over(entry, 11 + limit), "state {state:#b}: over after {limit}");
        }
    }

    #[test]
    fn a_flow_is_never_given_up_early() {
        // Stored at the very end of tick 0, half a tick of timeout: one tick on is too early.
        let idle = Idle::from(&Timeouts { established: TICK / 2, closing: TICK / 2, udp: TICK / 2 });
        assert!(!idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::UDP), 1));
        assert!(idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::UDP), 2));
    }

    #[test]
    fn the_longest_time_still_ends() {
        let idle =
            Idle::from(&Timeouts { established: Duration::from_secs(1 << 20), closing: TICK, udp: TICK });
        assert!(idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::CONFIRMED), TICKS / 2 - 1));
    }
}
