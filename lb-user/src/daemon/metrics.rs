//! All metrics at one moment. No flow is looked at: what concerns flows is from the last sweep.

mod ha;
mod sync;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lb_common::counters::Event;
use lb_common::limits::ABI_VERSION;
use lb_common::reason::{DropReason, Outcome, Verdict as PacketVerdict};
use lb_core::config::{self, AdminState};
use lb_core::health::Verdict;
use lb_core::plan::ServiceKey;
use lb_core::totals::{Owner, Traffic};
use tokio::time::Instant;

use super::controller::Controller;
use crate::api::ApiError;
use crate::api::types::{AttachedMode, Backend, SlotState};
use crate::metrics::{Exposition, Family, label};

/// What the build says of the source, if it does.
const COMMIT: Option<&str> = option_env!("FAIRLEAD_COMMIT");

impl Controller {
    /// The text for Prometheus: the last one if it was written less than `lifetime` ago, else that of this moment. It
    /// is kept here and not where it is asked for, so that clients who do not wait for it cost no second one either.
    pub(super) async fn metrics(&mut self, lifetime: Duration) -> Result<Bytes, ApiError> {
        let now = Instant::now();
        match &self.metrics_text {
            Some((at, text)) if now.duration_since(*at) < lifetime => return Ok(text.clone()),
            _ => {}
        }
        let text = Bytes::from(self.write_metrics().await?);
        self.metrics_text = Some((now, text.clone()));
        Ok(text)
    }

    async fn write_metrics(&mut self) -> Result<String, ApiError> {
        self.observe_traffic();
        let seen = self.ha.seen().await;
        let mut out = Exposition::default();
        self.daemon_metrics(&mut out);
        self.interface_metrics(&mut out);
        if let Some(seen) = seen {
            self.ha_metrics(&mut out, seen.ok().as_ref());
        }
        self.sync_metrics(&mut out);
        self.packet_metrics(&mut out);
        self.flow_table_metrics(&mut out);
        self.service_metrics(&mut out);
        out.text().map_err(|error| ApiError::internal(format!("cannot write the metrics: {error}"), ""))
    }

    /// Brings the sums of traffic up to date with the slots.
    pub(super) fn observe_traffic(&mut self) {
        for service in &self.loaded.config.services {
            let slots = self.actual.slots_by_backend(&ServiceKey::from(service));
            for backend in &service.backends {
                if let Some(slot) = slots.get(&backend.address).and_then(|slots| slots.first()) {
                    let seen = Traffic::from(self.tables.slot_counter(*slot));
                    self.totals.observe(&owner(service, backend), *slot, seen);
                }
            }
        }
        self.totals.save();
    }

    fn daemon_metrics(&self, out: &mut Exposition) {
        let build = [label(env!("CARGO_PKG_VERSION")), label(COMMIT.unwrap_or_default()), label(ABI_VERSION)];
        out.count(Family::BuildInfo, &build, 1);
        out.set(Family::StartTime, &[], seconds(self.started));
        out.count(Family::ConfigGeneration, &[], self.loaded.generation);
        out.flag(Family::ConfigReloadOk, &[], self.reload_ok);
        out.set(Family::ConfigReloadTime, &[], seconds(self.loaded.at));
        out.flag(Family::ConfigChanged, &[], self.changed_on_disk());
        out.count(Family::MapFailures, &[], self.map_failures);
    }

    fn interface_metrics(&self, out: &mut Exposition) {
        for interface in self.interfaces() {
            let mode = match interface.mode {
                AttachedMode::Native => "native",
                AttachedMode::Generic => "generic",
                AttachedMode::Detached => "none",
            };
            let name = label(&interface.name);
            states(
                out,
                Family::InterfaceAttached,
                std::slice::from_ref(&name),
                &["native", "generic", "none"],
                mode,
            );
            // Its figures are kept by its index: they are not zero while it is away.
            if interface.index != 0 {
                for (kind, frames) in
                    [("refused", interface.redirect_refused), ("lost", interface.redirect_lost)]
                {
                    out.count(Family::RedirectFaults, &[name.clone(), label(kind)], frames);
                }
            }
            out.flag(Family::InterfaceUp, &[name], self.link(&interface.name).is_some_and(|link| link.up));
        }
    }

    fn packet_metrics(&self, out: &mut Exposition) {
        for verdict in PacketVerdict::ALL {
            let packets = self.tables.counter(Outcome::Verdict(*verdict).row());
            out.count(Family::Packets, &[label(verdict.name())], packets);
        }
        for reason in DropReason::ALL {
            let packets = self.tables.counter(Outcome::Drop(*reason).row());
            out.count(Family::Dropped, &[label(reason.name())], packets);
        }
        for event in Event::ALL {
            out.count(Family::Events, &[label(event.name())], self.tables.counter(event.row()));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn flow_table_metrics(&self, out: &mut Exposition) {
        let table = self.flow_table();
        out.count(Family::FlowCapacity, &[], table.capacity);
        out.count(Family::FlowUsed, &[], table.used);
        out.set(Family::FlowLoad, &[], table.used as f64 / table.capacity as f64);
        out.count(Family::FlowExceptions, &[], table.exceptions);
        out.count(Family::FlowUnconfirmed, &[], table.unconfirmed);
        let limits = self.limits();
        out.count(Family::SlotCapacity, &[], u64::from(self.tables.layout().slots.saturating_sub(1)));
        out.count(Family::SlotsUsed, &[], u64::from(limits.backends_used));
    }

    fn service_metrics(&self, out: &mut Exposition) {
        let totals = self.totals.of_services();
        for (configured, service) in self.loaded.config.services.iter().zip(self.services().services) {
            let name = [label(&service.name)];
            let healthy = |backend: &&Backend| {
                backend.state == AdminState::Enabled
                    && matches!(backend.health.verdict, Verdict::Up | Verdict::Unchecked)
            };
            out.flag(Family::ServiceUp, &name, service.serving);
            out.count(Family::ServiceBackends, &name, service.backends.len() as u64);
            out.count(Family::ServiceHealthy, &name, service.backends.iter().filter(healthy).count() as u64);
            out.count(Family::ServiceFlows, &name, service.flows);
            let total = totals.get(service.name.as_str()).copied().unwrap_or_default();
            out.count(Family::ServicePackets, &name, total.packets);
            out.count(Family::ServiceBytes, &name, total.bytes);
            out.count(Family::ServiceNewFlows, &name, total.flows);
            let slots = self.actual.slots_by_backend(&ServiceKey::from(configured));
            for (configured_backend, backend) in configured.backends.iter().zip(&service.backends) {
                let owner = owner(configured, configured_backend);
                let names = [label(&owner.service), label(owner.backend)];
                self.traffic_metrics(out, &names, &owner);
                out.count(Family::BackendFlows, &names, backend.flows);
                let slots = slots.get(&backend.address).map_or(0, Vec::len);
                out.count(Family::BackendSlots, &names, slots as u64);
                let share = backend.slot.map_or(0, |slot| self.shares.of(slot));
                out.set(Family::BackendShare, &names, f64::from(share) / f64::from(service.table_size));
                self.state_metrics(out, &names, backend);
            }
        }
    }

    fn traffic_metrics(&self, out: &mut Exposition, names: &[String; 2], owner: &Owner) {
        let total = self.totals.of_backend(owner);
        out.count(Family::BackendPackets, names, total.packets);
        out.count(Family::BackendBytes, names, total.bytes);
        out.count(Family::BackendNewFlows, names, total.flows);
        let transitions = self.totals.transitions(owner);
        for (to, count) in [("up", transitions.up), ("down", transitions.down)] {
            let [service, backend] = names.clone();
            out.count(Family::BackendTransitions, &[service, backend, label(to)], count);
        }
        let Some(known) = self.prober.describe(&owner.service, owner.backend) else { return };
        if let Some(took) = known.last_duration {
            out.set(Family::BackendCheckDuration, names, took.as_secs_f64());
        }
        if let Some(at) = known.last_check {
            out.set(Family::BackendCheckTime, names, seconds(at));
        }
    }

    fn state_metrics(&self, out: &mut Exposition, names: &[String; 2], backend: &Backend) {
        out.count(Family::BackendWeight, names, u64::from(backend.weight));
        let admin: Vec<&str> = AdminState::ALL.iter().map(|state| state.word()).collect();
        states(out, Family::BackendAdmin, names, &admin, backend.state.word());
        let verdict = backend.health.verdict.to_string();
        states(out, Family::BackendHealth, names, &["unchecked", "unknown", "up", "down"], &verdict);
        let all = [SlotState::Serving, SlotState::Draining, SlotState::Dead].map(SlotState::word);
        states(out, Family::BackendSlotState, names, &all, backend.slot_state.word());
    }
}

/// By which the sums of a backend are kept.
pub(super) fn owner(service: &config::Service, backend: &config::Backend) -> Owner {
    Owner { service: service.name.clone(), backend: backend.address }
}

/// One series for each state, 1 for the present one.
fn states(out: &mut Exposition, family: Family, names: &[String], all: &[&str], now: &str) {
    for state in all {
        let labels: Vec<String> = names.iter().cloned().chain([label(state)]).collect();
        out.flag(family, &labels, *state == now);
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
