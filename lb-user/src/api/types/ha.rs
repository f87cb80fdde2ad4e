//! High availability in the API.

use std::net::IpAddr;

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
    /// Adverts of a worse node while this one was active: two were active at the same time.
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
