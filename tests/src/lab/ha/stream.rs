//! A steady stream of questions through a VIP, each of which must be answered.

use super::rhythm::{Rhythm, hurry};
use crate::lab::{Host, udp, wait_until};
use anyhow::{Context, Result, anyhow};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that a stream may last: it keeps what became of each question.
const MAX_LENGTH: Duration = Duration::from_secs(120);
/// How long the last answers may take.
const GRACE: Duration = Duration::from_millis(500);
const BEGINS_WITHIN: Duration = Duration::from_secs(5);

/// Datagrams of one UDP flow to servers of [`crate::lab::Peer::udp`], numbered, in a steady rhythm. Dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Streamed>>,
}

/// What became of the questions.
#[derive(Debug, Clone, Default)]
pub struct Streamed {
    /// When each was sent, counted from the first.
    pub sent: Vec<Duration>,
    /// Which of them were answered.
    pub answered: Vec<bool>,
    /// How many each backend answered.
    pub backends: BTreeMap<String, usize>,
}

impl Streamed {
    /// How many were not answered.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.answered.iter().filter(|answered| !**answered).count()
    }

    /// The longest time between two in a row that were answered.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        let answered = self.sent.iter().zip(&self.answered).filter(|(_, answered)| **answered);
        let moments: Vec<Duration> = answered.map(|(sent, _)| *sent).collect();
        let pairs = moments.iter().zip(moments.iter().skip(1));
        pairs.map(|(one, next)| next.saturating_sub(*one)).max().unwrap_or_default()
    }
}

impl Stream {
    /// Begins from an address of `host`, and waits for the first answer: what was lost before it does not count.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn start(host: &Host, source: IpAddr, target: SocketAddr, every: Duration) -> Result<Self> {
        let socket = host.ns.enter(|| udp::open(SocketAddr::new(source, 0), target, BEGINS_WITHIN));
        let socket = socket.with_context(|| format!("a socket from {source} to {target}"))?;
        udp::ask(&socket, "first").with_context(|| format!("the first question to {target}"))?;
        socket.set_nonblocking(true)?;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let streaming = Streaming {
            socket,
            stop: Arc::clone(&stop),
            live: Arc::clone(&answered),
            seen: Streamed::default(),
        };
        let thread = Some(std::thread::spawn(move || streaming.run(every)));
        let new = Self { stop, answered, thread };
        wait_until("the stream flows", BEGINS_WITHIN, || Ok(new.answered() > 0))?;
        Ok(new)
    }

    /// How many have been answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Acquire)
    }

    /// Ends it and waits for the last answers.
    ///
    /// # Errors
    /// Its thread died.
    pub fn stop(mut self) -> Result<Streamed> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("a stream is stopped once")?;
        thread.join().map_err(|_| anyhow!("the stream's thread panicked"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Whoever dropped it does not want to know.
            let _ = thread.join();
        }
    }
}

struct Streaming {
    socket: UdpSocket,
    stop: Arc<AtomicBool>,
    live: Arc<AtomicUsize>,
    seen: Streamed,
}

impl Streaming {
    fn run(mut self, every: Duration) -> Streamed {
        hurry();
        let begun = Instant::now();
        let mut rhythm = Rhythm::new(every);
        while !self.stop.load(Ordering::Acquire) && begun.elapsed() < MAX_LENGTH {
            if rhythm.due() {
                let number = self.seen.sent.len();
                self.seen.sent.push(begun.elapsed());
                self.seen.answered.push(false);
                // What cannot be sent, as nobody has the VIP, is lost like what is dropped on its way.
                let _ = self.socket.send(number.to_string().as_bytes());
            }
            if rhythm.sleep(self.socket.as_fd()) {
                self.listen();
            }
        }
        let until = Instant::now() + GRACE;
        while Instant::now() < until && self.seen.lost() > 0 {
            std::thread::sleep(every);
            self.listen();
        }
        self.seen
    }

    fn listen(&mut self) {
        let mut buffer = [0; 256];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => self.hear(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An ICMP error for an earlier one; there may be more behind it.
                Err(_) => {}
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let Some((number, backend)) = text.split_once(' ') else { return };
        let place = number.parse::<usize>().ok().and_then(|number| self.seen.answered.get_mut(number));
        // An answer that comes twice, or to nothing that was asked, answers nothing.
        if let Some(answered) = place.filter(|answered| !**answered) {
            *answered = true;
            *self.seen.backends.entry(backend.to_owned()).or_default() += 1;
            self.live.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_ones_and_the_longest_gap_are_of_what_was_answered() {
        let ms = Duration::from_millis;
        let streamed = Streamed {
            sent: (0..6).map(ms).collect(),
            answered: vec![true, false, false, true, true, false],
            backends: BTreeMap::new(),
        };
        assert_eq!((streamed.lost(), streamed.longest_gap()), (3, ms(3)));
        assert_eq!((Streamed::default().lost(), Streamed::default().longest_gap()), (0, ms(0)));
    }
}
