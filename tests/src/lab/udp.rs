//! UDP: a server that names its backend, and a client that asks it.

use anyhow::{Context, Result, bail};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

/// Larger than any datagram of the lab.
const LARGEST: usize = 65_536;

/// Answers every datagram with its own content, a space and `name`, from the address it came to. Does not return.
///
/// # Errors
/// An address is not this host's, or the port is taken.
pub fn serve(name: &str, port: u16, addresses: &[IpAddr], ready: impl FnOnce()) -> Result<()> {
    let open = |address: &IpAddr| {
        let at = SocketAddr::new(*address, port);
        UdpSocket::bind(at).with_context(|| format!("cannot listen on {at}"))
    };
    let sockets = addresses.iter().map(open).collect::<Result<Vec<_>>>()?;
    ready();
    thread::scope(|scope| {
        for socket in &sockets {
            scope.spawn(move || answer(socket, name));
        }
    });
    bail!("no address to serve; give at least one")
}

fn answer(socket: &UdpSocket, name: &str) {
    let mut buffer = vec![0; LARGEST];
    loop {
        // Errors here are those of earlier answers (port unreachable): nothing to be done.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut answer = buffer.get(..length).unwrap_or_default().to_vec();
        answer.extend_from_slice(b" ");
        answer.extend_from_slice(name.as_bytes());
        let _ = socket.send_to(&answer, from);
    }
}

/// A socket of the client, connected so that an ICMP error is seen; source port 0 lets the kernel choose.
///
/// # Errors
/// The source is not this host's address, or the port is taken.
pub fn open(source: SocketAddr, target: SocketAddr, patience: Duration) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(source)?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Sends `question` and returns the name in the answer.
///
/// # Errors
/// No answer in time, an ICMP error, or an answer to something else.
pub fn ask(socket: &UdpSocket, question: &str) -> io::Result<String> {
    socket.send(question.as_bytes())?;
    let mut buffer = vec![0; LARGEST];
    let length = socket.recv(&mut buffer)?;
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    let name = answer.strip_prefix(question).and_then(|rest| rest.strip_prefix(' '));
    name.map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("asked {question}, was answered {answer}")))
}
