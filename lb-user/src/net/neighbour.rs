//! Entries of the kernel's neighbour tables (ARP and ND), and the requests that keep them fresh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;
use rtnetlink::{Error, Handle};

use super::connection::collect;

/// Marks entries that Fairlead made the kernel manage, as `proto 158` in `ip neigh`. The numbers above 3 are free to
/// use; this one nobody has in iproute2's rt_protos.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(158);

/// An interface and an address on its segment.
pub(super) type Key = (u32, IpAddr);

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its MAC, while the kernel takes it for valid.
    pub(super) mac: Option<[u8; 6]>,
    /// The address did not answer.
    pub(super) failed: bool,
    /// The administrator wrote it, or the interface needs none: nothing to refresh.
    pub(super) fixed: bool,
    /// The kernel refreshes it by itself.
    pub(super) managed: bool,
    /// It is managed because a Fairlead asked for it.
    pub(super) ours: bool,
}

/// All entries of both families.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn dump(handle: &Handle) -> Result<BTreeMap<Key, Neighbour>> {
    let messages = collect("neighbours", handle.neighbours().get().execute()).await?;
    Ok(messages.iter().filter_map(read).collect())
}

/// `None` for entries of other tables, as those of bridges.
pub(super) fn read(message: &NeighbourMessage) -> Option<(Key, Neighbour)> {
    let state = message.header.state;
    let (mut address, mut mac, mut managed, mut ours) = (None, None, false, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::from(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            _ => {}
        }
    }
    let neighbour = Neighbour {
        mac,
        failed: state == NeighbourState::Failed,
        fixed: matches!(state, NeighbourState::Permanent | NeighbourState::Noarp),
        managed,
        ours: ours && managed,
    };
    Some(((message.header.ifindex, address?), neighbour))
}

/// Asks the kernel to resolve the entry now and to keep it resolved. Kernels before 5.16 skip the attribute that says
/// "keep" and do the first half; one that refuses it is asked for the first half alone.
///
/// # Errors
/// The kernel refuses both.
pub(super) async fn manage(handle: &Handle, key: Key) -> Result<(), Error> {
    match request(handle, key, true).await {
        Ok(()) => Ok(()),
        Err(error) => {
            tracing::debug!(ifindex = key.0, address = %key.1, %error, "the kernel does not manage the neighbour");
            request(handle, key, false).await
        }
    }
}

/// Lets the kernel forget the entry when nobody uses it.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn release(handle: &Handle, key: Key) -> Result<(), Error> {
    request(handle, key, false).await
}

async fn request(handle: &Handle, (ifindex, address): Key, manage: bool) -> Result<(), Error> {
    // "Use" means resolve, and leaves an existing entry's MAC as it is.
    let mut request = handle
        .neighbours()
        .add(ifindex, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace();
    if manage {
        let attributes = &mut request.message_mut().attributes;
        attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        attributes.push(NeighbourAttribute::Protocol(PROTOCOL));
    }
    request.execute().await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn message(state: NeighbourState, attributes: Vec<NeighbourAttribute>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 5;
        message.header.state = state;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(ADDRESS))];
        message.attributes.extend(attributes);
        message
    }

    #[test]
    fn entry_is_read_with_state_and_owner() {
        let plain = Neighbour { mac: None, failed: false, fixed: false, managed: false, ours: false };
        let mac = NeighbourAttribute::LinkLayerAddress(MAC.to_vec());
        let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        let marked = NeighbourAttribute::Protocol(PROTOCOL);
        let cases = [
            (NeighbourState::Incomplete, vec![], plain),
            (NeighbourState::Stale, vec![mac.clone()], Neighbour { mac: Some(MAC), ..plain }),
            (NeighbourState::Failed, vec![], Neighbour { failed: true, ..plain }),
            (NeighbourState::Permanent, vec![mac], Neighbour { mac: Some(MAC), fixed: true, ..plain }),
            (NeighbourState::Reachable, vec![managed.clone()], Neighbour { managed: true, ..plain }),
            (NeighbourState::Reachable, vec![marked.clone()], plain),
            (NeighbourState::Delay, vec![managed, marked], Neighbour { managed: true, ours: true, ..plain }),
        ];
        for (state, attributes, expected) in cases {
            let message = message(state, attributes);
            assert_eq!(read(&message), Some(((5, ADDRESS.into()), expected)), "{message:?}");
        }
    }

    #[test]
    fn entry_of_another_kind_is_skipped() {
        let mut message = message(NeighbourState::Permanent, vec![]);
        message.attributes = vec![NeighbourAttribute::LinkLayerAddress(MAC.to_vec())];
        assert_eq!(read(&message), None);
    }
}
