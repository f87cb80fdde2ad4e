//! What a configuration is checked against: interfaces, addresses, and routes to its backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use lb_core::config::{Config, HostFacts, HostInterface, RouteFact};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::connection::{Connection, collect};
use super::link;
use super::route::{self, Answer};

/// Finds out what [`lb_core::config::check_host`] needs to know about this network namespace.
///
/// # Errors
/// The kernel does not tell; a backend without a route is no error.
pub async fn host_facts(config: &Config) -> Result<HostFacts> {
    let connection = Connection::open()?;
    let handle = connection.handle();
    let mut addresses: BTreeMap<u32, Vec<IpAddr>> = BTreeMap::new();
    for message in collect("addresses", handle.address().get().execute()).await? {
        if let Some(address) = own_address(&message) {
            addresses.entry(message.header.index).or_default().push(address);
        }
    }
    let mut facts = HostFacts::default();
    let mut names = BTreeMap::new();
    for found in link::dump(handle).await? {
        let link = found.link;
        names.insert(link.index, link.name.clone());
        let interface = HostInterface {
            index: link.index,
            mac: link.mac,
            mtu: link.mtu,
            addresses: addresses.remove(&link.index).unwrap_or_default(),
            is_vlan: found.is_vlan,
        };
        facts.interfaces.insert(link.name, interface);
    }
    let backends: BTreeSet<IpAddr> =
        config.services.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect();
    for backend in backends {
        let route = match route::look_up(handle, backend).await {
            Answer::Way(route) => Some(route),
            Answer::Nowhere => None,
            Answer::Unknown(why) => bail!("cannot find out how packets to {backend} leave: {why}; try again"),
        };
        let fact = route.and_then(|route| {
            let interface = names.get(&route.ifindex)?.clone();
            Some(RouteFact { interface, gateway: route.gateway, source: route.source })
        });
        facts.routes.insert(backend, fact);
    }
    Ok(facts)
}

/// [`host_facts`] for a caller without a runtime.
///
/// # Errors
/// As of [`host_facts`], or a runtime cannot be made.
pub fn host_facts_blocking(config: &Config) -> Result<HostFacts> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime to ask the kernel with")?;
    runtime.block_on(host_facts(config))
}

/// The machine's own address, not its partner's on a point-to-point interface.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_address_of_a_point_to_point_interface_is_not_its_partners() {
        let (own, partner): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut message = AddressMessage::default();
        message.attributes = vec![AddressAttribute::Address(partner), AddressAttribute::Local(own)];
        assert_eq!(own_address(&message), Some(own));
        message.attributes = vec![AddressAttribute::Address(own)];
        assert_eq!(own_address(&message), Some(own));
    }
}
