//! Sockets for adverts: raw, of protocol 112, bound to one interface, one for each family.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use lb_core::vrrp::{Family, GROUP_V4, GROUP_V6, HOP_LIMIT, PROTOCOL};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

/// Octets that may wait: some thousands of adverts, since a stopped process finds them when it goes on.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// Network control (RFC 4594): class selector 6, as routing protocols have it.
const TRAFFIC_CLASS: u32 = 0xc0;
/// The same for queueing on this machine (TC_PRIO_CONTROL is 7).
const PRIORITY: u32 = 6;
/// Shortest IPv4 header.
const MIN_HEADER: usize = 20;

/// A socket that adverts of one family come in and leave by, on one interface.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    index: u32,
    family: Family,
}

/// A packet that came in; what it carries is in the caller's buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub hop_limit: u8,
    /// Where in the buffer its payload is.
    pub payload: Range<usize>,
}

impl VrrpSocket {
    /// Opens it in the network namespace of the calling thread, and joins the group of VRRP.
    ///
    /// # Errors
    /// If it may not (CAP_NET_RAW), or there is no such interface.
    pub fn open(index: u32, family: Family) -> io::Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(PROTOCOL))))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind_device(Some(if_indextoname(index)?.as_bytes()))?;
        socket.set_priority(PRIORITY)?;
        match family {
            Family::V4 => {
                socket.set_ttl_v4(u32::from(HOP_LIMIT))?;
                socket.set_multicast_ttl_v4(u32::from(HOP_LIMIT))?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
                socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
            }
            Family::V6 => {
                socket.set_unicast_hops_v6(u32::from(HOP_LIMIT))?;
                socket.set_multicast_hops_v6(u32::from(HOP_LIMIT))?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_if_v6(index)?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
                socket.join_multicast_v6(&GROUP_V6, index)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                socket.set_recv_hoplimit_v6(true)?;
            }
        }
        Ok(Self { socket, index, family })
    }

    /// Sends an advert from one of this interface's addresses.
    ///
    /// # Errors
    /// If it does not leave.
    pub fn send(&self, source: IpAddr, destination: IpAddr, payload: &[u8]) -> io::Result<()> {
        let (socket, data) = (self.socket.as_raw_fd(), [IoSlice::new(payload)]);
        let interface = i32::try_from(self.index).unwrap_or(0);
        let sent = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let from = libc::in_pktinfo {
                    ipi_ifindex: interface,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(destination, 0));
                let control = [ControlMessage::Ipv4PacketInfo(&from)];
                sendmsg(socket, &data, &control, MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let from = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: self.index,
                };
                let to = SockaddrIn6::from(SocketAddrV6::new(destination, 0, 0, self.index));
                let control = [ControlMessage::Ipv6PacketInfo(&from)];
                sendmsg(socket, &data, &control, MsgFlags::MSG_DONTWAIT, Some(&to))
            }
            _ => Err(Errno::EAFNOSUPPORT),
        };
        Ok(sent.map(drop)?)
    }

    /// The next packet that came in; `None` if none did.
    ///
    /// # Errors
    /// If the kernel reports one.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
        loop {
            let received = match self.family {
                Family::V4 => self.receive_v4(buffer),
                Family::V6 => self.receive_v6(buffer),
            };
            match received {
                // One that can't be understood: the next one may be better.
                Ok(None) => {}
                Ok(datagram) => return Ok(datagram),
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive_v4(&self, buffer: &mut [u8]) -> nix::Result<Option<Datagram>> {
        let length = nix::sys::socket::recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
        Ok(ipv4(buffer.get(..length).unwrap_or_default()))
    }

    fn receive_v6(&self, buffer: &mut [u8]) -> nix::Result<Option<Datagram>> {
        let mut control = cmsg_space!(libc::in6_pktinfo, i32);
        let mut data = [IoSliceMut::new(buffer)];
        let socket = self.socket.as_raw_fd();
        let message =
            recvmsg::<SockaddrIn6>(socket, &mut data, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
        let (mut destination, mut hop_limit) = (None, None);
        for part in message.cmsgs()? {
            match part {
                ControlMessageOwned::Ipv6PacketInfo(info) => destination = Some(info.ipi6_addr.s6_addr),
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                _ => {}
            }
        }
        let parts = message.address.zip(destination).zip(hop_limit);
        Ok(parts.map(|((source, destination), hop_limit)| Datagram {
            source: source.ip().into(),
            destination: IpAddr::from(destination),
            hop_limit,
            payload: 0..message.bytes,
        }))
    }
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the IPv4 header of a packet says, which raw sockets deliver with it.
fn ipv4(packet: &[u8]) -> Option<Datagram> {
    let header = packet.get(..MIN_HEADER)?;
    let [first, .., s0, s1, s2, s3, d0, d1, d2, d3] = *header.first_chunk::<MIN_HEADER>()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && (MIN_HEADER..=packet.len()).contains(&length)).then(|| Datagram {
        source: IpAddr::from([s0, s1, s2, s3]),
        destination: IpAddr::from([d0, d1, d2, d3]),
        hop_limit: header[8],
        payload: length..packet.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_packet_is_read_behind_its_options_and_nothing_else_is_taken_for_one() {
        let mut packet = vec![0x46, 0xc0, 0, 28, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 2, 224, 0, 0, 18];
        packet.extend([0x94, 4, 0, 0, 1, 2, 3, 4]);
        let datagram = ipv4(&packet).expect("a packet");
        assert_eq!((datagram.hop_limit, datagram.payload.clone()), (255, 24..28));
        assert_eq!(datagram.source, IpAddr::from([10, 0, 0, 2]));
        assert_eq!(datagram.destination, IpAddr::from([224, 0, 0, 18]));
        for (octet, wrong) in [(0, 0x66), (0, 0x44), (0, 0x4f)] {
            let mut packet = packet.clone();
            packet[octet] = wrong;
            assert_eq!(ipv4(&packet), None, "{wrong:#x}");
        }
        assert_eq!(ipv4(&packet[..19]), None);
    }
}
