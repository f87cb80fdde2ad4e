//! Ticks when the kernel's view of the network changed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::known::Known;
use super::neighbour::{self, Key, Neighbour};

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

/// Bytes of a message that are read, far more than one about a neighbour has. Of others it matters only that they came.
const MAX_READ: usize = 1024;

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
    let mut seen = Seen::default();
    loop {
        if let Err(error) = news(&socket, &mut seen).await {
            tracing::error!(%error, "no longer told of changes of the network; restart the daemon");
            return;
        }
        let rest = async { while news(&socket, &mut seen).await.is_ok() {} };
        // An error shows again at the next look.
        let _ = timeout(DEBOUNCE, rest).await;
        if let Err(TrySendError::Closed(())) = sender.try_send(()) {
            return;
        }
    }
}

/// Waits for a change that makes a difference.
async fn news(socket: &TokioSocket, seen: &mut Seen) -> io::Result<()> {
    let mut message = BytesMut::with_capacity(MAX_READ);
    loop {
        message.clear();
        match socket.recv(&mut message).await {
            Ok(()) if seen.is_news(&message) => return Ok(()),
            Ok(()) => {}
            // Messages were lost.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                *seen = Seen::default();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// What was last told of the entries that the kernel keeps fresh. It doubts and confirms each of them twice a minute,
/// which with thousands of backends would be a change at every moment, and is none.
#[derive(Debug, Default)]
struct Seen {
    managed: BTreeMap<Key, Known>,
}

impl Seen {
    /// Whether it is worth looking at the network again after this message. On any doubt it is.
    fn is_news(&mut self, message: &[u8]) -> bool {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else { return true };
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => {
                neighbour::read(&entry).is_some_and(|(key, entry)| self.is_changed(key, &entry))
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(entry)) => neighbour::read(&entry)
                .is_some_and(|(key, _)| {
                    self.managed.remove(&key);
                    true
                }),
            _ => true,
        }
    }

    fn is_changed(&mut self, key: Key, entry: &Neighbour) -> bool {
        if !entry.managed {
            // Kernels that manage nothing are asked anew whenever they begin to doubt.
            self.managed.remove(&key);
            return true;
        }
        let before = self.managed.get(&key).copied();
        let after = before.unwrap_or_default().after(Some(entry));
        self.managed.insert(key, after);
        before != Some(after)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::link::LinkMessage;
    use netlink_packet_route::neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
    };

    use super::*;

    const MAC: u8 = 1;
    const OTHER: u8 = 2;

    fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn entry(state: NeighbourState, mac: Option<u8>, managed: bool) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 3;
        message.header.state = state;
        let address = NeighbourAddress::Inet([10, 0, 0, 2].into());
        message.attributes.push(NeighbourAttribute::Destination(address));
        message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(vec![mac; 6])));
        if managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        }
        message
    }

    #[test]
    fn doubts_about_a_managed_entry_are_no_news_and_changes_are() {
        use NeighbourState::{Delay, Failed, Incomplete, Probe, Reachable, Stale};
        let mut seen = Seen::default();
        for (state, mac, managed, expected) in [
            (Reachable, Some(MAC), true, true),
            (Stale, Some(MAC), true, false),
            (Delay, Some(MAC), true, false),
            (Probe, Some(MAC), true, false),
            (Stale, Some(OTHER), true, true),
            (Failed, None, true, true),
            (Incomplete, None, true, false),
            (Failed, None, true, false),
            (Reachable, Some(OTHER), true, true),
            (Stale, Some(OTHER), false, true),
            (Stale, Some(OTHER), false, true),
            (Reachable, Some(OTHER), true, true),
        ] {
            let message = bytes(RouteNetlinkMessage::NewNeighbour(entry(state, mac, managed)));
            assert_eq!(seen.is_news(&message), expected, "{state:?}, mac {mac:?}, managed {managed}");
        }
        let gone = bytes(RouteNetlinkMessage::DelNeighbour(entry(Reachable, Some(OTHER), true)));
        assert!(seen.is_news(&gone));
        let again = bytes(RouteNetlinkMessage::NewNeighbour(entry(Reachable, Some(OTHER), true)));
        assert!(seen.is_news(&again), "what is gone is forgotten");
    }

    #[test]
    fn what_a_bridge_learns_is_no_news() {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![MAC; 6]));
        assert!(!Seen::default().is_news(&bytes(RouteNetlinkMessage::NewNeighbour(message))));
    }

    #[test]
    fn message_of_any_other_kind_is_news_whether_understood_or_not() {
        let understood = bytes(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        let mut seen = Seen::default();
        assert!(seen.is_news(&understood));
        assert!(seen.is_news(&understood[..12]), "cut off");
        let mut next_hop = understood;
        next_hop[4] = 104;
        assert!(seen.is_news(&next_hop), "a kind without words");
    }
}
