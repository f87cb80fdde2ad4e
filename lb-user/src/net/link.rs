//! Interfaces, and the XDP program each carries.

use anyhow::Result;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
use rtnetlink::Handle;

use super::connection::collect;

/// An interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; zero if it has none of 6 bytes.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is switched on (its cable may still be out).
    pub up: bool,
    /// Whether it can reach the other end: cable, peer, and protocols below it are there.
    pub carrier: bool,
    /// The XDP program attached to it.
    pub xdp: Option<XdpAttachment>,
}

/// An XDP program attached to an interface.
#[derive(Clone, Debug, PartialEq)]
pub struct XdpAttachment {
    /// The kernel's number of the program.
    pub program_id: u32,
    /// Whether the driver (or the card) runs it; otherwise the kernel does, in generic mode.
    pub native: bool,
}

/// An interface, with what only [`super::host_facts`] wants to know.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) link: Link,
    pub(super) is_vlan: bool,
}

/// Every interface of the namespace, in the kernel's order.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn dump(handle: &Handle) -> Result<Vec<Found>> {
    let messages = collect("interfaces", handle.link().get().execute()).await?;
    Ok(messages.into_iter().map(read).collect())
}

fn read(message: LinkMessage) -> Found {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        xdp: None,
    };
    let mut is_vlan = false;
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(address) => link.mac = address.try_into().unwrap_or_default(),
            LinkAttribute::Xdp(attributes) => link.xdp = read_xdp(&attributes),
            LinkAttribute::LinkInfo(infos) => is_vlan = infos.contains(&LinkInfo::Kind(InfoKind::Vlan)),
            _ => {}
        }
    }
    Found { link, is_vlan }
}

/// With programs in several modes at once, the one that meets packets first.
fn read_xdp(attributes: &[LinkXdp]) -> Option<XdpAttachment> {
    let id = |wanted: fn(&LinkXdp) -> Option<u32>| attributes.iter().find_map(wanted).filter(|id| *id != 0);
    let card = id(|attribute| if let LinkXdp::HwProgId(id) = attribute { Some(*id) } else { None });
    let driver = id(|attribute| if let LinkXdp::DrvProgId(id) = attribute { Some(*id) } else { None });
    let generic = id(|attribute| if let LinkXdp::SkbProgId(id) = attribute { Some(*id) } else { None });
    // Kernels before 4.20 name the program but not in its mode.
    let only = id(|attribute| if let LinkXdp::ProgId(id) = attribute { Some(*id) } else { None });
    let only_is_native = attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware)));
    let native = card.or(driver).map(|program_id| XdpAttachment { program_id, native: true });
    let generic = generic.map(|program_id| XdpAttachment { program_id, native: false });
    let only = only.map(|program_id| XdpAttachment { program_id, native: only_is_native });
    native.or(generic).or(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: &[LinkXdp], expected: Option<(u32, bool)>) {
        let expected = expected.map(|(program_id, native)| XdpAttachment { program_id, native });
        assert_eq!(read_xdp(attributes), expected, "{attributes:?}");
    }

    #[test]
    fn attached_program_is_read_with_its_mode() {
        use LinkXdp::{Attached, DrvProgId, HwProgId, ProgId, SkbProgId};
        check(&[Attached(XdpAttached::None)], None);
        check(&[Attached(XdpAttached::Driver), DrvProgId(7), ProgId(7)], Some((7, true)));
        check(&[Attached(XdpAttached::SocketBuffer), SkbProgId(8), ProgId(8)], Some((8, false)));
        check(&[Attached(XdpAttached::Hardware), HwProgId(9), ProgId(9)], Some((9, true)));
    }

    #[test]
    fn of_programs_in_several_modes_the_first_to_meet_packets_is_read() {
        use LinkXdp::{Attached, DrvProgId, SkbProgId};
        check(&[SkbProgId(8), DrvProgId(7), Attached(XdpAttached::Multiple)], Some((7, true)));
    }

    #[test]
    fn kernel_that_names_no_mode_with_the_program_is_understood() {
        check(&[LinkXdp::Attached(XdpAttached::Driver), LinkXdp::ProgId(7)], Some((7, true)));
        check(&[LinkXdp::Attached(XdpAttached::SocketBuffer), LinkXdp::ProgId(7)], Some((7, false)));
    }

    #[test]
    fn interface_without_ethernet_address_has_a_zero_mac() {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.attributes = vec![
            LinkAttribute::IfName("tun0".to_owned()),
            LinkAttribute::Address(vec![10, 0, 0, 1]),
            LinkAttribute::Mtu(1400),
        ];
        let found = read(message);
        assert_eq!((found.link.name.as_str(), found.link.mac, found.link.mtu), ("tun0", [0; 6], 1400));
        assert!(!found.link.up && !found.is_vlan);
    }
}
