//! A packet socket that hears ARP, or neighbour advertisements, and nothing else.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike};
use nix::sys::socket::{bind, recv, send, setsockopt, socket};

/// Longer than any frame that says something about a neighbour.
const LARGEST: usize = 2048;
/// Room for what comes while the reader is not scheduled.
const BUFFER: usize = 1 << 21;

/// `AF_PACKET`, bound to one device and one protocol. It hears frames for other stations too, and not its own.
pub(super) struct PacketSocket {
    socket: OwnedFd,
    buffer: Box<[u8; LARGEST]>,
}

impl PacketSocket {
    /// Opens it in the namespace of the calling thread.
    pub(super) fn open(device: &str, arp: bool) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("no device {device}"))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it hears nothing until it is bound, when the filter is in place.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        if !arp {
            filter_advertisements(&socket).context("the filter for advertisements")?;
        }
        let protocol = if arp { libc::ETH_P_ARP } else { libc::ETH_P_IPV6 };
        bind(socket.as_raw_fd(), &address(index, u16::try_from(protocol)?)?)?;
        setsockopt(&socket, RcvBuf, &BUFFER)?;
        Ok(Self { socket, buffer: Box::new([0; LARGEST]) })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn send(&self, frame: &[u8]) -> nix::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).map(|_| ())
    }

    /// The next frame; `None` if none has come.
    pub(super) fn receive(&mut self) -> nix::Result<Option<&[u8]>> {
        match recv(self.socket.as_raw_fd(), self.buffer.as_mut_slice(), MsgFlags::empty()) {
            Ok(length) => Ok(self.buffer.get(..length)),
            // That the device went down is told once; until it is back nothing comes.
            Err(Errno::EAGAIN | Errno::ENETDOWN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn address(index: u32, protocol: u16) -> Result<LinkAddr> {
    let raw = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: protocol.to_be(),
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

/// Lets only ICMPv6 of type 136 directly behind the IPv6 header through: what else the host receives costs the reader
/// nothing.
fn filter_advertisements(socket: &OwnedFd) -> Result<()> {
    const LOAD_OCTET: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_OCTET, 0, 0, 20),
        step(JUMP_IF_EQUAL, 0, 3, 58),
        step(LOAD_OCTET, 0, 0, 54),
        step(JUMP_IF_EQUAL, 0, 1, 136),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ];
    let whole = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of::<libc::sock_fprog>())?;
    let option = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the option takes a `sock_fprog`, whose program of `len` steps outlives the call, as the kernel copies it.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), option.0, option.1, (&raw const whole).cast(), length)
    };
    Errno::result(result).map(|_| ()).map_err(Into::into)
}
