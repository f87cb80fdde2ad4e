//! The daemon: one actor that owns the maps and does one thing at a time.

mod answers;
mod bpf_log;
mod change;
mod cluster;
mod controller;
mod file;
mod flows;
mod groups;
mod ha;
mod interfaces;
mod kept;
mod metrics;
mod seed;
mod shares;
mod startup;
mod sync;
mod totals;
mod trace;
mod warnings;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::api::types::Done;
use crate::api::{ApiError, Command, Listener, serve};
use crate::bpf::pins::Pins;
use crate::cli::run::RunOptions;
use controller::Controller;

/// Commands that wait while the actor is busy; more wait in their clients.
const MAX_WAITING_COMMANDS: usize = 64;

/// How often the flow table is swept.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// For how long a planned restart may keep VIPs of groups at most.
const MAX_HOLD: Duration = Duration::from_secs(60);

/// How often what failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the daemon until it is stopped. Forwarding goes on afterwards unless it was told to detach.
///
/// # Errors
/// If it can't start. Nothing that was in force before is changed then.
pub(crate) fn run(options: RunOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        // First, so that a signal during the start is not lost.
        let signals = Signals::new()?;
        let (sender, commands) = mpsc::channel(MAX_WAITING_COMMANDS);
        let (controller, network_changes, listener) = startup::start(&options, sender.downgrade()).await?;
        let api = (listener, sender);
        supervise(controller, network_changes, api, commands, signals).await
    })
}

/// Detaches what an instance without a daemon left attached, and removes its pins.
///
/// # Errors
/// If a daemon holds the pins, or there are none.
pub(crate) fn detach_without_daemon(pin_dir: &Path, instance: &str) -> Result<Done> {
    if !pin_dir.join(instance).exists() {
        anyhow::bail!(ApiError::not_found(
            format!("instance \"{instance}\" has no pins in {}: nothing is attached", pin_dir.display()),
            "name another with --instance or --pin-dir",
        ));
    }
    let strays = Pins::open(pin_dir, instance)?.remove()?;
    Ok(detached("no daemon was running", &strays))
}

/// What `stop --detach` says: what became of the daemon, and what is left since it is somebody else's.
fn detached(daemon: &str, strays: &[PathBuf]) -> Done {
    let mut message = format!("{daemon}; the program is detached and its pins are removed");
    for path in strays {
        // Writing to a string does not fail.
        let _ = write!(message, "\nleft alone, since fairlead did not pin it: {}", path.display());
    }
    Done { message }
}

struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let take = |kind| signal(kind).context("cannot handle signals");
        Ok(Self {
            reload: take(SignalKind::hangup())?,
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }
}

/// Why the loop ended.
enum End {
    /// The program keeps forwarding. `hold`: the daemon will be back within this time.
    Stop { hold: Option<Duration> },
    /// The program goes too.
    Detach,
    /// The program is gone already.
    Detached,
}

async fn supervise(
    mut controller: Controller,
    mut network_changes: mpsc::Receiver<()>,
    (listener, sender): (Listener, mpsc::Sender<Command>),
    mut commands: mpsc::Receiver<Command>,
    mut signals: Signals,
) -> Result<()> {
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let api = tokio::spawn(serve(listener, sender, async {
        let _ = api_stopped.await;
    }));
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retry = interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        let trial = controller.trial_deadline();
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => if let Some(end) = handle(&mut controller, command).await { break end },
                None => break End::Stop { hold: None },
            },
            event = controller.prober.next() => controller.health_changed(&event),
            Some(event) = controller.ha.next() => controller.ha_event(&event),
            () = controller.sync.ready() => controller.sync_turn(),
            Some(()) = network_changes.recv() => controller.network_changed().await,
            _ = sweep.tick() => controller.sweep(),
            _ = retry.tick() => controller.retry().await,
            Some(()) = signals.reload.recv() => controller.reload_by_signal().await,
            Some(()) = signals.terminate.recv() => break End::Stop { hold: None },
            Some(()) = signals.interrupt.recv() => break End::Stop { hold: None },
            () = sleep_until(trial.unwrap_or_else(far_away)), if trial.is_some() => {
                tracing::warn!("the trial was not confirmed in time: detaching");
                break End::Detach;
            }
        }
    };
    let hold = match end {
        End::Stop { hold } => hold,
        End::Detach | End::Detached => None,
    };
    let hold = match hold {
        Some(time) if !controller.announce_hold(time).await => {
            tracing::warn!("not every other node knows of the restart: VIPs of groups are given away");
            None
        }
        hold => hold,
    };
    controller.ha.stop(hold);
    let _ = stop_api.send(());
    // Answers on their way are given time by the server itself.
    match api.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the API ended with an error"),
        Err(error) => tracing::warn!(%error, "the API task failed"),
    }
    // Pins that are somebody else's are in the log.
    match end {
        End::Stop { .. } if controller.trial_deadline().is_some() => {
            tracing::warn!("stopped before the trial was confirmed: detaching");
            controller.detach().await.map(drop)
        }
        End::Stop { .. } => {
            tracing::info!("stopped; the program keeps forwarding");
            Ok(())
        }
        End::Detach => controller.detach().await.map(drop),
        End::Detached => Ok(()),
    }
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}

/// Answers one command. `Some` if the daemon is to end.
async fn handle(controller: &mut Controller, command: Command) -> Option<End> {
    // A client that went away does not need its answer.
    fn answer<T>(to: oneshot::Sender<Result<T, ApiError>>, result: Result<T, ApiError>) {
        let _ = to.send(result);
    }
    match command {
        Command::Status(to) => answer(to, Ok(controller.status())),
        Command::Services(to) => answer(to, Ok(controller.services())),
        Command::Service { name, answer: to } => answer(to, controller.service(&name)),
        Command::Table { name, answer: to } => answer(to, controller.table(&name)),
        Command::Backends { service, answer: to } => answer(to, controller.backends(service.as_deref())),
        Command::Change { change, answer: to } => answer(to, controller.change(&change).await),
        Command::Flows { query, answer: to } => answer(to, controller.flows(&query)),
        Command::Lookup { query, answer: to } => answer(to, controller.lookup(&query)),
        Command::Trace { frames, interface, commit, answer: to } => {
            answer(to, controller.trace(&frames, interface.as_deref(), commit));
        }
        Command::Ha(to) => answer(to, controller.ha_status().await),
        Command::HaDo { command, answer: to } => answer(to, controller.ha_command(&command).await),
        Command::Counters(to) => answer(to, Ok(controller.counters())),
        Command::Metrics { lifetime, answer: to } => answer(to, controller.metrics(lifetime).await),
        Command::Config(to) => answer(to, Ok(controller.config_reply())),
        Command::Reload(to) => answer(to, controller.reload().await),
        Command::Confirm(to) => answer(to, controller.confirm()),
        Command::Stop { request, answer: to } if request.detach => {
            // Answered when it is done, so that the client can rely on it.
            let left = controller
                .detach()
                .await
                .map_err(|error| ApiError::internal(format!("{error:#}"), "remove the pins by hand"));
            answer(to, left.map(|strays| detached("stopped", &strays)));
            return Some(End::Detached);
        }
        Command::Stop { request, answer: to } => {
            let hold = request.hold_ms.map(|time| Duration::from_millis(time.into()).min(MAX_HOLD));
            let message =
                "stopping; the program keeps forwarding, and the next `fairlead run` takes over".to_owned();
            answer(to, Ok(Done { message }));
            return Some(End::Stop { hold });
        }
    }
    None
}
