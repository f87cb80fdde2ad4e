//! New connections, one after the other on several threads: one HTTP request each, which names its backend.

use super::http::{self, PATIENCE};
use super::netns::Namespace;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One new connection.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it was begun.
    pub started: Instant,
    /// The backend that answered, or what went wrong.
    pub outcome: Result<String, String>,
}

/// What kind of connections to make, and how many at a time.
#[derive(Debug, Clone)]
pub struct Tries {
    /// Source addresses, taken in turn.
    pub sources: Vec<IpAddr>,
    /// Where to.
    pub target: SocketAddr,
    /// A POST of this many bytes to `/upload`; 0: a GET of `/`.
    pub upload: usize,
    /// How many connections at a time.
    pub threads: usize,
    /// A rest after each connection, on each thread.
    pub rest: Duration,
}

impl Tries {
    /// Plain GETs from `sources` on 8 threads without rest.
    #[must_use]
    pub fn new(sources: Vec<IpAddr>, target: SocketAddr) -> Self {
        Self { sources, target, upload: 0, threads: 8, rest: Duration::ZERO }
    }

    /// Makes `count` connections and waits for all.
    #[must_use]
    pub fn run(self, ns: &Namespace, count: usize) -> Vec<Attempt> {
        Load::spawn(ns, self, count).join()
    }

    /// Makes connections until stopped.
    #[must_use]
    pub fn start(self, ns: &Namespace) -> Load {
        Load::spawn(ns, self, usize::MAX)
    }

    fn attempt(&self, number: usize) -> Attempt {
        let source = self.sources.get(number % self.sources.len().max(1)).copied();
        let started = Instant::now();
        let answer = if self.upload == 0 {
            http::get(source, self.target, "/", PATIENCE)
        } else {
            http::post(source, self.target, "/upload", &vec![b'x'; self.upload], PATIENCE)
        };
        let outcome = match answer {
            Ok(answer) if answer.status == 200 => named(&answer.body, self.upload),
            Ok(answer) => Err(format!("HTTP {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        Attempt { started, outcome }
    }
}

/// The name in the answer; an upload's answer also says how much has arrived.
fn named(body: &str, upload: usize) -> Result<String, String> {
    match (body.split_whitespace().collect::<Vec<_>>().as_slice(), upload) {
        ([name], 0) => Ok((*name).to_owned()),
        ([name, arrived], 1..) if arrived.parse() == Ok(upload) => Ok((*name).to_owned()),
        _ => Err(format!("the answer {body:?}")),
    }
}

/// Connections being made. Dropping it ends them, without waiting.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Attempt>>>,
}

impl Load {
    fn spawn(ns: &Namespace, tries: Tries, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let threads = (0..tries.threads).map(|_| {
            let (stop, next, tries) = (Arc::clone(&stop), Arc::clone(&next), tries.clone());
            ns.spawn(move || {
                let mut attempts = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        break;
                    }
                    attempts.push(tries.attempt(number));
                    if !tries.rest.is_zero() {
                        thread::sleep(tries.rest);
                    }
                }
                attempts
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Ends it; every connection that was made, in the order of their beginnings.
    #[must_use]
    pub fn stop(self) -> Vec<Attempt> {
        self.stop.store(true, Ordering::SeqCst);
        self.join()
    }

    fn join(mut self) -> Vec<Attempt> {
        let joined = std::mem::take(&mut self.threads).into_iter().map(JoinHandle::join);
        let mut attempts: Vec<Attempt> = joined
            .flat_map(|thread| thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        attempts.sort_by_key(|attempt| attempt.started);
        attempts
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}
