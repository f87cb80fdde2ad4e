//! When an entry of the flow table has been idle for too long.

use std::time::Duration;

use lb_common::flow::{TICK_SHIFT, TICKS};
use lb_common::idle::IdleTicks;

use crate::config::Timeouts;

/// How long a flow of which only the first packet was seen is kept: longer than TCP repeats a SYN (RFC 6298 with six
/// repetitions ends after 63 s), short enough for a flood of them.
pub const UNCONFIRMED_IDLE: Duration = Duration::from_secs(64);

/// Idle times of a service in ticks of the flow table, rounded up: a flow is never given up early.
#[must_use]
pub fn idle_ticks(timeouts: &Timeouts) -> IdleTicks {
    let Timeouts { established, closing, udp } = *timeouts;
    IdleTicks::new(ticks(established), ticks(closing), ticks(udp), ticks(UNCONFIRMED_IDLE.min(established)))
}

/// Ticks after which at least this time has passed, whatever the moment within the first one. At most what an
/// age can exceed, with room to spare for a daemon that was away.
fn ticks(time: Duration) -> u16 {
    let whole = time.as_nanos().div_ceil(1 << TICK_SHIFT);
    u16::try_from(whole).unwrap_or(u16::MAX).min(TICKS / 2 - 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::flow::FlowEntry;

    const TICK: Duration = Duration::from_nanos(1 << TICK_SHIFT);

    #[test]
    fn each_kind_of_flow_has_its_own_time() {
        let idle = idle_ticks(&Timeouts { established: TICK * 100, closing: TICK * 3, udp: TICK * 7 });
        assert_eq!(idle, IdleTicks::new(100, 3, 7, 8));
        let short = idle_ticks(&Timeouts { established: TICK * 2, closing: TICK, udp: TICK });
        assert_eq!(
            short,
            IdleTicks::new(2, 1, 1, 2),
            "the unconfirmed are not kept for longer than the others"
        );
    }

    #[test]
    fn a_flow_is_never_given_up_early() {
        // Stored at the very end of tick 0, half a tick of timeout: one tick on is too early.
        let idle = idle_ticks(&Timeouts { established: TICK / 2, closing: TICK / 2, udp: TICK / 2 });
        assert!(!idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::UDP), 1));
        assert!(idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::UDP), 2));
    }

    #[test]
    fn the_longest_time_still_ends() {
        let idle =
            idle_ticks(&Timeouts { established: Duration::from_secs(1 << 20), closing: TICK, udp: TICK });
        assert!(idle.is_over(FlowEntry::new(1, 1, 0, FlowEntry::CONFIRMED), TICKS / 2 - 1));
    }
}
