//! The start of the daemon: everything is checked before anything is changed, and a fresh start that fails leaves
//! nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use lb_common::hash::HashKey;
use lb_common::{BackendWord, SlotState};
use lb_core::alarm::{GrowthAlarm, LoadAlarm};
use lb_core::config::{AdminState, Config};
use lb_core::health::Verdict;
use lb_core::history::{Cause, History};
use lb_core::plan::{Actual, LeaseRows, ServiceKey, VerdictMap, plan};
use lb_core::sweep::{Census, MARKING_PASSES};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::controller::Controller;
use super::ha::HighAvailability;
use super::shares::Shares;
use super::sync::FlowSync;
use super::totals::KeptTotals;
use super::{bpf_log, cluster, file, groups, seed};
use crate::api::{ApiError, Command, Listener};
use crate::bpf::layout::Meta;
use crate::bpf::pins::{Found, Pins};
use crate::bpf::{Layout, Tables, program, watch};
use crate::cli::run::RunOptions;
use crate::metrics::listener::MetricsListener;
use crate::net::Network;
use crate::probe::Prober;

/// How long a start waits for next hops to answer, so that the first packets find them.
const NEIGHBOUR_WAIT: Duration = Duration::from_millis(500);
const NEIGHBOUR_POLL: Duration = Duration::from_millis(20);

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF of linux/capability.h.
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// Starts everything but the loop.
///
/// # Errors
/// The first thing that keeps the daemon from running. What was in force before still is.
pub(super) async fn start(
    options: &RunOptions,
    commands: mpsc::WeakSender<Command>,
) -> Result<(Controller, mpsc::Receiver<()>, Listener)> {
    check_rights()?;
    let text = file::read(&options.config)?;
    let loaded = file::understand(&options.config, text, 1).await?;
    let (network, changes) = Network::open().await.context("cannot talk to the kernel by netlink")?;
    let layout = Layout::new(&loaded.config.limits, possible_cpus()?);
    let pins = Pins::open(&options.pin_dir, &options.instance)?;
    let found = pins.find(&layout)?;
    let fresh = found == Found::Nothing;
    if options.try_for.is_some() && pins.has_links()? {
        bail!(ApiError::conflict(
            format!("a program of instance \"{}\" forwards already: a trial would end it", options.instance),
            "start without --try to take over, or end forwarding first with `fairlead stop --detach`",
        ));
    }
    let started = bring_up(options, commands, loaded, network, layout, &pins, found).await;
    match started {
        Ok((mut controller, listener)) => {
            controller.pins = Some(pins);
            match controller.go(fresh).await {
                Ok(()) => Ok((controller, changes, listener)),
                Err(error) => {
                    if fresh {
                        let _ = controller.detach().await;
                    }
                    Err(error)
                }
            }
        }
        Err(error) => {
            if fresh && let Err(leftover) = pins.remove() {
                tracing::warn!(error = %format!("{leftover:#}"), "cannot clean up after the failed start");
            }
            Err(error)
        }
    }
}

/// Loads maps and program. What runs already goes on as it was.
async fn bring_up(
    options: &RunOptions,
    commands: mpsc::WeakSender<Command>,
    loaded: file::Loaded,
    network: Network,
    layout: Layout,
    pins: &Pins,
    found: Found,
) -> Result<(Controller, Listener)> {
    let listener = Listener::bind(&options.socket).map_err(ApiError::from)?;
    let mut metrics_listener = MetricsListener::default();
    let bound = metrics_listener.prepare(loaded.config.metrics.listen)?;
    let state = options.state_dir.join(&options.instance);
    let shared = loaded.config.cluster.as_ref().map(|cluster| cluster::key(&cluster.key_file)).transpose()?;
    let shared = shared.map(|key| key.flow_seed());
    let seed = match (found, shared) {
        (Found::Nothing, Some(seed)) => seed,
        (Found::Nothing, None) => seed::load_or_create(&state)?,
        (Found::Complete(meta), _) => {
            // The maps have it: a full disk or a broken directory is no reason to leave them without a daemon.
            if let Err(error) = seed::save(&state, meta.seed) {
                tracing::warn!(error = %format!("{error:#}"), "the hash seed of the running maps is not kept");
            }
            meta.seed
        }
    };
    let foreign_seed = shared.is_some_and(|shared| shared != seed);
    if foreign_seed {
        tracing::warn!(
            "the running maps hash flows otherwise than the cluster's key says: connections break when a VIP moves; \
             `fairlead stop --detach` and start anew, which picks all flows anew"
        );
    }
    let totals = KeptTotals::load(&state, found == Found::Nothing);
    let mut ebpf = program::open(&layout, seed, Some(&pins.maps()), bpf_log::number(options.bpf_log))?;
    program::load(&mut ebpf, program::BALANCER)?;
    program::load(&mut ebpf, program::PASS)?;
    let watched = watch::load(&mut ebpf);
    if bpf_log::number(options.bpf_log) > 0 {
        bpf_log::start(&mut ebpf)?;
    }
    let tables = Tables::new(&mut ebpf, layout)?;
    if found == Found::Nothing {
        tables.complete(Meta::new(seed));
    }
    let snapshot = tables.snapshot()?;
    let links = network.links().await.context("cannot read the interfaces")?;
    let vips = snapshot.vips.iter().map(|(vip, _)| *vip);
    let groups = groups::of_earlier(vips, &pins.links(), &loaded.config, &links)?;
    let actual = Actual::from_snapshot(snapshot);
    metrics_listener.switch(loaded.config.metrics.listen, bound, &commands);
    let controller = Controller {
        options: options.clone(),
        pins: None,
        ebpf,
        dry_run: None,
        tables,
        actual,
        key: HashKey::from_seed(seed),
        loaded,
        prober: Prober::new(),
        network,
        links,
        resolved: BTreeMap::new(),
        attached: BTreeMap::new(),
        attach_errors: BTreeMap::new(),
        groups,
        group_errors: Vec::new(),
        apply_error: None,
        can_watch: watched.is_ok(),
        watch_error: watched.err().map(|error| format!("{error:#}")),
        trial_watch: Vec::new(),
        publish_errors: Vec::new(),
        map_failures: 0,
        reload_ok: true,
        totals,
        shares: Shares::default(),
        history: History::default(),
        metrics_listener,
        metrics_text: None,
        commands,
        census: Census::default(),
        // The earlier daemon may have died between a table switch and its marking passes.
        marking_passes: if found == Found::Nothing { 0 } else { MARKING_PASSES },
        load: LoadAlarm::default(),
        flood: GrowthAlarm::default(),
        redirect_faults: GrowthAlarm::default(),
        began: Instant::now(),
        started: SystemTime::now(),
        adopted: found != Found::Nothing,
        trial: options.try_for.map(|time| Instant::now() + time),
        lease_rows: LeaseRows::new(),
        foreign_seed,
        ha: HighAvailability::default(),
        sync: FlowSync::default(),
    };
    Ok((controller, listener))
}

impl Controller {
    /// Fills the maps and attaches.
    async fn go(&mut self, fresh: bool) -> Result<()> {
        let config = self.loaded.config.clone();
        // Before the first packet of this start: one that is lost at once is none of the past.
        self.watch_counters();
        self.check_positions(&config.interfaces)?;
        self.publish_interfaces();
        self.prober.configure(Instant::now().into_std(), &config);
        self.prober.adopt(&verdicts_in_force(&config, &self.actual));
        self.wait_for_neighbours().await;
        if !fresh {
            let desired = plan(&config, &self.prober.verdicts(), &self.next_hops());
            self.actual.recognise(&desired);
        }
        let cause = Cause::Start { adopted: !fresh };
        if fresh {
            // No packet before all is in place.
            self.reconcile(&cause).context("cannot fill the maps")?;
            self.attach_all(&config.interfaces)?;
        } else {
            // What can fail comes before the maps are touched: the earlier daemon's stay in force then.
            let attached = self.attach_all(&config.interfaces)?;
            if let Err(error) = self.reconcile(&cause) {
                self.take_back(&attached);
                return Err(error.context("cannot fill the maps"));
            }
        }
        self.turn_all()?;
        self.detach_unnamed()?;
        self.forget_interfaces();
        if self.can_watch {
            self.watch_redirection();
        } else if let Some(error) = &self.watch_error {
            tracing::warn!(%error, "redirected frames that are lost are not counted");
        }
        self.join_groups();
        self.links = self.network.links().await.context("cannot read the interfaces")?;
        self.update_ha()?;
        self.update_sync();
        for warning in &self.loaded.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            instance = %self.options.instance,
            socket = %self.options.socket.display(),
            adopted = !fresh,
            services = config.services.len(),
            "ready"
        );
        Ok(())
    }

    /// Asks the kernel to resolve the next hops, and gives them a moment to answer.
    async fn wait_for_neighbours(&mut self) {
        let until = Instant::now() + NEIGHBOUR_WAIT;
        loop {
            self.resolve_backends().await;
            let missing = self.network.unsure()
                || self.resolved.values().any(|resolved| resolved.mac.is_none() && !resolved.failed);
            if !missing || Instant::now() >= until {
                return;
            }
            sleep(NEIGHBOUR_POLL).await;
        }
    }
}

/// Verdicts that the maps of an earlier daemon stand for, so that a restart moves no flow before its own checks have a
/// result.
pub(super) fn verdicts_in_force(config: &Config, actual: &Actual) -> VerdictMap {
    let words: BTreeMap<u16, BackendWord> = actual.slots().map(|(slot, _, word)| (slot, word)).collect();
    let mut verdicts = VerdictMap::new();
    for service in config.services.iter().filter(|service| service.check.is_some()) {
        let key = ServiceKey::from(service);
        for backend in service.backends.iter().filter(|backend| backend.state != AdminState::Disabled) {
            let word = actual.slot_of(&key, backend.address).and_then(|slot| words.get(&slot));
            let verdict = match word.map(|word| word.state()) {
                Some(SlotState::Serving | SlotState::Draining) => Verdict::Up,
                Some(SlotState::Dead) => Verdict::Down,
                Some(SlotState::Free) | None => continue,
            };
            verdicts.insert((service.name.clone(), backend.address), verdict);
        }
    }
    verdicts
}

/// Without these rights nothing works; the kernel's own answers to that are hard to read.
fn check_rights() -> Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(u64::MAX);
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| bits & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        bail!("fairlead run needs {}: run it as root, for instance with sudo", missing.join(", "));
    }
    Ok(())
}

/// CPUs that may ever be online: per-CPU rows are needed for all of them.
fn possible_cpus() -> Result<u32> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| anyhow::Error::from(error).context(format!("cannot read {path}")))?;
    u32::try_from(cpus).context("too many CPUs")
}
