//! Checks of a configuration against the machine it is for, whose facts the caller has gathered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::model::{Config, Mode};
use super::problem::{Notes, Problem};
use super::walk;

/// What the caller found on the machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// Every interface of the namespace, by name.
    pub interfaces: BTreeMap<String, HostInterface>,
    /// The route to each backend that was looked up; `None` if there is none. A backend that was not looked up is
    /// not judged.
    pub routes: BTreeMap<IpAddr, Option<RouteFact>>,
}

/// An interface as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostInterface {
    /// Its index.
    pub index: u32,
    /// Its MAC address; zero if it has none.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Addresses of both families that it carries.
    pub addresses: Vec<IpAddr>,
    /// Whether it is a VLAN device on top of another interface.
    pub is_vlan: bool,
}

/// How the kernel reaches an address.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteFact {
    /// Interface that packets leave through.
    pub interface: String,
    /// Next hop; `None` if the address is on the interface's own segment.
    pub gateway: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub source: Option<IpAddr>,
}

/// Compares a configuration, or the [`super::readable_part`] of one, with the machine; `text` is what it was read from.
///
/// Empty if the configuration can be put in force here.
#[must_use]
pub fn check_host(config: &Config, text: &str, facts: &HostFacts) -> Vec<Problem> {
    let mut notes = Notes::new(text);
    // For the lines, and to know which values are placeholders.
    let _ = walk::walk(text, &mut notes);
    let mut notes = notes.without_problems();
    interfaces(config, facts, &mut notes);
    let own: BTreeMap<IpAddr, &str> = facts
        .interfaces
        .iter()
        .flat_map(|(name, interface)| interface.addresses.iter().map(|address| (*address, name.as_str())))
        .collect();
    for (i, service) in config.services.iter().enumerate() {
        let vip_key = format!("service[{i}].vip");
        if let Some(interface) = own.get(&service.vip).filter(|_| notes.is_good(&vip_key)) {
            let reason = format!("{} is the balancer's own address, on {interface}", service.vip);
            let remedy = format!(
                "remove it there (ip address del {} dev {interface}): the program answers for VIPs",
                service.vip
            );
            notes.problem(&vip_key, reason, remedy);
        }
        for (j, backend) in service.backends.iter().enumerate() {
            let key = format!("service[{i}].backend[{j}].address");
            if !notes.is_good(&key) {
                continue;
            }
            if let Some(interface) = own.get(&backend.address) {
                let reason = format!("{} is the balancer's own address, on {interface}", backend.address);
                notes.problem(&key, reason, "write the address of another machine");
            } else if let Some(route) = facts.routes.get(&backend.address) {
                check_route(&key, backend.address, service.mode, route.as_ref(), config, &mut notes);
            }
        }
    }
    notes.into_problems()
}

fn interfaces(config: &Config, facts: &HostFacts, notes: &mut Notes) {
    for (i, interface) in config.interfaces.iter().enumerate() {
        let key = format!("interface[{i}].name");
        match facts.interfaces.get(&interface.name) {
            None if !notes.is_good(&key) => {}
            None => {
                let known: Vec<&str> = facts.interfaces.keys().map(String::as_str).collect();
                let reason = format!("there is no interface {}", interface.name);
                notes.problem(&key, reason, format!("write one of: {}", known.join(", ")));
            }
            Some(host) if host.is_vlan => {
                let reason =
                    format!("{} is a VLAN device, which the program cannot be attached to", interface.name);
                notes.problem(&key, reason, "name the interface below it: tags are looked through");
            }
            Some(_) => {}
        }
    }
}

fn check_route(
    key: &str,
    backend: IpAddr,
    mode: Mode,
    route: Option<&RouteFact>,
    config: &Config,
    notes: &mut Notes,
) {
    let Some(route) = route else {
        let remedy = "add a route to it, or correct the address";
        return notes.problem(key, format!("there is no route to backend {backend}"), remedy);
    };
    let interface = &route.interface;
    if !config.interfaces.iter().any(|configured| configured.name == *interface) {
        let reason = format!("backend {backend} is reached through {interface}, which has no [[interface]]");
        return notes.problem(
            key,
            reason,
            format!(
                "add [[interface]] with name = \"{interface}\" and role = \"egress\" (without the role if packets for the \
                 VIPs arrive there too), or correct the route"
            ),
        );
    }
    if let (Mode::L2, Some(gateway)) = (mode, route.gateway) {
        let reason = format!("mode \"l2\", but backend {backend} is behind gateway {gateway}");
        return notes.problem(key, reason, "use mode = \"ipip\", or a backend on a segment of the balancer");
    }
    if mode == Mode::Ipip && route.source.is_none() {
        let reason = format!("there is no source address for packets to backend {backend}");
        let family = if backend.is_ipv4() { "IPv4" } else { "IPv6" };
        notes.problem(key, reason, format!("give {interface} an {family} address"));
    }
}
