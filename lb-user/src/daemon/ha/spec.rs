//! What is asked of a unit, what is known of it elsewhere, and what it shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_core::config::HaGroup;
use lb_core::vrrp::{
    AdvertInterval, ChecksumForm, Family, MachineView, Priority, Role, RouterId, RouterSettings, Settings,
    Transitions,
};

use super::fault::{Fault, Trouble};

/// One group, with what the machine says of its interface.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupSpec {
    /// As configured.
    pub(crate) config: HaGroup,
    /// Its row of LEASES.
    pub(crate) row: u32,
    /// Its interface, if it is there.
    pub(crate) interface: Option<InterfaceSpec>,
}

/// An interface that adverts and announcements go to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InterfaceSpec {
    /// Its index.
    pub(crate) index: u32,
    /// Its MAC address, which clients are to send to.
    pub(crate) mac: [u8; 6],
    /// Sources of adverts.
    pub(crate) sources: Vec<IpAddr>,
}

/// Groups that move together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UnitSpec {
    /// Name of the sync group, or of the only group.
    pub(crate) name: String,
    /// Whether others decide.
    pub(crate) external: bool,
    /// How sums of IPv4 adverts are formed.
    pub(crate) checksum: ChecksumForm,
    /// Peers tell of themselves by flow sync: only then it is known whether one is there, and whether it may be preempted.
    pub(crate) has_peers: bool,
    /// Lease of a node without a peer.
    pub(crate) lone_lease: Duration,
    /// Its groups, at least one.
    pub(crate) groups: Vec<GroupSpec>,
}

/// What is tracked of a unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tracked {
    /// Why it can't be active here.
    pub(crate) fault: Option<Fault>,
    /// By how much its priority is lowered.
    pub(crate) penalty: u8,
}

/// What flow sync knows that the election needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerNews {
    /// A node that takes part in the election is there.
    pub(crate) is_there: bool,
    /// This node may take the groups from a live peer.
    pub(crate) gate_open: bool,
    /// The epoch of the first group's role that this was found out in.
    pub(crate) epoch: u32,
}

/// A command about a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Answer for the VIPs, or do not: an external decision.
    Set {
        /// Answer.
        active: bool,
    },
    /// Give the role to a peer.
    Handover,
    /// Take no role from now on.
    Pause,
    /// As usual again.
    Resume,
}

/// What a unit is, for people and metrics.
#[derive(Clone, Debug)]
pub(crate) struct UnitView {
    /// As it was asked for.
    pub(crate) spec: UnitSpec,
    /// What it is.
    pub(crate) role: Role,
    /// Until when it answers, if it does.
    pub(crate) lease: Option<Duration>,
    /// Since when it is what it is, and why.
    pub(crate) since: Option<(Duration, String)>,
    /// Changes of what it is.
    pub(crate) transitions: Transitions,
    /// The machine, if one decides.
    pub(crate) machine: Option<MachineView>,
    /// Whether the role was handed over.
    pub(crate) handed_over: bool,
    /// Why it can't be active here.
    pub(crate) fault: Option<Fault>,
    /// Why adverts or announcements may not get through, each in words.
    pub(crate) problems: Vec<(Trouble, String)>,
}

pub(super) fn router_id(group: usize, family: Family) -> RouterId {
    let family = match family {
        Family::V4 => 0,
        Family::V6 => 1,
    };
    RouterId(u32::try_from(group * 2).unwrap_or(u32::MAX - 1) + family)
}

pub(super) fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |address| Family::of(*address) == family)
}

pub(super) fn source_for(interface: &InterfaceSpec, family: Family) -> Option<IpAddr> {
    interface.sources.iter().copied().find(|source| Family::of(*source) == family)
}

/// What the machine of a unit is set to. A router without an address to send from is left out: it would be silent.
pub(super) fn settings(spec: &UnitSpec) -> Settings {
    let mut routers = BTreeMap::new();
    for (at, group) in spec.groups.iter().enumerate() {
        let Some((interface, vrid)) = group.interface.as_ref().zip(group.config.vrid) else { continue };
        for family in [Family::V4, Family::V6] {
            let addresses: Vec<IpAddr> = of_family(&group.config.vips, family).collect();
            if let Some(source) = source_for(interface, family)
                && !addresses.is_empty()
            {
                routers.insert(router_id(at, family), RouterSettings { vrid, source, addresses });
            }
        }
    }
    let first = &spec.groups[0].config;
    Settings {
        priority: Priority::new(first.priority).unwrap_or(Priority::DEFAULT),
        interval: AdvertInterval::from_duration(first.advert_interval).unwrap_or(AdvertInterval::DEFAULT),
        preempt: first.preempt,
        preempt_delay: first.preempt_delay,
        // Only peers that are heard while they are backups tell that a node is not alone, and VRRP backups are silent.
        lone_lease: if spec.has_peers { spec.lone_lease } else { Duration::ZERO },
        routers,
    }
}
