//! Checks of `[sync]` against `[cluster]`, `[ha]` and the services.

use std::net::{IpAddr, SocketAddr};

use super::super::model::{Cluster, Config, FlowSync};
use super::super::problem::{Notes, Problem};
use crate::sync::wire::{GroupSaid, Hello, MAX_MESSAGE, Message};
use crate::vrrp::Family;

const LISTEN: &str = "sync.listen";
const PEERS: &str = "sync.peers";

/// Notes every contradiction and adds what is only doubtful to the warnings.
pub(super) fn check(config: &Config, notes: &mut Notes, warnings: &mut Vec<Problem>) {
    let Some(sync) = &config.sync else { return missing(config, notes, warnings) };
    match &config.cluster {
        Some(cluster) => names(cluster, config, notes),
        None if notes.is_good("cluster") => {
            let reason =
                "there is no [cluster]: without a common key the nodes cannot trust what they are told";
            notes.problem("sync", reason, "add [cluster] with name, node and key_file, or remove [sync]");
        }
        None => {}
    }
    // Before `listen`: a key that has a problem counts as unreadable from then on.
    peers(sync, config, notes);
    listen(sync, config, notes);
    if config.ha.groups.is_empty() {
        let reason = "there is no [[ha.group]]: only flows of VIPs that are in a group are told";
        let remedy = "add an [[ha.group]] with the VIPs that move between nodes, or remove [sync]";
        warnings.push(notes.describe("sync", reason, remedy));
    }
}

/// Without a cluster there is already a warning, of which this would be a part.
fn missing(config: &Config, notes: &Notes, warnings: &mut Vec<Problem>) {
    let remembered = config.services.iter().filter(|service| service.track);
    let moves = remembered.map(|service| service.vip).any(|vip| config.ha_group_of(vip).is_some());
    if config.cluster.is_some() && moves {
        let reason = "there are groups, but no [sync]: connections whose backend is not the table's choice any more break at \
                      a failover";
        warnings.push(notes.describe("sync", reason, "add [sync] with listen and peers"));
    }
}

/// Whoever is told that a node is there is told all its names at once, in one datagram.
fn names(cluster: &Cluster, config: &Config, notes: &mut Notes) {
    let groups = &config.ha.groups;
    let good = notes.is_good("ha.group")
        && ["cluster.name", "cluster.node"].into_iter().all(|key| notes.is_good(key))
        && (0..groups.len()).all(|i| notes.is_good(&format!("ha.group[{i}].name")));
    if !good {
        return;
    }
    // Whatever the numbers and flags are, they take the same room.
    let said = groups.iter().map(|group| GroupSaid { name: group.name.clone(), priority: 0, active: false });
    let hello = Message::Hello(Hello {
        cluster: cluster.name.clone(),
        node: cluster.node.clone(),
        bucket_bits: 0,
        hash_complete: false,
        groups: said.collect(),
        next_expected: 0,
        bulk_complete: false,
    });
    let excess = hello.encode().len().saturating_sub(MAX_MESSAGE);
    if excess > 0 {
        let bytes = if excess == 1 { "byte" } else { "bytes" };
        let reason = format!(
            "the names of cluster, node and {} groups are {excess} {bytes} too long for the packet of [sync] that tells them",
            groups.len()
        );
        let remedy = "write shorter names, or make fewer groups: several VIPs can be in one";
        notes.problem("ha.group", reason, remedy);
    }
}

fn peers(sync: &FlowSync, config: &Config, notes: &mut Notes) {
    if !notes.is_good(PEERS) {
        return;
    }
    if sync.peers.is_empty() {
        let remedy = "list the other nodes' addresses, or remove [sync]";
        notes.problem(PEERS, "the list is empty: there is nobody to tell of flows", remedy);
    }
    let own = notes.is_good(LISTEN).then(|| sync.listen.ip());
    for (at, peer) in sync.peers.iter().map(SocketAddr::ip).enumerate() {
        let (reason, remedy) = if sync.peers[..at].iter().any(|before| before.ip() == peer) {
            let remedy = "remove one of the two: peers are told apart by their addresses, not by ports";
            (format!("{peer} is twice in the list"), remedy)
        } else if is_vip(peer, config, notes) {
            (format!("{peer} is a VIP"), "write the other node's own address, which stays with it")
        } else if own == Some(peer) {
            (format!("{peer} is this node's own address"), "list only the other nodes")
        } else if let Some(own) = own.filter(|own| Family::of(*own) != Family::of(peer)) {
            let reason = format!(
                "{peer} cannot be reached from {own}: one is an {} address, the other an {} one",
                Family::of(peer),
                Family::of(own)
            );
            (reason, "write addresses of the family that `listen` has")
        } else {
            continue;
        };
        notes.problem(PEERS, reason, remedy);
    }
}

fn listen(sync: &FlowSync, config: &Config, notes: &mut Notes) {
    let own = sync.listen.ip();
    if notes.is_good(LISTEN) && is_vip(own, config, notes) {
        let remedy = "write this node's own address, which stays with it";
        notes.problem(LISTEN, format!("{own} is a VIP"), remedy);
    }
}

fn is_vip(address: IpAddr, config: &Config, notes: &Notes) -> bool {
    let mut services = config.services.iter().enumerate();
    services.any(|(i, service)| service.vip == address && notes.is_good(&format!("service[{i}].vip")))
}
