//! The kernel's answer to "how does a packet to this address leave?".

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use nix::errno::Errno;
use rtnetlink::{Error, Handle, RouteMessageBuilder};

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

/// What became of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is a way, which may end on this machine.
    Way(Route),
    /// There is no way, or a route that refuses (unreachable, blackhole, prohibit).
    Nowhere,
    /// The kernel did not tell, for this reason. It says nothing about the way.
    Unknown(String),
}

/// Looks an address up in the kernel's tables, rules included. Of several equal ways the kernel picks one.
pub(super) async fn look_up(handle: &Handle, address: IpAddr) -> Answer {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let request = match RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, length) {
        Ok(builder) => builder.build(),
        // The length is right for the family, which is all that can be wrong.
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let mut answers = std::pin::pin!(handle.route().get(request).execute());
    let answer = understand(answers.next().await);
    tracing::trace!(%address, ?answer, "looked up");
    answer
}

/// What the first answer says, if there is one.
fn understand(answer: Option<Result<RouteMessage, Error>>) -> Answer {
    match answer {
        None => Answer::Unknown("the kernel did not answer".to_owned()),
        Some(Ok(message)) => read(message).map_or(Answer::Nowhere, Answer::Way),
        Some(Err(Error::NetlinkError(message))) if says_nowhere(message.raw_code()) => Answer::Nowhere,
        // Its own words name no reason.
        Some(Err(Error::NetlinkError(message))) => Answer::Unknown(message.to_string()),
        Some(Err(error)) => Answer::Unknown(error.to_string()),
    }
}

/// Whether an error of the kernel is its word for "nowhere".
fn says_nowhere(code: i32) -> bool {
    match Errno::from_raw(code.saturating_neg()) {
        // No route, or one of type unreachable.
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ESRCH => true,
        // Routes of types blackhole and prohibit. There is nothing else in the request to find fault with.
        Errno::EINVAL | Errno::EACCES => true,
        _ => false,
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
    use std::num::NonZeroI32;

    use rtnetlink::packet_core::ErrorMessage;

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

    #[test]
    fn only_the_kernels_word_for_nowhere_is_no_route() {
        let error = |errno: Errno| {
            let mut message = ErrorMessage::default();
            message.code = NonZeroI32::new(-(errno as i32));
            Some(Err(Error::NetlinkError(message)))
        };
        for errno in [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::ESRCH, Errno::EINVAL, Errno::EACCES] {
            assert_eq!(understand(error(errno)), Answer::Nowhere, "{errno}");
        }
        assert_eq!(understand(Some(Ok(answer(RouteType::BlackHole, vec![])))), Answer::Nowhere);
        let faults = [Errno::ENOBUFS, Errno::ENOMEM, Errno::EAGAIN, Errno::EINTR, Errno::EBUSY, Errno::EPERM]
            .map(error);
        for fault in faults.into_iter().chain([None, Some(Err(Error::RequestFailed))]) {
            let text = format!("{fault:?}");
            assert!(matches!(understand(fault), Answer::Unknown(why) if !why.is_empty()), "{text}");
        }
    }
}
