//! Long-lived connections that notice every fault: a numbered line each 200 ms both ways, each naming its backend.

use super::http;
use super::line_server::EVERY;
use super::netns::Namespace;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A connection that says nothing for this long is broken.
pub const SILENCE: Duration = Duration::from_secs(3);
const TICK_MS: u8 = 10;

/// Why a connection counts as broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It was reset, or sending failed.
    Reset(ErrorKind),
    /// The other side closed it.
    Eof,
    /// [`SILENCE`] without a line.
    Silent,
    /// Another backend answered.
    OtherBackend(String),
    /// A line came that was not the next one.
    Disorder(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(kind) => write!(f, "reset ({kind})"),
            Self::Eof => f.write_str("closed by the other side"),
            Self::Silent => write!(f, "{} s of silence", SILENCE.as_secs()),
            Self::OtherBackend(name) => write!(f, "answered by {name}"),
            Self::Disorder(line) => write!(f, "the line {line:?} was not the next one"),
        }
    }
}

/// What is known of one connection.
#[derive(Debug, Clone)]
pub struct Line {
    /// The client's end.
    pub from: SocketAddr,
    /// The VIP's end.
    pub to: SocketAddr,
    /// Who answered the first line.
    pub backend: String,
    /// How many lines have come from it.
    pub heard: u64,
    /// When and why it broke, if it did.
    pub broken: Option<(Instant, Broken)>,
    /// Whether another connection has taken its part.
    replaced: bool,
}

struct Connection {
    stream: TcpStream,
    /// Its place in the shared list.
    index: usize,
    partial: Vec<u8>,
    sent: u64,
    answered: u64,
    told: u64,
    next: Instant,
    heard_at: Instant,
}

/// Many such connections, served by one thread. Dropping it closes them.
#[derive(Debug)]
pub struct LineClient {
    ns: Namespace,
    lines: Arc<Mutex<Vec<Line>>>,
    inbox: Sender<Connection>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LineClient {
    /// A client in `ns` without connections.
    #[must_use]
    pub fn start(ns: &Namespace) -> Self {
        let (inbox, connections) = mpsc::channel();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker { lines: Arc::clone(&lines), stop: Arc::clone(&stop), connections: Vec::new() };
        let thread = Some(thread::spawn(move || worker.run(&connections)));
        Self { ns: ns.clone(), lines, inbox, stop, thread }
    }

    /// Opens one connection for each (source, target), each known to work: its backend has answered.
    ///
    /// # Errors
    /// A connection is refused or its first line is not answered.
    pub fn open(&self, ends: &[(IpAddr, SocketAddr)]) -> Result<()> {
        self.ns.enter(|| {
            for &(source, target) in ends {
                let (line, connection) = first_line(source, target)
                    .with_context(|| format!("a connection from {source} to {target}"))?;
                let mut lines = self.lock();
                let index = lines.len();
                lines.push(line);
                // The worker ends only when told so.
                let _ = self.inbox.send(Connection { index, ..connection });
            }
            Ok(())
        })
    }

    /// Opens a new connection with the same ends for each broken one that has not been replaced, and forgets those.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn replace_broken(&self) -> Result<usize> {
        let mut lines = self.lock();
        let broken = lines.iter_mut().filter(|line| line.broken.is_some() && !line.replaced).map(|line| {
            line.replaced = true;
            (line.from.ip(), line.to)
        });
        let broken: Vec<(IpAddr, SocketAddr)> = broken.collect();
        drop(lines);
        self.open(&broken)?;
        Ok(broken.len())
    }

    /// Every connection that is not replaced.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lock().iter().filter(|line| !line.replaced).cloned().collect()
    }

    /// Those that broke since `mark`.
    #[must_use]
    pub fn broken_since(&self, mark: Instant) -> Vec<Line> {
        let since = |line: &Line| line.broken.as_ref().is_some_and(|(at, _)| *at >= mark);
        self.lines().into_iter().filter(since).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LineClient {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed already.
            let _ = thread.join();
        }
    }
}

/// Connects, sends line 0 and waits for its answer.
fn first_line(source: IpAddr, target: SocketAddr) -> Result<(Line, Connection)> {
    let mut stream = http::connect(Some(source), target, http::PATIENCE).context("connecting")?;
    stream.write_all(b"0\n").context("sending the first line")?;
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("waiting for the first answer")?;
        text.extend_from_slice(&byte);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let backend =
        text.trim().strip_prefix("0 ").with_context(|| format!("line 0 was answered with {text:?}"))?;
    stream.set_nonblocking(true)?;
    let line = Line {
        from: stream.local_addr()?,
        to: target,
        backend: backend.to_owned(),
        heard: 1,
        broken: None,
        replaced: false,
    };
    let now = Instant::now();
    let partial = Vec::new();
    let connection = Connection {
        stream,
        index: 0,
        partial,
        sent: 1,
        answered: 1,
        told: 0,
        next: now + EVERY,
        heard_at: now,
    };
    Ok((line, connection))
}

struct Worker {
    lines: Arc<Mutex<Vec<Line>>>,
    stop: Arc<AtomicBool>,
    connections: Vec<Connection>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Connection>) {
        while !self.stop.load(Ordering::SeqCst) {
            self.connections.extend(inbox.try_iter());
            let fds = self.connections.iter().map(|connection| connection.stream.as_fd());
            let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            if poll(&mut fds, PollTimeout::from(TICK_MS)).is_err() {
                continue;
            }
            let readable: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            self.turn(&readable);
        }
    }

    /// Reads, sends and judges each connection once; the broken ones are recorded and closed.
    fn turn(&mut self, readable: &[bool]) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turn = 0;
        self.connections.retain_mut(|connection| {
            let has_data = readable.get(turn).copied().unwrap_or(false);
            turn += 1;
            let Some(line) = lines.get_mut(connection.index) else { return false };
            match connection.step(has_data, line) {
                Ok(()) => true,
                Err(broken) => {
                    line.broken = Some((Instant::now(), broken));
                    false
                }
            }
        });
    }
}

impl Connection {
    fn step(&mut self, has_data: bool, line: &mut Line) -> Result<(), Broken> {
        let now = Instant::now();
        if has_data {
            self.read(now, line)?;
        }
        if now >= self.next {
            self.next = now + EVERY;
            match self.stream.write(format!("{}\n", self.sent).as_bytes()) {
                Ok(_) => self.sent += 1,
                // Nothing is acknowledged any more: silence will tell.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(Broken::Reset(error.kind())),
            }
        }
        if now.duration_since(self.heard_at) >= SILENCE { Err(Broken::Silent) } else { Ok(()) }
    }

    fn read(&mut self, now: Instant, line: &mut Line) -> Result<(), Broken> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(Broken::Eof),
            Ok(length) => self.partial.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(Broken::Reset(error.kind())),
        }
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = self.partial.drain(..=end).collect();
            self.hear(String::from_utf8_lossy(&text).trim(), line)?;
            self.heard_at = now;
            line.heard += 1;
        }
        Ok(())
    }

    /// Judges one line: the next answer (`7 backend1`) or the next own line (`+7 backend1`), from the same backend.
    fn hear(&mut self, text: &str, line: &Line) -> Result<(), Broken> {
        let disorder = || Broken::Disorder(text.to_owned());
        let (number, name) = text.split_once(' ').ok_or_else(disorder)?;
        if name != line.backend {
            return Err(Broken::OtherBackend(name.to_owned()));
        }
        let (number, expected) = match number.strip_prefix('+') {
            Some(number) => (number, &mut self.told),
            None => (number, &mut self.answered),
        };
        if number.parse() != Ok(*expected) {
            return Err(disorder());
        }
        *expected += 1;
        Ok(())
    }
}
