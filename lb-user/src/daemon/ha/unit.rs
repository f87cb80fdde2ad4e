//! Groups of VIPs that move together: who decides about them, and what the decision does to leases and links.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_core::vrrp::{
    Advert, AdvertInterval, Cause, Effect, Family, Input, Lowering, Machine, Received, Role, RouterId,
    Transitions, Warning,
};

use super::Event;
use super::fault::{Fault, Trouble, obstacle};
use super::lease::{lease_of, set_lease};
use super::link::Links;
use super::spec::{
    Deed, GroupSpec, PeerNews, Tracked, UnitSpec, UnitView, of_family, router_id, settings, source_for,
};
use super::thread::Shell;

/// How long an external decision holds without a daemon that renews it: long enough for its restart, and the time after
/// which a node whose daemon died leaves its VIPs.
pub(crate) const EXTERNAL_LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const EXTERNAL_RENEWAL: Duration = Duration::from_secs(1);
/// How often an external decision is announced, [`EXTERNAL_RENEWAL`] apart: switches and hosts may miss some.
const ANNOUNCEMENTS: u32 = 5;

/// Lowers any priority to the lowest one.
const LOWEST: u8 = u8::MAX;

enum Decider {
    Machine(Box<Machine>),
    External(External),
}

/// What others decided.
#[derive(Default)]
struct External {
    active: bool,
    renew_at: Duration,
    announcements: u32,
    since: Option<(Duration, String)>,
    transitions: Transitions,
}

/// A unit at work.
pub(super) struct Unit {
    pub(super) spec: UnitSpec,
    decider: Decider,
    tracked: Tracked,
    /// Why adverts can't be sent or heard, if so: to be active would be to be so beside others.
    obstacle: Option<Fault>,
    handover: Lowering,
    peer_is_there: bool,
    /// What does not get through and where, with why.
    problems: BTreeMap<(Trouble, String), String>,
}

impl Unit {
    /// Begins where an earlier process left off: with the lease that is still in force.
    pub(super) fn start(spec: UnitSpec, now: Duration, shell: &mut Shell) -> Self {
        let in_force = spec
            .groups
            .iter()
            .filter_map(|group| lease_of(&shell.leases, group.row))
            .filter(|lease| *lease > now)
            .min();
        let decider = if spec.external {
            let since = in_force.map(|_| (now, "it was active before the daemon started".to_owned()));
            Decider::External(External {
                active: in_force.is_some(),
                renew_at: now,
                since,
                ..External::default()
            })
        } else {
            Decider::Machine(Box::new(Machine::new(settings(&spec))))
        };
        let mut unit = Self {
            spec,
            decider,
            tracked: Tracked::default(),
            obstacle: None,
            handover: Lowering::None,
            peer_is_there: false,
            problems: BTreeMap::new(),
        };
        unit.publish_role(shell);
        unit.put(now, Input::Start { lease_in_force: in_force }, shell);
        unit.tell_tracked(now, shell);
        unit
    }

    /// Other settings, or another interface. Moves nothing.
    pub(super) fn change(&mut self, spec: UnitSpec, now: Duration, shell: &mut Shell) {
        // Groups that left the unit are answered for no longer: nobody renews their leases.
        for gone in self.spec.groups.iter().filter(|old| !spec.groups.iter().any(|new| new.row == old.row)) {
            set_lease(&shell.leases, gone.row, Duration::ZERO);
            shell.roles.set(gone.row, false);
        }
        self.spec = spec;
        self.publish_role(shell);
        self.problems.clear();
        self.put(now, Input::Settings(settings(&self.spec)), shell);
        self.tell_tracked(now, shell);
    }

    pub(super) fn track(&mut self, tracked: Tracked, now: Duration, shell: &mut Shell) {
        self.tracked = tracked;
        if let Decider::External(External { active: true, .. }) = self.decider
            && let Some(fault) = self.tracked.fault.clone()
        {
            self.set(Cause::Fault, now, &format!("fault: {fault}"), shell);
        }
        self.tell_tracked(now, shell);
    }

    /// Takes in what flow sync knows. What was found out before the role changed is not true any more.
    pub(super) fn hear_news(&mut self, news: PeerNews, now: Duration, shell: &mut Shell) {
        if news.epoch != shell.roles.of(self.spec.groups[0].row).epoch {
            return;
        }
        self.peer_is_there = news.is_there;
        self.put(now, Input::Gate { open: news.gate_open }, shell);
        self.hear_peer(now, shell);
    }

    /// What a peer said of itself by flow sync.
    pub(super) fn hear_of(&mut self, input: Input, now: Duration, shell: &mut Shell) {
        self.put(now, input, shell);
    }

    fn hear_peer(&mut self, now: Duration, shell: &mut Shell) {
        if self.peer_is_there {
            self.put(now, Input::PeerHeard, shell);
        }
    }

    fn publish_role(&self, shell: &Shell) {
        let active = self.role() == Role::Active;
        self.spec.groups.iter().for_each(|group| shell.roles.set(group.row, active));
    }

    fn tell_tracked(&mut self, now: Duration, shell: &mut Shell) {
        self.obstacle = obstacle(&self.spec, &shell.links);
        let penalty = if self.handover.is_lowered() { LOWEST } else { self.tracked.penalty };
        let fault = self.fault().map(|fault| fault.text.clone());
        self.put(now, Input::Track { fault, penalty }, shell);
    }

    fn fault(&self) -> Option<&Fault> {
        self.tracked.fault.as_ref().or(self.obstacle.as_ref())
    }

    /// Carries out a command: what was done, or why not.
    pub(super) fn command(&mut self, deed: Deed, now: Duration, shell: &mut Shell) -> Result<String, String> {
        let name = self.spec.name.clone();
        match (deed, self.spec.external) {
            (Deed::Set { active }, true) => {
                if active && let Some(fault) = &self.tracked.fault {
                    return Err(format!("{name}: {fault}"));
                }
                let cause = if active { Cause::ToldActive } else { Cause::ToldStandby };
                self.set(cause, now, "told so by a command", shell);
                Ok(format!("{name}: {}", self.role()))
            }
            (Deed::Set { .. }, false) => {
                Err(format!("{name}: VRRP decides here (ha.mode = \"vrrp\"); use `fairlead ha handover`"))
            }
            (_, true) => {
                Err(format!("{name}: others decide here (ha.mode = \"external\"); use `fairlead ha set`"))
            }
            (Deed::Handover, false) => self.hand_over(now, shell),
            (Deed::Pause, false) => {
                self.put(now, Input::Pause, shell);
                Ok(format!("{name}: paused; it is {} and takes no role over", self.role()))
            }
            (Deed::Resume, false) => {
                self.handover = Lowering::None;
                self.tell_tracked(now, shell);
                self.put(now, Input::Resume, shell);
                Ok(format!("{name}: as usual again; it is {}", self.role()))
            }
        }
    }

    fn hand_over(&mut self, now: Duration, shell: &mut Shell) -> Result<String, String> {
        let name = self.spec.name.clone();
        if self.role() != Role::Active {
            return Err(format!("{name}: nothing to hand over: this node is {}, not active", self.role()));
        }
        if self.peer_is_there {
            self.put(now, Input::Handover, shell);
            return Ok(format!("{name}: a peer is asked to take over; `fairlead ha resume` undoes it"));
        }
        self.lower(now, shell)
    }

    /// Whether peers, which are set up like this node, take over from a worse one without delay.
    fn is_preempted_at_once(&self) -> bool {
        let first = &self.spec.groups[0].config;
        first.preempt && first.preempt_delay.is_zero()
    }

    /// A handover to whoever listens to adverts only.
    fn lower(&mut self, now: Duration, shell: &mut Shell) -> Result<String, String> {
        let name = self.spec.name.clone();
        if self.is_preempted_at_once() {
            // The peer goes first: it takes over since it is the better one now, and this node answers until then.
            self.handover = Lowering::begin(now, self.spec.groups[0].config.advert_interval);
            self.tell_tracked(now, shell);
            return Ok(format!(
                "{name}: a peer takes over within some adverts; `fairlead ha resume` undoes it"
            ));
        }
        // Peers that do not preempt, or only later, go by a goodbye.
        self.handover = Lowering::Done;
        let goodbye = Input::Track { fault: Some("handed over".to_owned()), penalty: LOWEST };
        self.put(now, goodbye, shell);
        self.tell_tracked(now, shell);
        Ok(format!("{name}: said goodbye; `fairlead ha resume` undoes it"))
    }

    /// A packet for one of its routers. `false` if it has no such router.
    pub(super) fn receive(
        &mut self,
        now: Duration,
        ifindex: u32,
        vrid: u8,
        received: &Received<'_>,
        shell: &mut Shell,
    ) -> bool {
        let family = Family::of(received.source);
        let Some(router) = self.router_on(ifindex, vrid, family) else { return false };
        let input = match Advert::decode(received, vrid) {
            Ok(decoded) => {
                // Who is no peer of ours opens the gate: see `Readiness::Foreign`.
                let fairlead = self.spec.has_peers;
                Input::Advert { router, from: received.source, advert: decoded.advert, fairlead }
            }
            Err(why) => Input::Discarded { router, why },
        };
        self.put(now, input, shell);
        true
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Duration, shell: &mut Shell) {
        if let Decider::External(External { active, renew_at, announcements, .. }) = &mut self.decider {
            if *active && now >= *renew_at + (EXTERNAL_LEASE - EXTERNAL_RENEWAL) {
                // This process was not there to renew it. Somebody else may have been told to be active meanwhile.
                self.set(Cause::Late, now, "its lease had run out before it was renewed", shell);
            } else if *active && now >= *renew_at {
                *renew_at = now + EXTERNAL_RENEWAL;
                let again = *announcements > 0;
                *announcements = announcements.saturating_sub(1);
                self.set_leases(shell, now + EXTERNAL_LEASE);
                if again {
                    self.announce(&mut shell.links);
                }
            }
            return;
        }
        // Before the tick, which renews the lease: as a lone node if nobody was heard for long enough.
        self.hear_peer(now, shell);
        self.put(now, Input::Tick, shell);
        let Decider::Machine(machine) = &self.decider else { return };
        if self.handover.deadline().is_none() {
            return;
        }
        let heard =
            machine.view(now).routers.iter().filter_map(|router| router.heard.map(|heard| heard.at)).max();
        if !self.handover.look(now, machine.role(), heard) {
            self.tell_tracked(now, shell);
            let text = "no peer took over: the configured priority counts again".to_owned();
            shell.events.send(Event::Warning { unit: self.spec.name.clone(), text });
        }
    }

    /// Ends: says goodbye, so that a peer takes over at once. An external decision stays for as long as its lease.
    /// So does the lease where peers know that this node will be back after `hold`.
    pub(super) fn stop(&mut self, hold: Option<Duration>, now: Duration, shell: &mut Shell) {
        let hold = hold.filter(|_| self.spec.has_peers);
        self.put(now, Input::Stop { hold }, shell);
    }

    /// Answers no longer, for good.
    pub(super) fn remove(&mut self, now: Duration, shell: &mut Shell) {
        self.stop(None, now, shell);
        self.set_leases(shell, Duration::ZERO);
        self.spec.groups.iter().for_each(|group| shell.roles.set(group.row, false));
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let own = match &self.decider {
            Decider::Machine(machine) => machine.next_deadline(),
            Decider::External(external) => external.active.then_some(external.renew_at),
        };
        [own, self.handover.deadline()].into_iter().flatten().min()
    }

    pub(super) fn role(&self) -> Role {
        match &self.decider {
            Decider::Machine(machine) => machine.role(),
            Decider::External(External { active: true, .. }) => Role::Active,
            Decider::External(External { active: false, .. }) => Role::Backup,
        }
    }

    pub(super) fn view(&self, now: Duration, shell: &Shell) -> UnitView {
        let machine = match &self.decider {
            Decider::Machine(machine) => Some(machine.view(now)),
            Decider::External(_) => None,
        };
        let (since, transitions) = match (&self.decider, &machine) {
            (Decider::External(external), _) => (external.since.clone(), external.transitions),
            (_, Some(view)) => {
                (view.last.as_ref().map(|last| (last.at, last.reason.to_string())), view.transitions)
            }
            (_, None) => (None, Transitions::default()),
        };
        let problems = self.problems.iter().map(|((kind, what), why)| (*kind, format!("{what}: {why}")));
        let lease = self.spec.groups.iter().filter_map(|group| lease_of(&shell.leases, group.row)).min();
        let handed_over =
            self.handover.is_lowered() || machine.as_ref().is_some_and(|machine| machine.held_back);
        UnitView {
            spec: self.spec.clone(),
            role: self.role(),
            lease: lease.filter(|lease| *lease > now),
            since,
            transitions,
            machine,
            handed_over,
            fault: self.fault().cloned(),
            problems: problems.collect(),
        }
    }

    fn set(&mut self, cause: Cause, now: Duration, why: &str, shell: &mut Shell) {
        let Decider::External(external) = &mut self.decider else { return };
        let to = cause.to() == Role::Active;
        if external.active != to {
            external.since = Some((now, why.to_owned()));
            external.transitions.count(cause);
            shell.events.send(Event::Role {
                unit: self.spec.name.clone(),
                from: if to { Role::Backup } else { Role::Active },
                to: if to { Role::Active } else { Role::Backup },
                reason: why.to_owned(),
            });
        }
        (external.active, external.renew_at, external.announcements) =
            (to, now + EXTERNAL_RENEWAL, ANNOUNCEMENTS);
        self.publish_role(shell);
        self.set_leases(shell, if to { now + EXTERNAL_LEASE } else { Duration::ZERO });
        if to {
            self.announce(&mut shell.links);
        }
    }

    fn put(&mut self, now: Duration, input: Input, shell: &mut Shell) {
        let Decider::Machine(machine) = &mut self.decider else { return };
        machine.handle(now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| machine.poll()).collect();
        let left = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Transition(change) if change.from == Role::Active));
        if left {
            // Whoever is active next has flows that this node has not.
            machine.handle(now, Input::Gate { open: false });
        }
        self.publish_role(shell);
        let failed = effects.contains(&Effect::Warning(Warning::HandoverFailed));
        for effect in effects {
            self.perform(effect, shell);
        }
        // The request or its answer may have been lost, or be late: adverts say the same. A goodbye would not wait for anybody.
        if failed && self.is_preempted_at_once() {
            self.handover = Lowering::begin(now, self.spec.groups[0].config.advert_interval);
            self.tell_tracked(now, shell);
        }
    }

    fn perform(&mut self, effect: Effect, shell: &mut Shell) {
        let unit = || self.spec.name.clone();
        match effect {
            Effect::SetLease { until } => self.set_leases(shell, until),
            Effect::SendAdvert { router, priority, interval } => {
                self.send(&mut shell.links, router, priority, interval)
            }
            Effect::Announce => self.announce(&mut shell.links),
            Effect::AskPeerToTake => shell.events.send(Event::AskPeer { unit: unit() }),
            Effect::Transition(change) => shell.events.send(Event::Role {
                unit: unit(),
                from: change.from,
                to: change.to,
                reason: change.reason.to_string(),
            }),
            Effect::Warning(warning) => {
                shell.events.send(Event::Warning { unit: unit(), text: warning.to_string() })
            }
        }
    }

    fn set_leases(&self, shell: &Shell, until: Duration) {
        for group in &self.spec.groups {
            set_lease(&shell.leases, group.row, until);
        }
    }

    fn send(&mut self, links: &mut Links, router: RouterId, priority: u8, interval: AdvertInterval) {
        let Some((group, family)) = self.router(router) else { return };
        let Some((interface, vrid)) = group.interface.as_ref().zip(group.config.vrid) else { return };
        let Some(source) = source_for(interface, family) else { return };
        let addresses: Vec<IpAddr> = of_family(&group.config.vips, family).collect();
        let peers: Vec<IpAddr> = of_family(&group.config.peers, family).collect();
        let to = if group.config.peers.is_empty() { vec![family.group()] } else { peers };
        let advert = Advert { vrid, priority, interval, addresses };
        let mut failed = None;
        for destination in to {
            let sent = advert
                .encode(source, destination, self.spec.checksum)
                .map_err(|error| error.to_string())
                .and_then(|packet| links.send(interface.index, family, source, destination, &packet));
            failed = sent.err().or(failed);
        }
        let what = format!("{}: adverts over {family} do not leave", group.config.name);
        self.note(Trouble::Adverts, what, failed);
    }

    fn announce(&mut self, links: &mut Links) {
        let mut failed = None;
        for group in &self.spec.groups {
            let Some(interface) = &group.interface else { continue };
            for vip in &group.config.vips {
                failed = links.announce(interface.index, interface.mac, *vip).err().or(failed);
            }
        }
        self.note(Trouble::Announcements, "VIPs are not announced".to_owned(), failed);
    }

    /// Keeps a failure for `ha status`, and forgets it when the same succeeds.
    fn note(&mut self, kind: Trouble, what: String, failed: Option<String>) {
        match failed {
            Some(why) => drop(self.problems.insert((kind, what), why)),
            None => drop(self.problems.remove(&(kind, what))),
        }
    }

    fn router(&self, id: RouterId) -> Option<(&GroupSpec, Family)> {
        let (group, family) =
            ((id.0 / 2) as usize, if id.0.is_multiple_of(2) { Family::V4 } else { Family::V6 });
        Some((self.spec.groups.get(group)?, family))
    }

    fn router_on(&self, ifindex: u32, vrid: u8, family: Family) -> Option<RouterId> {
        let fits = |group: &GroupSpec| {
            group.config.vrid == Some(vrid)
                && group.interface.as_ref().is_some_and(|interface| interface.index == ifindex)
        };
        let at = self.spec.groups.iter().position(fits)?;
        Some(router_id(at, family))
    }
}
