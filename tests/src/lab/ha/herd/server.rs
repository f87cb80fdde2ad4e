//! The server of the herd: each line `<number> <octets>`, with as many octets behind it, is answered by
//! `<number> <name>` once they have all arrived. It says nothing of its own accord: an idle connection is idle.

use super::MAX_FILES;
use crate::lab::listen;
use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Connections that are served in one turn.
const MAX_EVENTS: usize = 256;
/// A client that sends more than this without a line's end is cut off.
const MAX_LINE: usize = 64;
/// The listener's mark among the events: no file has this number.
const LISTENER: u64 = u64::MAX;

/// Serves on every address, both families. Does not return.
///
/// # Errors
/// The port is taken, or the system runs out of something.
pub fn serve(name: &str, port: u16, ready: impl FnOnce()) -> Result<()> {
    super::raise_file_limit(MAX_FILES)?;
    let listener = listen(port).with_context(|| format!("cannot listen on port {port}"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    ready();
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let mut events = [EpollEvent::empty(); MAX_EVENTS];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other.context("epoll")?,
        };
        for event in events.iter().take(count) {
            if event.data() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let (key, connection) = Connection::new(stream)?;
                    epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                    connections.insert(key, connection);
                }
            } else if let Some(connection) = connections.get_mut(&event.data())
                && !connection.serve(name)
            {
                // Closing it also takes it out of the epoll.
                connections.remove(&event.data());
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// The line so far.
    line: Vec<u8>,
    /// A number to be answered once so many more octets have come.
    owed: Option<(u64, u64)>,
}

impl Connection {
    fn new(stream: TcpStream) -> Result<(u64, Self)> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = u64::try_from(stream.as_raw_fd())?;
        Ok((key, Self { stream, line: Vec::new(), owed: None }))
    }

    /// Reads what is there and answers; false once the connection is over.
    fn serve(&mut self, name: &str) -> bool {
        let mut buffer = [0; 16_384];
        loop {
            let length = match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            };
            if !self.take(buffer.get(..length).unwrap_or_default(), name) {
                return false;
            }
        }
    }

    fn take(&mut self, mut octets: &[u8], name: &str) -> bool {
        while !octets.is_empty() {
            if let Some((_, rest)) = &mut self.owed {
                let (swallowed, left) =
                    octets.split_at(octets.len().min(usize::try_from(*rest).unwrap_or(usize::MAX)));
                *rest -= swallowed.len() as u64;
                octets = left;
            } else {
                let end = octets.iter().position(|octet| *octet == b'\n');
                let (line, left) = octets.split_at(end.map_or(octets.len(), |end| end + 1));
                self.line.extend_from_slice(line);
                octets = left;
                if end.is_some() && !self.read_line() || self.line.len() > MAX_LINE {
                    return false;
                }
            }
            if !self.pay(name) {
                return false;
            }
        }
        true
    }

    /// Understands a whole line; false if it is none of ours.
    fn read_line(&mut self) -> bool {
        let line = String::from_utf8_lossy(&self.line);
        let parts = line.trim_end().split_once(' ');
        self.owed = parts.and_then(|(number, octets)| Some((number.parse().ok()?, octets.parse().ok()?)));
        self.line.clear();
        self.owed.is_some()
    }

    /// Answers if everything has come. A client that no longer reads is as good as gone: answers are small.
    fn pay(&mut self, name: &str) -> bool {
        match self.owed {
            Some((number, 0)) => {
                self.owed = None;
                self.stream.write_all(format!("{number} {name}\n").as_bytes()).is_ok()
            }
            _ => true,
        }
    }
}
