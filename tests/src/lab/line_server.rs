//! A TCP server of numbered lines. Every line that comes in, a number, is answered with `<number> <name>`; and every
//! 200 ms it says `+<number> <name>` of its own accord, counting from 0 on each connection.

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often each side sends a line.
pub const EVERY: Duration = Duration::from_millis(200);

/// How long the server sleeps at most: how late a line may be.
const TICK_MS: u8 = 20;
const BACKLOG: i32 = 1024;
/// A client that sends more than this without a line's end is cut off.
const MAX_LINE: usize = 64;

struct Connection {
    stream: TcpStream,
    partial: Vec<u8>,
    said: u64,
    next: Instant,
}

/// Serves on every address, both families. Does not return.
///
/// # Errors
/// The port is taken, or the system runs out of something.
pub fn serve(name: &str, port: u16, ready: impl FnOnce()) -> Result<()> {
    let listener = listen(port).with_context(|| format!("cannot listen on port {port}"))?;
    ready();
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let readable = wait(&listener, &connections)?;
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            connections.push(Connection {
                stream,
                partial: Vec::new(),
                said: 0,
                next: Instant::now() + EVERY,
            });
        }
        let mut index = 0;
        connections.retain_mut(|connection| {
            let has_data = readable.get(index).copied().unwrap_or(false);
            index += 1;
            (!has_data || connection.answer(name)) && connection.say(name)
        });
    }
}

/// A listener on every address, both families, that does not block.
pub(super) fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
    socket.set_only_v6(false)?;
    // A killed server's successor must not wait for old connections.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Waits for something to do; which connections have something to read.
fn wait(listener: &TcpListener, connections: &[Connection]) -> Result<Vec<bool>> {
    let fds = connections.iter().map(|connection| connection.stream.as_fd()).chain([listener.as_fd()]);
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::from(TICK_MS)).context("poll")?;
    Ok(fds.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

impl Connection {
    /// Reads what is there and answers whole lines; false once the connection is over.
    fn answer(&mut self, name: &str) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => self.partial.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let number = String::from_utf8_lossy(&line).trim().to_owned();
            if !self.send(&format!("{number} {name}\n")) {
                return false;
            }
        }
        self.partial.len() <= MAX_LINE
    }

    fn say(&mut self, name: &str) -> bool {
        let now = Instant::now();
        if now < self.next {
            return true;
        }
        self.next = now + EVERY;
        let line = format!("+{} {name}\n", self.said);
        self.said += 1;
        self.send(&line)
    }

    /// A client that no longer reads is as good as gone: lines are small, buffers are not.
    fn send(&mut self, line: &str) -> bool {
        self.stream.write_all(line.as_bytes()).is_ok()
    }
}
