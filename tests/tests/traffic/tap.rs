//! A packet socket: raw frames out of a device, and every frame that passes it.

use anyhow::{Result, anyhow};
use fairlead_tests::lab::Namespace;
use nix::sys::socket::SockaddrLike;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket,
    sockopt::{RcvBuf, ReceiveTimeout},
};
use nix::sys::time::TimeVal;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const LARGEST: usize = 65_536;
/// Room for what comes while a test is busy.
const BUFFER: usize = 1 << 22;

/// An open tap.
pub(crate) struct Tap {
    socket: OwnedFd,
}

/// A frame that passed the device.
pub(crate) struct Frame {
    /// From the destination MAC on. VLAN tags are in it if the frame leaves by a device without `txvlan`.
    pub(crate) octets: Vec<u8>,
    /// Whether this host sent it.
    pub(crate) outgoing: bool,
}

impl Tap {
    /// Taps `device` in `ns`.
    pub(crate) fn open(ns: &Namespace, device: &str) -> Result<Self> {
        ns.enter(|| {
            let index = nix::net::if_::if_nametoindex(device)?;
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                Some(SockProtocol::EthAll),
            )?;
            bind(socket.as_raw_fd(), &address(index)?)?;
            setsockopt(&socket, RcvBuf, &BUFFER)?;
            setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 50_000))?;
            Ok(Self { socket })
        })
    }

    /// Sends a frame as it is.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next frame; `None` if none comes for a moment.
    pub(crate) fn next(&self) -> Result<Option<Frame>> {
        let mut buffer = vec![0; LARGEST];
        match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                buffer.truncate(length);
                let outgoing = from.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING);
                Ok(Some(Frame { octets: buffer, outgoing }))
            }
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks at each frame until `wanted` makes something of one.
    pub(crate) fn find<T>(&self, what: &str, mut wanted: impl FnMut(&Frame) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if let Some(found) = self.next()?.as_ref().and_then(&mut wanted) {
                return Ok(found);
            }
        }
        Err(anyhow!("waited in vain for {what}"))
    }
}

fn address(index: u32) -> Result<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: u16::try_from(libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the pointer is to a whole `sockaddr_ll`, which says AF_PACKET, and `length` is its size.
    let address = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) };
    address.ok_or_else(|| anyhow!("no address of interface {index}"))
}
