//! What nodes ask of each other: to take over, and to wait for one that restarts.

use std::net::SocketAddr;
use std::time::Duration;

use lb_core::config;
use lb_core::sync::{Effect, PeerStatus, Readiness};

use super::super::controller::Controller;
use super::AtWork;
use crate::ha::boot_time;

/// How often peers are told of a planned restart, and how long each time is waited for them to confirm it.
const HOLD_TRIES: u32 = 5;
const HOLD_PATIENCE: Duration = Duration::from_millis(100);

/// The daemon's loop may be late by so much without having been away.
const USUAL_LATENESS: Duration = Duration::from_millis(20);

impl Controller {
    /// A peer wants this node to take a group over.
    pub(super) fn take_over_asked(&mut self, peer: SocketAddr, group: &str) {
        let from = self.sync.name_of(peer);
        let mut groups = self.loaded.config.ha.groups.iter();
        let interval =
            groups.find(|known| known.name == group).map_or(Duration::ZERO, |known| known.advert_interval);
        let refusal = if self.sync.lateness > (interval / 2).max(USUAL_LATENESS) {
            // It may have waited here while this process was stopped, and the peer does not wait any more.
            Some("it may have come too late".to_owned())
        } else {
            self.sync
                .readiness(group)
                .filter(|found| *found != Readiness::Ready)
                .map(|found| self.why(&found))
        };
        let unit = self.unit_of(group).filter(|_| refusal.is_none());
        let accepted = unit.is_some_and(|unit| self.ha.take_over(&unit));
        match refusal {
            Some(why) => tracing::warn!(peer = %from, %group, %why, "asked to take over, and refused"),
            None => tracing::info!(peer = %from, %group, accepted, "asked to take over"),
        }
        if let Some(at_work) = &mut self.sync.at_work {
            at_work.engine.reply_to_hand_over(group, accepted);
        }
        self.flush_sync();
    }

    /// A peer restarts.
    pub(super) fn hold_asked(&mut self, peer: SocketAddr, group: &str, time: Duration) {
        let from = self.sync.name_of(peer);
        tracing::info!(peer = %from, %group, ?time, "a node restarts as planned: its VIPs are left to it for so long");
        if let Some(unit) = self.unit_of(group) {
            self.ha.hold(&unit, boot_time() + time);
            if let Some(at_work) = &mut self.sync.at_work {
                at_work.engine.reply_to_hand_over(group, true);
            }
            self.flush_sync();
        }
    }

    /// This node wants a peer to take a unit over.
    pub(in crate::daemon) fn ask_peer(&mut self, unit: &str) {
        let is_in = |group: &&config::HaGroup| group.sync_group.as_ref().unwrap_or(&group.name) == unit;
        let Some(group) = self.loaded.config.ha.groups.iter().find(is_in) else { return };
        let asked = self.sync.at_work.as_mut().and_then(|at_work| at_work.engine.hand_over(&group.name));
        match asked {
            Some(peer) => {
                tracing::info!(peer = %self.sync.name_of(peer), group = %unit, "asked to take over")
            }
            None => tracing::warn!(group = %unit, "there is no node to ask to take over"),
        }
        self.flush_sync();
    }

    /// Tells all peers that this node restarts and will be back within this time. Whether that is in order: every one of them
    /// has confirmed it, or there is nobody else. One that does not know of it would answer for the VIPs as well.
    pub(in crate::daemon) async fn announce_hold(&mut self, time: Duration) -> bool {
        let active: Vec<String> = {
            let groups = self.sync.facts.groups.iter().filter(|group| group.active);
            groups.map(|group| group.name.clone()).collect()
        };
        let Some(peers) = self.sync.peers() else { return false };
        if active.is_empty() {
            return true;
        }
        if !peers.iter().all(|peer| peer.up) {
            return peers.iter().all(|peer| !peer.up) && self.is_lone().await;
        }
        self.sync.confirmed.clear();
        for _ in 0..HOLD_TRIES {
            if let Some(at_work) = &mut self.sync.at_work {
                active.iter().for_each(|group| at_work.engine.hold(group, time));
            }
            self.flush_sync();
            let end = tokio::time::Instant::now() + HOLD_PATIENCE;
            while tokio::time::timeout_at(end, self.sync.ready()).await.is_ok() {
                self.sync_turn();
                let is_confirmed = |peer: &PeerStatus| {
                    active.iter().all(|group| self.sync.confirmed.contains(&(peer.address, group.clone())))
                };
                if peers.iter().all(is_confirmed) {
                    return true;
                }
            }
        }
        // Those who know of it are not to wait for anything.
        if let Some(at_work) = &mut self.sync.at_work {
            active.iter().for_each(|group| at_work.engine.hold(group, Duration::ZERO));
        }
        self.flush_sync();
        false
    }

    /// Sends what waits to be sent; whatever else there is can't have come up since the last turn.
    fn flush_sync(&mut self) {
        let Some(AtWork { engine, channel }) = &mut self.sync.at_work else { return };
        while let Some(effect) = engine.poll() {
            if let Effect::Send { to, datagram } = effect {
                channel.send(to, &datagram);
            }
        }
    }

    /// The name of the unit that a group moves with.
    fn unit_of(&self, group: &str) -> Option<String> {
        let group = self.loaded.config.ha.groups.iter().find(|known| known.name == group)?;
        Some(group.sync_group.clone().unwrap_or_else(|| group.name.clone()))
    }
}
