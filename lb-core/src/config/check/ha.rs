//! Checks of `[cluster]` and `[ha]` against each other, the interfaces and the services.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::model::{Config, HaGroup, HaMode, Role};
use super::super::problem::{Notes, Problem};
use super::unique;
use crate::vrrp::{Family, MAX_ADDRESSES};

/// Groups at most. Each has its own sockets, timers and adverts; a VIP more does not need a group more.
const MAX_GROUPS: usize = 64;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Notes every contradiction and adds what is only doubtful to the warnings.
pub(super) fn check(config: &Config, notes: &mut Notes, warnings: &mut Vec<Problem>) {
    let groups = &config.ha.groups;
    if groups.len() > MAX_GROUPS {
        let reason = format!("{} groups, but the limit is {MAX_GROUPS}", groups.len());
        let remedy =
            format!("join groups: each holds up to {MAX_ADDRESSES} VIPs of IPv4 and as many of IPv6");
        notes.problem("ha.group", reason, remedy);
    }
    let names = groups.iter().enumerate().map(|(i, group)| (key(i, "name"), &group.name));
    unique(names, notes, |name| format!("group \"{name}\""), "give each group a name of its own");
    // Before interfaces and VIPs: a key that has a problem counts as unreadable from then on.
    if config.ha.mode == HaMode::Vrrp && notes.is_good("ha.mode") {
        virtual_routers(groups, notes);
        for (i, group) in groups.iter().enumerate() {
            peers(i, group, config, notes);
        }
        sync_groups(groups, notes);
    }
    interfaces(config, notes);
    vips(config, notes);
    doubts(config, notes, warnings);
}

/// Path of a key of a group.
fn key(group: usize, name: &str) -> String {
    format!("ha.group[{group}].{name}")
}

fn virtual_routers(groups: &[HaGroup], notes: &mut Notes) {
    let mut identified = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        match group.vrid {
            Some(vrid) if notes.is_good(&key(i, "interface")) => {
                identified.push((key(i, "vrid"), (&group.interface, vrid)));
            }
            None if notes.is_good(&key(i, "vrid")) => {
                let remedy = "write a number from 1 to 255 that no other group of the interface has, the same on every node: \
                              vrid = 51";
                notes.problem(&key(i, "vrid"), "`vrid` is missing, which VRRP needs", remedy);
            }
            _ => {}
        }
    }
    let shown = |(interface, vrid): &(&String, u8)| format!("vrid {vrid} on interface {interface}");
    unique(identified, notes, shown, "give each group of an interface a number of its own");
}

fn peers(i: usize, group: &HaGroup, config: &Config, notes: &mut Notes) {
    let key_of_peers = key(i, "peers");
    if group.peers.is_empty() || !notes.is_good(&key_of_peers) {
        return;
    }
    for (at, peer) in group.peers.iter().enumerate() {
        if group.peers[..at].contains(peer) {
            notes.problem(&key_of_peers, format!("{peer} is twice in the list"), "remove one of the two");
        } else if config.services.iter().any(|service| service.vip == *peer) {
            let remedy = "write the other node's own address, which stays with it";
            notes.problem(&key_of_peers, format!("{peer} is a VIP"), remedy);
        }
    }
    if group.vips.is_empty() || !notes.is_good(&key(i, "vips")) {
        return;
    }
    for family in FAMILIES {
        let peer = group.peers.iter().find(|peer| Family::of(**peer) == family);
        match (group.vips.iter().any(|vip| Family::of(*vip) == family), peer) {
            (true, None) => {
                let reason =
                    format!("the group has {family} VIPs, but none of its peers is an {family} address");
                notes.problem(&key_of_peers, reason, format!("add the {family} address of each other node"));
            }
            (false, Some(peer)) => {
                let reason = format!("the group has no {family} VIP, for which {peer} could be a peer");
                notes.problem(&key_of_peers, reason, format!("remove the {family} addresses from the list"));
            }
            _ => {}
        }
    }
}

/// Groups that move together are one machine, which has one priority and one clock.
fn sync_groups(groups: &[HaGroup], notes: &mut Notes) {
    let mut of_name: BTreeMap<&str, (usize, &HaGroup)> = BTreeMap::new();
    for (i, group) in groups.iter().enumerate() {
        let Some(name) = group.sync_group.as_deref() else { continue };
        let (first, other) = *of_name.entry(name).or_insert((i, group));
        let shown = |group: &HaGroup| {
            let human = humantime::format_duration;
            [
                ("priority", group.priority.to_string()),
                ("advert_interval", format!("\"{}\"", human(group.advert_interval))),
                ("preempt", group.preempt.to_string()),
                ("preempt_delay", format!("\"{}\"", human(group.preempt_delay))),
            ]
        };
        for ((name_of_key, own), (_, others)) in shown(group).into_iter().zip(shown(other)) {
            let own_key = key(i, name_of_key);
            if own != others && notes.is_good(&own_key) && notes.is_good(&key(first, name_of_key)) {
                let reason = format!("{own}, but ha.group[{first}] of sync group \"{name}\" says {others}");
                let remedy = format!("write the same `{name_of_key}` in all groups of a sync group");
                notes.problem(&own_key, reason, remedy);
            }
        }
    }
}

fn interfaces(config: &Config, notes: &mut Notes) {
    let readable = notes.is_good("interface")
        && (0..config.interfaces.len()).all(|i| {
            notes.is_good(&format!("interface[{i}].name")) && notes.is_good(&format!("interface[{i}].role"))
        });
    if !readable {
        return;
    }
    let steering = config.interfaces.iter().filter(|interface| interface.role == Role::Steer);
    let steering: Vec<&str> = steering.map(|interface| interface.name.as_str()).collect();
    for (i, group) in config.ha.groups.iter().enumerate() {
        if steering.contains(&group.interface.as_str()) || !notes.is_good(&key(i, "interface")) {
            continue;
        }
        let reason = match config.interfaces.iter().any(|interface| interface.name == group.interface) {
            true => {
                format!("interface {} is for egress alone: no packets for VIPs arrive there", group.interface)
            }
            false => format!("{} has no [[interface]]", group.interface),
        };
        let remedy = format!("write one that packets for the VIPs arrive on: {}", steering.join(", "));
        notes.problem(&key(i, "interface"), reason, remedy);
    }
}

fn vips(config: &Config, notes: &mut Notes) {
    let services_readable = notes.is_good("service")
        && (0..config.services.len()).all(|i| notes.is_good(&format!("service[{i}].vip")));
    let mut owner: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (i, group) in config.ha.groups.iter().enumerate() {
        let key_of_vips = key(i, "vips");
        if !notes.is_good(&key_of_vips) {
            continue;
        }
        if group.vips.is_empty() {
            let remedy = "list the VIPs that move together, or remove the group";
            notes.problem(&key_of_vips, "the group has no VIP", remedy);
        }
        for vip in &group.vips {
            let known = config.services.iter().any(|service| service.vip == *vip);
            let reason = match owner.insert(*vip, i) {
                Some(before) if before == i => format!("{vip} is twice in the list"),
                Some(before) => format!("{vip} is in ha.group[{before}] already"),
                None if services_readable && !known => format!("{vip} is the VIP of no service"),
                None => continue,
            };
            let remedy =
                if known { "keep it in one place" } else { "remove it, or add a [[service]] with it" };
            notes.problem(&key_of_vips, reason, remedy);
        }
        for family in FAMILIES {
            let count = group.vips.iter().filter(|vip| Family::of(**vip) == family).count();
            if count > MAX_ADDRESSES {
                let reason = format!("{count} {family} VIPs, but an advert holds {MAX_ADDRESSES}");
                let remedy =
                    "move some of them to another group, with the same `sync_group` if they belong together";
                notes.problem(&key_of_vips, reason, remedy);
            }
        }
    }
}

fn doubts(config: &Config, notes: &Notes, warnings: &mut Vec<Problem>) {
    if config.ha.groups.is_empty() {
        return;
    }
    if config.cluster.is_none() {
        let reason = "there are groups, but no [cluster]: without a common key the nodes hash flows differently, and \
                      connections do not survive a failover";
        let remedy = "add [cluster] with name, node and key_file";
        warnings.push(notes.describe("cluster", reason, remedy));
    }
    let mut first: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (i, service) in config.services.iter().enumerate() {
        let is_first = *first.entry(service.vip).or_insert(i) == i;
        if is_first && config.ha_group_of(service.vip).is_none() {
            let reason =
                format!("{} is in no group, while others are: every node answers for it", service.vip);
            let remedy = "add it to the `vips` of an [[ha.group]]";
            warnings.push(notes.describe(&format!("service[{i}].vip"), reason, remedy));
        }
    }
}
