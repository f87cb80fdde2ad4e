//! The kernel's answer to "how does a packet to this address leave?".

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::{Handle, RouteMessageBuilder};

/// The way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Interface that packets leave through.
    pub(super) ifindex: u32,
    /// Next hop, of either family; `None` if the address is on the interface's own segment.
    pub(super) gateway: Option<IpAddr>,
    /// Source address that the kernel would choose.
    pub(super) source: Option<IpAddr>,
    /// Whether packets stay on this machine: the address is one of its own.
    pub(super) local: bool,
}

/// Looks an address up in the kernel's tables, rules included. Of several equal ways the kernel picks one.
///
/// `None` if there is no way, or a route that refuses (unreachable, blackhole, prohibit).
pub(super) async fn look_up(handle: &Handle, address: IpAddr) -> Option<Route> {
    let length = if address.is_ipv4() { 32 } else { 128 };
    // The length is right for the family, which is all that can be wrong.
    let message = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, length).ok()?.build();
    let mut answers = std::pin::pin!(handle.route().get(message).execute());
    match answers.next().await? {
        Ok(message) => read(message),
        Err(error) => {
            tracing::debug!(%address, %error, "no route");
            None
        }
    }
}

fn read(message: RouteMessage) -> Option<Route> {
    let local = message.header.kind == RouteType::Local;
    if !local && message.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut ifindex, mut gateway, mut source) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(index),
            RouteAttribute::Gateway(address) => gateway = ip(&address),
            RouteAttribute::Via(RouteVia::Inet(address)) => gateway = Some(address.into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => gateway = Some(address.into()),
            RouteAttribute::PrefSource(address) => source = ip(&address),
            _ => {}
        }
    }
    let specified = |address: &IpAddr| !address.is_unspecified();
    Some(Route {
        ifindex: ifindex?,
        gateway: gateway.filter(specified),
        source: source.filter(specified),
        local,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn answer(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn way_is_read_with_gateway_of_either_family_and_source() {
        let source = Ipv4Addr::new(10, 0, 0, 1);
        let via = "fe80::1".parse().expect("literal");
        let route = read(answer(
            RouteType::Unicast,
            vec![
                RouteAttribute::Oif(4),
                RouteAttribute::Via(RouteVia::Inet6(via)),
                RouteAttribute::PrefSource(source.into()),
            ],
        ));
        let expected =
            Route { ifindex: 4, gateway: Some(via.into()), source: Some(source.into()), local: false };
        assert_eq!(route, Some(expected));
    }

    #[test]
    fn address_of_zeros_is_no_source() {
        let attributes =
            vec![RouteAttribute::Oif(4), RouteAttribute::PrefSource(Ipv4Addr::UNSPECIFIED.into())];
        assert_eq!(read(answer(RouteType::Unicast, attributes)).map(|route| route.source), Some(None));
    }

    #[test]
    fn route_that_refuses_or_is_not_for_one_machine_is_none() {
        for kind in [
            RouteType::Unreachable,
            RouteType::BlackHole,
            RouteType::Prohibit,
            RouteType::Multicast,
            RouteType::Broadcast,
        ] {
            assert_eq!(read(answer(kind, vec![RouteAttribute::Oif(1)])), None, "{kind:?}");
        }
    }
}
