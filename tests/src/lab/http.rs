//! A minimal HTTP/1.0 client, over TCP from a chosen source address and over a Unix socket.

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a connection, a read or a write may take where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

/// Opens a TCP connection from `source`; `patience` also limits every later read and write.
///
/// # Errors
/// As of connect(2): refused, reset, timed out.
pub fn connect(source: Option<IpAddr>, target: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&target.into(), patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// One GET on a connection of its own.
///
/// # Errors
/// The connection failed, or the answer is not HTTP or shorter than it says.
pub fn get(
    source: Option<IpAddr>,
    target: SocketAddr,
    path: &str,
    patience: Duration,
) -> io::Result<Response> {
    exchange(connect(source, target, patience)?, "GET", path, &[])
}

/// One POST on a connection of its own.
///
/// # Errors
/// As [`get`].
pub fn post(
    source: Option<IpAddr>,
    target: SocketAddr,
    path: &str,
    body: &[u8],
    patience: Duration,
) -> io::Result<Response> {
    exchange(connect(source, target, patience)?, "POST", path, body)
}

/// One request over a Unix socket, such as the daemon's API.
///
/// # Errors
/// Nobody listens there, or the answer is not HTTP.
pub fn over_unix(
    socket: &Path,
    method: &str,
    path: &str,
    body: &[u8],
    patience: Duration,
) -> Result<Response> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    exchange(stream, method, path, body).with_context(|| format!("{method} {path} on {}", socket.display()))
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str, body: &[u8]) -> io::Result<Response> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: lab\r\n{kind}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    // Whoever is asked for too much answers, and closes, before all of it was sent: the answer counts.
    let sent = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        read?;
    }
    parse(&answer)
}

fn parse(answer: &[u8]) -> io::Result<Response> {
    let broken =
        |what: &str| io::Error::new(ErrorKind::InvalidData, format!("{what} in {} bytes", answer.len()));
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| broken("no end of headers"))?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("no status"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| length != body.len()) {
        return Err(broken("a body of another length than announced"));
    }
    Ok(Response { status, body: String::from_utf8_lossy(body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_read_and_cut_ones_are_refused() {
        let whole = b"HTTP/1.1 201 Created\r\ncontent-length: 3\r\n\r\none";
        assert_eq!(parse(whole).expect("whole"), Response { status: 201, body: "one".into() });
        let endless = b"HTTP/1.0 200 OK\r\n\r\nuntil the end";
        assert_eq!(parse(endless).expect("endless"), Response { status: 200, body: "until the end".into() });
        for cut in [&whole[..whole.len() - 1], &whole[..30], b"", b"nonsense\r\n\r\n"] {
            assert!(parse(cut).is_err(), "{}", String::from_utf8_lossy(cut));
        }
    }
}
