//! The socket that flow sync goes by.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use lb_core::sync::wire::MAX_DATAGRAM;
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes that may wait to be read: what a peer sends at once of a large table, by the kernel's way of counting, which is
/// several times the datagrams' length.
const RECEIVE_BUFFER: usize = 32 << 20;
/// Bytes that may wait to be sent.
const SEND_BUFFER: usize = 8 << 20;

/// A datagram socket that never blocks.
pub(super) struct Channel {
    socket: tokio::net::UdpSocket,
    /// Datagrams that the kernel did not take. They are asked for again by whoever misses them.
    pub(super) unsent: u64,
}

impl Channel {
    /// Listens at an address of this machine.
    ///
    /// # Errors
    /// There is no such address here, or its port is taken.
    pub(super) fn open(listen: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(listen)
            .with_context(|| format!("cannot listen on {listen} (UDP); `sync.listen` names it"))?;
        socket.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        // Without the right to go beyond the system's limit it is the limit, and more has to be sent again.
        let descriptor = socket.as_fd();
        if setsockopt(&descriptor, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&descriptor, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        if setsockopt(&descriptor, sockopt::SndBufForce, &SEND_BUFFER).is_err() {
            let _ = setsockopt(&descriptor, sockopt::SndBuf, &SEND_BUFFER);
        }
        let socket = tokio::net::UdpSocket::from_std(socket).context("cannot wait for a socket")?;
        Ok(Self { socket, unsent: 0 })
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) {
        // An error is one about a datagram that was sent; reading tells.
        let _ = self.socket.readable().await;
    }

    /// The next datagram and its sender; `None` if there is none now.
    pub(super) fn receive<'b>(
        &self,
        buffer: &'b mut [u8; MAX_DATAGRAM + 1],
    ) -> Option<(&'b [u8], SocketAddr)> {
        // One after the other, each about a datagram that a peer did not take (its daemon does not run).
        for _ in 0..64 {
            match self.socket.try_recv_from(buffer) {
                Ok((length, from)) => return Some((buffer.get(..length)?, from)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {}
            }
        }
        None
    }

    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.unsent += u64::from(self.socket.try_send_to(datagram, to).is_err());
    }
}
