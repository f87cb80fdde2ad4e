//! All probes of all backends: which is due, what came of it, and which verdicts changed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::pending;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use lb_core::config::{Check, Config};
use lb_core::health::{Health, HealthParams, ProbeId, Transition, Verdict};
use lb_core::plan::VerdictMap;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::sleep_until;

use super::once::probe;
use super::spread;

/// Probes on their way at a time. Each holds a socket, and the default limit of a process is 1,024; at 300 ms each this
/// is still some 800 dead backends a second.
const MAX_PROBES: usize = 256;

/// A backend of a service: the service's name and the backend's address.
type Key = (String, IpAddr);

/// A backend's verdict changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeEvent {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub address: IpAddr,
    /// From what to what, and why.
    pub transition: Transition,
}

/// What is known about the health of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendHealth {
    /// Whether it is healthy.
    pub verdict: Verdict,
    /// Why the last probe failed, if it did.
    pub last_error: Option<String>,
    /// When the last probe ended; `None` before the first.
    pub last_check: Option<SystemTime>,
    /// How long that took.
    pub last_duration: Option<Duration>,
}

/// A checked backend.
#[derive(Debug)]
struct Target {
    key: Key,
    check: Check,
    service_port: u16,
    health: Health,
    /// When one probe is made early, so that backends added together take turns.
    early: Option<Duration>,
    last_check: Option<SystemTime>,
    last_duration: Option<Duration>,
    running: Option<AbortHandle>,
}

/// The end of a probe.
#[derive(Debug)]
struct Outcome {
    serial: u64,
    id: ProbeId,
    result: Result<(), String>,
    took: Duration,
}

/// Probes all checked backends of a configuration, each on its own schedule and one probe at a time. Dropping it gives
/// up all probes.
#[derive(Debug)]
pub struct Prober {
    /// What time is counted from.
    origin: Instant,
    /// Each target has a number of its own, so that the result of a probe for an earlier one is recognised.
    targets: BTreeMap<u64, Target>,
    serials: BTreeMap<Key, u64>,
    last_serial: u64,
    /// Times and numbers. An entry counts if its target is due then; others are leftovers.
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    probes: JoinSet<Outcome>,
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober {
    /// Nothing to probe yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: now(),
            targets: BTreeMap::new(),
            serials: BTreeMap::new(),
            last_serial: 0,
            due: BinaryHeap::new(),
            probes: JoinSet::new(),
        }
    }

    /// Probes the backends of `config` from now on, as it says.
    ///
    /// Backends that were probed before keep their verdict; if what is asked of them changed, results start to count
    /// anew. A probe on its way is given up if its backend is gone or is asked for something else now.
    pub fn configure(&mut self, now: Instant, config: &Config) {
        let now = now.saturating_duration_since(self.origin);
        let mut before = std::mem::take(&mut self.serials);
        let mut added = Vec::new();
        for service in &config.services {
            let Some(check) = &service.check else { continue };
            for backend in &service.backends {
                let key = (service.name.clone(), backend.address);
                let old =
                    before.remove(&key).and_then(|serial| Some((serial, self.targets.remove(&serial)?)));
                match old {
                    Some((serial, mut target)) if target.asks_the_same(check, service.port) => {
                        target.health.reconfigure(HealthParams::from(check));
                        target.check = check.clone();
                        self.targets.insert(serial, target);
                        self.serials.insert(key, serial);
                    }
                    old => added.push((key, check, service.port, old.map(|(_, target)| target))),
                }
            }
        }
        for serial in before.into_values() {
            if let Some(target) = self.targets.remove(&serial) {
                target.give_up();
            }
        }
        let count = added.len();
        for (rank, (key, check, service_port, old)) in added.into_iter().enumerate() {
            let start = spread::start(rank, count, check.interval);
            let mut health = Health::new(HealthParams::from(check), now + start.first);
            if let Some(old) = &old {
                old.give_up();
                health.adopt(old.health.verdict());
            }
            self.last_serial += 1;
            self.serials.insert(key.clone(), self.last_serial);
            let early = Some(now + start.phase).filter(|_| start.phase > start.first);
            let target = Target {
                key,
                check: check.clone(),
                service_port,
                health,
                early,
                last_check: old.as_ref().and_then(|old| old.last_check),
                last_duration: old.and_then(|old| old.last_duration),
                running: None,
            };
            self.targets.insert(self.last_serial, target);
        }
        self.due = self.targets.iter().map(|(serial, target)| Reverse((target.due(), *serial))).collect();
    }

    /// Takes over verdicts from before a restart, until own results in a row say otherwise.
    pub fn adopt(&mut self, verdicts: &VerdictMap) {
        for target in self.targets.values_mut() {
            if let Some(verdict) = verdicts.get(&target.key) {
                target.health.adopt(*verdict);
            }
        }
        // What is adopted may be asked for sooner.
        self.due = self.targets.iter().map(|(serial, target)| Reverse((target.due(), *serial))).collect();
    }

    /// The next change of a verdict; waits for ever if there is nothing to probe. Probes are only made while somebody
    /// waits here. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> ProbeEvent {
        loop {
            self.begin_due_probes();
            let wake = self.next_due().map(|at| tokio::time::Instant::from_std(self.origin + at));
            let nap = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.probes.join_next() => {
                    if let Some(event) = self.finish(ended) {
                        return event;
                    }
                }
                () = nap => {}
            }
        }
    }

    /// The verdicts on all checked backends.
    #[must_use]
    pub fn verdicts(&self) -> VerdictMap {
        self.targets.values().map(|target| (target.key.clone(), target.health.verdict())).collect()
    }

    /// What is known about a backend; `None` if it is not checked.
    #[must_use]
    pub fn describe(&self, service: &str, address: IpAddr) -> Option<BackendHealth> {
        let serial = self.serials.get(&(service.to_owned(), address))?;
        let target = self.targets.get(serial)?;
        Some(BackendHealth {
            verdict: target.health.verdict(),
            last_error: target.health.last_error().map(str::to_owned),
            last_check: target.last_check,
            last_duration: target.last_duration,
        })
    }

    fn begin_due_probes(&mut self) {
        let now = now().saturating_duration_since(self.origin);
        while self.probes.len() < MAX_PROBES {
            let Some(Reverse((at, serial))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now)
            else {
                return;
            };
            self.due.pop();
            let Some(target) = self.targets.get_mut(&serial).filter(|target| target.due() == at) else {
                continue;
            };
            target.early = target.early.filter(|early| *early > now);
            let id = target.health.begin(now);
            let (check, port, address) = (target.check.clone(), target.service_port, target.key.1);
            target.running = Some(self.probes.spawn(async move {
                let began = self::now();
                let result = probe(&check, port, address).await;
                Outcome { serial, id, result, took: self::now().saturating_duration_since(began) }
            }));
        }
    }

    /// When to look at [`Self::begin_due_probes`] again; `None` if only the end of a probe can make a difference.
    fn next_due(&self) -> Option<Duration> {
        let room = self.probes.len() < MAX_PROBES;
        // A leftover wakes us for nothing, once.
        self.due.peek().map(|Reverse((at, _))| *at).filter(|at| room && *at != Duration::MAX)
    }

    fn finish(&mut self, ended: Result<Outcome, JoinError>) -> Option<ProbeEvent> {
        let Outcome { serial, id, result, took } = match ended {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // It was given up.
            Err(_) => return None,
        };
        let target = self.targets.get_mut(&serial)?;
        target.running = None;
        target.last_check = Some(SystemTime::now());
        target.last_duration = Some(took);
        let transition = target.health.finish(now().saturating_duration_since(self.origin), id, result);
        self.due.push(Reverse((target.due(), serial)));
        let (service, address) = target.key.clone();
        Some(ProbeEvent { service, address, transition: transition? })
    }
}

impl Target {
    /// Whether a result of this target is one under `check` too; how often and how long to wait does not matter.
    fn asks_the_same(&self, check: &Check, service_port: u16) -> bool {
        let old = &self.check;
        (old.kind, old.target, &old.host, &old.path, &old.expect)
            == (check.kind, check.target, &check.host, &check.path, &check.expect)
            && old.port.unwrap_or(self.service_port) == check.port.unwrap_or(service_port)
    }

    /// When its next probe starts; [`Duration::MAX`] while one is on its way.
    fn due(&self) -> Duration {
        if self.running.is_some() {
            return Duration::MAX;
        }
        self.early.map_or(self.health.next_due(), |early| early.min(self.health.next_due()))
    }

    fn give_up(&self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// The runtime's clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
