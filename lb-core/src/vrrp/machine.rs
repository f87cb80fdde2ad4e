//! The machine: inputs in, effects out. What it does as Backup and as Active is in the files below.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::announce::Announcements;
use super::view::{MachineView, RouterView};
use super::{Effect, Input, Priority, Reason, Role, RouterId, Settings, Transition, Transitions, Warning};

mod active;
mod backup;
mod rank;
mod router;

use active::Active;
use backup::Backup;
use router::Router;

/// Advert intervals that a lease lasts: Active_Down_Interval of a backup is longer by its skew, so that the lease of a
/// node that is killed or stopped has run out before a backup takes over.
pub const LEASE_INTERVALS: u32 = 3;
/// Own advert intervals without a word of any peer after which a node counts as alone: three times what a backup waits,
/// and the sync channel has been tried as often.
pub const LONE_INTERVALS: u32 = 10;
/// Own advert intervals that a handover waits for the peer's first advert: three adverts may be lost.
pub const HANDOVER_INTERVALS: u32 = 3;
/// Advert intervals in which a node that took over on request does not yield to the one that gave up: longer than
/// [`HANDOVER_INTERVALS`], so that never both give way to each other.
pub const TAKEOVER_INTERVALS: u32 = 4;
/// Advert intervals of silence after which the one that gave up counts as having done so, and is a rival if it comes back,
/// which it cannot before: two of its last adverts may be lost.
pub const GIVER_SILENT_INTERVALS: u32 = 3;
/// Advert intervals after which a tie is settled on a router other than the first one: two adverts on that may be lost.
pub const TIE_INTERVALS: u32 = 3;
/// Intervals of a rival's silence after which there is none any more: two of its adverts may be lost.
pub const RIVAL_SILENT_INTERVALS: u32 = 3;
/// Rivals of equal priority that a machine waits for at once: more than a group has nodes, and not as many as somebody may
/// invent.
pub const MAX_TIES: usize = 32;
/// Longest time that a planned restart may ask for. A peer's word, or a typing error, should not leave VIPs unanswered
/// for longer than somebody would watch it.
pub const MAX_HOLD: Duration = Duration::from_secs(600);
/// Adverts that answer a worse one do not come closer than this to the last ones: half of the shortest interval. A rival
/// with several virtual routers is answered once, and a flood of its adverts is not answered by a flood.
pub const MIN_REPLY_GAP: Duration = Duration::from_millis(5);

/// What it is, with what it needs for that.
#[derive(Clone, Debug)]
enum State {
    Init,
    Backup(Backup),
    Active(Active),
}

/// A peer's planned restart.
#[derive(Clone, Copy, Debug)]
struct Hold {
    since: Duration,
    until: Duration,
}

/// What is tracked.
#[derive(Clone, Debug, Default)]
struct Track {
    fault: Option<String>,
    penalty: u8,
}

/// The machine of all virtual routers that move together.
///
/// The caller passes time and inputs to [`Self::handle`], does at once what [`Self::poll`] gives until that is empty, and
/// comes back at [`Self::next_deadline`]. It takes the time, *then* reads its sockets until they are empty, and then
/// ticks with the time taken: wherever it is stopped in between, no backup takes over from a node whose adverts are there
/// to be read. Should it tick first nevertheless, a machine that finds itself late by more than half an interval waits
/// once for what there might be.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: Settings,
    state: State,
    routers: BTreeMap<RouterId, Router>,
    track: Track,
    gate_open: bool,
    paused: bool,
    /// It gave its role away and leaves it there, however better it is.
    held_back: bool,
    hold: Option<Hold>,
    /// When it last heard of any peer, or started.
    peer_heard_at: Duration,
    /// As last written, or found at the start.
    lease: Duration,
    last: Option<Transition>,
    transitions: Transitions,
    effects: VecDeque<Effect>,
}

impl Machine {
    /// A machine that has not started.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let routers = settings.routers.iter().map(|(id, router)| (*id, Router::new(router.clone())));
        Self {
            routers: routers.collect(),
            settings,
            state: State::Init,
            track: Track::default(),
            gate_open: false,
            paused: false,
            held_back: false,
            hold: None,
            peer_heard_at: Duration::ZERO,
            lease: Duration::ZERO,
            last: None,
            transitions: Transitions::default(),
            effects: VecDeque::new(),
        }
    }

    /// Something has happened at `now`, a time of the clock that leases are compared with, taken before.
    pub fn handle(&mut self, now: Duration, input: Input) {
        // Before anything that would renew the lease: an advert that waited while this process was stopped does so too.
        self.give_up_if_late(now);
        match input {
            Input::Start { lease_in_force } => self.start(now, lease_in_force),
            Input::Advert { router, from, advert, fairlead } => {
                self.hear(now, router, from, &advert, fairlead);
            }
            Input::Discarded { router, why } => {
                if let Some(router) = self.routers.get_mut(&router) {
                    router.statistics.discarded.count(why);
                }
            }
            Input::PeerHeard => self.hear_peer(now),
            Input::Track { fault, penalty } => self.track(now, Track { fault, penalty }),
            Input::Gate { open } => {
                self.gate_open = open;
                if !open {
                    self.put_off_preemption();
                }
            }
            Input::Handover => self.hand_over(now),
            Input::TakeOver => self.take_over(now),
            // An active one has nothing to hold back.
            Input::Hold { .. } if self.role() == Role::Active => {}
            Input::Hold { until } => {
                let until = until.min(now.saturating_add(MAX_HOLD));
                self.hold = Some(Hold { since: now, until });
            }
            Input::Pause => {
                self.paused = true;
                self.put_off_preemption();
            }
            Input::Resume => self.resume(now),
            Input::Tick => self.tick(now),
            Input::Stop { hold } => self.stop(now, hold),
            Input::Settings(settings) => self.reload(now, settings),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to tick next, if there is anything to wait for. It changes with every input.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Init => None,
            State::Backup(backup) => self.takeover_at(backup),
            State::Active(active) => Some(active.next_deadline()),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self.state {
            State::Init => Role::Init,
            State::Backup(_) => Role::Backup,
            State::Active(_) => Role::Active,
        }
    }

    /// Priority after what is tracked lowered it.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.settings.priority.lowered_by(self.track.penalty)
    }

    /// Everything there is to show.
    #[must_use]
    pub fn view(&self, now: Duration) -> MachineView {
        let active = match &self.state {
            State::Active(active) => Some(active),
            State::Init | State::Backup(_) => None,
        };
        let router = |(id, router): (&RouterId, &Router)| RouterView {
            id: *id,
            vrid: router.settings.vrid,
            heard: router.heard,
            rival_for: active.and_then(|_| router.rival_for(now)),
            statistics: router.statistics,
        };
        MachineView {
            role: self.role(),
            last: self.last.clone(),
            transitions: self.transitions,
            priority: self.priority(),
            lease: (self.lease > now).then_some(self.lease),
            lone: active.is_some_and(Active::is_lone),
            paused: self.paused,
            held_back: self.held_back,
            handing_over: active.is_some_and(Active::is_handing_over),
            gate_open: self.gate_open,
            hold_until: self.hold.map(|hold| hold.until).filter(|until| *until > now),
            fault: self.track.fault.clone(),
            routers: self.routers.iter().map(router).collect(),
        }
    }

    /// RFC 9568, 6.4.1. As we never own the addresses, Backup is next.
    fn start(&mut self, now: Duration, lease_in_force: Option<Duration>) {
        let State::Init = self.state else { return };
        self.lease = lease_in_force.unwrap_or(Duration::ZERO);
        self.peer_heard_at = now;
        self.held_back = false;
        self.become_backup(now, Reason::Started);
        if self.track.fault.is_some() {
            self.release_lease();
        }
    }

    /// RFC 9568, 6.4.2 and 6.4.3, Shutdown.
    fn stop(&mut self, now: Duration, hold: Option<Duration>) {
        let role = self.role();
        match (role, hold) {
            (Role::Init, _) => return,
            (Role::Active, Some(hold)) => self.set_lease(now.saturating_add(hold.min(MAX_HOLD))),
            (Role::Active, None) => self.resign(),
            (Role::Backup, Some(_)) => {}
            (Role::Backup, None) => self.release_lease(),
        }
        self.enter(now, State::Init, Reason::Stopped);
    }

    fn tick(&mut self, now: Duration) {
        match self.role() {
            Role::Init => {}
            Role::Backup => self.tick_backup(now),
            Role::Active => self.tick_active(now),
        }
    }

    /// A peer is there that says so elsewhere than in adverts.
    fn hear_peer(&mut self, now: Duration) {
        self.peer_heard_at = now;
        // A lone lease would keep it from a clean takeover.
        if let State::Active(active) = &self.state
            && active.is_lone()
        {
            self.advertise(now);
        }
    }

    fn track(&mut self, now: Duration, track: Track) {
        let priority = self.priority();
        let had_fault = self.track.fault.is_some();
        self.track = track;
        match (&self.track.fault, had_fault) {
            (Some(fault), false) => {
                let reason = Reason::Fault(fault.clone());
                self.put_off_preemption();
                self.release_lease_of_backup();
                if self.role() == Role::Active {
                    self.resign();
                    self.become_backup(now, reason);
                }
            }
            // What was heard meanwhile is as good as what is heard after a start: others may be active.
            (None, true) => self.wait_anew(now),
            _ => {}
        }
        if self.role() == Role::Active && self.priority() != priority {
            self.advertise(now);
        }
    }

    fn resume(&mut self, now: Duration) {
        self.held_back = false;
        if std::mem::take(&mut self.paused) {
            self.wait_anew(now);
        }
    }

    /// Nothing is moved by it: who is active stays so and tells its peers, who waits goes on waiting.
    fn reload(&mut self, now: Duration, settings: Settings) {
        let gone: Vec<RouterId> =
            self.routers.keys().filter(|id| !settings.routers.contains_key(id)).copied().collect();
        let changed = self.settings != settings;
        let addresses = self.settings.routers != settings.routers;
        for id in &gone {
            if self.role() == Role::Active {
                self.send(*id, 0);
            }
            self.routers.remove(id);
        }
        for (id, new) in &settings.routers {
            self.routers.entry(*id).or_insert_with(|| Router::new(new.clone())).reconfigure(new);
        }
        self.settings = settings;
        let down = self.priority().active_down(self.settings.interval);
        match &mut self.state {
            State::Init => {}
            State::Backup(backup) => backup.watch(self.routers.keys(), now.saturating_add(down)),
            State::Active(_) if changed => {
                self.advertise(now);
                if addresses {
                    self.announce(now);
                }
            }
            State::Active(_) => {}
        }
    }

    /// Another state. All changes of the role go through here.
    fn enter(&mut self, now: Duration, state: State, reason: Reason) {
        let from = self.role();
        self.state = state;
        let transition = Transition { from, to: self.role(), reason, at: now };
        self.transitions.count(transition.reason.cause());
        self.last = Some(transition.clone());
        self.effects.push_back(Effect::Transition(transition));
    }

    fn set_lease(&mut self, until: Duration) {
        self.lease = until;
        self.effects.push_back(Effect::SetLease { until });
    }

    /// No answers from now on, whoever gave the lease.
    fn release_lease(&mut self) {
        if self.lease > Duration::ZERO {
            self.set_lease(Duration::ZERO);
        }
    }

    /// One that it found at its start.
    fn release_lease_of_backup(&mut self) {
        if self.role() == Role::Backup {
            self.release_lease();
        }
    }

    fn send(&mut self, id: RouterId, priority: u8) {
        let Some(router) = self.routers.get_mut(&id) else { return };
        router.statistics.sent += 1;
        router.statistics.sent_zero += u64::from(priority == 0);
        let interval = self.settings.interval;
        self.effects.push_back(Effect::SendAdvert { router: id, priority, interval });
    }

    fn send_all(&mut self, priority: u8) {
        let ids: Vec<RouterId> = self.routers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send(id, priority));
    }

    fn warn(&mut self, warning: Warning) {
        self.effects.push_back(Effect::Warning(warning));
    }
}

#[cfg(test)]
mod tests;
