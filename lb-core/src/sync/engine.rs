//! Flow sync with all peers of a node: sessions, streams, scans, and what they mean for elections.
//!
//! A caller passes datagrams to [`Sync::handle`], calls [`Sync::tick`] at [`Sync::next_deadline`], and drains
//! [`Sync::poll`] after both. When a role changes it calls [`Sync::tick`] at once. When the node becomes active for a group it calls [`adopt`](super::apply::adopt) for its
//! slots and has exceptions marked; all else follows from the roles in [`Context`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::key::ClusterKey;
use super::scan::ToldOf;
use super::wire::{Message, Rejected, WireError, open};
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;

mod context;
mod effect;
mod legacy;
mod link;
mod pack;
mod peer;
mod receiving;
mod sending;

pub use context::{Context, Directory, GroupFacts, ServiceSaid};
pub use effect::{Effect, PeerStatus};
use link::Link;
use peer::Peer;

/// Between two scans of the table, and two Hellos: what a standby lags behind by.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(100);
/// A peer that was not heard for so long is down: ten Hellos.
pub const PEER_SILENCE: Duration = Duration::from_secs(1);
/// How long no peer must have claimed a group for whoever advertises it to be none of them.
const FOREIGN_AFTER: Duration = PEER_SILENCE;

/// Who this node is, and who its peers are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node, which no other one in the cluster has.
    pub node: String,
    /// Keys of the cluster.
    pub key: ClusterKey,
    /// Another number for each start of the process, not to be guessed; not 0.
    pub session: u64,
    /// Where the other nodes are: one for each address.
    pub peers: Vec<SocketAddr>,
    /// Bytes a second for each peer.
    pub max_rate: u64,
    /// Of which flows they are told.
    pub told_of: ToldOf,
}

/// Whether this node may take a group from a live peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has all flows of the peer that is active, and both steer alike.
    Ready,
    /// No peer that is there is active, or this node is: there is nobody to take it from.
    NobodyActive,
    /// All peers are there, and none of them has been active for a while: whoever is heard to be is no peer.
    Foreign,
    /// Flows of this peer are still on their way.
    Incomplete(SocketAddr),
    /// This peer steers these services by another configuration.
    Differs(SocketAddr, Vec<ServiceKey>),
}

/// The engine.
pub struct Sync {
    own: Settings,
    peers: Vec<Peer>,
    effects: VecDeque<Effect>,
    now: Duration,
    next_scan: Duration,
    strangers: Rejected,
    /// As of the last tick: by group its services, by service its digest.
    groups: BTreeMap<String, BTreeSet<ServiceKey>>,
    digests: BTreeMap<ServiceKey, u64>,
    /// Since when nobody, this node included, has said that it is active for a group.
    unclaimed: BTreeMap<String, Duration>,
    /// As of the last tick: who is active for which group; `None`: this node.
    claims: BTreeSet<(Option<usize>, String)>,
}

impl Sync {
    /// An engine that knows of no peer yet but where it may be.
    #[must_use]
    pub fn new(own: Settings, now: Duration) -> Self {
        let peers = own.peers.iter().copied().map(Peer::new).collect();
        Self {
            own,
            peers,
            effects: VecDeque::new(),
            unclaimed: BTreeMap::new(),
            now,
            next_scan: now,
            strangers: Rejected::default(),
            groups: BTreeMap::new(),
            digests: BTreeMap::new(),
            claims: BTreeSet::new(),
        }
    }

    /// A datagram came.
    pub fn handle<W: FlowWord>(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &[u8],
        context: &Context<'_, W>,
    ) {
        self.now = now;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.address.ip() == from.ip()) else {
            self.strangers.count(WireError::Stranger);
            return;
        };
        let opened = open(&self.own.key, datagram);
        let taken = opened.and_then(|opened| peer.take(now, &self.own, opened, context, &mut self.effects));
        if let Err(reason) = taken {
            let is_news = matches!(reason, WireError::Key | WireError::Ourselves | WireError::Cluster);
            if is_news && peer.rejected.of(reason) == 0 {
                self.effects
                    .push_back(Effect::Warning(format!("a datagram of {from} is not taken: {reason}")));
            }
            peer.rejected.count(reason);
        }
    }

    /// Time has passed, or a role has changed: one that changes back before a call is not noticed, nor what it left in the
    /// table.
    pub fn tick<W: FlowWord>(&mut self, now: Duration, context: &Context<'_, W>) {
        self.now = now;
        self.review(context);
        let is_interval = now >= self.next_scan;
        if is_interval {
            self.next_scan = now + SCAN_INTERVAL;
            let groups = context.groups.iter();
            self.groups = groups.map(|group| (group.name.clone(), group.services.clone())).collect();
            self.digests = context.verdicts.iter().map(|said| (said.service, said.digest)).collect();
        }
        for peer in &mut self.peers {
            peer.turn(now, &self.own, is_interval, context, &mut self.effects);
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Sync::tick`] is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        self.peers.iter().filter_map(Peer::next_deadline).fold(self.next_scan, Duration::min)
    }

    /// Asks the peer that is up and has the highest priority to take a group over; `None`: there is none. Not repeated:
    /// whoever asks waits for the peer's adverts.
    pub fn hand_over(&mut self, group: &str) -> Option<SocketAddr> {
        let priority = |peer: &Peer| {
            let link = peer.link.as_ref().filter(|link| link.up)?;
            link.hello.groups.iter().find(|said| said.name == group).map(|said| said.priority)
        };
        let (_, at) = (0..self.peers.len()).filter_map(|at| Some((priority(&self.peers[at])?, at))).max()?;
        let peer = &mut self.peers[at];
        peer.send(&self.own, &Message::HandOver { group: group.to_owned() }.encode(), &mut self.effects);
        Some(peer.address)
    }

    /// Answers [`Effect::HandOverAsked`] and [`Effect::Hold`].
    pub fn reply_to_hand_over(&mut self, group: &str, accepted: bool) {
        self.tell(&Message::HandOverReply { group: group.to_owned(), accepted });
    }

    /// Announces a planned restart to all peers that are up.
    pub fn hold(&mut self, group: &str, time: Duration) {
        self.tell(&Message::Hold { group: group.to_owned(), time });
    }

    /// Whether this node may take a group from a live peer that is active for it. Nothing said here keeps it from taking
    /// over where nobody is heard any more.
    #[must_use]
    pub fn gate(&self, group: &str) -> bool {
        matches!(self.readiness(group), Readiness::Ready | Readiness::Foreign)
    }

    /// The same, and why not.
    #[must_use]
    pub fn readiness(&self, group: &str) -> Readiness {
        let up = self.peers.iter().filter_map(|peer| Some((peer.address, peer.link.as_ref()?)));
        let up: Vec<_> = up.filter(|(_, link)| link.up).collect();
        let active: Vec<_> = up.iter().filter(|(_, link)| link.is_active(group)).collect();
        if active.is_empty() {
            let unclaimed = self.unclaimed.get(group);
            let is_long = unclaimed.is_some_and(|since| self.now.saturating_sub(*since) >= FOREIGN_AFTER);
            let is_foreign = is_long && up.len() == self.peers.len();
            return if is_foreign { Readiness::Foreign } else { Readiness::NobodyActive };
        }
        let none = BTreeSet::new();
        let services = self.groups.get(group).unwrap_or(&none);
        for (address, link) in active {
            if !link.receiving.complete {
                return Readiness::Incomplete(*address);
            }
            let theirs = &link.receiving.digests;
            let differs = |service: &&ServiceKey| theirs.get(service) != self.digests.get(service);
            let differing: Vec<ServiceKey> = services.iter().filter(differs).copied().collect();
            if !differing.is_empty() {
                return Readiness::Differs(*address, differing);
            }
        }
        Readiness::Ready
    }

    /// Whether a peer that is there has this group, whatever its role.
    #[must_use]
    pub fn has_peer(&self, group: &str) -> bool {
        let mut up = self.peers.iter().filter_map(|peer| peer.link.as_ref()).filter(|link| link.up);
        up.any(|link| link.hello.groups.iter().any(|said| said.name == group))
    }

    /// Whether a peer that is there says that it is active for this group.
    #[must_use]
    pub fn is_claimed(&self, group: &str) -> bool {
        let mut up = self.peers.iter().filter_map(|peer| peer.link.as_ref()).filter(|link| link.up);
        up.any(|link| link.is_active(group))
    }

    /// All peers as far as they are known.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| peer.status(self.now, &self.digests)).collect()
    }

    /// Datagrams from addresses that are no peer's.
    #[must_use]
    pub const fn strangers(&self) -> u64 {
        self.strangers.of(WireError::Stranger)
    }

    /// Where somebody has ceased to be active beside a peer, this node itself or another peer, what came from that peer is
    /// mixed with what the other one had: the peer is asked for a bulk.
    fn review<W>(&mut self, context: &Context<'_, W>) {
        let own = context.groups.iter().filter(|group| group.active).map(|group| (None, group.name.clone()));
        let peers = self.peers.iter().enumerate().filter_map(|(at, peer)| {
            let link = peer.link.as_ref().filter(|link| link.up)?;
            let said = link.hello.groups.iter().filter(|said| said.active);
            Some(said.map(move |said| (Some(at), said.name.clone())))
        });
        let claims: BTreeSet<_> = own.chain(peers.flatten()).collect();
        for (who, group) in self.claims.difference(&claims) {
            for (at, peer) in self.peers.iter_mut().enumerate().filter(|(at, _)| *who != Some(*at)) {
                // What one that is down claims by now nobody knows.
                let claims = |link: &Link| !link.up || claims.contains(&(Some(at), group.clone()));
                if let Some(link) = peer.link.as_mut().filter(|link| claims(link)) {
                    link.receiving.spoil();
                }
            }
        }
        self.claims = claims;
        for group in context.groups {
            if self.claims.iter().any(|(_, claimed)| *claimed == group.name) {
                self.unclaimed.remove(&group.name);
            } else {
                self.unclaimed.entry(group.name.clone()).or_insert(self.now);
            }
        }
    }

    fn tell(&mut self, message: &Message) {
        let message = message.encode();
        for peer in self.peers.iter_mut().filter(|peer| peer.is_up()) {
            peer.send(&self.own, &message, &mut self.effects);
        }
    }
}

#[cfg(test)]
mod tests;
