//! Who of two active nodes is to be it (RFC 9568, 6.4.3): the one of greater priority, then of greater address.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::router::Router;
use super::{LEASE_INTERVALS, MAX_TIES, Machine, State, TIE_INTERVALS};
use crate::vrrp::{Heard, RouterId};

/// What a rival is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    Better,
    Worse,
    /// Settled on another router, or not yet.
    Open,
}

/// Rivals of equal priority that are waited for, each by itself: with two of them that are heard in turn neither would
/// ever have been there for long.
#[derive(Clone, Debug, Default)]
pub(super) struct Ties(BTreeMap<(RouterId, IpAddr), Tie>);

#[derive(Clone, Copy, Debug)]
struct Tie {
    since: Duration,
    /// Heard last.
    last: Duration,
}

impl Ties {
    /// None.
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Since when one that is heard now is there.
    fn since(&mut self, now: Duration, id: RouterId, heard: &Heard) -> Duration {
        let key = (id, heard.from);
        if !self.0.contains_key(&key) && self.0.len() >= MAX_TIES {
            let longest_ago = self.0.iter().min_by_key(|(_, tie)| tie.last).map(|(key, _)| *key);
            longest_ago.and_then(|key| self.0.remove(&key));
        }
        let tie = self.0.entry(key).or_insert(Tie { since: now, last: now });
        // Two adverts in between may have been lost.
        if now.saturating_sub(tie.last) > heard.interval.times(LEASE_INTERVALS + 1) {
            tie.since = now;
        }
        tie.last = now;
        tie.since
    }
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
        if self.routers.range(..id).next().is_none() {
            return true;
        }
        let earlier = self.routers.range(..id).any(|(_, router)| tied(router).is_some());
        let State::Active(active) = &mut self.state else { return false };
        let since = active.ties.since(now, id, &heard);
        let wait = if earlier { 2 * TIE_INTERVALS } else { TIE_INTERVALS };
        now.saturating_sub(since) >= heard.interval.times(wait)
    }
}

/// Whether a peer was just heard that has this priority too.
fn is_tie(heard: &Heard, now: Duration, priority: u8) -> bool {
    let fresh = now.saturating_sub(heard.at) < heard.interval.times(LEASE_INTERVALS);
    heard.fairlead && heard.priority == priority && !heard.resigned && fresh
}
