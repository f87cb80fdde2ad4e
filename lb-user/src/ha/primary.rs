//! What adverts and announcements of an interface are sent from. Asked anew whenever it may have changed.

use std::io;
use std::net::IpAddr;

use lb_core::vrrp::Family;
use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_indextoname;

/// The interface's primary IPv4 address, or an IPv6 link-local one (RFC 9568, 5.1.1.1 and 5.1.2.1): of several the one
/// that it has had longest. `None` if it has none.
///
/// # Errors
/// There is no such interface, or the kernel does not list addresses.
pub fn source_of(ifindex: u32, family: Family) -> io::Result<Option<IpAddr>> {
    let mut listed = addresses(ifindex)?.filter_map(|address| ip(&address));
    Ok(match family {
        // The kernel lists the oldest primary one first.
        Family::V4 => listed.find(IpAddr::is_ipv4),
        // And the newest of a scope first.
        Family::V6 => listed.filter(is_link_local).last(),
    })
}

/// The interface's Ethernet address; `None` if it has none, or of another kind.
///
/// # Errors
/// As of [`source_of`].
pub fn mac_of(ifindex: u32) -> io::Result<Option<[u8; 6]>> {
    let mut links = addresses(ifindex)?.filter_map(|address| address.address?.as_link_addr().copied());
    Ok(links.find(|link| link.halen() == 6).and_then(|link| link.addr()))
}

fn addresses(ifindex: u32) -> io::Result<impl Iterator<Item = InterfaceAddress>> {
    let name = if_indextoname(ifindex)?.to_string_lossy().into_owned();
    // So nix says that there is none.
    if name.is_empty() {
        return Err(Errno::ENODEV.into());
    }
    // IPv4 addresses come under their label, "eth0:1"; no interface has a colon in its name.
    Ok(getifaddrs()?.filter(move |address| address.interface_name.split(':').next() == Some(&name)))
}

fn ip(address: &InterfaceAddress) -> Option<IpAddr> {
    let address = address.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

fn is_link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
