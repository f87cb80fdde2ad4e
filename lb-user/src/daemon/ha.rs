//! High availability from the daemon's side: which groups there are, what is tracked of them, what is told of them. The
//! leases themselves are kept by a thread of their own ([`thread`]).

mod fault;
mod lease;
mod link;
pub(super) mod roles;
pub(super) mod spec;
pub(super) mod thread;
mod unit;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use lb_common::service::LEASE_FOR_EVER;
use lb_core::config::{HaMode, VrrpChecksum};
use lb_core::health::Verdict;
use lb_core::sync::Readiness;
use lb_core::vrrp::{ChecksumForm, Family, Role};
use tokio::sync::{mpsc, oneshot};

use super::controller::Controller;
use crate::api::types::{
    Done, HaActive, HaCommand, HaDeed, HaGroupStatus, HaRouterStatus, HaStatus, HaThreadStatus, HaTransition,
};
use crate::api::{ApiError, Timestamp};
use crate::bpf::mapped::Mapped;
use crate::bpf::program;
use crate::ha::source_of;
use fault::Fault;
pub(super) use fault::{FaultReason, Trouble};
use roles::{Roles, Stand};
use spec::{Deed, GroupSpec, InterfaceSpec, PeerNews, Tracked, UnitSpec, UnitView};
use thread::{Thread, View};

/// LEASES, mapped.
pub(super) type Leases = Arc<Mapped<u64>>;

/// Events that wait for the daemon's loop; more are lost but for their number, and no lease waits for them.
const MAX_EVENTS: usize = 256;

/// By how much a priority is lowered when a service of the group has no healthy backend: enough for every usual distance
/// between two nodes.
const NO_BACKEND_PENALTY: u8 = 100;

/// How long a client waits for the thread, which answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a scrape does.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(1);

/// Something that the log is to tell.
#[derive(Debug)]
pub(super) enum Event {
    /// A role has changed.
    Role { unit: String, from: Role, to: Role, reason: String },
    /// A peer is to be asked to take over.
    AskPeer { unit: String },
    /// Somebody should know.
    Warning { unit: String, text: String },
}

/// Where the thread leaves its events: it never waits.
#[derive(Clone)]
pub(super) struct Events(mpsc::Sender<Event>);

impl Events {
    pub(super) fn send(&self, event: Event) {
        // A full queue means that the daemon's loop is stuck; `ha status` has the last change all the same.
        let _ = self.0.try_send(event);
    }
}

/// High availability as the daemon's loop has it.
pub(super) struct HighAvailability {
    /// Not started without a group.
    thread: Option<Thread>,
    events: Events,
    inbox: mpsc::Receiver<Event>,
    tracked: BTreeMap<String, Tracked>,
    /// Who is active here; there is one as soon as there is a thread.
    roles: Option<Roles>,
    /// What the thread knows of peers, by unit.
    news: BTreeMap<String, PeerNews>,
    /// Changes of roles since the start.
    pub(super) transitions: u64,
}

impl Default for HighAvailability {
    fn default() -> Self {
        let (sender, inbox) = mpsc::channel(MAX_EVENTS);
        Self {
            thread: None,
            events: Events(sender),
            inbox,
            tracked: BTreeMap::new(),
            roles: None,
            news: BTreeMap::new(),
            transitions: 0,
        }
    }
}

impl HighAvailability {
    /// The next event.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.inbox.recv().await
    }

    /// What this node is for the group with this row of LEASES.
    pub(super) fn stand(&self, row: u32) -> Stand {
        self.roles.as_ref().map(|roles| roles.of(row)).unwrap_or_default()
    }

    /// Tells the thread of peers, if it does not know it yet.
    pub(super) fn tell(&mut self, unit: &str, news: PeerNews) {
        let Some(thread) = &self.thread else { return };
        if self.news.get(unit) != Some(&news) {
            thread.news(unit, news);
            self.news.insert(unit.to_owned(), news);
        }
    }

    /// A peer asks for this node to take a unit over now. `false`: it can't.
    pub(super) fn take_over(&self, unit: &str) -> bool {
        self.thread.as_ref().map(|thread| thread.take_over(unit)).is_some()
    }

    /// A peer that is active for a unit restarts and will be back by then.
    pub(super) fn hold(&self, unit: &str, until: Duration) {
        if let Some(thread) = &self.thread {
            thread.hold(unit, until);
        }
    }

    /// How the thread and its units are; without a group there is none. Metrics tell that it does not answer, and the
    /// daemon's loop does not wait for long to find that out.
    pub(super) async fn seen(&self) -> Option<Result<View, ApiError>> {
        Some(answer_within(self.thread.as_ref()?.view(), SCRAPE_PATIENCE).await)
    }

    /// Ends the thread: with a goodbye, or with leases of this length where peers know of the restart.
    pub(super) fn stop(&mut self, hold: Option<Duration>) {
        if let Some(thread) = self.thread.take() {
            thread.stop(hold);
        }
    }
}

impl Controller {
    /// Has the thread work on what configuration and interfaces say now. Cheap if nothing changed.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub(super) fn update_ha(&mut self) -> Result<()> {
        if self.loaded.config.ha.groups.is_empty() && self.ha.thread.is_none() {
            return Ok(());
        }
        let (units, tracked) = (self.units(), self.tracked());
        if self.ha.thread.is_none() {
            let (leases, events) = (self.tables.leases(), self.ha.events.clone());
            let roles = Roles::new(leases.len());
            self.ha.thread = Some(Thread::start(leases, roles.clone(), events)?);
            self.ha.roles = Some(roles);
        }
        let Some(thread) = &self.ha.thread else { return Ok(()) };
        thread.apply(units);
        // A unit that is new to the thread knows of none.
        self.ha.news.clear();
        for (unit, tracked) in &tracked {
            if let Some(fault) = tracked.fault.as_ref().filter(|_| self.ha.tracked.get(unit) != Some(tracked))
            {
                tracing::warn!(group = %unit, %fault, "this node can't answer for the group");
            }
            thread.track(unit, tracked.clone());
        }
        self.ha.tracked = tracked;
        Ok(())
    }

    /// The same, and a failure is in the log.
    pub(super) fn update_ha_or_warn(&mut self) {
        if let Err(error) = self.update_ha() {
            tracing::error!(error = %format!("{error:#}"), "VIPs of groups are not answered for");
        }
    }

    fn units(&self) -> Vec<UnitSpec> {
        let ha = &self.loaded.config.ha;
        let mut units: Vec<UnitSpec> = Vec::new();
        for group in &ha.groups {
            let Some(row) = self.lease_rows.get(&group.name) else { continue };
            let name = group.sync_group.as_ref().unwrap_or(&group.name);
            let link = self.links.iter().find(|link| link.name == group.interface);
            let interface = link.map(|link| InterfaceSpec {
                index: link.index,
                mac: link.mac,
                // One that can't be read is reported by the router that is not there.
                sources: [Family::V4, Family::V6]
                    .into_iter()
                    .filter_map(|family| source_of(link.index, family).ok().flatten())
                    .collect(),
            });
            let spec = GroupSpec { config: group.clone(), row: *row, interface };
            match units.iter_mut().find(|unit| unit.name == *name) {
                Some(unit) => unit.groups.push(spec),
                None => units.push(UnitSpec {
                    name: name.clone(),
                    external: ha.mode == HaMode::External,
                    checksum: match ha.checksum {
                        VrrpChecksum::PseudoHeader => ChecksumForm::PseudoHeader,
                        VrrpChecksum::Message => ChecksumForm::Message,
                    },
                    has_peers: self.loaded.config.sync.is_some(),
                    lone_lease: ha.lone_lease,
                    groups: vec![spec],
                }),
            }
        }
        units
    }

    fn tracked(&self) -> BTreeMap<String, Tracked> {
        let mut all: BTreeMap<String, Tracked> = BTreeMap::new();
        let verdicts = self.prober.verdicts();
        for group in &self.loaded.config.ha.groups {
            let tracked =
                all.entry(group.sync_group.clone().unwrap_or_else(|| group.name.clone())).or_default();
            if let Some(fault) = self.fault_of(&group.interface) {
                tracked.fault = Some(fault);
            }
            for service in self.loaded.config.services.iter().filter(|one| group.vips.contains(&one.vip)) {
                let down = |address: &IpAddr| {
                    verdicts.get(&(service.name.clone(), *address)) == Some(&Verdict::Down)
                };
                let checked = service.check.is_some() && !service.backends.is_empty();
                if checked && service.backends.iter().all(|backend| down(&backend.address)) {
                    tracked.penalty = NO_BACKEND_PENALTY;
                }
            }
        }
        all
    }

    /// Why VIPs can't be answered for on an interface.
    fn fault_of(&self, interface: &str) -> Option<Fault> {
        let Some(link) = self.links.iter().find(|link| link.name == interface) else {
            return Some(FaultReason::NoInterface.because(format!("there is no interface {interface}")));
        };
        if !link.up {
            return Some(FaultReason::InterfaceDown.because(format!("interface {interface} is down")));
        }
        if !link.carrier {
            return Some(FaultReason::NoCarrier.because(format!("interface {interface} has no carrier")));
        }
        let attached = self.attached.get(interface).is_some_and(|attached| {
            attached.ifindex == link.index && attached.program.is_none_or(|name| name == program::BALANCER)
        });
        let text = || format!("the program is not attached to {interface}");
        (!attached).then(|| FaultReason::NotAttached.because(text()))
    }

    /// Why this node can't answer for groups, one sentence each.
    pub(super) fn ha_faults(&self) -> impl Iterator<Item = String> {
        self.ha.tracked.iter().filter_map(|(unit, tracked)| {
            let fault = tracked.fault.as_ref()?;
            Some(format!("group {unit} can't be active here: {fault}"))
        })
    }

    /// Tells the log.
    pub(super) fn ha_event(&mut self, event: &Event) {
        match event {
            Event::Role { unit, from, to, reason, .. } => {
                self.ha.transitions += 1;
                tracing::warn!(group = %unit, %from, %to, %reason, "role changed");
                self.sync_turn();
            }
            Event::AskPeer { unit } => self.ask_peer(unit),
            Event::Warning { unit, text } => tracing::warn!(group = %unit, "{text}"),
        }
    }

    /// How groups are.
    ///
    /// # Errors
    /// If the thread does not answer.
    pub(super) async fn ha_status(&self) -> Result<HaStatus, ApiError> {
        let ha = &self.loaded.config.ha;
        let view = match &self.ha.thread {
            Some(thread) => Some(answer_of(thread.view()).await?),
            None => None,
        };
        let groups = view.iter().flat_map(|view| view.units.iter().map(move |unit| (view, unit)));
        let cluster = self.loaded.config.cluster.as_ref();
        Ok(HaStatus {
            mode: ha.mode.to_string(),
            cluster: cluster.map(|cluster| cluster.name.clone()),
            node: cluster.map(|cluster| cluster.node.clone()),
            transitions: self.ha.transitions,
            thread: view.as_ref().map(thread_status),
            groups: groups
                .flat_map(|(view, unit)| groups_of(view, unit))
                .map(|group| self.with_readiness(group))
                .collect(),
            sync: self.sync_status(),
        })
    }

    /// Whether all groups that are active here have no other node, as far as can be known.
    pub(super) async fn is_lone(&self) -> bool {
        let Some(thread) = &self.ha.thread else { return true };
        let Ok(view) = answer_of(thread.view()).await else { return false };
        let mut active = view.units.iter().filter(|unit| unit.role == Role::Active);
        active.all(|unit| unit.machine.as_ref().is_some_and(|machine| machine.lone))
    }

    fn with_readiness(&self, group: HaGroupStatus) -> HaGroupStatus {
        let readiness = self.sync.readiness(&group.name).filter(|_| group.role == Role::Backup.to_string());
        HaGroupStatus {
            ready: readiness.as_ref().map(|found| *found == Readiness::Ready),
            not_ready: readiness
                .as_ref()
                .filter(|found| **found != Readiness::Ready)
                .map(|found| self.why(found)),
            ..group
        }
    }

    /// Carries out a command about groups.
    ///
    /// # Errors
    /// If there is no such group, or it is refused.
    pub(super) async fn ha_command(&self, command: &HaCommand) -> Result<Done, ApiError> {
        let groups = &self.loaded.config.ha.groups;
        let Some(thread) = self.ha.thread.as_ref().filter(|_| !groups.is_empty()) else {
            let remedy = "add a [[ha.group]] to the configuration and reload it";
            return Err(ApiError::conflict("there is no group of VIPs", remedy));
        };
        let unit = match &command.group {
            None => None,
            Some(name) => {
                let group = groups.iter().find(|group| group.name == *name).ok_or_else(|| {
                    let known: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
                    let remedy = format!("name one of {}", known.join(", "));
                    ApiError::not_found(format!("there is no group \"{name}\""), remedy)
                })?;
                Some(group.sync_group.clone().unwrap_or_else(|| group.name.clone()))
            }
        };
        let deed = match command.deed {
            HaDeed::Active => Deed::Set { active: true },
            HaDeed::Standby => Deed::Set { active: false },
            HaDeed::Handover => Deed::Handover,
            HaDeed::Pause => Deed::Pause,
            HaDeed::Resume => Deed::Resume,
        };
        match answer_of(thread.command(deed, unit)).await? {
            Ok(done) => Ok(Done { message: done.join("\n") }),
            Err(refused) => {
                Err(ApiError::conflict(refused, "`fairlead ha status` shows roles, faults and who decides"))
            }
        }
    }
}

async fn answer_of<T>(answer: oneshot::Receiver<T>) -> Result<T, ApiError> {
    answer_within(answer, PATIENCE).await
}

async fn answer_within<T>(answer: oneshot::Receiver<T>, patience: Duration) -> Result<T, ApiError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(ApiError::internal(
            "the thread that keeps leases does not answer",
            "look at the daemon's log",
        )),
    }
}

fn thread_status(view: &View) -> HaThreadStatus {
    let microseconds = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    HaThreadStatus {
        real_time: view.real_time.scheduling.is_ok(),
        locked_memory: view.real_time.memory.is_ok(),
        notes: [&view.real_time.scheduling, &view.real_time.memory]
            .into_iter()
            .filter_map(|result| result.clone().err())
            .collect(),
        lateness_max_us: microseconds(view.lateness.max),
        late_wakeups: view.lateness.late,
        unknown_routers: view.unknown_routers,
    }
}

/// What a moment of CLOCK_BOOTTIME is on the wall clock.
pub(super) fn wall(view: &View, at: Duration) -> Timestamp {
    let now = SystemTime::now();
    Timestamp(match view.now.checked_sub(at) {
        Some(ago) => now - ago,
        None => now + at.saturating_sub(view.now),
    })
}

fn groups_of(view: &View, unit: &UnitView) -> Vec<HaGroupStatus> {
    let group = |(at, group): (usize, &GroupSpec)| {
        let routers = unit.machine.iter().flat_map(|machine| &machine.routers);
        let routers = routers.filter(|router| (router.id.0 / 2) as usize == at);
        HaGroupStatus {
            name: group.config.name.clone(),
            moves_with: (unit.spec.groups.len() > 1).then(|| unit.spec.name.clone()),
            vips: group.config.vips.clone(),
            interface: group.config.interface.clone(),
            role: unit.role.to_string(),
            since: unit.since.as_ref().map(|(at, _)| wall(view, *at)),
            reason: unit.since.as_ref().map(|(_, reason)| reason.clone()),
            lease_until: unit
                .lease
                .filter(|lease| *lease < Duration::from_nanos(LEASE_FOR_EVER))
                .map(|at| wall(view, at)),
            priority: unit.machine.as_ref().map(|machine| machine.priority.get()),
            paused: unit.machine.as_ref().is_some_and(|machine| machine.paused),
            handed_over: unit.handed_over,
            ready: None,
            not_ready: None,
            lone: unit.machine.as_ref().is_some_and(|machine| machine.lone),
            fault: unit.machine.as_ref().and_then(|machine| machine.fault.clone()),
            problems: unit.problems.iter().map(|(_, text)| text.clone()).collect(),
            routers: routers
                .map(|router| HaRouterStatus {
                    vrid: router.vrid,
                    family: if router.id.0.is_multiple_of(2) { "ipv4" } else { "ipv6" }.to_owned(),
                    active: router.heard.as_ref().map(|heard| HaActive {
                        address: heard.from,
                        priority: heard.priority,
                        at: wall(view, heard.at),
                        resigned: heard.resigned,
                    }),
                    adverts_sent: router.statistics.sent,
                    adverts_received: router.statistics.received,
                    rivals: router.statistics.rivals,
                    discarded: router.statistics.discarded.total(),
                    became_active: router.statistics.became_active,
                })
                .collect(),
            last: unit.machine.as_ref().and_then(|machine| machine.last.as_ref()).map(|last| HaTransition {
                from: last.from.to_string(),
                to: last.to.to_string(),
                reason: last.reason.to_string(),
                at: wall(view, last.at),
            }),
        }
    };
    unit.spec.groups.iter().enumerate().map(group).collect()
}
