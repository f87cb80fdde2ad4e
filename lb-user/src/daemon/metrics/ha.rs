//! High availability: what each group is here, what was heard of others, and how punctual leases are.

use std::time::Duration;

use lb_common::service::LEASE_FOR_EVER;
use lb_core::vrrp::{AdvertInterval, Cause, Family as Ip, MachineView, Role, RouterView};

use super::super::controller::Controller;
use super::super::ha::spec::{GroupSpec, UnitView};
use super::super::ha::thread::View;
use super::super::ha::{FaultReason, Trouble, wall};
use super::{seconds, states};
use crate::metrics::{Exposition, Family, label};

impl Controller {
    /// Without a view the thread does not answer.
    pub(super) fn ha_metrics(&self, out: &mut Exposition, view: Option<&View>) {
        let config = &self.loaded.config;
        let (cluster, node) = match &config.cluster {
            Some(cluster) => (cluster.name.clone(), cluster.node.clone()),
            None => <(String, String)>::default(),
        };
        out.count(Family::HaInfo, &[cluster.clone(), node, label(config.ha.mode)], 1);
        out.flag(Family::HaThreadUp, &[], view.is_some());
        let Some(view) = view else { return };
        thread_metrics(out, view);
        for unit in &view.units {
            for (at, group) in unit.spec.groups.iter().enumerate() {
                let group = GroupAt { view, unit, group };
                group.write(out, &cluster);
                let routers = unit.machine.iter().flat_map(|machine| &machine.routers);
                for router in routers.filter(|router| (router.id.0 / 2) as usize == at) {
                    group.write_router(out, router);
                }
            }
        }
    }
}

fn thread_metrics(out: &mut Exposition, view: &View) {
    let lateness = &view.lateness;
    out.flag(Family::HaThreadRealtime, &[], view.real_time.scheduling.is_ok());
    out.flag(Family::HaMemoryLocked, &[], view.real_time.memory.is_ok());
    let buckets = lateness.cumulative().map(|(bound, count)| (bound.as_secs_f64(), count));
    out.histogram(Family::HaLateness, &[], buckets, (lateness.count, lateness.sum.as_secs_f64()));
    out.set(Family::HaLatenessMax, &[], lateness.max.as_secs_f64());
    out.set(Family::HaLatenessRecent, &[], lateness.recent_max(view.now).as_secs_f64());
    out.count(Family::HaLateWakeups, &[], lateness.late);
    out.count(Family::HaUnknownRouters, &[], view.unknown_routers);
}

/// A group of a unit at a moment.
struct GroupAt<'v> {
    view: &'v View,
    unit: &'v UnitView,
    group: &'v GroupSpec,
}

impl GroupAt<'_> {
    fn name(&self) -> String {
        label(&self.group.config.name)
    }

    fn write(&self, out: &mut Exposition, cluster: &str) {
        let Self { view, unit, .. } = self;
        let name = [self.name()];
        let roles = [Role::Active, Role::Backup, Role::Init].map(|role| role.to_string());
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        states(out, Family::HaRole, &[label(cluster), self.name()], &roles, &unit.role.to_string());
        if let Some((at, _)) = &unit.since {
            out.set(Family::HaRoleTime, &name, seconds(wall(view, *at).0));
        }
        for cause in Cause::ALL.iter().filter(|cause| cause.is_of(unit.spec.external)) {
            let labels = [self.name(), label(cause.to()), label(cause.word())];
            out.count(Family::HaTransitions, &labels, unit.transitions.of(*cause));
        }
        let lease = unit.lease.filter(|until| *until < Duration::from_nanos(LEASE_FOR_EVER));
        let remaining = lease.map_or(Duration::ZERO, |until| until.saturating_sub(view.now));
        out.set(Family::HaLease, &name, remaining.as_secs_f64());
        let fault = unit.fault.as_ref().map(|fault| fault.reason);
        for reason in FaultReason::ALL {
            out.flag(Family::HaFault, &[self.name(), label(reason.word())], fault == Some(reason));
        }
        for kind in Trouble::ALL {
            let there = unit.problems.iter().any(|(known, _)| *known == kind);
            out.flag(Family::HaProblem, &[self.name(), label(kind.word())], there);
        }
        if let Some(machine) = &unit.machine {
            self.write_election(out, machine);
        }
    }

    /// What there is only if VRRP decides.
    fn write_election(&self, out: &mut Exposition, machine: &MachineView) {
        let (name, config) = ([self.name()], &self.group.config);
        out.count(Family::HaPriority, &name, u64::from(machine.priority.get()));
        out.count(Family::HaPriorityConfigured, &name, u64::from(config.priority));
        let interval =
            AdvertInterval::from_duration(config.advert_interval).unwrap_or(AdvertInterval::DEFAULT);
        out.set(Family::HaInterval, &name, interval.duration().as_secs_f64());
        out.set(Family::HaLatenessLimit, &name, interval.lateness_limit().as_secs_f64());
        for (condition, holds) in [
            ("paused", machine.paused),
            ("handed_over", self.unit.handed_over),
            ("held_back", machine.held_back),
            ("hold", machine.hold_until.is_some()),
            ("lone", machine.lone),
        ] {
            out.flag(Family::HaCondition, &[self.name(), label(condition)], holds);
        }
    }

    fn write_router(&self, out: &mut Exposition, router: &RouterView) {
        let family = if router.id.0.is_multiple_of(2) { Ip::V4 } else { Ip::V6 };
        let labels = [self.name(), label(router.vrid), label(family).to_lowercase()];
        let counted = &router.statistics;
        out.count(Family::HaSent, &labels, counted.sent);
        out.count(Family::HaSentZero, &labels, counted.sent_zero);
        out.count(Family::HaReceived, &labels, counted.received);
        out.count(Family::HaReceivedZero, &labels, counted.received_zero);
        out.count(Family::HaRivalAdverts, &labels, counted.rivals);
        out.set(Family::HaRival, &labels, router.rival_for.unwrap_or_default().as_secs_f64());
        let with = |word: &str| {
            let [group, vrid, family] = labels.clone();
            [group, vrid, family, label(word)]
        };
        for (reason, packets) in counted.discarded.by_reason() {
            out.count(Family::HaRejected, &with(reason), packets);
        }
        out.count(Family::HaDiffering, &with("interval"), counted.other_interval);
        out.count(Family::HaDiffering, &with("addresses"), counted.other_addresses);
        if let Some(heard) = &router.heard {
            out.set(Family::HaHeardTime, &labels, seconds(wall(self.view, heard.at).0));
        }
    }
}
