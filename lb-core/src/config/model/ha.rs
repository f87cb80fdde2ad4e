//! What the file says about the other nodes: the cluster, and which of them answers for which VIPs.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{human, words};

/// What the nodes have in common, and this one's name among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The name of the cluster, the same on every node.
    pub name: String,
    /// The name of this node, unique in the cluster.
    pub node: String,
    /// Absolute path of the file with the common key. Its content is not part of the configuration.
    pub key_file: PathBuf,
}

/// Who answers for the VIPs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HighAvailability {
    /// Who decides which node is active.
    pub mode: HaMode,
    /// What the checksum of adverts that are sent over IPv4 covers.
    pub checksum: VrrpChecksum,
    /// For how long VIPs are answered for without the daemon if no other node was there when it ended, up to 10 minutes; zero:
    /// no longer than beside others. Only with `[sync]`, which tells whether others are there.
    #[serde(serialize_with = "human")]
    pub lone_lease: Duration,
    /// VIPs that move between nodes, in the order of the file. Without any, this node answers for every VIP.
    pub groups: Vec<HaGroup>,
}

/// Long enough for a restart of the daemon, also one that needs a look at the log first.
pub(crate) const DEFAULT_LONE_LEASE: Duration = Duration::from_secs(60);

impl Default for HighAvailability {
    fn default() -> Self {
        Self {
            mode: HaMode::default(),
            checksum: VrrpChecksum::default(),
            lone_lease: DEFAULT_LONE_LEASE,
            groups: Vec::new(),
        }
    }
}

/// VIPs that one node at a time answers for: a virtual router of VRRP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HaGroup {
    /// Its unique name.
    pub name: String,
    /// Virtual router identifier, 1 to 255, unique on the interface; `None` only in mode `external`.
    pub vrid: Option<u8>,
    /// VIPs of services, at most 255 of each family; each is in one group.
    pub vips: Vec<IpAddr>,
    /// A configured interface of role `steer`, on which adverts are sent and received.
    pub interface: String,
    /// The highest of the nodes that are there is active, 1 to 254.
    pub priority: u8,
    /// Between two adverts: whole hundredths of a second, 10 ms to 40.95 s.
    #[serde(serialize_with = "human")]
    pub advert_interval: Duration,
    /// Whether this node takes over from one of lower priority.
    pub preempt: bool,
    /// How long one of lower priority must have been heard before that, up to 1 hour.
    #[serde(serialize_with = "human")]
    pub preempt_delay: Duration,
    /// The other nodes, if adverts are sent to their addresses; empty: adverts are multicast.
    pub peers: Vec<IpAddr>,
    /// Groups of the same name here become active and backup together.
    pub sync_group: Option<String>,
}

words! {
    /// Who decides which node is active.
    #[derive(Default)]
    HaMode {
        /// Fairlead itself, by VRRPv3 (RFC 9568).
        #[default]
        Vrrp = "vrrp",
        /// Somebody else, such as keepalived, who tells fairlead.
        External = "external",
    }
}

words! {
    /// What the checksum of adverts that are sent over IPv4 covers; over IPv6 it is always the pseudo-header too.
    #[derive(Default)]
    VrrpChecksum {
        /// The pseudo-header and the message: what keepalived expects.
        #[default]
        PseudoHeader = "pseudo_header",
        /// The message alone: RFC 9568, section 5.2.8.
        Message = "message",
    }
}
