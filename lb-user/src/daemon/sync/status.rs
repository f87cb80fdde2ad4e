//! What is told of flow sync.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use lb_core::sync::PeerStatus;
use lb_core::sync::wire::WireError;

use super::super::controller::Controller;
use crate::api::Timestamp;
use crate::api::types::{HaPeerStatus, HaSyncStatus};
use crate::ha::boot_time;

impl Controller {
    /// Flow sync, `None` if it is not configured.
    pub(in crate::daemon) fn sync_status(&self) -> Option<HaSyncStatus> {
        let configured = self.loaded.config.sync.as_ref()?;
        let (strangers, unsent) = self.sync.losses();
        let peers = match self.sync.peers() {
            Some(peers) => peers.iter().map(|peer| self.peer_status(peer)).collect(),
            None => configured.peers.iter().map(|peer| unheard(*peer)).collect(),
        };
        Some(HaSyncStatus {
            listen: configured.listen,
            mode: configured.mode.to_string(),
            fault: self.sync.fault.clone(),
            strangers,
            unsent,
            peers,
        })
    }

    fn peer_status(&self, peer: &PeerStatus) -> HaPeerStatus {
        let active = peer.groups.iter().filter(|group| group.active);
        let rejected =
            WireError::ALL.iter().map(|reason| (reason.word().to_owned(), peer.rejected.of(*reason)));
        let rejected = rejected.filter(|(_, count)| *count > 0);
        HaPeerStatus {
            address: peer.address,
            node: peer.node.clone(),
            up: peer.up,
            last_heard: peer.last_heard.map(wall),
            active: active.map(|group| group.name.clone()).collect(),
            has_ours: peer.has_ours,
            have_theirs: peer.have_theirs,
            lag_ms: u64::try_from(peer.behind.as_millis()).unwrap_or(u64::MAX),
            unconfirmed: peer.lag,
            differing: peer.differing.iter().map(|service| self.service_name(service)).collect(),
            sent: peer.sent,
            received: peer.received,
            resent: peer.resent,
            unplaced: peer.unplaced,
            rejected: rejected.collect(),
        }
    }

    /// What of flow sync an operator should look at, one sentence each.
    pub(in crate::daemon) fn sync_faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .sync
            .fault
            .iter()
            .map(|fault| format!("flows are not told to other nodes: {fault}; it is tried again"))
            .collect();
        for peer in self.sync.peers().unwrap_or_default() {
            let name = self.sync.name_of(peer.address);
            if !peer.up {
                faults.push(format!("node {name} is not heard: no flows are told to it, nor come from it"));
            }
            if !peer.differing.is_empty() {
                let services: Vec<String> = peer.differing.iter().map(|one| self.service_name(one)).collect();
                faults.push(format!(
                    "node {name} steers {} by another configuration: connections may break when it moves; compare \
                     `fairlead config show` on both",
                    services.join(", ")
                ));
            }
        }
        let up: Vec<PeerStatus> =
            self.sync.peers().unwrap_or_default().into_iter().filter(|peer| peer.up).collect();
        let has = |peer: &PeerStatus, name: &str| peer.groups.iter().any(|group| group.name == name);
        let groups = self.loaded.config.ha.groups.iter().map(|group| group.name.as_str());
        faults.extend(groups.filter(|name| !up.is_empty() && !up.iter().any(|peer| has(peer, name))).map(
            |name| format!("no other node has a group \"{name}\": its flows are told to nobody; give it the same name on all"),
        ));
        faults
    }
}

fn unheard(address: SocketAddr) -> HaPeerStatus {
    HaPeerStatus {
        address,
        node: None,
        up: false,
        last_heard: None,
        active: Vec::new(),
        has_ours: false,
        have_theirs: false,
        lag_ms: 0,
        unconfirmed: 0,
        differing: Vec::new(),
        sent: 0,
        received: 0,
        resent: 0,
        unplaced: 0,
        rejected: std::collections::BTreeMap::new(),
    }
}

/// What a moment of CLOCK_BOOTTIME in the past is on the wall clock.
fn wall(at: Duration) -> Timestamp {
    Timestamp(SystemTime::now() - boot_time().saturating_sub(at))
}
