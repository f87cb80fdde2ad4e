//! Small configurations with their health and routes, and random changes to them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use crate::config::{
    AdminState, Backend, Check, CheckKind, Config, Limits, Mode, Protocol, Service, TableSize, Timeouts,
    UnknownPort, WhenAllDown,
};
use crate::health::Verdict;
use crate::plan::{Desired, NextHop, ServiceKey, VerdictMap, plan};

/// Services there can be; the last one is IPv6 and its table always small.
pub(super) const SERVICES: usize = 4;
/// Backends there can be of each service.
pub(super) const BACKENDS: usize = 5;

/// Everything that `plan` depends on.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) services: [Option<Service>; SERVICES],
    pub(super) verdicts: VerdictMap,
    pub(super) hops: BTreeMap<IpAddr, NextHop>,
}

pub(super) fn address(service: usize, backend: usize) -> IpAddr {
    let text =
        if service == SERVICES - 1 { format!("fd00::1{backend}") } else { format!("10.0.0.1{backend}") };
    text.parse().expect("an address")
}

pub(super) fn name(service: usize) -> String {
    format!("s{service}")
}

/// A service with its number's VIP and port, without backends: unchecked, small table.
pub(super) fn service(number: usize) -> Service {
    let (vip, port) = [("192.0.2.1", 80), ("192.0.2.1", 81), ("192.0.2.2", 80), ("2001:db8::1", 80)][number];
    Service {
        name: name(number),
        vip: vip.parse().expect("a VIP"),
        port,
        protocol: Protocol::Tcp,
        mode: Mode::Ipip,
        table_size: TableSize::Small,
        when_all_down: WhenAllDown::ServeAll,
        unknown_port: UnknownPort::Drop,
        track: true,
        timeouts: Timeouts::default(),
        check: None,
        backends: Vec::new(),
    }
}

pub(super) fn key(number: usize) -> ServiceKey {
    ServiceKey::from(&service(number))
}

pub(super) fn backend(service: usize, number: usize, weight: u32) -> Backend {
    Backend { address: address(service, number), weight, state: AdminState::Enabled }
}

pub(super) fn hop(v6: bool, mac: Option<u8>, egress: u16, source: u8) -> NextHop {
    let source = if v6 { format!("fd00::{source}") } else { format!("10.0.0.{source}") };
    NextHop { mac: mac.map(|last| [2, 0, 0, 0, 0, last]), egress, source: source.parse().expect("a source") }
}

impl World {
    /// No service; a way to every backend.
    pub(super) fn empty() -> Self {
        let hops = [0, SERVICES - 1].iter().flat_map(|service| {
            (0..BACKENDS).map(|number| {
                let hop = hop(*service == SERVICES - 1, Some(1), 0, 1);
                (address(*service, number), hop)
            })
        });
        Self { services: [const { None }; SERVICES], verdicts: VerdictMap::new(), hops: hops.collect() }
    }

    /// Service 0 with backends of these weights.
    pub(super) fn one(weights: &[u32]) -> Self {
        let mut world = Self::empty();
        world.set_service(0, weights);
        world
    }

    pub(super) fn set_service(&mut self, number: usize, weights: &[u32]) -> &mut Service {
        let backends = weights.iter().enumerate().map(|(i, weight)| backend(number, i, *weight)).collect();
        self.services[number].insert(Service { backends, ..service(number) })
    }

    /// Gives service 0 a check and its backends these verdicts.
    pub(super) fn checked(mut self, verdicts: &[Verdict]) -> Self {
        if let Some(service) = &mut self.services[0] {
            service.check = Some(Check::new(CheckKind::Tcp));
        }
        for (number, verdict) in verdicts.iter().enumerate() {
            self.verdicts.insert((name(0), address(0, number)), *verdict);
        }
        self
    }

    pub(super) fn config(&self) -> Config {
        Config {
            interfaces: Vec::new(),
            cluster: None,
            sync: None,
            ha: Default::default(),
            limits: Limits::default(),
            metrics: Default::default(),
            services: self.services.iter().flatten().cloned().collect(),
        }
    }

    pub(super) fn desired(&self) -> Desired {
        plan(&self.config(), &self.verdicts, &self.hops)
    }

    /// The same with everything listed the other way round.
    pub(super) fn desired_from_reversed_lists(&self) -> Desired {
        let mut config = self.config();
        config.services.reverse();
        config.services.iter_mut().for_each(|service| service.backends.reverse());
        plan(&config, &self.verdicts, &self.hops)
    }

    pub(super) fn change(&mut self, change: &Change) {
        match change.clone() {
            Change::Remove { service } => self.services[service] = None,
            Change::Service { number, mode, size, track, drop, checked, pass } => {
                let new = Service {
                    mode,
                    table_size: if number == SERVICES - 1 { TableSize::Small } else { size },
                    track,
                    when_all_down: if drop { WhenAllDown::Drop } else { WhenAllDown::ServeAll },
                    // Services 0 and 1 share a VIP and must agree.
                    unknown_port: if pass && number > 1 { UnknownPort::Pass } else { UnknownPort::Drop },
                    check: checked.then(|| Check::new(CheckKind::Tcp)),
                    backends: self.services[number].take().map_or_else(
                        || vec![backend(number, 0, 1), backend(number, 1, 1)],
                        |service| service.backends,
                    ),
                    ..service(number)
                };
                self.services[number] = Some(new);
            }
            Change::Backend { service, number, weight, state, present } => {
                let Some(of) = &mut self.services[service] else { return };
                of.backends.retain(|backend| backend.address != address(service, number));
                if present {
                    of.backends.push(Backend { address: address(service, number), weight, state });
                }
            }
            Change::Verdict { service, number, verdict } => {
                self.verdicts.insert((name(service), address(service, number)), verdict);
            }
            Change::Hop { v6, number, hop: new } => {
                let address = address(if v6 { SERVICES - 1 } else { 0 }, number);
                match new {
                    Some((mac, egress, source)) => self.hops.insert(address, hop(v6, mac, egress, source)),
                    None => self.hops.remove(&address),
                };
            }
        }
    }
}

/// A change of configuration, health or routes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Remove { service: usize },
    Service { number: usize, mode: Mode, size: TableSize, track: bool, drop: bool, checked: bool, pass: bool },
    Backend { service: usize, number: usize, weight: u32, state: AdminState, present: bool },
    Verdict { service: usize, number: usize, verdict: Verdict },
    Hop { v6: bool, number: usize, hop: Option<(Option<u8>, u16, u8)> },
}

/// Random changes; `sizes`: tables of both sizes, else small ones only.
pub(super) fn any_change(sizes: bool) -> impl Strategy<Value = Change> {
    let mode = prop_oneof![3 => Just(Mode::Ipip), 1 => Just(Mode::L2)];
    let large = if sizes { 1 } else { 0 };
    let size = (0..2 + large).prop_map(|n| if n < 2 { TableSize::Small } else { TableSize::Medium });
    let state = prop_oneof![4 => Just(AdminState::Enabled), 1 => Just(AdminState::Drain), 1 => Just(AdminState::Disabled)];
    let verdict = prop_oneof![3 => Just(Verdict::Up), 3 => Just(Verdict::Down), 1 => Just(Verdict::Unknown)];
    let hop = prop::option::weighted(0.8, (prop::option::weighted(0.8, 1..3u8), 0..2u16, 1..3u8));
    let flag = prop::bool::weighted;
    prop_oneof![
        1 => (0..SERVICES).prop_map(|service| Change::Remove { service }),
        4 => (0..SERVICES, mode, size, flag(0.8), flag(0.3), flag(0.7), flag(0.3)).prop_map(
            |(number, mode, size, track, drop, checked, pass)| Change::Service { number, mode, size, track, drop, checked, pass }
        ),
        8 => (0..SERVICES, 0..BACKENDS, 0..4u32, state, flag(0.75)).prop_map(
            |(service, number, weight, state, present)| Change::Backend { service, number, weight, state, present }
        ),
        8 => (0..SERVICES, 0..BACKENDS, verdict).prop_map(
            |(service, number, verdict)| Change::Verdict { service, number, verdict }
        ),
        3 => (any::<bool>(), 0..BACKENDS, hop).prop_map(|(v6, number, hop)| Change::Hop { v6, number, hop }),
    ]
}
