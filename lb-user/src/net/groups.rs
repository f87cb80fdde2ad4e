//! Membership in the multicast groups that neighbour solicitations for IPv6 VIPs are sent to. The kernel joins them only
//! for addresses that an interface has, and VIPs are on none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Memberships and static addresses of this thread's namespace. Not of /proc/net: that is the main thread's.
const MEMBERSHIPS: &str = "/proc/thread-self/net/igmp6";
const FILTERS: &str = "/proc/thread-self/net/dev_mcast";

/// An interface, by index, and a group.
type Member = (u32, Ipv6Addr);

/// The groups that are joined for VIPs, in the network namespace of the thread that calls.
///
/// A group is held in two ways. A socket is a member, so that the kernel reports it by MLD and switches that snoop send
/// it here: this ends with the process. And its link-layer address is a static one of the interface (RFC 2464 section 7),
/// so that the NIC lets it pass: this stays when the value is dropped, and ends by [`Groups::set`] or [`Groups::release`].
/// The kernel counts static addresses as there or not, so a successor takes over by adding them again. One that the
/// administrator added looks the same, and is removed along with the VIP.
#[derive(Debug, Default)]
pub struct Groups {
    /// A socket has room for some thousands of groups (net.core.optmem_max).
    sockets: Vec<UdpSocket>,
    /// With the position of the socket that is the member.
    joined: BTreeMap<Member, usize>,
    fixed: BTreeSet<Member>,
}

impl Groups {
    /// Takes what an earlier process listened to for these VIPs, each with the index of an interface, as held by this
    /// one: the next [`Groups::set`] removes the static addresses that are not wanted any more.
    pub fn adopt(&mut self, earlier: &BTreeSet<(u32, Ipv6Addr)>) {
        self.fixed.extend(groups_of(earlier));
    }

    /// Listens for neighbours that ask for these VIPs, each with the index of an interface, and no longer for others.
    /// VIPs may share a group. Also mends what got lost meanwhile; cheap if nothing changed.
    ///
    /// Returns what failed, one sentence each. It is tried again by the next call.
    pub fn set(&mut self, wanted: &BTreeSet<(u32, Ipv6Addr)>) -> Vec<String> {
        let wanted = groups_of(wanted);
        if wanted.is_empty() && self.joined.is_empty() && self.fixed.is_empty() {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let memberships = read(MEMBERSHIPS, membership, &mut errors);
        let filters = read(FILTERS, filter, &mut errors);
        let gone: Vec<Member> =
            self.joined.keys().filter(|member| !wanted.contains(member)).copied().collect();
        for member in gone {
            note(&mut errors, member, "is still listened to", self.leave(member));
        }
        for member in self.fixed.extract_if(.., |member| !wanted.contains(member)) {
            note(&mut errors, member, "still passes the NIC", unfix(&self.sockets, member));
        }
        for member in wanted {
            // The kernel forgets memberships while an MTU is too small for IPv6; the socket keeps them in name only.
            let listed = memberships.as_ref().is_none_or(|there| there.contains(&member));
            if !listed || !self.joined.contains_key(&member) {
                note(&mut errors, member, "is not listened to", self.join(member));
            }
            let link_layer = (member.0, link_layer(member.1));
            let listed =
                filters.as_ref().map_or(self.fixed.contains(&member), |there| there.contains(&link_layer));
            if listed {
                self.fixed.insert(member);
            } else {
                note(&mut errors, member, "may not pass the NIC", self.fix(member));
            }
        }
        errors
    }

    /// Ends listening for good, static addresses included.
    ///
    /// Returns what failed, one sentence each.
    pub fn release(&mut self) -> Vec<String> {
        self.set(&BTreeSet::new())
    }

    fn join(&mut self, member: Member) -> io::Result<()> {
        let _ = self.leave(member);
        for at in 0.. {
            if at == self.sockets.len() {
                self.sockets.push(open()?);
                // A fresh socket has room, or none will have.
                self.sockets[at].join_multicast_v6(&member.1, member.0)?;
                self.joined.insert(member, at);
                break;
            }
            match self.sockets[at].join_multicast_v6(&member.1, member.0) {
                Err(error) if is_one_of(&error, &[Errno::ENOMEM, Errno::ENOBUFS]) => {}
                joined => {
                    joined?;
                    self.joined.insert(member, at);
                    break;
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, member: Member) -> io::Result<()> {
        let Some(socket) = self.joined.remove(&member).and_then(|at| self.sockets.get(at)) else {
            return Ok(());
        };
        let left = socket.leave_multicast_v6(&member.1, member.0);
        // The interface is gone, and the membership with it.
        unless(left, &[Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO])
    }

    fn fix(&mut self, member: Member) -> io::Result<()> {
        if self.sockets.is_empty() {
            self.sockets.push(open()?);
        }
        let fixed = change_filter(&self.sockets, libc::SIOCADDMULTI, member);
        // A driver without a filter, which lets everything pass, refuses as invalid.
        unless(fixed, &[Errno::EINVAL])?;
        self.fixed.insert(member);
        Ok(())
    }
}

/// The solicited-node group of an address (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet address that a group is sent to (RFC 2464 section 7).
const fn link_layer(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

fn groups_of(vips: &BTreeSet<(u32, Ipv6Addr)>) -> BTreeSet<Member> {
    vips.iter().map(|(ifindex, vip)| (*ifindex, solicited_node(*vip))).collect()
}

/// A socket that is member of groups, and receives nothing as it has no port.
fn open() -> io::Result<UdpSocket> {
    let socket = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    Ok(UdpSocket::from(socket))
}

/// Removes a static address, if it is there.
fn unfix(sockets: &[UdpSocket], member: Member) -> io::Result<()> {
    let opened;
    let sockets = if sockets.is_empty() {
        opened = [open()?];
        &opened
    } else {
        sockets
    };
    let removed = change_filter(sockets, libc::SIOCDELMULTI, member);
    unless(removed, &[Errno::ENOENT, Errno::ENODEV, Errno::ENXIO, Errno::EINVAL])
}

/// Adds or removes the static link-layer address of a group, by any socket.
fn change_filter(sockets: &[UdpSocket], request: libc::c_ulong, (ifindex, group): Member) -> io::Result<()> {
    let Some(socket) = sockets.first() else { return Err(ErrorKind::NotConnected.into()) };
    let name = if_indextoname(ifindex)?;
    let change = filter_change(&name, link_layer(group));
    // SAFETY: both requests read an ifreq, which `change` is, and write nothing.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw const change) };
    Errno::result(answer)?;
    Ok(())
}

/// What SIOCADDMULTI and SIOCDELMULTI take: the family is "unspecified".
fn filter_change(name: &CStr, address: [u8; 6]) -> libc::ifreq {
    let mut hardware = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    for (to, from) in hardware.sa_data.iter_mut().zip(address) {
        *to = from.cast_signed();
    }
    let mut change = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_hwaddr: hardware },
    };
    // The last octet stays zero: names are shorter.
    for (to, from) in change.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.to_bytes()) {
        *to = from.cast_signed();
    }
    change
}

/// What the lines of a file of the kernel say. `None`, and an error, if it can't be read.
fn read<T: Ord>(
    path: &str,
    line: impl Fn(&str) -> Option<T>,
    errors: &mut Vec<String>,
) -> Option<BTreeSet<T>> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text.lines().filter_map(line).collect()),
        // A kernel without IPv6: the first join says so better.
        Err(error) if error.kind() == ErrorKind::NotFound => Some(BTreeSet::new()),
        Err(error) => {
            errors.push(format!("cannot read {path}, so lost multicast memberships go unnoticed: {error}"));
            None
        }
    }
}

/// A line of igmp6: index, name, group, users, flags, timer.
fn membership(line: &str) -> Option<Member> {
    let mut fields = line.split_ascii_whitespace();
    let (ifindex, group) = (fields.next()?, fields.nth(1)?);
    Some((ifindex.parse().ok()?, u128::from_str_radix(group, 16).ok()?.into()))
}

/// A line of dev_mcast (index, name, users, whether static, address), if it is a static address of six octets.
fn filter(line: &str) -> Option<(u32, [u8; 6])> {
    let mut fields = line.split_ascii_whitespace();
    let (ifindex, fixed, address) = (fields.next()?, fields.nth(2)?, fields.next()?);
    let bits = (fixed != "0" && address.len() == 12).then(|| u64::from_str_radix(address, 16).ok())??;
    let [_, _, octets @ ..] = bits.to_be_bytes();
    Some((ifindex.parse().ok()?, octets))
}

fn is_one_of(error: &io::Error, expected: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| expected.contains(&Errno::from_raw(code)))
}

/// Success also if it failed in one of these ways.
fn unless(result: io::Result<()>, expected: &[Errno]) -> io::Result<()> {
    result.or_else(|error| if is_one_of(&error, expected) { Ok(()) } else { Err(error) })
}

/// Keeps a failure as a sentence.
fn note(errors: &mut Vec<String>, (ifindex, group): Member, what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        let name = if_indextoname(ifindex).ok().and_then(|name| name.into_string().ok());
        let name = name.unwrap_or_else(|| format!("number {ifindex}"));
        errors.push(format!(
            "interface {name}: {group}, where neighbours ask for IPv6 VIPs, {what}: {error}; check that the interface is up with an MTU of at least 1280"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("literal")
    }

    #[test]
    fn group_and_its_ethernet_address_follow_from_the_last_octets() {
        let cases = [
            // The example of RFC 4291 section 2.7.1.
            ("4037::01:800:200e:8c6c", "ff02::1:ff0e:8c6c", [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]),
            ("2001:db8::1", "ff02::1:ff00:1", [0x33, 0x33, 0xff, 0, 0, 1]),
            ("2001:db8::ffff:ffff", "ff02::1:ffff:ffff", [0x33, 0x33, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (address, group, mac) in cases {
            assert_eq!((solicited_node(v6(address)), link_layer(v6(group))), (v6(group), mac), "{address}");
        }
    }

    #[test]
    fn vips_with_equal_ends_share_a_group_on_each_interface() {
        let vips = BTreeSet::from([(1, v6("fd00::1:1")), (1, v6("fd00::2:0:1:1")), (2, v6("fd00::1:1"))]);
        let group = v6("ff02::1:ff01:1");
        assert_eq!(groups_of(&vips), BTreeSet::from([(1, group), (2, group)]));
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "3    eth0            ff0200000000000000000001ff000901     1 00000004 0";
        assert_eq!(membership(line), Some((3, v6("ff02::1:ff00:901"))));
        assert_eq!(membership(""), None);
        let cases = [
            ("3    eth0            2     1     3333ff000901", Some((3, [0x33, 0x33, 0xff, 0, 9, 1]))),
            ("3    eth0            2     0     3333ff000901", None),
            ("3    ib0             1     1     00ffffffff12601bffff000000000001ffffffff", None),
            ("", None),
        ];
        for (line, expected) in cases {
            assert_eq!(filter(line), expected, "{line}");
        }
    }

    #[test]
    fn longest_name_is_cut_before_the_final_zero() {
        let change = filter_change(c"sixteen-octets-x", [0x33; 6]);
        assert_eq!((change.ifr_name[14], change.ifr_name[15]), (b'-'.cast_signed(), 0));
    }
}
