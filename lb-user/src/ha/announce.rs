//! Telling the link who has a VIP now: gratuitous ARP and unsolicited neighbour advertisements. VIPs are on no
//! interface, so the kernel sends neither by itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, setsockopt, socket, sockopt};

use super::socket::CONTROL_PRIORITY;

const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where frames to [`ALL_NODES`] go (RFC 2464 section 7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const ETHERNET_LEN: usize = 14;
const ARP_LEN: usize = ETHERNET_LEN + 28;
/// Target and one option.
const ADVERTISEMENT_LEN: u8 = 32;
const ADVERTISEMENT_FRAME_LEN: usize = ETHERNET_LEN + 40 + ADVERTISEMENT_LEN as usize;

/// Sends announcements on one interface; it receives nothing.
#[derive(Debug)]
pub struct Announcer {
    socket: OwnedFd,
}

/// The two forms of a gratuitous ARP.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Request = 1,
    Reply = 2,
}

impl Announcer {
    /// For the interface with this index. Needs `CAP_NET_RAW`, and `CAP_NET_ADMIN` for the priority.
    ///
    /// # Errors
    /// There is no such interface, or a right is missing.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it is handed no frame, neither now nor when it is bound.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        bind(&socket, ifindex)?;
        setsockopt(&socket, sockopt::Priority, &CONTROL_PRIORITY)?;
        Ok(Self { socket })
    }

    /// Tells the link once that `mac` has `vip`: ARP in both forms, as some stacks take only one of them, or a
    /// neighbour advertisement. Does not block.
    ///
    /// # Errors
    /// What the kernel says of the first frame that it did not take, [`io::ErrorKind::WouldBlock`] if its queue is full;
    /// the other form was tried all the same.
    pub fn announce(&self, mac: [u8; 6], vip: IpAddr) -> io::Result<()> {
        match vip {
            IpAddr::V4(vip) => {
                let request = self.send(&arp(Operation::Request, mac, vip));
                let reply = self.send(&arp(Operation::Reply, mac, vip));
                request.and(reply)
            }
            IpAddr::V6(vip) => self.send(&advertisement(mac, vip)),
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }
}

fn bind(socket: &OwnedFd, ifindex: u32) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(invalid)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(ifindex).map_err(invalid)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(invalid)?;
    // SAFETY: the pointer is to a whole `sockaddr_ll` that outlives the call, and `len` is its size.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    Errno::result(bound)?;
    Ok(())
}

/// An ARP announcement (RFC 5227 section 3): sender and target are the VIP. As a reply its target has our link-layer
/// address too (RFC 5944 section 4.6): Linux takes it for an announcement only then. Drivers pad it.
fn arp(operation: Operation, mac: [u8; 6], vip: Ipv4Addr) -> [u8; ARP_LEN] {
    let target = match operation {
        Operation::Request => [0; 6],
        Operation::Reply => mac,
    };
    let mut frame = Frame::new();
    frame.put(&BROADCAST).put(&mac).put(&[0x08, 0x06]);
    // Ethernet, IPv4, and the lengths of their addresses.
    frame.put(&[0, 1, 0x08, 0, 6, 4, 0, operation as u8]);
    frame.put(&mac).put(&vip.octets()).put(&target).put(&vip.octets());
    frame.bytes
}

/// An unsolicited neighbour advertisement (RFC 4861 sections 4.4 and 7.2.6): not a router, not solicited, override.
fn advertisement(mac: [u8; 6], vip: Ipv6Addr) -> [u8; ADVERTISEMENT_FRAME_LEN] {
    const NEXT_HEADER: u8 = 58;
    const HOP_LIMIT: u8 = 255;
    const OVERRIDE: u8 = 0x20;
    let mut message = Frame::<{ ADVERTISEMENT_LEN as usize }>::new();
    message.put(&[136, 0, 0, 0, OVERRIDE, 0, 0, 0]).put(&vip.octets());
    // Target link-layer address, in one unit of 8 octets.
    message.put(&[2, 1]).put(&mac);
    let pseudo = [vip.octets(), ALL_NODES.octets()];
    let length_and_protocol = [0, ADVERTISEMENT_LEN, 0, NEXT_HEADER];
    let checksum = checksum(&[pseudo.as_flattened(), &length_and_protocol, &message.bytes]);
    message.bytes[2..4].copy_from_slice(&checksum);

    let mut frame = Frame::new();
    frame.put(&ALL_NODES_MAC).put(&mac).put(&[0x86, 0xdd]);
    frame.put(&[0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN, NEXT_HEADER, HOP_LIMIT]);
    frame.put(&vip.octets()).put(&ALL_NODES.octets()).put(&message.bytes);
    frame.bytes
}

/// Of parts with an even length (RFC 1071), a hundred octets together.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.as_chunks().0);
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    // At most 0xffff * 50: what is above is added in twice.
    let once = (sum & 0xffff) + (sum >> 16);
    let [.., high, low] = ((once & 0xffff) + (once >> 16)).to_be_bytes();
    [!high, !low]
}

/// Octets that are filled from the front.
struct Frame<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Frame<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    fn put(&mut self, part: &[u8]) -> &mut Self {
        let end = self.filled + part.len();
        self.bytes[self.filled..end].copy_from_slice(part);
        self.filled = end;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];

    /// A frame as it is written down: octets in hexadecimal, spaces at will.
    fn check(frame: &[u8], written: &str) {
        let digits: String = written.split_whitespace().collect();
        let built: String = frame.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(built, digits);
    }

    #[test]
    fn arp_request_has_no_target_link_layer_address() {
        check(
            &arp(Operation::Request, MAC, Ipv4Addr::new(192, 0, 2, 7)),
            "ffffffffffff 021122334455 0806
             0001 0800 06 04 0001 021122334455 c0000207 000000000000 c0000207",
        );
    }

    #[test]
    fn arp_reply_names_our_link_layer_address_as_target() {
        check(
            &arp(Operation::Reply, MAC, Ipv4Addr::new(192, 0, 2, 7)),
            "ffffffffffff 021122334455 0806
             0001 0800 06 04 0002 021122334455 c0000207 021122334455 c0000207",
        );
    }

    #[test]
    fn advertisement_overrides_and_comes_from_the_vip() {
        check(
            &advertisement(MAC, "2001:db8::7".parse().expect("an address")),
            "333300000001 021122334455 86dd
             60000000 0020 3a ff 20010db8000000000000000000000007 ff020000000000000000000000000001
             88 00 9286 20000000 20010db8000000000000000000000007 02 01 021122334455",
        );
    }

    #[test]
    fn checksum_folds_every_carry() {
        assert_eq!(checksum(&[&[0xff; 40], &[0, 1]]), [0xff, 0xfe]);
        assert_eq!(checksum(&[&[0, 0]]), [0xff, 0xff]);
    }
}
