//! Who answers for an address: asked each millisecond, noted for a limited time.

use super::question::{Question, Said, To};
use super::record::{Announcement, Answer, Mac, Record};
use super::rhythm::{Rhythm, hurry};
use super::socket::PacketSocket;
use crate::lab::{Host, Namespace};
use anyhow::{Context, Result, anyhow};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often is asked unless told otherwise.
pub const EVERY: Duration = Duration::from_millis(1);
/// The longest that one watch may last: it keeps everything it saw in memory.
pub const MAX_LENGTH: Duration = Duration::from_secs(120);
/// Answers and announcements that are kept, each; more would be a storm, not a measurement.
const MAX_KEPT: usize = 1 << 20;
/// Stations whose last answers can be asked for while the watch runs; the record has all.
const MAX_STATIONS: usize = 8;

/// What the watch has seen so far, for whoever waits.
#[derive(Debug, Default)]
struct Live {
    stop: AtomicBool,
    /// The station that answered last, in the lower 48 bits; no station is all zero.
    last: AtomicU64,
    answers: AtomicU64,
    /// For each station its last answer, in microseconds of the watch.
    stations: [(AtomicU64, AtomicU64); MAX_STATIONS],
}

impl Live {
    fn answered(&self, at: Duration, mac: Mac) {
        let bits = bits_of(mac);
        let mut places = self.stations.iter();
        let place = places.find(|(station, _)| [0, bits].contains(&station.load(Ordering::Relaxed)));
        if let Some((station, last)) = place {
            station.store(bits, Ordering::Relaxed);
            last.store(u64::try_from(at.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
        }
        self.last.store(bits, Ordering::Release);
        self.answers.fetch_add(1, Ordering::AcqRel);
    }
}

fn bits_of(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct AnswerWatch {
    origin: Instant,
    live: Arc<Live>,
    thread: Option<JoinHandle<Result<Record>>>,
}

impl AnswerWatch {
    /// Asks everybody who has `vip`, from this host's segment, each millisecond.
    ///
    /// # Errors
    /// No rights to open packet sockets.
    pub fn start(host: &Host, vip: IpAddr) -> Result<Self> {
        Self::with(&host.ns, crate::lab::DEVICE, Question::new(vip, To::Everybody), EVERY)
    }

    /// Asks `question` out of `device` each `every`.
    ///
    /// # Errors
    /// No rights to open packet sockets, or there is no such device.
    pub fn with(ns: &Namespace, device: &str, question: Question, every: Duration) -> Result<Self> {
        let socket = ns.enter(|| PacketSocket::open(device, question.is_arp()));
        let socket = socket.with_context(|| format!("a packet socket on {device} of {}", ns.name()))?;
        let origin = Instant::now();
        let live = Arc::new(Live::default());
        let watcher =
            Watcher { socket, question, origin, live: Arc::clone(&live), record: Record::default() };
        Ok(Self { origin, live, thread: Some(std::thread::spawn(move || watcher.run(every))) })
    }

    /// The watch's own time: what its record counts in.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A moment in the watch's own time; zero if it was before the watch began.
    #[must_use]
    pub fn time_of(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.origin)
    }

    /// The station that answered last.
    #[must_use]
    pub fn answering(&self) -> Option<Mac> {
        match self.live.last.load(Ordering::Acquire).to_be_bytes() {
            [_, _, 0, 0, 0, 0, 0, 0] => None,
            [_, _, a, b, c, d, e, f] => Some(Mac([a, b, c, d, e, f])),
        }
    }

    /// When this station answered last.
    #[must_use]
    pub fn last_answer_of(&self, mac: Mac) -> Option<Duration> {
        let bits = bits_of(mac);
        let mut stations = self.live.stations.iter();
        let (_, last) = stations.find(|(station, _)| station.load(Ordering::Relaxed) == bits)?;
        Some(Duration::from_micros(last.load(Ordering::Acquire)))
    }

    /// How many answers there were so far.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.live.answers.load(Ordering::Acquire)
    }

    /// Ends it; what it saw.
    ///
    /// # Errors
    /// Its socket failed.
    pub fn stop(mut self) -> Result<Record> {
        self.live.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("a watch is stopped once")?;
        thread.join().map_err(|_| anyhow!("the watch panicked"))?
    }
}

impl Drop for AnswerWatch {
    fn drop(&mut self) {
        self.live.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Whoever dropped it does not want to know what it saw.
            let _ = thread.join();
        }
    }
}

struct Watcher {
    socket: PacketSocket,
    question: Question,
    origin: Instant,
    live: Arc<Live>,
    record: Record,
}

impl Watcher {
    fn run(mut self, every: Duration) -> Result<Record> {
        let room = MAX_LENGTH.as_nanos() / every.as_nanos().max(1);
        self.record.asked.reserve(usize::try_from(room).unwrap_or(MAX_KEPT).min(MAX_KEPT));
        self.record.real_time = hurry();
        let mut rhythm = Rhythm::new(every);
        while !self.live.stop.load(Ordering::Acquire) && self.origin.elapsed() < MAX_LENGTH {
            if rhythm.due() {
                self.record.asked.push(self.origin.elapsed());
                // What cannot be sent (the device is down) is not answered: that is what the record will say.
                let _ = self.socket.send(self.question.frame());
            }
            if rhythm.sleep(self.socket.fd()) {
                self.listen()?;
            }
        }
        self.listen()?;
        Ok(self.record)
    }

    /// Takes in everything that has come.
    fn listen(&mut self) -> Result<()> {
        while let Some(frame) = self.socket.receive().context("listening for answers")? {
            let said = self.question.heard(frame);
            let at = self.origin.elapsed();
            match said {
                Some(Said::Answer(mac)) => self.answered(at, mac),
                Some(Said::Announcement(mac)) if self.record.announcements.len() < MAX_KEPT => {
                    self.record.announcements.push(Announcement { at, mac });
                }
                Some(Said::Announcement(_)) | None => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, at: Duration, mac: Mac) {
        if self.record.answers.len() < MAX_KEPT {
            let request = self.record.asked.len().saturating_sub(1);
            self.record.answers.push(Answer { request, at, mac });
        }
        self.live.answered(at, mac);
    }
}
