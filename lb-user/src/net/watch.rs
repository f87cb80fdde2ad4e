//! Ticks when the kernel's view of the network changed.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::mpsc;
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

/// The tasks that listen; they end with this value.
#[derive(Debug)]
pub(super) struct Watch {
    tasks: [JoinHandle<()>; 2],
}

impl Watch {
    /// Starts to listen. The receiver holds at most one tick, which stands for all changes since it was last empty.
    ///
    /// # Errors
    /// The kernel refuses the socket or a group.
    pub(super) fn open() -> Result<(Self, mpsc::Receiver<()>)> {
        let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&GROUPS)
            .context("cannot listen to changes of the network")?;
        let (sender, receiver) = mpsc::channel(1);
        let tell = async move {
            // The connection ends when nobody can ask it anything any more.
            let _handle = handle;
            while messages.next().await.is_some() {
                let rest = async { while messages.next().await.is_some() {} };
                // The end of the stream shows at the next look.
                let _ = timeout(DEBOUNCE, rest).await;
                if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                    return;
                }
            }
        };
        Ok((Self { tasks: [tokio::spawn(connection), tokio::spawn(tell)] }, receiver))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
