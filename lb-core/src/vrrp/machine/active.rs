//! The machine as Active (RFC 9568, 6.4.3): it answers as long as it renews its lease, and yields to a better one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::rank::{Rank, Ties};
use super::router::Router;
use super::{
    Announcements, GIVER_SILENT_INTERVALS, HANDOVER_INTERVALS, LEASE_INTERVALS, LONE_INTERVALS,
    MIN_REPLY_GAP, Machine, State, TAKEOVER_INTERVALS,
};
use crate::vrrp::{Advert, AdvertInterval, Effect, Heard, Reason, Role, RouterId, Warning};

#[derive(Clone, Debug)]
pub(super) struct Active {
    /// Adver_Timer.
    next_advert: Duration,
    last_advert: Duration,
    /// After this the lease is not renewed any more. Fixed with the lease, by the interval of then.
    renew_by: Duration,
    /// Whether the lease is one for a node without a peer.
    lone: bool,
    announcements: Option<Announcements>,
    /// Until when a peer has time to take over, if one was asked.
    handover: Option<Duration>,
    /// Who gave this role away.
    givers: BTreeMap<RouterId, Giver>,
    /// Rivals of equal priority.
    pub(super) ties: Ties,
}

/// One that asked this node to take over and has not yet heard that it did.
#[derive(Clone, Copy, Debug)]
struct Giver {
    /// `None`: it has not been heard here of late, and is the first one that will be.
    from: Option<IpAddr>,
    /// Who is silent for so long has given up its role, and is then a rival like any other.
    silence: Duration,
    heard_at: Duration,
    /// From then on it is one in any case: it may have found that nobody took over.
    until: Duration,
}

impl Giver {
    fn new(now: Duration, from: Option<IpAddr>, interval: AdvertInterval) -> Self {
        Self {
            from,
            silence: interval.times(GIVER_SILENT_INTERVALS),
            heard_at: now,
            until: now.saturating_add(interval.times(TAKEOVER_INTERVALS)),
        }
    }

    /// Whether an advert is the last of its old role.
    fn still_gives(&mut self, now: Duration, from: IpAddr) -> bool {
        let gives = *self.from.get_or_insert(from) == from
            && now < self.until
            && now.saturating_sub(self.heard_at) < self.silence;
        if gives {
            self.heard_at = now;
        }
        gives
    }
}

impl Active {
    /// Before its first advert.
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            next_advert: now,
            last_advert: now,
            renew_by: Duration::MAX,
            lone: false,
            announcements: None,
            handover: None,
            givers: BTreeMap::new(),
            ties: Ties::new(),
        }
    }

    pub(super) const fn is_lone(&self) -> bool {
        self.lone
    }

    pub(super) const fn is_handing_over(&self) -> bool {
        self.handover.is_some()
    }

    pub(super) fn next_deadline(&self) -> Duration {
        let announcement = self.announcements.as_ref().and_then(Announcements::due);
        [announcement, self.handover].into_iter().flatten().fold(self.next_advert, Duration::min)
    }

    fn holds_against(&mut self, now: Duration, id: RouterId, from: IpAddr) -> bool {
        self.givers.get_mut(&id).is_some_and(|giver| giver.still_gives(now, from))
    }
}

impl Machine {
    /// The lease has run out, or will before it is sure that the others heard: somebody may have taken over, or is about
    /// to. Only the others' silence over a whole Active_Down_Interval tells.
    pub(super) fn give_up_if_late(&mut self, now: Duration) {
        let State::Active(active) = &self.state else { return };
        if now <= active.renew_by {
            return;
        }
        let by = now.saturating_sub(active.next_advert);
        self.release_lease();
        self.become_backup(now, Reason::Late { by });
    }

    pub(super) fn tick_active(&mut self, now: Duration) {
        let State::Active(active) = &mut self.state else { return };
        let failed = active.handover.is_some_and(|until| until <= now);
        if failed {
            active.handover = None;
        }
        let announce = active.announcements.as_mut().is_some_and(|announcements| announcements.take(now));
        let advertise = active.next_advert <= now;
        if advertise {
            self.advertise(now);
        }
        if announce {
            self.effects.push_back(Effect::Announce);
        }
        if failed {
            self.warn(Warning::HandoverFailed);
        }
    }

    /// Renews the lease and tells the others, of all routers at once: the lease is common to them.
    pub(super) fn advertise(&mut self, now: Duration) {
        let interval = self.settings.interval;
        let alone = now.saturating_sub(self.peer_heard_at) >= interval.times(LONE_INTERVALS);
        let lone_lease = self.settings.lone_lease;
        let usual = interval.times(LEASE_INTERVALS);
        let lone = alone && lone_lease > usual;
        let until = now.saturating_add(if lone { lone_lease } else { usual });
        let State::Active(active) = &mut self.state else { return };
        active.lone = lone;
        active.renew_by = until.saturating_sub(interval.duration() / 2);
        active.next_advert = now.saturating_add(interval.duration());
        active.last_advert = now;
        self.set_lease(until);
        self.send_all(self.priority().get());
    }

    /// Tells the link, now and some more times.
    pub(super) fn announce(&mut self, now: Duration) {
        let announcements = Announcements::repeated(now, self.settings.interval);
        if let State::Active(active) = &mut self.state {
            active.announcements = Some(announcements);
            self.effects.push_back(Effect::Announce);
        }
    }

    /// Lets the others know that this node is not active any more (RFC 9568, 6.4.3: Shutdown). The lease goes first: were
    /// this process stopped in between, another node would answer beside it, while without it nobody does for no longer
    /// than it takes to send a packet.
    pub(super) fn resign(&mut self) {
        self.release_lease();
        self.send_all(0);
    }

    /// An advert, whoever it is for.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        id: RouterId,
        from: IpAddr,
        advert: &Advert,
        fairlead: bool,
    ) {
        let ours = (self.priority(), self.settings.interval);
        let Some(router) = self.routers.get_mut(&id) else { return };
        if from == router.settings.source {
            router.statistics.discarded.own_address += 1;
            return;
        }
        if self.role() == Role::Init {
            return;
        }
        let Some(router) = self.routers.get_mut(&id) else { return };
        let warnings = router.hear(now, id, from, advert, fairlead, ours);
        self.effects.extend(warnings.into_iter().map(Effect::Warning));
        self.peer_heard_at = now;
        match self.role() {
            Role::Init => {}
            Role::Backup => self.hear_as_backup(now, id, from, advert, fairlead),
            Role::Active => self.hear_as_active(now, id, from, advert),
        }
    }

    /// RFC 9568, 6.4.3.
    fn hear_as_active(&mut self, now: Duration, id: RouterId, from: IpAddr, advert: &Advert) {
        let State::Active(active) = &mut self.state else { return };
        if advert.priority == 0 {
            // Somebody who is not followed any more says goodbye; the others should not be in doubt.
            self.reply(now);
            return;
        }
        if active.is_handing_over() {
            self.yield_to(now, Reason::HandedOver { to: from });
            self.held_back = true;
            return;
        }
        if active.holds_against(now, id, from) {
            // No answer either: if it does not hear us, each of its adverts would be answered, and each answer by one.
            return;
        }
        match self.rank(now, id, from, advert.priority) {
            Rank::Better => self.yield_to(now, Reason::Better { from, priority: advert.priority }),
            Rank::Worse => {
                self.note_rival(now, id, advert.interval);
                self.assert_role(now, id);
            }
            Rank::Open => self.note_rival(now, id, advert.interval),
        }
    }

    fn note_rival(&mut self, now: Duration, id: RouterId, interval: AdvertInterval) {
        if let Some(router) = self.routers.get_mut(&id) {
            router.note_rival(now, interval);
        }
    }

    /// A worse one is active too: it should know, and hosts that may have learnt its address (RFC 9568, 6.4.3).
    fn assert_role(&mut self, now: Duration, id: RouterId) {
        self.reply(now);
        let interval = self.settings.interval;
        // One that goes on after it must have heard this node is deaf, and no good place for clients.
        let is_new = |router: &Router| router.rival_for(now) < Some(interval.times(2));
        let is_peer = |router: &Router| router.heard.is_some_and(|heard| heard.fairlead);
        let is_peer = self.routers.get(&id).is_some_and(|router| is_peer(router) && is_new(router));
        if let State::Active(active) = &mut self.state {
            active
                .announcements
                .get_or_insert_with(|| Announcements::repeated(now, interval))
                .once_more(now, interval, is_peer);
        }
    }

    /// An advert at once.
    fn reply(&mut self, now: Duration) {
        let State::Active(active) = &self.state else { return };
        if now.saturating_sub(active.last_advert) >= MIN_REPLY_GAP {
            self.advertise(now);
        }
    }

    /// To one that has been noted as heard.
    fn yield_to(&mut self, now: Duration, reason: Reason) {
        self.release_lease();
        self.become_backup(now, reason);
        self.wait_as_heard(now);
    }

    /// It stays active until a peer is heard to be. That should know whose last adverts it is not to yield to, even if it has
    /// only just started: one goes before the request.
    pub(super) fn hand_over(&mut self, now: Duration) {
        self.advertise(now);
        let until = now.saturating_add(self.settings.interval.times(HANDOVER_INTERVALS));
        match &mut self.state {
            State::Active(active) => {
                active.handover = Some(until);
                self.effects.push_back(Effect::AskPeerToTake);
            }
            State::Init | State::Backup(_) => {
                let role = self.role();
                self.warn(Warning::NothingToHandOver { role });
            }
        }
    }

    /// A peer wants this node to take over, which it has: both were active, or the request came twice.
    pub(super) fn keep_role(&mut self, now: Duration) {
        if let State::Active(active) = &mut self.state {
            active.handover = None;
            self.reply(now);
            self.hold_against_givers(now);
        }
    }

    /// For a while this node does not yield to those that it heard last, one of which gives its role away.
    pub(super) fn hold_against_givers(&mut self, now: Duration) {
        let (priority, own) = (self.priority(), self.settings.interval);
        let giver = |router: &Router| {
            let fresh = |heard: &Heard| now.saturating_sub(heard.at) < priority.active_down(heard.interval);
            let heard = router.heard.filter(fresh);
            Giver::new(now, heard.map(|heard| heard.from), heard.map_or(own, |heard| heard.interval))
        };
        let givers = self.routers.iter().map(|(id, router)| (*id, giver(router))).collect();
        if let State::Active(active) = &mut self.state {
            active.givers = givers;
        }
    }
}
