//! When to tell the link who answers. RFC 9568 asks for once, on becoming active; one lost frame would then leave hosts
//! with the address of a dead node until their own timeouts.

use std::time::Duration;

use super::AdvertInterval;

/// How often it is repeated after the first time.
pub(super) const REPEATS: u32 = 5;
/// Between two at least: at 10 ms adverts they would all fall into the time in which a switch or host is still busy with
/// the link (Linux ignores a change of a neighbour's address within 1 s of the last one).
const MIN_GAP: Duration = Duration::from_millis(100);
/// Between two at most, whatever the interval.
const MAX_GAP: Duration = Duration::from_secs(2);

/// Before clients are called away from a peer that was active as well: flow sync needs some 300 ms to find it again and to
/// get what came up there.
const PEER_GAP: Duration = Duration::from_millis(600);

/// Announcements to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcements {
    left: u32,
    /// When the next one is due, if any is left.
    at: Duration,
    /// Between it and the one after; doubles.
    gap: Duration,
}

impl Announcements {
    /// After a first one that was made now.
    pub(super) fn repeated(now: Duration, interval: AdvertInterval) -> Self {
        let gap = first_gap(interval);
        Self { left: REPEATS, at: now.saturating_add(gap), gap: (gap * 2).min(MAX_GAP) }
    }

    /// A rival was heard, which may have announced itself: once more, when it should be quiet, and not with every advert
    /// of one that does not hear us. A Fairlead `peer` goes on forwarding what comes to it, by its own flows: clients stay
    /// there until this node has been told of them.
    pub(super) fn once_more(&mut self, now: Duration, interval: AdvertInterval, is_peer: bool) {
        if self.left == 0 {
            let gap = if is_peer { PEER_GAP } else { Duration::ZERO }.max(first_gap(interval));
            *self = Self { left: 1, at: now.saturating_add(gap), gap: MAX_GAP };
        }
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.left > 0).then_some(self.at)
    }

    /// Whether one is due now, which is then counted as made.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        if self.left == 0 || now < self.at {
            return false;
        }
        *self =
            Self { left: self.left - 1, at: now.saturating_add(self.gap), gap: (self.gap * 2).min(MAX_GAP) };
        true
    }
}

fn first_gap(interval: AdvertInterval) -> Duration {
    interval.duration().clamp(MIN_GAP, MAX_GAP)
}
