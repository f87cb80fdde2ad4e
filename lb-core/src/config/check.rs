//! Checks of a whole configuration against itself and its limits.

mod ha;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::maglev::Candidate;

use super::model::{AdminState, Backend, Config, Mode, Protocol, Role, Service};
use super::problem::{Notes, Problem};
use crate::plan::populate;

/// Table entries per backend below which the spread of flows gets visibly uneven.
const ADVISED_ENTRIES_PER_BACKEND: u32 = 100;

/// Notes every contradiction; returns what is only doubtful. A value that could not be read is left out of it.
pub(super) fn check(config: &Config, notes: &mut Notes) -> Vec<Problem> {
    interfaces(config, notes);
    duplicates(config, notes);
    vips(config, notes);
    limits(config, notes);
    let mut warnings = Vec::new();
    if config.services.is_empty() {
        warnings.push(notes.describe(
            "",
            "there is no service",
            "add a [[service]]: until then nothing is balanced",
        ));
    }
    for (index, service) in config.services.iter().enumerate() {
        let path = format!("service[{index}]");
        backends(&path, service, notes, &mut warnings);
        probe_times(&path, service, notes, &mut warnings);
    }
    ha::check(config, notes, &mut warnings);
    sync::check(config, notes, &mut warnings);
    warnings
}

fn interfaces(config: &Config, notes: &mut Notes) {
    if config.interfaces.is_empty() && notes.is_good("interface") {
        let remedy = "add [[interface]] with the name of the one on which packets for the VIPs arrive";
        notes.problem("interface", "there is no interface", remedy);
    }
    let roles = || (0..config.interfaces.len()).map(|i| format!("interface[{i}].role"));
    if !config.interfaces.is_empty()
        && config.interfaces.iter().all(|interface| interface.role == Role::Egress)
        && roles().all(|key| notes.is_good(&key))
    {
        let reason = "every interface is for egress alone: packets for the VIPs arrive on none";
        let remedy =
            "leave `role` out for the one on which packets for the VIPs arrive, or write role = \"steer\"";
        notes.problem("interface[0].role", reason, remedy);
    }
    let names = config
        .interfaces
        .iter()
        .enumerate()
        .map(|(i, interface)| (format!("interface[{i}].name"), &interface.name));
    unique(names, notes, |name| format!("interface {name}"), "remove one of the two");
}

fn duplicates(config: &Config, notes: &mut Notes) {
    let services = || config.services.iter().enumerate();
    let names = services().map(|(i, service)| (format!("service[{i}].name"), &service.name));
    unique(names, notes, |name| format!("service \"{name}\""), "give each service a name of its own");
    let readable: Vec<_> = services()
        .filter(|(i, _)| {
            ["vip", "port", "protocol"].iter().all(|key| notes.is_good(&format!("service[{i}].{key}")))
        })
        .map(|(i, service)| (format!("service[{i}].vip"), (service.vip, service.port, service.protocol)))
        .collect();
    let shown = |(vip, port, protocol): &(IpAddr, u16, Protocol)| {
        format!("a service for {vip} port {port} {protocol}")
    };
    unique(readable, notes, shown, "join the two services, or change address, port or protocol of one");
    for (i, service) in services() {
        let addresses = service.backends.iter().enumerate();
        let addresses =
            addresses.map(|(j, backend)| (format!("service[{i}].backend[{j}].address"), &backend.address));
        unique(
            addresses,
            notes,
            |address| format!("backend {address}"),
            "keep one and give it the weight of both",
        );
    }
}

/// Complains about every value that came before.
fn unique<T: Ord>(
    values: impl IntoIterator<Item = (String, T)>,
    notes: &mut Notes,
    shown: impl Fn(&T) -> String,
    remedy: &str,
) {
    let mut first: BTreeMap<T, String> = BTreeMap::new();
    for (key, value) in values.into_iter() {
        if !notes.is_good(&key) {
            continue;
        }
        if let Some(before) = first.get(&value) {
            let line = notes.line_of(before).map_or_else(String::new, |line| format!(" (line {line})"));
            notes.problem(&key, format!("{} is there already{line}", shown(&value)), remedy);
        } else {
            first.insert(value, key);
        }
    }
}

/// What concerns the VIPs of all services together.
fn vips(config: &Config, notes: &mut Notes) {
    let mut of_vip: BTreeMap<IpAddr, (usize, &Service)> = BTreeMap::new();
    for (i, service) in config.services.iter().enumerate() {
        if !notes.is_good(&format!("service[{i}].vip")) {
            continue;
        }
        let (first, other) = *of_vip.entry(service.vip).or_insert((i, service));
        if other.unknown_port != service.unknown_port {
            let key = format!("service[{i}].unknown_port");
            let reason = format!(
                "\"{}\", but service[{first}] says \"{}\" for the same VIP {}",
                service.unknown_port, other.unknown_port, service.vip
            );
            notes.problem(&key, reason, "write the same value in all services of one VIP");
        }
    }
    for (i, service) in config.services.iter().enumerate() {
        for (j, backend) in service.backends.iter().enumerate() {
            let key = format!("service[{i}].backend[{j}].address");
            if !notes.is_good(&key) {
                continue;
            }
            if let Some((owner, _)) = of_vip.get(&backend.address) {
                let reason = format!("{} is the VIP of service[{owner}]", backend.address);
                notes.problem(
                    &key,
                    reason,
                    "write the backend's own address, which the VIP does not replace",
                );
            } else if service.mode == Mode::L2
                && notes.is_good(&format!("service[{i}].vip"))
                && notes.is_good(&format!("service[{i}].mode"))
                && backend.address.is_ipv4() != service.vip.is_ipv4()
            {
                let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let (backend_family, vip_family) = (family(backend.address), family(service.vip));
                let reason = format!(
                    "mode \"l2\" cannot take packets for an {vip_family} VIP to an {backend_family} address"
                );
                let remedy = format!("use mode = \"ipip\", or write the backend's {vip_family} address");
                notes.problem(&key, reason, remedy);
            }
        }
    }
}

fn backends(path: &str, service: &Service, notes: &mut Notes, warnings: &mut Vec<Problem>) {
    let readable = |key: &str| notes.is_good(&format!("{path}.{key}"));
    let weights_readable = (0..service.backends.len())
        .all(|j| readable(&format!("backend[{j}].weight")) && readable(&format!("backend[{j}].state")));
    if !readable("backend") || !weights_readable {
        return;
    }
    if service.backends.iter().all(|backend| backend.weight == 0) {
        let reason = match service.backends.len() {
            0 => "the service has no backend".to_owned(),
            1 => "its only backend has weight 0".to_owned(),
            count => format!("all {count} backends have weight 0"),
        };
        notes.problem(path, reason, "add a [[service.backend]] with a weight of at least 1");
        return;
    }
    let enabled = |backend: &&Backend| backend.state == AdminState::Enabled && backend.weight > 0;
    let total: u64 = service.backends.iter().filter(enabled).map(|backend| u64::from(backend.weight)).sum();
    let count = service.backends.iter().filter(enabled).count();
    if count == 0 {
        let remedy = "enable one that has a positive weight, if it shall take new flows";
        warnings.push(notes.describe(path, "no backend is enabled: new flows are dropped", remedy));
    }
    if !readable("table_size") {
        return;
    }
    let entries = service.table_size.entries();
    let placeless = placeless(service, total, enabled);
    for (j, backend) in service.backends.iter().enumerate().filter(|(_, backend)| enabled(backend)) {
        if placeless.contains(&backend.address) {
            let reason = format!(
                "weight {} of {total} gets none of the {entries} table entries: {} would never be chosen",
                backend.weight, backend.address
            );
            notes.problem(&format!("{path}.backend[{j}].weight"), reason, "raise the weight or `table_size`");
        }
    }
    let advised = count.saturating_mul(ADVISED_ENTRIES_PER_BACKEND as usize);
    if advised > entries as usize {
        let reason = format!("{entries} table entries for {count} backends spread flows unevenly");
        let remedy =
            format!("use a `table_size` of at least {ADVISED_ENTRIES_PER_BACKEND} entries per backend");
        warnings.push(notes.describe(&format!("{path}.table_size"), reason, remedy));
    }
}

/// Enabled backends that get no place in the table when all of them serve.
fn placeless(service: &Service, total: u64, enabled: impl Fn(&&Backend) -> bool) -> BTreeSet<IpAddr> {
    let entries = u64::from(service.table_size.entries());
    let pool: Vec<Candidate> = (1..=u16::MAX)
        .zip(service.backends.iter().filter(&enabled))
        .map(|(slot, backend)| Candidate { address: backend.address, weight: backend.weight, slot })
        .collect();
    let ideal = |candidate: &Candidate| u64::from(candidate.weight) * entries;
    if pool.iter().all(|candidate| ideal(candidate) >= 2 * total) {
        // Places are honest to a few: only below two it takes a closer look.
        return BTreeSet::new();
    }
    let present: BTreeSet<u16> = populate(service.table_size.class(), &pool).iter().copied().collect();
    pool.iter()
        .filter(|candidate| !present.contains(&candidate.slot))
        .map(|candidate| candidate.address)
        .collect()
}

fn probe_times(path: &str, service: &Service, notes: &Notes, warnings: &mut Vec<Problem>) {
    let Some(check) = &service.check else { return };
    let key = |name: &str| format!("{path}.check.{name}");
    if check.fast > check.interval && notes.is_good(&key("fast")) && notes.is_good(&key("interval")) {
        let remedy = "make it shorter than `interval`, which is used instead";
        warnings.push(notes.describe(&key("fast"), "longer than `interval`", remedy));
    }
    if service.protocol == Protocol::Udp && check.port.is_none() && !notes.has(&key("port")) {
        let reason = format!("the check connects over TCP to port {} of a UDP service", service.port);
        warnings.push(notes.describe(
            &key("port"),
            reason,
            "name a TCP port that tells whether the backend is well",
        ));
    }
}

fn limits(config: &Config, notes: &mut Notes) {
    let limits = &config.limits;
    let services = config.services.len();
    if services > limits.services as usize && notes.is_good("limits.services") {
        let reason = format!("{services} services, but the limit is {}", limits.services);
        notes.problem(
            "limits.services",
            reason,
            format!("raise `services` to {services} or more (needs `fairlead stop --detach` and a start)"),
        );
    }
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    if backends > limits.backends as usize && notes.is_good("limits.backends") {
        let reason = format!("{backends} backends in all services, but the limit is {}", limits.backends);
        notes.problem(
            "limits.backends",
            reason,
            format!("raise `backends` to {backends} or more (needs `fairlead stop --detach` and a start)"),
        );
    }
    let strides = || config.services.iter().map(|service| u64::from(service.table_size.stride()));
    let needed = strides().sum::<u64>() + strides().max().unwrap_or(0);
    if needed > u64::from(limits.table_slots) && notes.is_good("limits.table_slots") {
        let reason = format!(
            "the tables of all services and a spare one need {needed} entries, but the limit is {}",
            limits.table_slots
        );
        let remedy = format!(
            "raise `table_slots` to {needed} or more (needs `fairlead stop --detach` and a start), or lower a `table_size`"
        );
        notes.problem("limits.table_slots", reason, remedy);
    }
}
