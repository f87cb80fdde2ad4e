//! The state of the daemon and the step that everything ends in: make the maps what they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::links::FdLink;
use bytes::Bytes;
use lb_common::counters::Event;
use lb_common::egress::EgressRow;
use lb_common::flow::tick_of;
use lb_common::hash::HashKey;
use lb_core::alarm::{Change, Growth, GrowthAlarm, GrowthChange, LoadAlarm};
use lb_core::config::Config;
use lb_core::history::{Cause, History};
use lb_core::plan::{Actual, LeaseRows, NextHop, diff, lease_rows, plan};
use lb_core::sweep::{self, Census, MARKING_PASSES};
use lb_core::totals::Owner;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::file::Loaded;
use super::ha::HighAvailability;
use super::shares::Shares;
use super::sync::FlowSync;
use super::totals::KeptTotals;
use crate::api::types::Done;
use crate::api::{ApiError, Command, Timestamp};
use crate::bpf::dry_run::DryRun;
use crate::bpf::link::Attached;
use crate::bpf::pins::Pins;
use crate::bpf::{Tables, program, watch};
use crate::cli::run::RunOptions;
use crate::metrics::listener::MetricsListener;
use crate::net::{Groups, Link, Network, Resolved};
use crate::probe::{ProbeEvent, Prober};

/// Everything the daemon knows and holds.
pub(super) struct Controller {
    pub(super) options: RunOptions,
    pub(super) pins: Option<Pins>,
    pub(super) ebpf: Ebpf,
    /// The program without effect, once it was asked for.
    pub(super) dry_run: Option<DryRun>,
    pub(super) tables: Tables,
    pub(super) actual: Actual,
    pub(super) key: HashKey,
    pub(super) loaded: Loaded,
    pub(super) prober: Prober,
    pub(super) network: Network,
    pub(super) links: Vec<Link>,
    pub(super) resolved: BTreeMap<IpAddr, Resolved>,
    /// By interface name.
    pub(super) attached: BTreeMap<String, Attached>,
    /// Why an interface is not attached, by name.
    pub(super) attach_errors: BTreeMap<String, String>,
    /// What is listened to for IPv6 VIPs.
    pub(super) groups: Groups,
    /// Why neighbours may not be heard.
    pub(super) group_errors: Vec<String>,
    /// Why redirected frames that do not leave are not counted.
    pub(super) watch_error: Option<String>,
    /// Whether the programs that count them could be loaded: without, trying again is of no use.
    pub(super) can_watch: bool,
    /// Links to tracepoints during a trial.
    pub(super) trial_watch: Vec<FdLink>,
    /// Interfaces that frames can't be redirected to, and why.
    pub(super) publish_errors: Vec<String>,
    /// Why the maps are not what they should be.
    pub(super) apply_error: Option<String>,
    /// How often that was so.
    pub(super) map_failures: u64,
    /// Whether the last reload succeeded.
    pub(super) reload_ok: bool,
    pub(super) totals: KeptTotals,
    pub(super) shares: Shares,
    /// The table switches since the start.
    pub(super) history: History,
    pub(super) metrics_listener: MetricsListener,
    /// The last text of all metrics, and when it was written.
    pub(super) metrics_text: Option<(Instant, Bytes)>,
    /// What the API and the listener of metrics send commands by.
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) census: Census,
    pub(super) marking_passes: u8,
    /// Whether the flow table is too full.
    pub(super) load: LoadAlarm,
    /// Whether new flows come faster than they may be stored.
    pub(super) flood: GrowthAlarm,
    /// Whether redirected frames do not leave.
    pub(super) redirect_faults: GrowthAlarm,
    /// What times of alarms count from.
    pub(super) began: Instant,
    pub(super) started: SystemTime,
    pub(super) adopted: bool,
    pub(super) trial: Option<Instant>,
    /// Rows of LEASES by group.
    pub(super) lease_rows: LeaseRows,
    pub(super) ha: HighAvailability,
    pub(super) sync: FlowSync,
    /// Whether the maps hash flows otherwise than the cluster's key says.
    pub(super) foreign_seed: bool,
}

impl Controller {
    /// When the trial ends, if there is one.
    pub(super) const fn trial_deadline(&self) -> Option<Instant> {
        self.trial
    }

    /// When the trial ends on the wall clock.
    pub(super) fn trial_ends(&self) -> Option<Timestamp> {
        self.trial
            .map(|deadline| Timestamp(SystemTime::now() + deadline.saturating_duration_since(Instant::now())))
    }

    /// Ends the trial: the links are pinned and stay.
    pub(super) fn confirm(&mut self) -> Result<Done, ApiError> {
        if self.trial.is_none() {
            return Err(ApiError::conflict(
                "there is no trial to confirm",
                "start the daemon with --try to have one",
            ));
        }
        let Some(pins) = self.pins.as_ref().map(Pins::links) else {
            return Err(ApiError::internal("the daemon is detaching", ""));
        };
        for attached in self.attached.values_mut() {
            attached.pin(&pins).map_err(|error| {
                ApiError::internal(format!("{error:#}"), "free space on the BPF file system")
            })?;
        }
        if let Some(pins) = self.pins.as_ref().map(Pins::watch)
            && let Err(error) = watch::pin(std::mem::take(&mut self.trial_watch), &pins)
        {
            self.watch_error = Some(format!("{error:#}"));
        }
        self.trial = None;
        Ok(Done { message: "confirmed: the program stays attached".to_owned() })
    }

    /// Detaches the program and removes all pins, but for what somebody else put among them: what that is.
    ///
    /// # Errors
    /// If a pin can't be removed.
    pub(super) async fn detach(&mut self) -> Result<Vec<PathBuf>> {
        // A peer takes over while packets are still steered here.
        self.ha.stop(None);
        // The kernel need not keep neighbours fresh for anybody any more.
        self.network.keep_fresh(&BTreeMap::new()).await;
        self.leave_groups();
        for (name, attached) in std::mem::take(&mut self.attached) {
            attached.detach().with_context(|| format!("cannot detach from {name}"))?;
        }
        self.trial_watch.clear();
        // Adopted links are held open by the program object.
        for name in [program::BALANCER, program::PASS] {
            program::xdp(&mut self.ebpf, name)?.unload().context("cannot unload the program")?;
        }
        let strays = self.pins.take().map(Pins::remove).transpose()?;
        tracing::info!("detached, pins removed");
        Ok(strays.unwrap_or_default())
    }

    /// Takes note of a changed verdict.
    pub(super) fn health_changed(&mut self, event: &ProbeEvent) {
        let ProbeEvent { service, address, transition } = event;
        let (from, to) = (transition.from, transition.to);
        tracing::info!(%service, backend = %address, %from, %to, reason = %transition.reason, "health changed");
        self.totals.transition(&Owner { service: service.clone(), backend: *address }, to);
        self.reconcile_or_warn(&Cause::Health { backend: *address, transition: transition.clone() });
        self.update_ha_or_warn();
    }

    /// Looks at interfaces, routes and neighbours again.
    pub(super) async fn network_changed(&mut self) {
        if let Err(error) = self.look_at_interfaces().await {
            tracing::warn!(error = %format!("{error:#}"), "cannot read the interfaces");
        }
        let before: BTreeSet<IpAddr> = self.next_hops().into_keys().collect();
        self.resolve_backends().await;
        let now = self.next_hops().into_keys().collect();
        self.reconcile_or_warn(&Cause::network(&before, &now));
        self.update_ha_or_warn();
    }

    /// Tries again what failed: operations on the maps, interfaces that could not be attached, groups, routes.
    pub(super) async fn retry(&mut self) {
        let failed = self.apply_error.is_some()
            || !self.attach_errors.is_empty()
            || !self.group_errors.is_empty()
            || !self.publish_errors.is_empty()
            || self.network.unsure();
        if failed {
            self.network_changed().await;
        }
        if self.sync.fault.is_some() {
            self.update_sync();
        }
        if self.can_watch && self.watch_error.is_some() {
            self.watch_redirection();
        }
    }

    /// Finds out how frames to the backends of `config` leave, and keeps their neighbours fresh.
    pub(super) async fn resolve_backends(&mut self) {
        let backends = backends_of(&self.loaded.config);
        self.resolved = self.network.resolve(&backends).await;
        self.network.keep_fresh(&self.resolved).await;
    }

    /// Makes the maps what configuration, health and routes ask for, and keeps a failure for `status`.
    pub(super) fn reconcile_or_warn(&mut self, cause: &Cause) {
        if let Err(error) = self.reconcile(cause) {
            tracing::error!(error = %format!("{error:#}"), "cannot bring the maps up to date");
        }
    }

    /// Makes the maps what configuration, health and routes ask for. `cause` is what changed in these.
    ///
    /// # Errors
    /// If they are too small, or the kernel refuses an operation; those before it are done and known to be.
    pub(super) fn reconcile(&mut self, cause: &Cause) -> Result<()> {
        let idle = sweep::longest_idle(&self.loaded.config);
        // Longer times hold before anything else changes, shorter ones when all has.
        self.tables.set_idle(self.tables.idle().longest(idle));
        let result = self.try_reconcile();
        if result.is_ok() {
            self.tables.set_idle(idle);
        }
        self.sync.is_stale = true;
        self.map_failures += u64::from(result.is_err());
        self.shares.update(&self.actual);
        self.history.record(SystemTime::now(), cause, &self.actual);
        self.apply_error = result.as_ref().err().map(|error| format!("{error:#}"));
        result
    }

    fn try_reconcile(&mut self) -> Result<()> {
        let mut desired = plan(&self.steered(), &self.verdicts(), &self.next_hops());
        self.lease_rows = lease_rows(&self.loaded.config, &self.actual);
        desired.lease(&self.loaded.config, &self.lease_rows);
        let ops = diff(&self.actual, &desired)?;
        if ops.is_empty() {
            return Ok(());
        }
        tracing::debug!(operations = ops.len(), "changing the maps");
        if sweep::calls_for_marks(&self.actual, &ops) {
            // By the timer: until its passes have come by, packets find out unmarked exceptions themselves.
            self.marking_passes = MARKING_PASSES;
        }
        let Self { tables, actual, totals, .. } = self;
        let result = tables.perform(&ops, |slots| totals.retire(slots), |op| actual.apply(op));
        self.observe_traffic();
        result
    }

    /// How frames to the backends leave. One whose next hop was never heard of is left out, as if there were no route: in
    /// the table it would only lose packets.
    pub(super) fn next_hops(&self) -> BTreeMap<IpAddr, NextHop> {
        let known: BTreeMap<IpAddr, [u8; 6]> = self
            .actual
            .slots()
            .map(|(_, row, word)| (row.address, word.mac()))
            .filter(|(_, mac)| *mac != [0; 6])
            .collect();
        let hop = |(address, resolved): (&IpAddr, &Resolved)| {
            let mac = resolved.mac.or_else(|| known.get(address).copied())?;
            #[expect(clippy::cast_possible_truncation, reason = "positions are below 4,096")]
            let egress = EgressRow::position(resolved.ifindex) as u16;
            Some((*address, NextHop { mac: Some(mac), egress, source: resolved.source }))
        };
        self.resolved.iter().filter_map(hop).collect()
    }

    /// One pass over the flow table.
    pub(super) fn sweep(&mut self) {
        let marking = self.marking_passes > 0;
        self.marking_passes = self.marking_passes.saturating_sub(1);
        let slots = self.tables.layout().slots as usize;
        let mut facts = sweep::slot_facts(&self.actual, &self.loaded.config, slots, marking);
        for (slot, facts) in (0..).zip(&mut facts) {
            if let Some(facts) = facts {
                facts.owned_elsewhere = self.sync.owns_elsewhere(slot);
            }
        }
        let census = sweep::pass(self.tables.flow_words(), present_tick(), &facts);
        drop(facts);
        self.census = census;
        self.watch_counters();
    }

    /// Looks at what alarms are raised by. What the first look finds belongs to the past.
    pub(super) fn watch_counters(&mut self) {
        self.watch_flow_table();
        self.watch_faults();
    }

    /// Tells the log when an alarm about the flow table begins or ends.
    fn watch_flow_table(&mut self) {
        let (used, capacity) = (self.census.used, u64::from(self.tables.layout().limits().flows));
        match self.load.observe(used, capacity) {
            Some(Change::Entered) => {
                tracing::warn!(
                    used,
                    capacity,
                    "the flow table is more than half full; raise `flows` under [limits]"
                );
            }
            Some(Change::Left) => tracing::info!(used, capacity, "the flow table has room again"),
            None => {}
        }
        let guarded = self.tables.counter(Event::Guarded.row());
        let limit = self.tables.layout().new_flows_per_second;
        match self.flood.observe(self.began.elapsed(), guarded) {
            Some(GrowthChange::Entered(Growth { count: packets, .. })) => {
                tracing::warn!(packets, limit, "flood: new flows come too fast and are not stored");
            }
            Some(GrowthChange::Left(Growth { since, last, count: packets })) => {
                let seconds = last.saturating_sub(since).as_secs();
                tracing::info!(packets, limit, seconds, "the flood is over: new flows are stored again");
            }
            None => {}
        }
    }

    /// Tells the log when redirected frames begin to be lost, and when that is over.
    fn watch_faults(&mut self) {
        let faults =
            [Event::RedirectRefused, Event::RedirectLost].map(|event| self.tables.counter(event.row()));
        match self.redirect_faults.observe(self.began.elapsed(), faults.iter().sum()) {
            Some(GrowthChange::Entered(Growth { count, .. })) => {
                tracing::warn!(
                    frames = count,
                    "redirected frames do not leave; `fairlead status` says by which interface"
                );
            }
            Some(GrowthChange::Left(Growth { count, .. })) => {
                tracing::info!(frames = count, "redirected frames leave again");
            }
            None => {}
        }
    }
}

/// The present tick of the flow table.
pub(super) fn present_tick() -> u16 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let nanoseconds = u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0);
        tick_of(nanoseconds)
    })
}

/// All backend addresses of a configuration.
pub(super) fn backends_of(config: &Config) -> BTreeSet<IpAddr> {
    config.services.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect()
}
