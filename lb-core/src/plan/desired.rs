//! What the data plane should hold, given configuration, health and routes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use lb_common::SlotState;
use lb_common::packet::Family;
use lb_common::service::{LEASE_ROW_FOR_EVER, TableClass, VipRow};
use serde::Serialize;

use crate::config::{AdminState, Backend, Config, Mode, Protocol, Service, UnknownPort, WhenAllDown};
use crate::health::Verdict;

/// Verdicts by service name and backend address. A backend of a checked service that is not in it is unknown.
pub type VerdictMap = BTreeMap<(String, IpAddr), Verdict>;

/// How frames to a backend leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// MAC address of the backend or of the gateway to it; `None` while it is not resolved.
    pub mac: Option<[u8; 6]>,
    /// Row of the egress table, twelve bits.
    pub egress: u16,
    /// Source address of outer headers.
    pub source: IpAddr,
}

/// What a packet is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceKey {
    /// Destination address.
    pub vip: IpAddr,
    /// Destination port.
    pub port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl From<&Service> for ServiceKey {
    fn from(service: &Service) -> Self {
        Self { vip: service.vip, port: service.port, protocol: service.protocol }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vip {
            IpAddr::V4(vip) => write!(f, "{vip}:{}/{}", self.port, self.protocol),
            IpAddr::V6(vip) => write!(f, "[{vip}]:{}/{}", self.port, self.protocol),
        }
    }
}

/// How to treat a VIP apart from its services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VipFlags {
    /// Packets to ports without a service go to the kernel instead of being dropped.
    pub pass_unknown_port: bool,
    /// Row of the LEASES map that says until when the VIP is answered for; [`LEASE_ROW_FOR_EVER`] without high
    /// availability.
    pub lease: u32,
}

impl VipFlags {
    /// As flags of a [`VipRow`].
    #[must_use]
    pub const fn bits(self) -> u32 {
        if self.pass_unknown_port { VipRow::PASS_UNKNOWN_PORT } else { 0 }
    }

    /// From what a [`VipRow`] says.
    #[must_use]
    pub const fn from_row(lease: u32, bits: u32) -> Self {
        Self { pass_unknown_port: bits & VipRow::PASS_UNKNOWN_PORT != 0, lease }
    }
}

/// What the data plane should hold.
///
/// [`plan`] gives every VIP the lease that never ends; [`Desired::lease`] those of groups.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Desired {
    /// Addresses to answer for.
    pub vips: BTreeMap<IpAddr, VipFlags>,
    /// Services by what packets are recognised by.
    pub services: BTreeMap<ServiceKey, DesiredService>,
}

/// One service as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredService {
    /// Its name, for messages.
    pub name: String,
    /// Size of its table.
    pub class: TableClass,
    /// Whether its flows are remembered.
    pub track: bool,
    /// All its backends, those that take nothing too.
    pub backends: BTreeMap<IpAddr, DesiredBackend>,
}

/// One backend of a service as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredBackend {
    /// How packets reach it.
    pub mode: Mode,
    /// Family of the packets, which is the VIP's and may differ from that of the backend's address if `mode` is `ipip`.
    pub inner: Family,
    /// Source address of outer headers; `None` if there is no route to the backend, which is then dead.
    pub source: Option<IpAddr>,
    /// Next hop; `None` while it is not resolved: the last known one stays.
    pub mac: Option<[u8; 6]>,
    /// Row of the egress table.
    pub egress: u16,
    /// Whether it takes flows.
    pub state: SlotState,
    /// Its share of the table; 0: it is not in the table. Positive only if it serves.
    pub table_weight: u32,
}

/// Says what the data plane should hold. Depends on nothing but its arguments.
///
/// Disabled backends, backends that are down, backends nothing is known about and backends without a route are dead:
/// their flows are picked anew. Draining ones, and enabled ones of weight 0, keep their flows unless they are down. If
/// all enabled backends with a weight are down, the service's `when_all_down` decides; one about which nothing is known
/// yet keeps that rule from applying.
#[must_use]
pub fn plan(config: &Config, verdicts: &VerdictMap, next_hops: &BTreeMap<IpAddr, NextHop>) -> Desired {
    let mut desired = Desired::default();
    for service in &config.services {
        let pass_unknown_port = service.unknown_port == UnknownPort::Pass;
        let flags = VipFlags { pass_unknown_port, lease: LEASE_ROW_FOR_EVER };
        desired.vips.insert(service.vip, flags);
        desired.services.insert(ServiceKey::from(service), plan_service(service, verdicts, next_hops));
    }
    desired
}

fn plan_service(
    service: &Service,
    verdicts: &VerdictMap,
    next_hops: &BTreeMap<IpAddr, NextHop>,
) -> DesiredService {
    let verdict = |backend: &Backend| match service.check {
        None => Verdict::Unchecked,
        Some(_) => {
            verdicts.get(&(service.name.clone(), backend.address)).copied().unwrap_or(Verdict::Unknown)
        }
    };
    let counts = |backend: &&Backend| backend.state == AdminState::Enabled && backend.weight > 0;
    let all_down = service.backends.iter().filter(counts).all(|backend| verdict(backend) == Verdict::Down);
    let suspect_the_check = all_down && service.when_all_down == WhenAllDown::ServeAll;
    let planned = |backend: &Backend| {
        let hop = next_hops.get(&backend.address);
        let verdict = match verdict(backend) {
            Verdict::Down if suspect_the_check => Verdict::Unchecked,
            verdict => verdict,
        };
        let state = match hop {
            None => SlotState::Dead,
            Some(_) => slot_state(backend, verdict),
        };
        DesiredBackend {
            mode: service.mode,
            inner: Family::of(service.vip),
            source: hop.map(|hop| hop.source),
            mac: hop.and_then(|hop| hop.mac),
            egress: hop.map_or(0, |hop| hop.egress),
            state,
            table_weight: if state == SlotState::Serving { backend.weight } else { 0 },
        }
    };
    DesiredService {
        name: service.name.clone(),
        class: service.table_size.class(),
        track: service.track,
        backends: service.backends.iter().map(|backend| (backend.address, planned(backend))).collect(),
    }
}

/// State of a backend that there is a route to.
fn slot_state(backend: &Backend, verdict: Verdict) -> SlotState {
    match (backend.state, verdict) {
        (AdminState::Disabled, _) | (_, Verdict::Down) | (AdminState::Enabled, Verdict::Unknown) => {
            SlotState::Dead
        }
        (AdminState::Drain, _) => SlotState::Draining,
        (AdminState::Enabled, Verdict::Up | Verdict::Unchecked) if backend.weight == 0 => SlotState::Draining,
        (AdminState::Enabled, Verdict::Up | Verdict::Unchecked) => SlotState::Serving,
    }
}
