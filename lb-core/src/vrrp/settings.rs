//! What a machine is configured to be.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{AdvertInterval, Family, Priority, RouterId};

/// Settings of a machine: of one group, or of several that move together. There are no values that would not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Priority before what is tracked lowers it (RFC 9568, 6.1: Priority).
    pub priority: Priority,
    /// Time between adverts of this node when it is active (6.1: Advertisement_Interval).
    pub interval: AdvertInterval,
    /// Whether a better one takes over from a worse one that is active (6.1: Preempt_Mode).
    pub preempt: bool,
    /// How long a worse one must have been heard, and nothing else stood against it, before it is preempted.
    pub preempt_delay: Duration,
    /// Lease of an active node without a peer; zero: as with peers. It is for groups whose members are all Fairlead: a
    /// foreign backup says nothing, would look like none, and would answer beside a killed node's lease.
    pub lone_lease: Duration,
    /// Its virtual routers. A machine without one never becomes active.
    pub routers: BTreeMap<RouterId, RouterSettings>,
}

/// Settings of one virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSettings {
    /// Its number on its link.
    pub vrid: u8,
    /// Source of this node's adverts: primary IPv4 address, or link-local IPv6 address, of the interface. Equal
    /// priorities are settled by it.
    pub source: IpAddr,
    /// What it answers for.
    pub addresses: Vec<IpAddr>,
}

impl RouterSettings {
    /// IP version.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.source)
    }
}
