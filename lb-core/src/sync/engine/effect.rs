//! What the engine wants done, and what it shows.

use std::net::SocketAddr;
use std::time::Duration;

use super::context::ServiceSaid;
use crate::plan::ServiceKey;
use crate::sync::wire::{GroupSaid, Rejected};

/// Something for the caller to do or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A datagram is to be sent.
    Send {
        /// Where.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// A peer is there.
    PeerUp(SocketAddr),
    /// A peer has fallen silent.
    PeerDown(SocketAddr),
    /// What an active peer believes of a service.
    Verdicts {
        /// The peer.
        peer: SocketAddr,
        /// What it said.
        said: ServiceSaid,
    },
    /// A peer wants this node to take over.
    HandOverAsked {
        /// The peer.
        peer: SocketAddr,
        /// Name of the group.
        group: String,
    },
    /// A peer's answer to [`super::Sync::hand_over`] or [`super::Sync::hold`].
    HandOverReply {
        /// The peer.
        peer: SocketAddr,
        /// Name of the group.
        group: String,
        /// Whether it takes over, or leaves the group here.
        accepted: bool,
    },
    /// A peer restarts as planned, and is not to be taken for dead.
    Hold {
        /// The peer.
        peer: SocketAddr,
        /// Name of the group.
        group: String,
        /// For how long.
        time: Duration,
    },
    /// For whoever looks after the cluster.
    Warning(String),
}

/// A peer as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name, once it was heard.
    pub node: Option<String>,
    /// Whether it is there.
    pub up: bool,
    /// When it was heard last.
    pub last_heard: Option<Duration>,
    /// Its groups, as it said last.
    pub groups: Vec<GroupSaid>,
    /// Messages sent that it has not confirmed yet.
    pub lag: u64,
    /// How long ago the oldest change came up that it has not confirmed.
    pub behind: Duration,
    /// Services that it steers by another configuration than this node.
    pub differing: Vec<ServiceKey>,
    /// It has all flows of this node's groups.
    pub has_ours: bool,
    /// This node has all flows of its groups.
    pub have_theirs: bool,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams taken.
    pub received: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Flows that found no place here, or whose backend is unknown here.
    pub unplaced: u64,
    /// Datagrams that were not taken.
    pub rejected: Rejected,
}
