//! Who of two active nodes is to be it (RFC 9568, 6.4.3): the one of greater priority, then of greater address.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::time::Duration;

use super::router::Router;
use super::{LEASE_INTERVALS, Machine, State, TIE_INTERVALS};
use crate::vrrp::{Heard, RouterId};

/// What a rival is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Better,
    Worse,
    /// Settled on another router, or not yet.
    Open,
}

/// A rival of equal priority.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tie {
    from: IpAddr,
    since: Duration,
    /// Heard last.
    last: Duration,
}

impl Machine {
    /// Addresses are compared as unsigned numbers.
    pub(super) fn rank(&mut self, now: Duration, id: RouterId, from: IpAddr, priority: u8) -> Rank {
        match priority.cmp(&self.priority().get()) {
            Ordering::Greater => Rank::Better,
            Ordering::Less => Rank::Worse,
            Ordering::Equal if !self.is_settled_here(now, id) => Rank::Open,
            Ordering::Equal if self.routers.get(&id).is_some_and(|router| from > router.settings.source) => {
                Rank::Better
            }
            Ordering::Equal => Rank::Worse,
        }
    }

    /// Whether a tie is settled on this router. Between Fairlead peers one router settles it for all: addresses may stand
    /// in another order in the other family, and both nodes would yield. It is the first one that hears the other, and as
    /// adverts of one moment overtake each other or get lost, later ones wait whether an earlier one does. One that is heard
    /// there may also be a third node, which does not hear us: then they wait for as long again, in which the same node would
    /// have yielded.
    fn is_settled_here(&mut self, now: Duration, id: RouterId) -> bool {
        let priority = self.priority().get();
        let tied = |router: &Router| router.heard.filter(|heard| is_tie(heard, now, priority));
        let Some(heard) = self.routers.get(&id).and_then(tied) else { return true };
        let is_first = self.routers.range(..id).next().is_none();
        let earlier = self.routers.range(..id).any(|(_, router)| tied(router).is_some());
        let State::Active(active) = &mut self.state else { return false };
        let tie = active.ties.entry(id).or_insert(Tie { from: heard.from, since: now, last: now });
        // Two adverts in between may have been lost.
        let is_same = tie.from == heard.from
            && now.saturating_sub(tie.last) <= heard.interval.times(LEASE_INTERVALS + 1);
        if !is_same {
            *tie = Tie { from: heard.from, since: now, last: now };
        }
        tie.last = now;
        let wait = if earlier { 2 * TIE_INTERVALS } else { TIE_INTERVALS };
        is_first || now.saturating_sub(tie.since) >= heard.interval.times(wait)
    }
}

/// Whether a peer was just heard that has this priority too.
fn is_tie(heard: &Heard, now: Duration, priority: u8) -> bool {
    let fresh = now.saturating_sub(heard.at) < heard.interval.times(LEASE_INTERVALS);
    heard.fairlead && heard.priority == priority && !heard.resigned && fresh
}
