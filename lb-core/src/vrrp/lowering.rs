//! A handover without a channel to the peer: this node has the lowest priority until a peer has taken over, and keeps it
//! until a command takes that back. Works with every router that preempts.

use std::time::Duration;

use super::Role;

/// Intervals within which a peer takes over: it waits for three and its skew from the last advert on that it accepted, and
/// one may be lost.
const PATIENCE: u32 = 6;

/// Where a handover is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lowering {
    /// There is none: the configured priority counts.
    #[default]
    None,
    /// A peer should take over.
    Waiting {
        /// When it was asked for.
        since: Duration,
        /// When it is given up.
        until: Duration,
    },
    /// A peer has taken over.
    Done,
}

impl Lowering {
    /// Asked for now, by a node with this advert interval.
    #[must_use]
    pub fn begin(now: Duration, interval: Duration) -> Self {
        Self::Waiting { since: now, until: now.saturating_add(interval.saturating_mul(PATIENCE)) }
    }

    /// Whether the priority is the lowest one.
    #[must_use]
    pub const fn is_lowered(self) -> bool {
        !matches!(self, Self::None)
    }

    /// When to look next.
    #[must_use]
    pub const fn deadline(self) -> Option<Duration> {
        match self {
            Self::Waiting { until, .. } => Some(until),
            Self::None | Self::Done => None,
        }
    }

    /// Looks whether a peer has taken over: this node is not active any more and has heard one that is (`heard`: when, last).
    /// To have left the role is not enough, as a node that was late does so too. `false`: nobody did in time, and the
    /// configured priority counts again.
    #[must_use]
    pub fn look(&mut self, now: Duration, role: Role, heard: Option<Duration>) -> bool {
        let Self::Waiting { since, until } = *self else { return true };
        if role != Role::Active && heard.is_some_and(|heard| heard >= since) {
            *self = Self::Done;
        } else if now >= until {
            *self = Self::None;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_handover_is_done_when_a_peer_is_active_and_taken_back_when_none_was_in_time() {
        let waiting = Lowering::begin(s(100), s(1));
        assert_eq!((waiting.is_lowered(), waiting.deadline()), (true, Some(s(106))));
        for (now, role, heard, expected, in_time) in [
            (101, Role::Active, None, waiting, true),
            (104, Role::Backup, Some(104), Lowering::Done, true),
            // It was late itself, and has heard nobody since.
            (104, Role::Backup, Some(99), waiting, true),
            (104, Role::Backup, None, waiting, true),
            (106, Role::Backup, None, Lowering::None, false),
            (106, Role::Active, Some(105), Lowering::None, false),
            (200, Role::Backup, Some(101), Lowering::Done, true),
        ] {
            let mut lowering = waiting;
            let looked = lowering.look(s(now), role, heard.map(s));
            assert_eq!((lowering, looked), (expected, in_time), "{now} {role} {heard:?}");
        }
    }

    #[test]
    fn what_is_done_stays_so_and_what_is_not_asked_for_does_not_begin() {
        for mut lowering in [Lowering::Done, Lowering::None] {
            let before = lowering;
            assert!(lowering.look(s(1_000), Role::Active, None) && lowering.deadline().is_none());
            assert_eq!(lowering, before);
        }
        assert!(Lowering::Done.is_lowered() && !Lowering::None.is_lowered());
    }
}
