//! Frames that tell a link which MAC address a VIP is at now.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const BROADCAST: [u8; 6] = [0xff; 6];
/// All nodes, and its Ethernet address (RFC 4291 section 2.7.1, RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ICMPV6: u8 = 58;

/// Sends announcements on one interface.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
    index: i32,
}

impl Announcer {
    /// Opens it in the network namespace of the calling thread. It receives nothing.
    ///
    /// # Errors
    /// If it may not (CAP_NET_RAW).
    pub fn open(index: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        Ok(Self { socket, index: i32::try_from(index).map_err(io::Error::other)? })
    }

    /// Says that a VIP is at this MAC address. Of IPv4 as request and as reply, since some stacks believe only one of them
    /// (RFC 5227 section 3); of IPv6 to all nodes, overriding what they knew (RFC 4861 section 7.2.6).
    ///
    /// # Errors
    /// If a frame does not leave.
    pub fn announce(&self, mac: [u8; 6], vip: IpAddr) -> io::Result<()> {
        match vip {
            IpAddr::V4(vip) => {
                self.send(&gratuitous_arp(mac, vip, REQUEST))?;
                self.send(&gratuitous_arp(mac, vip, REPLY))
            }
            IpAddr::V6(vip) => self.send(&unsolicited_advertisement(mac, vip)),
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: a plain struct of integers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as libc::sa_family_t;
        to.sll_ifindex = self.index;
        #[expect(clippy::cast_possible_truncation, reason = "a struct of twenty octets")]
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: reads the frame and the address, both of the lengths that are given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                length,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Sender and target are the VIP (RFC 5227 section 3).
fn gratuitous_arp(mac: [u8; 6], vip: Ipv4Addr, operation: u8) -> Vec<u8> {
    let target = if operation == REPLY { mac } else { [0; 6] };
    let mut frame = [BROADCAST, mac].concat();
    frame.extend(ETHERTYPE_ARP);
    // Ethernet and IPv4, of six and four octets.
    frame.extend([0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(vip.octets());
    frame.extend(target);
    frame.extend(vip.octets());
    frame
}

/// With the override flag, to all nodes (RFC 4861 sections 4.4 and 7.2.6).
fn unsolicited_advertisement(mac: [u8; 6], vip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(vip.octets());
    // Target link-layer address, one unit of eight octets.
    message.extend([2, 1]);
    message.extend(mac);
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let sum = checksum(vip, ALL_NODES, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [ALL_NODES_MAC, mac].concat();
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, length, ICMPV6, 255]);
    frame.extend(vip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(message);
    frame
}

/// The sum of an ICMPv6 message with its pseudo-header (RFC 8200 section 8.1).
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let pseudo = [&source.octets()[..], &destination.octets(), &length.to_be_bytes(), &[0, 0, 0, ICMPV6]];
    let words = pseudo.concat();
    let all = words.as_chunks::<2>().0.iter().chain(message.as_chunks::<2>().0);
    let sum: u32 = all.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "folded twice, a sum of some dozen words fits")]
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0x5e, 0x10, 0x20, 0x30];

    #[test]
    fn an_arp_announcement_names_the_vip_twice() {
        let vip = Ipv4Addr::new(192, 0, 2, 10);
        let head = "ffffffffffff02005e1020300806";
        for (operation, rest) in [
            (REQUEST, "000108000604000102005e102030c000020a000000000000c000020a"),
            (REPLY, "000108000604000202005e102030c000020a02005e102030c000020a"),
        ] {
            assert_eq!(hex(&gratuitous_arp(MAC, vip, operation)), format!("{head}{rest}"));
        }
    }

    #[test]
    fn an_advertisement_overrides_and_has_the_right_sum() {
        let vip: Ipv6Addr = "2001:db8::10".parse().expect("literal");
        let frame = unsolicited_advertisement(MAC, vip);
        assert_eq!(hex(&frame[..22]), "33330000000102005e10203086dd6000000000203aff");
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(&frame[58..62], &[0x20, 0, 0, 0], "override, not solicited");
        assert_eq!(checksum(vip, ALL_NODES, &frame[54..]), 0, "with its sum in it the sum is zero");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
