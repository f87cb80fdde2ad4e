//! The backend's side of `ipip`: takes the outer header off packets that come from a balancer and are for a VIP.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::counted::counted;
use crate::frame::PacketEdit;
use crate::packet::{ethertype, parse_link, protocol, words};
use crate::reason::Action;

counted! {
    /// What became of a frame. The numbers are part of the map layout.
    DecapOutcome {
        /// Not an IP-in-IP packet: the kernel's.
        NotTunnel = 0, "passed_not_tunnel";
        /// IP in IP from an address that is not a configured balancer: the kernel's, untouched.
        ForeignSource = 1, "passed_foreign_source";
        /// The outer header was taken off and the packet handed to the kernel.
        Decapsulated = 2, "decapsulated";
        /// From a balancer, but the inner destination is not a configured VIP: dropped.
        ForeignVip = 3, "dropped_foreign_vip";
        /// From a balancer, but the inner packet is cut short: dropped.
        Malformed = 4, "dropped_malformed";
    }
}

impl DecapOutcome {
    /// What the program tells the kernel to do with the frame.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::NotTunnel | Self::ForeignSource | Self::Decapsulated => Action::Pass,
            Self::ForeignVip | Self::Malformed => Action::Drop,
        }
    }
}

/// What decapsulation asks of the world around it.
pub trait DecapWorld: PacketEdit {
    /// Whether a balancer sends from this address.
    fn is_balancer4(&self, address: u32) -> bool;
    /// Whether a balancer sends from this address.
    fn is_balancer6(&self, address: &[u32; 4]) -> bool;
    /// Whether this is a VIP of the backend.
    fn vip4(&self, address: u32) -> bool;
    /// Whether this is a VIP of the backend.
    fn vip6(&self, address: &[u32; 4]) -> bool;
    /// Adds one to an outcome.
    fn count(&self, outcome: DecapOutcome);
}

/// Handles one frame, counts what became of it, and says so.
#[inline(always)]
pub fn decapsulate<W: DecapWorld>(world: &W) -> DecapOutcome {
    let outcome = strip(world).unwrap_or(DecapOutcome::NotTunnel);
    world.count(outcome);
    outcome
}

#[inline(always)]
fn strip<W: DecapWorld>(world: &W) -> Option<DecapOutcome> {
    let link = parse_link(world)?;
    let at = link.network;
    let (inner, trusted, outer_bytes) = match link.ethertype {
        ethertype::IPV4 => {
            let outer: Ipv4Hdr = world.load(at)?;
            // Options and fragments never come from a balancer.
            if outer.vihl != 0x45 || u16::from_ne_bytes(outer.frags) & 0x3fffu16.to_be() != 0 {
                return None;
            }
            (outer.proto, world.is_balancer4(u32::from_ne_bytes(outer.src_addr)), 20usize)
        }
        ethertype::IPV6 => {
            let outer: Ipv6Hdr = world.load(at)?;
            (outer.next_hdr, world.is_balancer6(&words(outer.src_addr)), 40usize)
        }
        _ => return None,
    };
    if inner != protocol::IPIP && inner != protocol::IPV6 {
        return None;
    }
    if !trusted {
        return Some(DecapOutcome::ForeignSource);
    }
    Some(unwrap_inner(world, at, inner, outer_bytes).unwrap_or(DecapOutcome::Malformed))
}

#[inline(always)]
fn unwrap_inner<W: DecapWorld>(
    world: &W,
    network: usize,
    inner: u8,
    outer_bytes: usize,
) -> Option<DecapOutcome> {
    let at = network.wrapping_add(outer_bytes);
    let (known, kind) = if inner == protocol::IPIP {
        let header: Ipv4Hdr = world.load(at)?;
        (header.vihl >> 4 == 4 && world.vip4(u32::from_ne_bytes(header.dst_addr)), ethertype::IPV4)
    } else {
        let header: Ipv6Hdr = world.load(at)?;
        let [version, ..] = header.vcf;
        (version >> 4 == 6 && world.vip6(&words(header.dst_addr)), ethertype::IPV6)
    };
    if !known {
        return Some(DecapOutcome::ForeignVip);
    }
    let first: u64 = world.load(0)?;
    let second: u32 = world.load(8)?;
    shift_tags(world, network, outer_bytes)?;
    let written = world.store(outer_bytes, first)
        && world.store(outer_bytes.wrapping_add(8), second)
        && world.store(at.wrapping_sub(2), kind)
        && world.shrink_head(outer_bytes);
    written.then_some(DecapOutcome::Decapsulated)
}

/// Moves the VLAN tags back by `bytes`, which is more than they are long.
#[inline(always)]
fn shift_tags<W: DecapWorld>(world: &W, network: usize, bytes: usize) -> Option<()> {
    let mut at = 12usize;
    for _ in 0..crate::limits::MAX_VLAN_TAGS {
        if at.wrapping_add(2) >= network {
            break;
        }
        let tag: u32 = world.load(at)?;
        world.store(at.wrapping_add(bytes), tag).then_some(())?;
        at = at.wrapping_add(4);
    }
    Some(())
}
