//! One connection of the herd: at most one request at a time, and the same backend for all of them.

use crate::lab::http;
use anyhow::{Context, Result};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Why a connection counts as broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    /// It was reset, or sending failed.
    Reset(ErrorKind),
    /// The other side closed it.
    Closed,
    /// A request was not answered for so long.
    Silent(Duration),
    /// Another backend answered.
    OtherBackend(String),
    /// What came was not the answer.
    Disorder(String),
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(kind) => write!(f, "reset ({kind})"),
            Self::Closed => f.write_str("closed by the other side"),
            Self::Silent(time) => write!(f, "not answered for {:.1} s", time.as_secs_f64()),
            Self::OtherBackend(name) => write!(f, "answered by {name}"),
            Self::Disorder(line) => write!(f, "{line:?} was not the answer"),
        }
    }
}

/// A request that is not answered yet.
struct Pending {
    number: u64,
    since: Instant,
    /// What is left to be sent.
    rest: Vec<u8>,
}

/// Where a connection is on its way through a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checked {
    /// Answered, or never asked for.
    Done,
    /// A request is to be sent for it.
    Wanted,
    /// The request of this number.
    By(u64),
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    pub(super) backend: String,
    partial: Vec<u8>,
    next: u64,
    pending: Option<Pending>,
    checked: Checked,
}

impl Connection {
    /// Connects, makes one request and waits for its answer.
    pub(super) fn open(source: IpAddr, target: SocketAddr) -> Result<Self> {
        let mut stream = http::connect(Some(source), target, http::PATIENCE).context("connecting")?;
        stream.write_all(b"0 0\n").context("sending the first request")?;
        let mut text = Vec::new();
        while !text.ends_with(b"\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).context("waiting for the first answer")?;
            text.extend_from_slice(&octet);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let backend = text.trim_end().strip_prefix("0 ").with_context(|| format!("request 0: {text:?}"))?;
        stream.set_nonblocking(true)?;
        // Closed by a reset: thousands of connections in TIME_WAIT would leave no ports for the next herd.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(Self {
            from: stream.local_addr()?,
            backend: backend.to_owned(),
            stream,
            partial: Vec::new(),
            next: 1,
            pending: None,
            checked: Checked::Done,
        })
    }

    /// Sends a request with so many octets behind it, unless one is under way.
    pub(super) fn ask(&mut self, octets: usize) -> Result<(), Break> {
        if self.pending.is_some() {
            return Ok(());
        }
        let mut rest = format!("{} {octets}\n", self.next).into_bytes();
        rest.resize(rest.len() + octets, b'x');
        self.pending = Some(Pending { number: self.next, since: Instant::now(), rest });
        self.next += 1;
        self.send()
    }

    /// A request that begins from now on must be answered for the check to be over.
    pub(super) fn want_check(&mut self) {
        self.checked = Checked::Wanted;
    }

    /// Goes on with the check; true once it is over for this connection.
    pub(super) fn check(&mut self) -> Result<bool, Break> {
        if self.checked == Checked::Wanted && self.pending.is_none() {
            self.checked = Checked::By(self.next);
            self.ask(0)?;
        }
        Ok(self.checked == Checked::Done)
    }

    /// Since when the request under way is waited for.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.since)
    }

    /// Sends what is left of the request, as far as the connection takes it.
    pub(super) fn send(&mut self) -> Result<(), Break> {
        let Some(pending) = &mut self.pending else { return Ok(()) };
        while !pending.rest.is_empty() {
            match self.stream.write(&pending.rest) {
                Ok(length) => drop(pending.rest.drain(..length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Break::Reset(error.kind())),
            }
        }
        Ok(())
    }

    /// Reads what is there; how many answers that was.
    pub(super) fn receive(&mut self) -> Result<u64, Break> {
        let mut answers = 0;
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Break::Closed),
                Ok(length) => self.partial.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(answers),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Break::Reset(error.kind())),
            }
            while let Some(end) = self.partial.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                self.hear(String::from_utf8_lossy(&line).trim_end())?;
                answers += 1;
            }
        }
    }

    fn hear(&mut self, line: &str) -> Result<(), Break> {
        let disorder = || Break::Disorder(line.to_owned());
        let (number, name) = line.split_once(' ').ok_or_else(disorder)?;
        if name != self.backend {
            return Err(Break::OtherBackend(name.to_owned()));
        }
        let pending = self.pending.take().ok_or_else(disorder)?;
        if number.parse() != Ok(pending.number) || !pending.rest.is_empty() {
            return Err(disorder());
        }
        if self.checked == Checked::By(pending.number) {
            self.checked = Checked::Done;
        }
        Ok(())
    }
}
