//! Ticks when the kernel's view of the network changed.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Changes that come within this time of each other's first are told as one: an interface that goes down takes all its
/// addresses, routes and neighbours along.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// What is listened to. Rules and next-hop objects change routes without a word in the route groups.
const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// Bytes of a message that are read. That there was one is all that matters.
const GLIMPSE: usize = 64;

/// The task that listens; it ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    task: JoinHandle<()>,
}

impl Watch {
    /// Starts to listen, inside a tokio runtime. The receiver holds at most one tick, which stands for all changes since
    /// it was last empty.
    ///
    /// # Errors
    /// The kernel refuses the socket or a group.
    pub(super) fn open() -> Result<(Self, mpsc::Receiver<()>)> {
        let socket = listen().context("cannot listen to changes of the network")?;
        let (sender, receiver) = mpsc::channel(1);
        Ok((Self { task: tokio::spawn(tell(socket, sender)) }, receiver))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket of our own: rtnetlink's drops messages it has no words for, next-hop objects among them.
fn listen() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    for group in GROUPS {
        socket.socket_mut().add_membership(group as u32)?;
    }
    Ok(socket)
}

async fn tell(socket: TokioSocket, sender: mpsc::Sender<()>) {
    loop {
        if let Err(error) = message(&socket).await {
            tracing::error!(%error, "no longer told of changes of the network; restart the daemon");
            return;
        }
        let rest = async { while message(&socket).await.is_ok() {} };
        // An error shows again at the next look.
        let _ = timeout(DEBOUNCE, rest).await;
        if let Err(TrySendError::Closed(())) = sender.try_send(()) {
            return;
        }
    }
}

/// Waits for a message, or for the news that some were lost, which is as good.
async fn message(socket: &TokioSocket) -> io::Result<()> {
    let mut glimpse = BytesMut::with_capacity(GLIMPSE);
    match socket.recv(&mut glimpse).await {
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        result => result,
    }
}
