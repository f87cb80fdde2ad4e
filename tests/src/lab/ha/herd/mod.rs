//! Thousands of TCP connections that notice when they lose their backend.
//!
//! Each is told by its first answer which backend serves it, and holds every later answer to that. Half of them say
//! nothing until the check, as most connections do, some ask at a steady rate, a few send much.

mod connection;
mod server;
mod worker;

pub use connection::Break;
pub use server::serve;

use crate::lab::{Host, Lab, Peer};
use anyhow::{Context, Result, anyhow, ensure};
use connection::Connection;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::{Order, Worker};

/// Files that the largest herd needs, at either end.
pub(super) const MAX_FILES: u64 = 16_384;
/// Connections of the largest herd: its files, and some for everything else.
pub const MAX_CONNECTIONS: usize = 16_000;
/// What a check is given beyond its own time, for the answer to come back.
const GRACE: Duration = Duration::from_secs(5);

/// What a herd consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HerdPlan {
    /// All connections.
    pub connections: usize,
    /// How many of them say nothing until the check.
    pub idle: usize,
    /// Requests a second of all others together, taking turns.
    pub requests_per_second: u32,
    /// How many send much, beside the idle and the talking ones.
    pub bulk: usize,
    /// How much each of those sends with one request.
    pub bulk_octets: usize,
    /// The rhythm of those requests; one that takes longer delays the next of its connection.
    pub bulk_every: Duration,
    /// How long an answer may take before the connection counts as broken: longer than the longest failover takes
    /// TCP to get over.
    pub patience: Duration,
}

impl HerdPlan {
    /// So many connections, half of them idle, 4 that send much, the others with 1,000 requests a second in all.
    #[must_use]
    pub fn new(connections: usize) -> Self {
        Self {
            connections,
            idle: connections / 2,
            requests_per_second: 1_000,
            bulk: 4.min(connections / 4),
            bulk_octets: 65_536,
            bulk_every: Duration::from_millis(20),
            patience: Duration::from_secs(20),
        }
    }

    fn talkers(&self) -> Range<usize> {
        self.idle..self.connections.saturating_sub(self.bulk)
    }

    fn bulk(&self) -> Range<usize> {
        self.talkers().end..self.connections
    }
}

/// A connection that broke.
#[derive(Debug, Clone)]
pub struct BrokenOne {
    /// The client's end.
    pub from: SocketAddr,
    /// Who served it.
    pub backend: String,
    /// When.
    pub at: Instant,
    /// Why.
    pub why: Break,
}

/// What a check found.
#[derive(Debug, Clone)]
pub struct Checkup {
    /// All connections of the herd.
    pub connections: usize,
    /// Those that broke, at the check or before; every other has just been answered by its own backend.
    pub broken: Vec<BrokenOne>,
}

impl Checkup {
    /// How many broke for which reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for one in &self.broken {
            *reasons.entry(one.why.to_string()).or_default() += 1;
        }
        reasons
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicU64,
    broken: Mutex<Vec<BrokenOne>>,
}

impl Shared {
    fn broke(&self, one: BrokenOne) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    fn checkup(&self, connections: usize) -> Checkup {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Checkup { connections, broken }
    }
}

/// Established connections, served by one thread. Dropping it resets them.
#[derive(Debug)]
pub struct Herd {
    plan: HerdPlan,
    backends: BTreeMap<String, usize>,
    shared: Arc<Shared>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Herd {
    /// Opens all connections from `source`, an address of `host`; each has been answered once when this returns.
    ///
    /// # Errors
    /// A connection is refused or not answered, or there cannot be so many files.
    pub fn open(host: &Host, source: IpAddr, target: SocketAddr, plan: HerdPlan) -> Result<Self> {
        ensure!(
            plan.connections <= MAX_CONNECTIONS && plan.idle + plan.bulk <= plan.connections,
            "{plan:?}: there are at most {MAX_CONNECTIONS} connections, and each is idle, talks, or sends much"
        );
        raise_file_limit(MAX_FILES)?;
        let opened = host.ns.enter(|| {
            let open = |number| {
                Connection::open(source, target)
                    .with_context(|| format!("connection {number} from {source} to {target}"))
            };
            (0..plan.connections).map(open).collect::<Result<Vec<_>>>()
        })?;
        let mut backends = BTreeMap::new();
        for connection in &opened {
            *backends.entry(connection.backend.clone()).or_default() += 1;
        }
        let shared = Arc::new(Shared::default());
        let worker = Worker::new(plan, opened, Arc::clone(&shared))?;
        let (orders, inbox) = mpsc::channel();
        let thread = Some(std::thread::spawn(move || worker.run(&inbox)));
        Ok(Self { plan, backends, shared, orders, thread })
    }

    /// A server for a herd on each backend, on this port of all its addresses.
    ///
    /// # Errors
    /// One does not start.
    pub fn servers(lab: &Lab, port: u16) -> Result<Vec<Peer>> {
        lab.backends.iter().map(|host| Peer::herd(lab, host, port)).collect()
    }

    /// What it consists of.
    #[must_use]
    pub fn plan(&self) -> &HerdPlan {
        &self.plan
    }

    /// How many connections each backend serves.
    #[must_use]
    pub fn backends(&self) -> &BTreeMap<String, usize> {
        &self.backends
    }

    /// How many requests have been answered since all were open.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Acquire)
    }

    /// Those that have broken so far. An idle one does not notice before the check.
    #[must_use]
    pub fn broken(&self) -> Vec<BrokenOne> {
        self.shared.checkup(self.plan.connections).broken
    }

    /// Makes a request on every connection and waits for all answers; those that do not come `within` count as broken.
    /// The connections that did not break can be checked again.
    ///
    /// # Errors
    /// The herd's thread has died.
    pub fn check(&self, within: Duration) -> Result<Checkup> {
        let (answer, checkup) = mpsc::channel();
        let dead = || anyhow!("the thread of the herd has died");
        self.orders.send(Order { within, answer }).map_err(|_| dead())?;
        checkup.recv_timeout(within + GRACE).map_err(|_| dead())
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

/// Lets this process have so many files open, as far as its hard limit goes.
///
/// # Errors
/// The hard limit is below.
fn raise_file_limit(files: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    if soft >= files {
        return Ok(());
    }
    let raised = setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files));
    raised.with_context(|| format!("{files} open files are needed, {hard} are the most here"))
}
