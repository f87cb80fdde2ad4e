//! The machine as Backup (RFC 9568, 6.4.2): it waits until none of its routers hears an active one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::active::Active;
use super::router::Router;
use super::{Machine, State};
use crate::vrrp::{Advert, AdvertInterval, Heard, Reason, Role, RouterId, Warning};

#[derive(Clone, Debug)]
pub(super) struct Backup {
    /// Active_Down_Timer of each router. The last one to run out counts: a node that is cut off in one family only hears
    /// in the other that somebody is active.
    timers: BTreeMap<RouterId, Duration>,
    /// When the preemption of a worse one has been put off for long enough; `None` while nothing calls for one.
    preempt_at: Option<Duration>,
    /// It has found itself late once and waits for what it might have missed.
    was_late: bool,
}

impl Backup {
    /// Sets the timer of one router.
    pub(super) fn follow(&mut self, id: RouterId, until: Duration) {
        self.timers.insert(id, until);
    }

    /// Watches exactly these routers, new ones until `at`.
    pub(super) fn watch<'r>(&mut self, routers: impl Iterator<Item = &'r RouterId>, at: Duration) {
        let old = std::mem::take(&mut self.timers);
        self.timers = routers.map(|id| (*id, old.get(id).copied().unwrap_or(at))).collect();
    }
}

impl Machine {
    /// From Start, or from Active.
    pub(super) fn become_backup(&mut self, now: Duration, reason: Reason) {
        let backup = Backup { timers: BTreeMap::new(), preempt_at: None, was_late: false };
        self.enter(now, State::Backup(backup), reason);
        self.wait_anew(now);
    }

    /// All timers from the beginning.
    pub(super) fn wait_anew(&mut self, now: Duration) {
        let at = now.saturating_add(self.priority().active_down(self.settings.interval));
        let timers = self.routers.keys().map(|id| (*id, at)).collect();
        if let State::Backup(backup) = &mut self.state {
            *backup = Backup { timers, preempt_at: None, was_late: false };
        }
    }

    /// Timers as if it had been Backup before: an active one listens too. Where it has heard nobody there is nobody to wait
    /// for, and the goodbye of the one that it hears elsewhere counts at once.
    pub(super) fn wait_as_heard(&mut self, now: Duration) {
        let priority = self.priority();
        let down = |heard: Heard| heard.at.saturating_add(priority.active_down(heard.interval));
        let until = |router: &Router| router.heard.filter(|heard| !heard.resigned).map_or(now, down).max(now);
        let timers = self.routers.iter().map(|(id, router)| (*id, until(router))).collect();
        if let State::Backup(backup) = &mut self.state {
            backup.timers = timers;
        }
    }

    /// When it takes over unless it hears something. With a fault, paused or without routers it does not.
    pub(super) fn takeover_at(&self, backup: &Backup) -> Option<Duration> {
        if self.paused || self.track.fault.is_some() {
            return None;
        }
        let last = backup.timers.values().max().copied()?;
        Some(self.hold.map_or(last, |hold| last.max(hold.until)))
    }

    pub(super) fn tick_backup(&mut self, now: Duration) {
        let State::Backup(backup) = &self.state else { return };
        let was_late = backup.was_late;
        let Some(at) = self.takeover_at(backup).filter(|at| *at <= now) else { return };
        if self.follow_after_all(now) {
            return;
        }
        // Was it stopped? Then adverts may be waiting to be read, and an active node would be preempted that is well.
        // Only once: a node that is always late is still better than none.
        if now.saturating_sub(at) > self.settings.interval.duration() / 2 && !was_late {
            self.wait_for_missed(now);
            return;
        }
        let reason = self.why_active(now);
        self.become_active(now, reason);
    }

    /// Something may have come to stand against a preemption that was under way (a closed gate, another priority, a
    /// setting) since the worse one was heard last. It is followed as if it had stood against it then.
    fn follow_after_all(&mut self, now: Duration) -> bool {
        let priority = self.priority();
        let down = |heard: &Heard| heard.at.saturating_add(priority.active_down(heard.interval));
        let heard: Vec<(RouterId, Heard)> = self
            .routers
            .iter()
            .filter_map(|(id, router)| Some((*id, router.heard?)))
            .filter(|(_, heard)| !heard.resigned && now < down(heard))
            .collect();
        let mut follows = false;
        for (id, heard) in heard {
            if heard.priority >= priority.get() || !self.may_preempt(now, heard.fairlead) {
                if let State::Backup(backup) = &mut self.state {
                    backup.follow(id, down(&heard));
                    backup.was_late = false;
                }
                follows = true;
            }
        }
        follows
    }

    /// One more advert should have come by then.
    fn wait_for_missed(&mut self, now: Duration) {
        let priority = self.priority();
        let own = self.settings.interval;
        let wait = |heard: Option<Heard>| {
            let interval = heard.map_or(own, |heard| heard.interval);
            now.saturating_add(interval.duration()).saturating_add(priority.skew(interval))
        };
        let timers = self.routers.iter().map(|(id, router)| (*id, wait(router.heard))).collect();
        if let State::Backup(backup) = &mut self.state {
            backup.timers = timers;
            backup.was_late = true;
        }
    }

    /// What a takeover now is due to.
    fn why_active(&self, now: Duration) -> Reason {
        let latest = self.routers.values().filter_map(|router| router.heard).max_by_key(|heard| heard.at);
        let Some(heard) = latest else { return Reason::NoneHeard { last: None } };
        if heard.resigned {
            return Reason::Resigned { from: heard.from };
        }
        let alive = now.saturating_sub(heard.at) < self.priority().active_down(heard.interval);
        if alive && heard.priority < self.priority().get() {
            return Reason::Preempted { worse: heard.from, priority: heard.priority };
        }
        Reason::NoneHeard { last: Some(heard.from) }
    }

    /// An advert, its sender already noted, heard as Backup (RFC 9568, 6.4.2).
    pub(super) fn hear_as_backup(
        &mut self,
        now: Duration,
        id: RouterId,
        from: IpAddr,
        advert: &Advert,
        fairlead: bool,
    ) {
        if advert.priority == 0 {
            self.hear_goodbye(now, id, from);
            return;
        }
        // Left by an earlier process. Somebody else answers now.
        self.release_lease();
        self.end_hold_if_back(now, advert.interval);
        let ours = self.priority();
        let follow = if advert.priority >= ours.get() {
            self.put_off_preemption();
            true
        } else {
            !self.may_preempt(now, fairlead)
        };
        let State::Backup(backup) = &mut self.state else { return };
        if follow {
            backup.timers.insert(id, now.saturating_add(ours.active_down(advert.interval)));
            backup.was_late = false;
        }
    }

    /// Priority 0: the timer is set to the skew. Who says so must be the one that is followed, if there is one: with two
    /// active after a partition the goodbye of the one is no reason to disturb the other.
    fn hear_goodbye(&mut self, now: Duration, id: RouterId, from: IpAddr) {
        let heard = self.routers.get(&id).and_then(|router| router.heard);
        if heard.is_some_and(|heard| heard.from != from) {
            return;
        }
        let interval = heard.map_or(self.settings.interval, |heard| heard.interval);
        let at = now.saturating_add(self.priority().skew(interval));
        if let State::Backup(backup) = &mut self.state {
            backup.timers.insert(id, at);
        }
    }

    /// A peer that restarted is heard again. What comes within an interval may be its last word before.
    fn end_hold_if_back(&mut self, now: Duration, interval: AdvertInterval) {
        if self.hold.is_some_and(|hold| now.saturating_sub(hold.since) > interval.duration()) {
            self.hold = None;
        }
    }

    /// Whether nothing stands against preempting the worse one that was just heard. If so, its adverts no longer keep
    /// the timer from running out (RFC 9568, 6.4.2: they are discarded).
    fn may_preempt(&mut self, now: Duration, fairlead: bool) -> bool {
        let gate_open = self.gate_open || !fairlead;
        let free = !self.paused && !self.held_back && self.hold.is_none() && self.track.fault.is_none();
        let delay = self.settings.preempt_delay;
        let may = self.settings.preempt && gate_open && free;
        let State::Backup(backup) = &mut self.state else { return false };
        if !may {
            backup.preempt_at = None;
            return false;
        }
        *backup.preempt_at.get_or_insert(now.saturating_add(delay)) <= now
    }

    /// The delay before a preemption begins anew.
    pub(super) fn put_off_preemption(&mut self) {
        if let State::Backup(backup) = &mut self.state {
            backup.preempt_at = None;
        }
    }

    /// A peer asks for it: at once, whatever the priorities.
    pub(super) fn take_over(&mut self, now: Duration) {
        let refused = self.paused || self.track.fault.is_some() || self.routers.is_empty();
        match self.role() {
            Role::Init => self.warn(Warning::TakeOverRefused { fault: None }),
            Role::Active => self.keep_role(now),
            Role::Backup if refused => {
                self.warn(Warning::TakeOverRefused { fault: self.track.fault.clone() });
            }
            Role::Backup => {
                self.become_active(now, Reason::TakenOver);
                self.hold_against_givers(now);
            }
        }
    }

    /// The lease first: from then on it answers, and from the advert on the others wait.
    pub(super) fn become_active(&mut self, now: Duration, reason: Reason) {
        self.held_back = false;
        self.hold = None;
        for router in self.routers.values_mut() {
            router.statistics.became_active += 1;
            router.forget_rival();
        }
        self.enter(now, State::Active(Active::new(now)), reason);
        self.advertise(now);
        self.announce(now);
    }
}
