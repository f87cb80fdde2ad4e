//! Flow sync: which nodes are there, how far they are behind, and what does not get through.

use lb_core::sync::wire::WireError;

use super::super::controller::Controller;
use crate::metrics::{Exposition, Family, label};

impl Controller {
    pub(super) fn sync_metrics(&self, out: &mut Exposition) {
        let Some(configured) = &self.loaded.config.sync else { return };
        out.flag(Family::SyncUp, &[], self.sync.fault.is_none());
        let (strangers, unsent) = self.sync.losses();
        out.count(Family::SyncStrangers, &[], strangers);
        out.count(Family::SyncUnsent, &[], unsent);
        for group in &self.loaded.config.ha.groups {
            out.flag(Family::SyncReady, &[label(&group.name)], self.sync.is_ready(&group.name));
        }
        let Some(peers) = self.sync.peers() else {
            // Those that are not heard are down, also when the reason is here.
            configured.peers.iter().for_each(|peer| out.flag(Family::SyncPeerUp, &[label(peer)], false));
            return;
        };
        for peer in peers {
            let name = [label(peer.address)];
            let node = peer.node.clone().unwrap_or_default();
            out.count(Family::SyncPeerInfo, &[label(peer.address), label(node)], 1);
            out.flag(Family::SyncPeerUp, &name, peer.up);
            out.set(Family::SyncLag, &name, peer.behind.as_secs_f64());
            out.flag(Family::SyncHasOurs, &name, peer.has_ours);
            out.flag(Family::SyncHaveTheirs, &name, peer.have_theirs);
            out.count(Family::SyncSent, &name, peer.sent);
            out.count(Family::SyncReceived, &name, peer.received);
            out.count(Family::SyncResent, &name, peer.resent);
            out.count(Family::SyncUnplaced, &name, peer.unplaced);
            for reason in WireError::ALL {
                out.count(
                    Family::SyncRejected,
                    &[label(peer.address), label(reason.word())],
                    peer.rejected.of(reason),
                );
            }
            for service in self.sync.services() {
                let differs = peer.differing.contains(&service);
                let labels = [label(peer.address), label(self.service_name(&service))];
                out.flag(Family::SyncDiffers, &labels, differs);
            }
        }
    }
}
