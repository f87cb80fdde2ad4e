//! One virtual router of a machine: whom it hears, and what it has already warned of.

use std::net::IpAddr;
use std::time::Duration;

use super::RIVAL_SILENT_INTERVALS;
use crate::vrrp::{Advert, AdvertInterval, Heard, Priority, RouterId, RouterSettings, Statistics, Warning};

#[derive(Clone, Debug)]
pub(super) struct Router {
    pub(super) settings: RouterSettings,
    /// Who was heard to be active, last.
    pub(super) heard: Option<Heard>,
    /// Heard while this node is active; of an earlier time as active once it is so again.
    rival: Option<Rival>,
    pub(super) statistics: Statistics,
    warned: Warned,
}

/// Another active one, or several.
#[derive(Clone, Copy, Debug)]
struct Rival {
    /// Heard first, without a silence since.
    since: Duration,
    /// Without another advert until then it counts as gone.
    until: Duration,
}

/// What was warned of, until settings change.
#[derive(Clone, Debug, Default)]
struct Warned {
    equal_priority: bool,
    other_interval: Option<(IpAddr, AdvertInterval)>,
    other_addresses: Option<(IpAddr, Vec<IpAddr>)>,
}

impl Router {
    pub(super) fn new(settings: RouterSettings) -> Self {
        Self {
            settings,
            heard: None,
            rival: None,
            statistics: Statistics::default(),
            warned: Warned::default(),
        }
    }

    pub(super) fn reconfigure(&mut self, settings: &RouterSettings) {
        self.settings = settings.clone();
        self.warned = Warned::default();
    }

    /// Takes note of an advert; what there is to warn of.
    pub(super) fn hear(
        &mut self,
        now: Duration,
        id: RouterId,
        from: IpAddr,
        advert: &Advert,
        fairlead: bool,
        ours: (Priority, AdvertInterval),
    ) -> Vec<Warning> {
        let Advert { priority, interval, .. } = *advert;
        self.statistics.received += 1;
        self.statistics.received_zero += u64::from(priority == 0);
        if priority == 0 {
            // Only the one that is followed can leave: another one's goodbye says nothing about it.
            if let Some(heard) = self.heard.as_mut().filter(|heard| heard.from == from) {
                (heard.at, heard.resigned) = (now, true);
            }
            return Vec::new();
        }
        self.heard = Some(Heard { from, priority, interval, fairlead, at: now, resigned: false });
        let warnings = [
            self.warn_of_priority(id, from, priority, ours.0),
            self.warn_of_interval(id, from, interval, ours.1),
            self.warn_of_addresses(id, from, &advert.addresses),
        ];
        warnings.into_iter().flatten().collect()
    }

    /// An advert of one that is active, as this node is and stays for now.
    pub(super) fn note_rival(&mut self, now: Duration, interval: AdvertInterval) {
        self.statistics.rivals += 1;
        let since = self.rival.filter(|rival| now < rival.until).map_or(now, |rival| rival.since);
        let until = now.saturating_add(interval.times(RIVAL_SILENT_INTERVALS));
        self.rival = Some(Rival { since, until });
    }

    /// This node has just become active: it has no rival yet.
    pub(super) const fn forget_rival(&mut self) {
        self.rival = None;
    }

    /// For how long there has been another active one, as long as this node is active.
    pub(super) fn rival_for(&self, now: Duration) -> Option<Duration> {
        self.rival.filter(|rival| now < rival.until).map(|rival| now.saturating_sub(rival.since))
    }

    fn warn_of_priority(
        &mut self,
        router: RouterId,
        from: IpAddr,
        priority: u8,
        ours: Priority,
    ) -> Option<Warning> {
        let equal = priority == ours.get() && !std::mem::replace(&mut self.warned.equal_priority, true);
        if priority != ours.get() {
            self.warned.equal_priority = false;
        }
        equal.then_some(Warning::EqualPriority { router, from, priority })
    }

    fn warn_of_interval(
        &mut self,
        router: RouterId,
        from: IpAddr,
        theirs: AdvertInterval,
        ours: AdvertInterval,
    ) -> Option<Warning> {
        if theirs == ours {
            self.warned.other_interval = None;
            return None;
        }
        self.statistics.other_interval += 1;
        let known = self.warned.other_interval.replace((from, theirs)) == Some((from, theirs));
        (!known).then_some(Warning::OtherInterval { router, from, theirs, ours })
    }

    fn warn_of_addresses(&mut self, router: RouterId, from: IpAddr, theirs: &[IpAddr]) -> Option<Warning> {
        let ours = &self.settings.addresses;
        let without = |some: &[IpAddr], others: &[IpAddr]| -> Vec<IpAddr> {
            some.iter().filter(|address| !others.contains(address)).copied().collect()
        };
        let (missing, extra) = (without(ours, theirs), without(theirs, ours));
        if missing.is_empty() && extra.is_empty() {
            self.warned.other_addresses = None;
            return None;
        }
        self.statistics.other_addresses += 1;
        let known = (from, theirs.to_vec());
        if self.warned.other_addresses.as_ref() == Some(&known) {
            return None;
        }
        self.warned.other_addresses = Some(known);
        Some(Warning::OtherAddresses { router, from, missing, extra })
    }
}
