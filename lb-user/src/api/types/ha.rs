//! High availability in the API.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::api::time::Timestamp;

/// `GET /v1/ha`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaStatus {
    /// Who decides: `vrrp`, or `external`.
    pub mode: String,
    /// Name of the cluster, if it is configured.
    pub cluster: Option<String>,
    /// Name of this node.
    pub node: Option<String>,
    /// Changes of roles since the daemon started.
    pub transitions: u64,
    /// The thread that keeps leases; none without a group.
    pub thread: Option<HaThreadStatus>,
    /// The groups, in the order of the file.
    pub groups: Vec<HaGroupStatus>,
    /// How flows travel to and from other nodes; none without `[sync]`.
    #[serde(default)]
    pub sync: Option<HaSyncStatus>,
}

/// Flow sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaSyncStatus {
    /// Where this node hears the others.
    pub listen: SocketAddr,
    /// Of which flows the others are told: `full`, or `exceptions`.
    pub mode: String,
    /// Why it does not work.
    pub fault: Option<String>,
    /// Datagrams from addresses that are no peer's.
    pub strangers: u64,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
    /// The other nodes, in the order of the file.
    pub peers: Vec<HaPeerStatus>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaPeerStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// Its name, once it was heard.
    pub node: Option<String>,
    /// Whether it is there.
    pub up: bool,
    /// When it was heard last.
    pub last_heard: Option<Timestamp>,
    /// Groups that it says it is active for.
    pub active: Vec<String>,
    /// It has all flows of the groups that this node is active for.
    pub has_ours: bool,
    /// This node has all flows of the groups that it is active for.
    pub have_theirs: bool,
    /// How long ago the oldest change came up here that it has not confirmed, in milliseconds.
    pub lag_ms: u64,
    /// Messages sent to it that it has not confirmed.
    pub unconfirmed: u64,
    /// Services that it is active for and steers by another configuration.
    pub differing: Vec<String>,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams taken.
    pub received: u64,
    /// Messages sent again.
    pub resent: u64,
    /// Its flows that found no place here, or whose backend is unknown here.
    pub unplaced: u64,
    /// Datagrams from its address that were not taken, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// How punctual leases and adverts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaThreadStatus {
    /// Whether it runs under SCHED_FIFO.
    pub real_time: bool,
    /// Whether its memory can't be paged out.
    pub locked_memory: bool,
    /// Why not.
    pub notes: Vec<String>,
    /// By how much it woke late at most, in microseconds.
    pub lateness_max_us: u64,
    /// How often it woke more than 5 ms late.
    pub late_wakeups: u64,
    /// Adverts for virtual routers that are not configured here.
    pub unknown_routers: u64,
}

/// A group of VIPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaGroupStatus {
    /// Its name.
    pub name: String,
    /// Name of the groups that it moves together with.
    pub moves_with: Option<String>,
    /// Its VIPs.
    pub vips: Vec<IpAddr>,
    /// Where they are answered for.
    pub interface: String,
    /// `active`, `backup`, or `init`.
    pub role: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Until when the VIPs are answered for here, if nobody renews it.
    pub lease_until: Option<Timestamp>,
    /// Priority after what is tracked lowered it.
    pub priority: Option<u8>,
    /// It takes no role over.
    pub paused: bool,
    /// It has given its role away by a command and keeps the lowest priority.
    pub handed_over: bool,
    /// Whether it may be taken from a live peer: all flows are here, and both steer alike; none if this node is active, or
    /// without `[sync]`.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Why not.
    #[serde(default)]
    pub not_ready: Option<String>,
    /// Active, and no other node is there: the VIPs are answered for without the daemon for as long as `ha.lone_lease`.
    #[serde(default)]
    pub lone: bool,
    /// Why it can't be active here.
    pub fault: Option<String>,
    /// What does not get through.
    pub problems: Vec<String>,
    /// Its virtual routers.
    pub routers: Vec<HaRouterStatus>,
    /// The last change of its role.
    pub last: Option<HaTransition>,
}

/// A virtual router of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaRouterStatus {
    /// Its number.
    pub vrid: u8,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Who else was heard to be active, last.
    pub active: Option<HaActive>,
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Adverts received.
    pub adverts_received: u64,
    /// Adverts of another active node while this one was active and stayed so: two were active at the same time.
    pub rivals: u64,
    /// Packets that were no adverts.
    pub discarded: u64,
    /// How often it became active.
    pub became_active: u64,
}

/// An active node that was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaActive {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// When it was heard last.
    pub at: Timestamp,
    /// It said goodbye then.
    pub resigned: bool,
}

/// A change of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaTransition {
    /// Before.
    pub from: String,
    /// After.
    pub to: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// `POST /v1/ha`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HaCommand {
    /// What to do.
    pub deed: HaDeed,
    /// With which group; without one, with all.
    #[serde(default)]
    pub group: Option<String>,
}

/// What can be done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaDeed {
    /// Answer for its VIPs (mode `external`).
    Active,
    /// Do not (mode `external`).
    Standby,
    /// Give the role to a peer.
    Handover,
    /// Take no role over from now on.
    Pause,
    /// As usual again.
    Resume,
}
