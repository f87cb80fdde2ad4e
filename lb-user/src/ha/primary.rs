//! The addresses that adverts are sent from.

use std::io;
use std::net::IpAddr;

use lb_core::vrrp::Family;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_indextoname;

/// Source of adverts on an interface: its first IPv4 address, or its first link-local IPv6 address (RFC 9568, 5.1.1.1 and
/// 5.1.2.1). `None` if it has none.
///
/// # Errors
/// If the kernel does not tell, or there is no such interface.
pub fn source_of(index: u32, family: Family) -> io::Result<Option<IpAddr>> {
    let name = if_indextoname(index)?;
    let name = name.to_string_lossy();
    let address = |found: nix::ifaddrs::InterfaceAddress| {
        let address = found.address?;
        match family {
            Family::V4 => address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip())),
            Family::V6 => {
                let address = address.as_sockaddr_in6()?.ip();
                address.is_unicast_link_local().then_some(IpAddr::V6(address))
            }
        }
    };
    Ok(getifaddrs()?.filter(|found| found.interface_name == name).find_map(address))
}
