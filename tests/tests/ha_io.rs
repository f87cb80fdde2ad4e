//! What high availability sends and receives, between hosts of the lab.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, IterableMap, MapData};
use fairlead_tests::lab::{Host, Lab, wait_until};
use lb_core::vrrp::{Advert, AdvertInterval, ChecksumForm, Family, HOP_LIMIT, Received};
use lb_user::bpf::mapped::Mapped;
use lb_user::ha::{
    Announcer, Datagram, MAX_DATAGRAM, PRIORITY, VrrpSocket, Waiter, boot_time, mac_of, make_real_time,
    source_of,
};
use nix::net::if_::if_nametoindex;

const PATIENCE: Duration = Duration::from_secs(10);
/// Nothing came for this long: nothing will.
const QUIET: Duration = Duration::from_millis(200);
const VRID: u8 = 51;

/// The index of a host's `eth0`, in whose namespace the caller is.
fn eth0() -> io::Result<u32> {
    Ok(if_nametoindex("eth0")?)
}

fn open(host: &Host, family: Family) -> Result<VrrpSocket> {
    host.ns.enter(|| Ok(VrrpSocket::open(eth0()?, family)?))
}

fn source(host: &Host, family: Family) -> Result<IpAddr> {
    host.ns.enter(|| source_of(eth0()?, family))?.with_context(|| format!("{} has no address", host.role))
}

fn advert(addresses: Vec<IpAddr>) -> Result<Advert> {
    let interval = AdvertInterval::from_centis(100).context("one second")?;
    Ok(Advert { vrid: VRID, priority: 150, interval, addresses })
}

/// The next datagram within `patience`, and its payload.
fn receive(socket: &VrrpSocket, patience: Duration) -> Result<Option<(Datagram, Vec<u8>)>> {
    let deadline = boot_time() + patience;
    if !Waiter::new()?.wait(&[socket.as_fd()], Some(deadline))?[0] {
        return Ok(None);
    }
    let mut buffer = [0; MAX_DATAGRAM];
    let datagram = socket.receive(&mut buffer)?.context("it was said to be readable")?;
    let payload = buffer.get(datagram.payload_range.clone()).context("a range of the buffer")?.to_vec();
    Ok(Some((datagram, payload)))
}

/// Sends `advert` from one balancer, to the group or the other's address, and sees it arrive there as it was sent.
fn check(lab: &Lab, family: Family, to_group: bool, advert: &Advert) -> Result<()> {
    let [one, other] = &lab.balancers[..] else { anyhow::bail!("two balancers") };
    let (sender, receiver) = (open(one, family)?, open(other, family)?);
    let from = source(one, family)?;
    let to = if to_group { family.group() } else { source(other, family)? };
    let packet = advert.encode(from, to, ChecksumForm::PseudoHeader)?;
    sender.send(from, to, &packet)?;

    let (datagram, payload) = receive(&receiver, PATIENCE)?.with_context(|| format!("{from} to {to}"))?;
    assert_eq!((datagram.source, datagram.destination, datagram.hop_limit), (from, to, HOP_LIMIT));
    let received =
        Received { source: from, destination: to, hop_limit: datagram.hop_limit, payload: &payload };
    let decoded = Advert::decode(&received, VRID).with_context(|| format!("{from} to {to}: {payload:?}"))?;
    assert_eq!(decoded.advert, *advert);
    assert_eq!(receiver.receive(&mut [0; MAX_DATAGRAM])?, None, "it came twice");
    assert_eq!(receive(&sender, QUIET)?, None, "the sender heard itself");
    Ok(())
}

#[test]
fn advert_arrives_as_it_was_sent_by_multicast_and_unicast() -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(0).build()?;
    for to_group in [true, false] {
        check(&lab, Family::V4, to_group, &advert(vec!["192.0.2.7".parse()?])?)?;
        check(&lab, Family::V6, to_group, &advert(vec!["fe80::7".parse()?, "2001:db8::7".parse()?])?)?;
    }
    Ok(())
}

#[test]
fn advert_with_as_many_addresses_as_there_may_be_is_not_cut_off() -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(0).build()?;
    let v4 = (0..255).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    let v6 = (0..255).map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()).collect();
    check(&lab, Family::V4, true, &advert(v4)?)?;
    check(&lab, Family::V6, true, &advert(v6)?)
}

#[test]
fn advert_of_another_interface_is_not_heard() -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(0).second_segment(1500).build()?;
    let [one, other] = &lab.balancers[..] else { anyhow::bail!("two balancers") };
    for family in [Family::V4, Family::V6] {
        let second = other.ns.enter(|| anyhow::Ok(VrrpSocket::open(if_nametoindex("eth1")?, family)?))?;
        let (sender, first) = (open(one, family)?, open(other, family)?);
        let from = source(one, family)?;
        sender.send(from, family.group(), b"a payload")?;
        assert!(receive(&first, PATIENCE)?.is_some(), "{family}");
        assert_eq!(receive(&second, QUIET)?, None, "{family}");
    }
    Ok(())
}

#[test]
fn advert_from_an_address_that_the_host_has_not_is_refused() -> Result<()> {
    let lab = Lab::builder().balancers(1).backends(0).build()?;
    for (family, foreign) in [(Family::V4, "192.0.2.1"), (Family::V6, "2001:db8::1")] {
        let socket = open(&lab.balancers[0], family)?;
        assert!(socket.send(foreign.parse()?, family.group(), b"a payload").is_err(), "{foreign}");
        let other = if family == Family::V4 { Family::V6 } else { Family::V4 };
        let refused = socket.send(source(&lab.balancers[0], other)?, other.group(), b"a payload");
        assert_eq!(refused.map_err(|error| error.raw_os_error()), Err(Some(libc::EAFNOSUPPORT)));
    }
    Ok(())
}

#[test]
fn source_is_the_primary_address_and_the_oldest_link_local_one() -> Result<()> {
    let lab = Lab::builder().balancers(1).backends(0).build()?;
    let host = &lab.balancers[0];
    let link_local = source(host, Family::V6)?;
    host.ns.ip("addr add 198.51.100.1/24 dev eth0 label eth0:1\n\
                addr add fe80::1/64 dev eth0\n\
                addr add fe80::ffff/64 dev eth0\n\
                link add eth01 type veth peer name eth02\n\
                addr add 198.51.100.2/24 dev eth01")?;
    assert_eq!(source(host, Family::V4)?, IpAddr::from(host.v4));
    assert_eq!(source(host, Family::V6)?, link_local);
    host.ns.ip("addr flush dev eth0 to 10.0.0.0/8")?;
    assert_eq!(source(host, Family::V4)?, "198.51.100.1".parse::<IpAddr>()?);
    host.ns.ip("addr flush dev eth0")?;
    for family in [Family::V4, Family::V6] {
        assert_eq!(host.ns.enter(|| source_of(eth0()?, family).map_err(anyhow::Error::from))?, None);
    }
    host.ns.ip("link set eth0 address 02:00:00:00:00:99")?;
    assert_eq!(host.ns.enter(|| anyhow::Ok(mac_of(eth0()?)?))?, Some([2, 0, 0, 0, 0, 0x99]));
    assert!(host.ns.enter(|| source_of(12_345, Family::V4)).is_err());
    Ok(())
}

/// What `ip neigh` says of `vip` at the client.
fn neighbour(lab: &Lab, vip: IpAddr) -> Result<String> {
    let output = lab.client.ns.command("ip").args(["neigh", "show", "to", &vip.to_string()]).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn announcement_changes_what_neighbours_know() -> Result<()> {
    const NEW: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
    let lab = Lab::builder().balancers(1).backends(0).build()?;
    let announcer = lab.balancers[0].ns.enter(|| anyhow::Ok(Announcer::open(eth0()?)?))?;
    for vip in ["10.20.9.7", "fd20::29:7", "fe80::29:7"] {
        lab.client.ns.ip(&format!("neigh add {vip} dev eth0 lladdr 02:00:00:00:00:11 nud reachable"))?;
        let vip = vip.parse()?;
        announcer.announce(NEW, vip)?;
        wait_until(&format!("{vip} is known anew"), PATIENCE, || {
            Ok(neighbour(&lab, vip)?.contains("lladdr 02:00:00:00:00:99"))
        })?;
    }
    Ok(())
}

#[test]
fn announcement_on_an_interface_that_is_down_or_absent_fails() -> Result<()> {
    let lab = Lab::builder().balancers(1).backends(0).build()?;
    let host = &lab.balancers[0];
    let announcer = host.ns.enter(|| anyhow::Ok(Announcer::open(eth0()?)?))?;
    host.ns.ip("link set eth0 down")?;
    for vip in ["10.20.9.7", "fd20::29:7"] {
        assert!(announcer.announce([2, 0, 0, 0, 0, 1], vip.parse()?).is_err());
    }
    host.ns.ip("link set eth0 up")?;
    wait_until("it is up again", PATIENCE, || {
        Ok(announcer.announce([2, 0, 0, 0, 0, 1], "10.20.9.7".parse()?).is_ok())
    })?;
    assert!(host.ns.enter(|| Announcer::open(12_345)).is_err());
    Ok(())
}

/// A field of the process's status that is in KiB.
fn status_kib(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.with_context(|| format!("no {field} in: {status}"))?.parse().map_err(Into::into)
}

/// Policy and priority of the calling thread.
fn scheduling() -> (i32, i32) {
    // SAFETY: 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    let mut parameters = libc::sched_param { sched_priority: -1 };
    // SAFETY: 0 is the calling thread, and it fills in what outlives the call.
    unsafe { libc::sched_getparam(0, &raw mut parameters) };
    (policy, parameters.sched_priority)
}

/// A fresh BPF array that is mapped.
fn mapped_array(octets: u32) -> Result<Mapped<u64>> {
    const MMAPABLE: u32 = 1 << 10;
    let entries = octets / 8;
    let array = Array::<MapData, u64>::create(entries, MMAPABLE)?;
    Mapped::new(array.map().fd(), entries)
}

#[test]
fn thread_is_real_time_and_its_process_locked_or_it_is_said_why_not() -> Result<()> {
    /// Octets; far more than the rest of the process has.
    const LARGE: u32 = 256 << 20;
    let before = mapped_array(LARGE)?;
    let resident = status_kib("VmRSS")?;
    let real_time = make_real_time();
    println!("{real_time:?}");
    match &real_time.scheduling {
        Ok(()) => assert_eq!(scheduling(), (libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, PRIORITY)),
        Err(why) => ensure!(why.contains("CAP_SYS_NICE"), "{why}"),
    }
    let child = std::thread::spawn(scheduling).join().expect("no panic");
    assert_eq!(child.0, libc::SCHED_OTHER, "a thread inherited it");
    match &real_time.memory {
        Ok(()) => assert_ne!(status_kib("VmLck")?, 0),
        Err(why) => ensure!(why.contains("RLIMIT_MEMLOCK"), "{why}"),
    }

    let grown = status_kib("VmRSS")?.saturating_sub(resident);
    assert!(grown < u64::from(LARGE) / 1024 / 8, "locking made {grown} KiB resident");
    // The kernel hands out all pages of an array when it is mapped: those of one more, and no memory of this process.
    let locked = status_kib("VmLck")?;
    let after = mapped_array(LARGE)?;
    // Less than before, if a thread of another test ended meanwhile.
    let grown = status_kib("VmLck")?.saturating_sub(locked);
    assert!(grown < u64::from(LARGE) / 1024 / 8, "a mapped array counts as locked");
    for array in [&before, &after] {
        array.write(array.len() - 1, &7, 0);
        assert_eq!(array.read(array.len() - 1), 7);
    }
    // What is allocated becomes resident as it is used, not before.
    let resident = status_kib("VmRSS")?;
    let mut zeros = vec![0_u64; LARGE as usize / 8];
    zeros[0] = std::hint::black_box(1);
    let grown = status_kib("VmRSS")?.saturating_sub(resident);
    assert!(grown < u64::from(LARGE) / 1024 / 8, "{} words made {grown} KiB resident", zeros.len());
    Ok(())
}
