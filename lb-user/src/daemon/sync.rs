//! Flow sync from the daemon's side: the socket, the flow table, and what peers say of backends and groups.

mod channel;
mod facts;
mod requests;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_core::config::{self, Config, SyncMode};
use lb_core::history::Cause;
use lb_core::plan::{ServiceKey, VerdictMap};
use lb_core::sweep::MARKING_PASSES;
use lb_core::sync::apply::{Table, adopt};
use lb_core::sync::belief::Beliefs;
use lb_core::sync::wire::MAX_DATAGRAM;
use lb_core::sync::{Context, Effect, PeerStatus, Readiness, Settings, Sync, ToldOf};
use tokio::time::sleep;

use super::cluster;
use super::controller::{Controller, present_tick};
use super::ha::spec::PeerNews;
use crate::ha::boot_time;
use channel::Channel;
use facts::Facts;

/// Datagrams that are taken in a row before other things are looked after: what a peer sends at once of a large table, or
/// a flood.
const MAX_DATAGRAMS: usize = 4_096;

/// Flow sync as the daemon's loop has it.
#[derive(Default)]
pub(super) struct FlowSync {
    /// As configured, once it was tried.
    configured: Option<(config::FlowSync, config::Cluster)>,
    at_work: Option<AtWork>,
    /// Why it does not work although it is configured.
    pub(super) fault: Option<String>,
    facts: Facts,
    /// Whether facts have to be made anew.
    pub(super) is_stale: bool,
    /// What active peers say of backends.
    pub(super) beliefs: Beliefs,
    /// Services that a peer is active for, and this node is not.
    followed: BTreeSet<ServiceKey>,
    /// Names of peers that were heard.
    names: BTreeMap<SocketAddr, String>,
    /// Groups that peers have agreed to take over, or to leave here for the time of a restart.
    confirmed: BTreeSet<(SocketAddr, String)>,
    /// By how much the last turn came later than it should: what it read may have waited for so long.
    lateness: Duration,
}

struct AtWork {
    engine: Sync,
    channel: Channel,
}

impl FlowSync {
    /// Waits until there is something to do; for ever if nothing is configured.
    pub(super) async fn ready(&self) {
        let Some(at_work) = &self.at_work else { return std::future::pending().await };
        let due = at_work.engine.next_deadline().saturating_sub(boot_time());
        tokio::select! {
            () = at_work.channel.readable() => {}
            () = sleep(due) => {}
        }
    }

    /// Whether a peer that is there is active for a service, and this node is not.
    pub(super) fn follows(&self, service: &ServiceKey) -> bool {
        self.followed.contains(service)
    }

    /// Whether the flows of a slot are a peer's.
    pub(super) fn owns_elsewhere(&self, slot: u16) -> bool {
        !self.followed.is_empty()
            && self.facts.directory.owner(slot).is_some_and(|(service, _)| self.follows(&service))
    }

    /// All peers; `None` if it does not work.
    pub(super) fn peers(&self) -> Option<Vec<PeerStatus>> {
        self.at_work.as_ref().map(|at_work| at_work.engine.status())
    }

    /// Whether a group may be taken from a live peer, and why not; `None` if it does not work.
    pub(super) fn readiness(&self, group: &str) -> Option<Readiness> {
        self.at_work.as_ref().map(|at_work| at_work.engine.readiness(group))
    }

    /// Whether a group may be taken from the peer that is active for it.
    pub(super) fn is_ready(&self, group: &str) -> bool {
        self.readiness(group) == Some(Readiness::Ready)
    }

    /// Services that flows are told of.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        self.facts.groups.iter().flat_map(|group| group.services.iter().copied()).collect()
    }

    /// Datagrams of nobody that is configured, and those that the kernel did not take.
    pub(super) fn losses(&self) -> (u64, u64) {
        self.at_work.as_ref().map_or((0, 0), |work| (work.engine.strangers(), work.channel.unsent))
    }

    /// A peer, by its name if that is known.
    pub(super) fn name_of(&self, peer: SocketAddr) -> String {
        self.names.get(&peer).map_or_else(|| peer.to_string(), |name| format!("{name} ({peer})"))
    }
}

impl Controller {
    /// Has flow sync work as the configuration says. A socket that can't be had is tried again, and keeps nothing else
    /// from working.
    pub(super) fn update_sync(&mut self) {
        self.sync.is_stale = true;
        let Config { sync, cluster, .. } = &self.loaded.config;
        let wanted = sync.clone().zip(cluster.clone());
        if wanted == self.sync.configured && self.sync.fault.is_none() {
            return;
        }
        self.sync.at_work = None;
        let fault_before = self.sync.fault.take();
        self.sync.configured.clone_from(&wanted);
        let Some((sync, cluster)) = wanted else {
            self.sync.names.clear();
            return;
        };
        match at_work(&sync, &cluster) {
            Ok(at_work) => self.sync.at_work = Some(at_work),
            Err(error) => {
                let fault = format!("{error:#}");
                if fault_before.as_ref() != Some(&fault) {
                    tracing::error!(error = %fault, "flows are not told to other nodes; it is tried again");
                }
                self.sync.fault = Some(fault);
            }
        }
    }

    /// Takes in what came, sends what is due, and acts on what changed.
    pub(super) fn sync_turn(&mut self) {
        let now = boot_time();
        let (active, changed) = self.take_roles();
        let Some(mut at_work) = self.sync.at_work.take() else {
            self.take_over(&active);
            self.tell_thread();
            return;
        };
        let mut news = Vec::new();
        {
            let facts = &self.sync.facts;
            let table =
                Table { words: self.tables.flow_words(), tick: present_tick(), idle: self.tables.idle() };
            let context = Context {
                table,
                directory: &facts.directory,
                groups: &facts.groups,
                verdicts: &facts.verdicts,
            };
            let AtWork { engine, channel } = &mut at_work;
            self.sync.lateness = now.saturating_sub(engine.next_deadline());
            let mut buffer = [0; MAX_DATAGRAM + 1];
            let mut drain = |engine: &mut Sync, channel: &mut Channel| {
                while let Some(effect) = engine.poll() {
                    match effect {
                        Effect::Send { to, datagram } => channel.send(to, &datagram),
                        other => news.push(other),
                    }
                }
            };
            for _ in 0..MAX_DATAGRAMS {
                let Some((datagram, from)) = channel.receive(&mut buffer) else { break };
                engine.handle(now, from, datagram, &context);
                drain(engine, channel);
            }
            if changed || now >= engine.next_deadline() {
                engine.tick(now, &context);
                drain(engine, channel);
            }
        }
        self.sync.at_work = Some(at_work);
        // After the last datagram of whoever was active before.
        self.take_over(&active);
        let mut heard = false;
        for effect in news {
            heard |= self.sync_effect(effect);
        }
        self.follow(heard);
        self.tell_thread();
    }

    /// Brings facts up to date. Returns the services that this node has become active for, and whether any role changed.
    fn take_roles(&mut self) -> (BTreeSet<ServiceKey>, bool) {
        if self.sync.is_stale {
            let was: BTreeMap<String, bool> =
                self.sync.facts.groups.iter().map(|group| (group.name.clone(), group.active)).collect();
            let config = self.sync.beliefs.steered(&self.loaded.config);
            self.sync.facts = Facts::of(&config, &self.actual, &self.verdicts());
            for group in &mut self.sync.facts.groups {
                group.active = was.get(&group.name) == Some(&true);
            }
            self.sync.is_stale = false;
        }
        let (mut began, mut changed) = (BTreeSet::new(), false);
        for group in &mut self.sync.facts.groups {
            let row = self.lease_rows.get(&group.name).copied().unwrap_or_default();
            let active = row != 0 && self.ha.stand(row).active;
            if active != group.active {
                group.active = active;
                changed = true;
                if active {
                    began.extend(group.services.iter().copied());
                }
            }
        }
        (began, changed)
    }

    /// This node has become active for these services: flows received are its own, exceptions are marked by its own tables,
    /// and what peers said of backends holds until something newer is known.
    fn take_over(&mut self, services: &BTreeSet<ServiceKey>) {
        if services.is_empty() || self.sync.configured.is_none() {
            return;
        }
        let is_one = |service: &ServiceKey| services.contains(service);
        let config = &self.loaded.config;
        let inherited = self.sync.beliefs.inherited(config, &self.prober.verdicts(), is_one);
        self.prober.adopt(&inherited);
        let slots = self.sync.facts.directory.slots_of(services);
        let is_adopted = |slot: u16| slots.get(usize::from(slot)) == Some(&true);
        let adopted = adopt(self.tables.flow_words(), is_adopted, present_tick());
        self.sync.followed.retain(|service| !services.contains(service));
        self.reconcile_or_warn(&Cause::Cluster("this node became active".to_owned()));
        self.marking_passes = MARKING_PASSES;
        self.sweep();
        tracing::info!(flows = adopted, services = services.len(), "flows received are this node's own now");
    }

    /// Has the tables be those of whoever is active.
    fn follow(&mut self, heard: bool) {
        let engine = self.sync.at_work.as_ref().map(|at_work| &at_work.engine);
        let claimed = |group: &&lb_core::sync::GroupFacts| {
            !group.active && engine.is_some_and(|engine| engine.is_claimed(&group.name))
        };
        let groups = self.sync.facts.groups.iter().filter(claimed);
        let followed: BTreeSet<ServiceKey> =
            groups.flat_map(|group| group.services.iter().copied()).collect();
        if !heard && followed == self.sync.followed {
            return;
        }
        let cause = if heard {
            "what the active node says of its backends"
        } else {
            "another node is active, or none"
        };
        self.sync.followed = followed;
        self.reconcile_or_warn(&Cause::Cluster(cause.to_owned()));
    }

    /// Tells the thread that holds elections who is there, and what may be taken from them.
    fn tell_thread(&mut self) {
        if self.sync.configured.is_none() {
            return;
        }
        let mut units: BTreeMap<String, PeerNews> = BTreeMap::new();
        for group in &self.loaded.config.ha.groups {
            let Some(row) = self.lease_rows.get(&group.name) else { continue };
            let epoch = self.ha.stand(*row).epoch;
            // Whoever does not hear anybody because it can't is not alone.
            let engine = self.sync.at_work.as_ref().map(|at_work| &at_work.engine);
            let is_there = engine.is_none_or(|engine| engine.has_peer(&group.name));
            let gate_open = engine.is_some_and(|engine| engine.gate(&group.name));
            let unit = group.sync_group.clone().unwrap_or_else(|| group.name.clone());
            let news = units.entry(unit).or_insert(PeerNews { is_there: false, gate_open: true, epoch });
            news.is_there |= is_there;
            news.gate_open &= gate_open;
        }
        for (unit, news) in units {
            self.ha.tell(&unit, news);
        }
    }

    /// Acts on what a peer said or did. Returns whether backends are to be steered otherwise.
    fn sync_effect(&mut self, effect: Effect) -> bool {
        match effect {
            Effect::Send { .. } => {}
            Effect::PeerUp(peer) => {
                let peers = self.sync.peers().unwrap_or_default();
                let name = peers.into_iter().find(|known| known.address == peer).and_then(|known| known.node);
                self.sync.names.extend(name.map(|name| (peer, name)));
                tracing::info!(peer = %self.sync.name_of(peer), "a node of the cluster is there");
            }
            Effect::PeerDown(peer) => {
                tracing::warn!(peer = %self.sync.name_of(peer), "a node of the cluster is not heard any more");
            }
            Effect::Verdicts { said, .. } => {
                // One that is active itself knows better than a rival.
                let is_own = self
                    .sync
                    .facts
                    .groups
                    .iter()
                    .any(|group| group.active && group.services.contains(&said.service));
                return !is_own && self.sync.beliefs.hear(&said);
            }
            Effect::HandOverAsked { peer, group } => self.take_over_asked(peer, &group),
            Effect::HandOverReply { peer, group, accepted } => {
                if accepted {
                    self.sync.confirmed.insert((peer, group.clone()));
                }
                let peer = self.sync.name_of(peer);
                tracing::info!(%peer, %group, accepted, "answered what it was asked for");
            }
            Effect::Hold { peer, group, time } => self.hold_asked(peer, &group, time),
            Effect::Warning(text) => tracing::warn!("flow sync: {text}"),
        }
        false
    }

    /// Why a group can't be taken from a live peer, in words.
    pub(super) fn why(&self, readiness: &Readiness) -> String {
        match readiness {
            Readiness::Ready => "ready".to_owned(),
            Readiness::NobodyActive => "no node that is heard by flow sync is active".to_owned(),
            Readiness::Foreign => "whoever is active is no node of the cluster".to_owned(),
            Readiness::Incomplete(peer) => {
                format!("flows of {} are still on their way", self.sync.name_of(*peer))
            }
            Readiness::Differs(peer, services) => {
                let names: Vec<String> = services.iter().map(|service| self.service_name(service)).collect();
                format!("{} steers {} by another configuration", self.sync.name_of(*peer), names.join(", "))
            }
        }
    }

    /// What a service is called here.
    pub(super) fn service_name(&self, key: &ServiceKey) -> String {
        let mut services = self.loaded.config.services.iter();
        let known = services.find(|service| ServiceKey::from(*service) == *key);
        known.map_or_else(|| format!("{key}"), |service| service.name.clone())
    }

    /// The verdicts that tables are built by: those of the active peer where there is one.
    pub(super) fn verdicts(&self) -> VerdictMap {
        let FlowSync { beliefs, followed, .. } = &self.sync;
        beliefs.verdicts(&self.loaded.config, self.prober.verdicts(), |service| followed.contains(service))
    }

    /// The configuration in force, with states and weights as the active peer has them, or had them.
    pub(super) fn steered(&self) -> Config {
        self.sync.beliefs.steered(&self.loaded.config)
    }

    /// Whether this node is active for a service, or would be without high availability.
    pub(super) fn is_own(&self, service: &ServiceKey) -> bool {
        let mut groups = self.sync.facts.groups.iter();
        groups.find(|group| group.services.contains(service)).is_none_or(|group| group.active)
    }
}

fn at_work(sync: &config::FlowSync, cluster: &config::Cluster) -> Result<AtWork> {
    let settings = Settings {
        cluster: cluster.name.clone(),
        node: cluster.node.clone(),
        key: cluster::key(&cluster.key_file)?,
        session: session()?,
        peers: sync.peers.clone(),
        max_rate: sync.max_rate,
        told_of: match sync.mode {
            SyncMode::Full => ToldOf::All,
            SyncMode::Exceptions => ToldOf::Exceptions,
        },
    };
    Ok(AtWork { engine: Sync::new(settings, boot_time()), channel: Channel::open(sync.listen)? })
}

/// A number that no earlier process had and nobody can guess.
fn session() -> Result<u64> {
    let mut bytes = [0; 8];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context("cannot read /dev/urandom")?;
    Ok(u64::from_ne_bytes(bytes).max(1))
}
