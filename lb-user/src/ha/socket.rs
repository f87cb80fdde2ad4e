//! The raw socket that adverts of one family go through on one interface.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use lb_core::vrrp::{Family, GROUP_V4, GROUP_V6, HOP_LIMIT, MAX_ADDRESSES, PROTOCOL};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recv, recvmsg, sendmsg,
};

/// Bytes of the longest advert with the longest IPv4 header; IPv6 headers are not delivered. A receive buffer of this
/// size cuts off nothing that could be of use.
pub const MAX_DATAGRAM: usize = 60 + 8 + MAX_ADDRESSES * 16;

/// `TC_PRIO_INTERACTIVE`, which queueing disciplines put ahead of bulk; above it is only "control" (7), which adverts
/// need not compete with.
pub(super) const CONTROL_PRIORITY: libc::c_int = 6;
/// Type of service and traffic class: CS6, network control (RFC 4594 section 3.2).
const NETWORK_CONTROL: libc::c_int = 0xc0;
/// Bytes that may wait to be received: some hundreds of adverts, by the kernel's way of counting. More would only be
/// older, and a flood is not to take memory.
const RECEIVE_BUFFER: libc::c_int = 256 << 10;
/// Datagrams that may have come in between opening and binding; the buffer holds fewer.
const MAX_STALE: usize = 4096;

/// Sends and receives adverts of one family on one interface. Never blocks.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: OwnedFd,
    family: Family,
    ifindex: libc::c_int,
}

/// What came, its payload in the caller's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it. The scope of a link-local address is the socket's interface.
    pub source: IpAddr,
    /// To whom: the group, or this node.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub hop_limit: u8,
    /// Where in the buffer the VRRP packet is, headers of IP left out.
    pub payload_range: Range<usize>,
}

impl VrrpSocket {
    /// For the interface with this index. Needs `CAP_NET_RAW`, and `CAP_NET_ADMIN` for the priority.
    ///
    /// # Errors
    /// There is no such interface, it has no multicast or not this family, or a right is missing.
    pub fn open(ifindex: u32, family: Family) -> io::Result<Self> {
        let ifindex =
            libc::c_int::try_from(ifindex).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let opened = Self { socket: open(family)?, family, ifindex };
        // By index: a name may be another interface's by now.
        opened.set(libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, &ifindex)?;
        opened.discard_stale()?;
        opened.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER)?;
        match family {
            Family::V4 => opened.prepare_v4()?,
            Family::V6 => opened.prepare_v6()?,
        }
        // After the type of service, which sets it too.
        opened.set(libc::SOL_SOCKET, libc::SO_PRIORITY, &CONTROL_PRIORITY)?;
        Ok(opened)
    }

    /// Sends an advert, which has its checksum already, with TTL or hop limit 255.
    ///
    /// # Errors
    /// `source` is no address of this host, there is no way to `destination` on the interface, they are not of the
    /// socket's family, or the kernel's queue is full ([`io::ErrorKind::WouldBlock`]).
    pub fn send(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let payload = [IoSlice::new(payload)];
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
        match (self.family, source, destination) {
            (Family::V4, IpAddr::V4(source), IpAddr::V4(destination)) => {
                let source = libc::in_pktinfo {
                    ipi_ifindex: self.ifindex,
                    ipi_spec_dst: address_v4(source),
                    ipi_addr: address_v4(Ipv4Addr::UNSPECIFIED),
                };
                let destination = SockaddrIn::from(SocketAddrV4::new(destination, 0));
                let source = [ControlMessage::Ipv4PacketInfo(&source)];
                sendmsg(socket, &payload, &source, flags, Some(&destination))?;
            }
            (Family::V6, IpAddr::V6(source), IpAddr::V6(destination)) => {
                let scope = self.ifindex.cast_unsigned();
                let source = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: scope,
                };
                let destination = SockaddrIn6::from(SocketAddrV6::new(destination, 0, 0, scope));
                let source = [ControlMessage::Ipv6PacketInfo(&source)];
                sendmsg(socket, &payload, &source, flags, Some(&destination))?;
            }
            _ => return Err(Errno::EAFNOSUPPORT.into()),
        }
        Ok(())
    }

    /// The next datagram of protocol 112, for whichever virtual router, also one that this host sent by unicast to
    /// itself. `None` if none is there. What is longer than the buffer is cut off.
    ///
    /// # Errors
    /// What the kernel says, or that it does not tell the destination.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        let received = match self.family {
            Family::V4 => self.receive_v4(buffer),
            Family::V6 => self.receive_v6(buffer),
        };
        match received {
            Ok(datagram) => Ok(Some(datagram)),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The header comes along and says all.
    fn receive_v4(&self, buffer: &mut [u8]) -> nix::Result<Datagram> {
        let len = recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty())?;
        buffer.get(..len).and_then(datagram_v4).ok_or(Errno::EBADMSG)
    }

    /// No header comes along, but what was asked for of it.
    fn receive_v6(&self, buffer: &mut [u8]) -> nix::Result<Datagram> {
        let mut space = cmsg_space!(libc::in6_pktinfo, libc::c_int);
        let mut slices = [IoSliceMut::new(buffer)];
        let socket = self.socket.as_raw_fd();
        let message = recvmsg::<SockaddrIn6>(socket, &mut slices, Some(&mut space), MsgFlags::empty())?;
        let source = message.address.ok_or(Errno::EBADMSG)?.ip().into();
        let (mut destination, mut hop_limit) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                _ => {}
            }
        }
        let (Some(destination), Some(hop_limit)) = (destination, hop_limit) else {
            return Err(Errno::EBADMSG);
        };
        Ok(Datagram { source, destination, hop_limit, payload_range: 0..message.bytes })
    }

    /// What came before it was bound may be of any interface.
    fn discard_stale(&self) -> io::Result<()> {
        for _ in 0..MAX_STALE {
            match recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::empty()) {
                Ok(_) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn prepare_v4(&self) -> io::Result<()> {
        let options = [
            (libc::IP_TTL, HOP_LIMIT.into()),
            (libc::IP_MULTICAST_TTL, HOP_LIMIT.into()),
            (libc::IP_MULTICAST_LOOP, 0),
            (libc::IP_TOS, NETWORK_CONTROL),
            // Groups that others of this host are members of are not ours.
            (libc::IP_MULTICAST_ALL, 0),
        ];
        for (option, value) in options {
            self.set(libc::IPPROTO_IP, option, &value)?;
        }
        let member = libc::ip_mreqn {
            imr_multiaddr: address_v4(GROUP_V4),
            imr_address: address_v4(Ipv4Addr::UNSPECIFIED),
            imr_ifindex: self.ifindex,
        };
        self.set(libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &member)?;
        self.set(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &member)
    }

    /// `IPV6_CHECKSUM` stays off, as it is for all but ICMPv6: the codec knows the sum, and says what was wrong with one.
    fn prepare_v6(&self) -> io::Result<()> {
        let options = [
            (libc::IPV6_UNICAST_HOPS, HOP_LIMIT.into()),
            (libc::IPV6_MULTICAST_HOPS, HOP_LIMIT.into()),
            (libc::IPV6_MULTICAST_LOOP, 0),
            (libc::IPV6_TCLASS, NETWORK_CONTROL),
            (libc::IPV6_RECVHOPLIMIT, 1),
            (libc::IPV6_RECVPKTINFO, 1),
        ];
        for (option, value) in options {
            self.set(libc::IPPROTO_IPV6, option, &value)?;
        }
        let member = libc::ipv6_mreq {
            ipv6mr_multiaddr: libc::in6_addr { s6_addr: GROUP_V6.octets() },
            ipv6mr_interface: self.ifindex.cast_unsigned(),
        };
        self.set(libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &member)
    }

    /// Sets an option that takes a `T`.
    fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
        let (socket, value) = (self.socket.as_raw_fd(), &raw const *value);
        // SAFETY: the kernel reads `len` bytes, the size of the value, which outlives the call; the types used have no
        // padding.
        let answer = unsafe { libc::setsockopt(socket, level, option, value.cast(), len) };
        Errno::result(answer)?;
        Ok(())
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointer. (nix knows no protocol 112.)
    let socket = Errno::result(unsafe { libc::socket(domain, kind, PROTOCOL.into()) })?;
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(socket) })
}

const fn address_v4(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) }
}

/// What a whole IPv4 packet says. `None` if it is shorter than its header.
fn datagram_v4(packet: &[u8]) -> Option<Datagram> {
    let (header, _) = packet.split_first_chunk::<20>()?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let header_len = usize::from(first & 0x0f) * 4;
    (20..=packet.len()).contains(&header_len).then(|| Datagram {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        hop_limit: header[8],
        payload_range: header_len..packet.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 192.0.2.1 to the group with TTL 254, `words` of header, filled up to `len` bytes.
    fn packet(words: u8, len: usize) -> Vec<u8> {
        let mut packet =
            vec![0x40 | words, 0xc0, 0, 0, 0, 0, 0, 0, 254, 112, 0, 0, 192, 0, 2, 1, 224, 0, 0, 18];
        packet.resize(len, 0);
        packet
    }

    #[track_caller]
    fn check(words: u8, len: usize, payload_range: Option<Range<usize>>) {
        let expected = payload_range.map(|payload_range| Datagram {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: GROUP_V4.into(),
            hop_limit: 254,
            payload_range,
        });
        assert_eq!(datagram_v4(&packet(words, len)), expected);
    }

    #[test]
    fn payload_follows_the_ipv4_header_with_its_options() {
        check(5, 32, Some(20..32));
        check(6, 36, Some(24..36));
        check(15, 60, Some(60..60));
    }

    #[test]
    fn packet_shorter_than_its_header_is_none() {
        check(5, 19, None);
        check(6, 23, None);
        check(4, 32, None);
        check(0, 32, None);
    }
}
