//! Flow sync with all peers of a node: sessions, streams, scans, and what they mean for elections.
//!
//! A caller passes datagrams to [`Sync::handle`], calls [`Sync::tick`] at [`Sync::next_deadline`], and drains
//! [`Sync::poll`] after both. When a role changes it calls [`Sync::tick`] at once. When the node becomes active for a group it calls [`adopt`](super::apply::adopt) for its
//! slots and has exceptions marked; all else follows from the roles in [`Context`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::key::ClusterKey;
use super::wire::{Message, Rejected, WireError, open};
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;

mod context;
mod effect;
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
/// How long a node that hears no peer keeps its gate shut after its start: some are slow to answer.
pub const GATE_PATIENCE: Duration = Duration::from_secs(3);

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
}

/// The engine.
pub struct Sync {
    own: Settings,
    peers: Vec<Peer>,
    effects: VecDeque<Effect>,
    started: Duration,
    now: Duration,
    next_scan: Duration,
    strangers: Rejected,
    /// As of the last tick: by group its services, by service its digest.
    groups: BTreeMap<String, BTreeSet<ServiceKey>>,
    digests: BTreeMap<ServiceKey, u64>,
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
            started: now,
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

    /// Asks all peers that are up to take a group over. Not repeated: whoever asks waits for the answer.
    pub fn hand_over(&mut self, group: &str) {
        self.tell(&Message::HandOver { group: group.to_owned() });
    }

    /// Answers [`Effect::HandOverAsked`].
    pub fn reply_to_hand_over(&mut self, group: &str, accepted: bool) {
        self.tell(&Message::HandOverReply { group: group.to_owned(), accepted });
    }

    /// Announces a planned restart to all peers that are up.
    pub fn hold(&mut self, group: &str, time: Duration) {
        self.tell(&Message::Hold { group: group.to_owned(), time });
    }

    /// Whether this node may preempt a live peer that is active for a group: it has all its flows, and both steer alike.
    #[must_use]
    pub fn gate(&self, group: &str) -> bool {
        let mut up =
            self.peers.iter().filter_map(|peer| peer.link.as_ref()).filter(|link| link.up).peekable();
        if up.peek().is_none() {
            return self.peers.is_empty() || self.now >= self.started + GATE_PATIENCE;
        }
        let services = self.groups.get(group);
        up.filter(|link| link.is_active(group)).all(|link| {
            let theirs = &link.receiving.digests;
            link.receiving.complete
                && services.is_some_and(|services| {
                    services.iter().all(|service| theirs.get(service) == self.digests.get(service))
                })
        })
    }

    /// All peers as far as they are known.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(Peer::status).collect()
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
