//! Reading `[sync]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::convert as read;
use super::super::model::{FlowSync, SyncMode};
use super::super::problem::Notes;
use super::super::tables::Section;

pub(super) const SYNC_KEYS: &[&str] = &["listen", "peers", "mode", "max_rate"];

/// 25,000,000 bytes a second: a fifth of a link of 1 Gbit/s.
const DEFAULT_RATE: u64 = 25_000_000;

pub(super) fn sync(section: &Section<'_>, notes: &mut Notes) -> FlowSync {
    // With a port, which peers take over that have none: nothing is wrong with them.
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 1);
    let listen_remedy = "write this node's own address and a port: listen = \"192.0.2.1:7301\"";
    let peers_remedy = "list the other nodes' addresses: peers = [\"192.0.2.2:7301\"]";
    let listen = section.required("listen", None, listen_remedy, notes, read::listen).unwrap_or(nowhere);
    FlowSync {
        listen,
        peers: section.required("peers", Vec::new(), peers_remedy, notes, read::sync_peers(listen.port())),
        mode: section.optional("mode", SyncMode::default(), notes, read::sync_mode),
        max_rate: section.optional("max_rate", DEFAULT_RATE, notes, read::rate),
    }
}
