//! The multicast groups of IPv6 VIPs as the kernel shows them, on an interface of the lab.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use anyhow::{Context, Result};
use fairlead_tests::lab::{Fairlead, Host, Lab};
use lb_user::net::Groups;
use nix::net::if_::if_nametoindex;

/// The two first share a group.
const VIPS: [&str; 3] = ["fd20::29:1", "fd20::2:0:29:1", "fd20::29:2"];
const FIRST: Held = Held { group: "ff02::1:ff29:1", mac: "33:33:ff:29:00:01" };
const SECOND: Held = Held { group: "ff02::1:ff29:2", mac: "33:33:ff:29:00:02" };

#[derive(Clone, Copy)]
struct Held {
    group: &'static str,
    mac: &'static str,
}

/// How a group shows: membership and users of it, and the line of its Ethernet address.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    joined: Option<String>,
    filter: Option<String>,
}

fn shown(host: &Host, held: Held) -> Result<Shown> {
    let output = host.ns.command("ip").args(["maddr", "show", "dev", "eth0"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = |address: &str| {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|words| words.get(1) == Some(&address)).map(|words| words[2..].join(" "))
    };
    Ok(Shown { joined: line(held.group), filter: line(held.mac) })
}

fn check(host: &Host, held: Held, joined: Option<&str>, filter: Option<&str>, when: &str) -> Result<()> {
    let expected = Shown { joined: joined.map(str::to_owned), filter: filter.map(str::to_owned) };
    assert_eq!(shown(host, held)?, expected, "{} {when}", held.group);
    Ok(())
}

/// Puts `vips` in force on eth0.
fn set(groups: &mut Groups, host: &Host, vips: &[&str]) -> Result<()> {
    let index = index(host)?;
    let wanted =
        vips.iter().map(|vip| Ok((index, vip.parse()?))).collect::<Result<BTreeSet<(u32, Ipv6Addr)>>>()?;
    let errors = host.ns.enter(|| groups.set(&wanted));
    assert!(errors.is_empty(), "{errors:?}");
    Ok(())
}

fn index(host: &Host) -> Result<u32> {
    host.ns.enter(|| if_nametoindex("eth0")).context("no eth0")
}

const NONE: Option<&str> = None;
const MEMBER: Option<&str> = Some("");
/// Held by the membership and by the static address.
const BOTH: Option<&str> = Some("users 2 static");
const STATIC: Option<&str> = Some("static");

#[test]
fn groups_are_joined_while_a_vip_needs_them() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let host = &lab.balancers[0];
    let mut groups = Groups::default();
    check(host, FIRST, NONE, NONE, "at first")?;
    set(&mut groups, host, &VIPS)?;
    check(host, FIRST, MEMBER, BOTH, "with two VIPs")?;
    check(host, SECOND, MEMBER, BOTH, "with its VIP")?;
    set(&mut groups, host, &VIPS)?;
    check(host, FIRST, MEMBER, BOTH, "set again")?;
    set(&mut groups, host, &VIPS[1..2])?;
    check(host, FIRST, MEMBER, BOTH, "with one of two VIPs")?;
    check(host, SECOND, NONE, NONE, "without its VIP")?;
    let errors = host.ns.enter(|| groups.release());
    assert!(errors.is_empty(), "{errors:?}");
    check(host, FIRST, NONE, NONE, "released")
}

#[test]
fn static_address_outlives_the_value_and_is_taken_over_by_the_next() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let host = &lab.balancers[0];
    for _ in 0..3 {
        let mut killed = Groups::default();
        set(&mut killed, host, &VIPS)?;
        check(host, FIRST, MEMBER, BOTH, "held")?;
        drop(killed);
        check(host, FIRST, NONE, STATIC, "dropped")?;
    }
    let mut successor = Groups::default();
    let earlier = VIPS.iter().map(|vip| Ok((index(host)?, vip.parse()?))).collect::<Result<_>>()?;
    successor.adopt(&earlier);
    set(&mut successor, host, &VIPS[..1])?;
    check(host, FIRST, MEMBER, BOTH, "taken over")?;
    check(host, SECOND, NONE, NONE, "not wanted by the successor")?;
    set(&mut successor, host, &[])?;
    check(host, FIRST, NONE, NONE, "after the last VIP")
}

#[test]
fn membership_that_the_kernel_dropped_is_mended_by_the_next_set() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let host = &lab.balancers[0];
    let mut groups = Groups::default();
    set(&mut groups, host, &VIPS)?;
    // Below the least MTU of IPv6 the kernel ends it on the interface.
    host.ns.ip("link set eth0 mtu 1000")?;
    host.ns.ip("link set eth0 mtu 1500")?;
    check(host, FIRST, NONE, STATIC, "after an MTU too small")?;
    set(&mut groups, host, &VIPS)?;
    check(host, FIRST, MEMBER, BOTH, "mended")?;
    host.ns.ip("link set eth0 down\nlink set eth0 up")?;
    set(&mut groups, host, &VIPS)?;
    check(host, FIRST, MEMBER, BOTH, "after down and up")
}

#[test]
fn more_groups_than_a_socket_has_room_for_are_joined_and_left() -> Result<()> {
    const COUNT: u32 = 3_000;
    let lab = Lab::builder().backends(0).build()?;
    let host = &lab.balancers[0];
    let vips: Vec<String> = (0..COUNT).map(|n| format!("fd20::{:x}:{:x}", n >> 16, n & 0xffff)).collect();
    let vips: Vec<&str> = vips.iter().map(String::as_str).collect();
    let members = || -> Result<usize> {
        let output = host.ns.command("ip").args(["-6", "maddr", "show", "dev", "eth0"]).output()?;
        Ok(String::from_utf8(output.stdout)?.lines().count())
    };
    let before = members()?;
    let mut groups = Groups::default();
    set(&mut groups, host, &vips)?;
    assert_eq!(members()?, before + COUNT as usize);
    set(&mut groups, host, &[])?;
    assert_eq!(members()?, before);
    Ok(())
}

#[test]
fn interface_that_is_gone_is_told_while_wanted_and_forgotten_after() -> Result<()> {
    let lab = Lab::builder().backends(0).build()?;
    let host = &lab.balancers[0];
    let mut groups = Groups::default();
    set(&mut groups, host, &VIPS)?;
    let wanted = BTreeSet::from([(index(host)?, VIPS[0].parse()?)]);
    host.ns.ip("link del eth0")?;
    let errors = host.ns.enter(|| groups.set(&wanted));
    assert!(errors.iter().any(|error| error.contains("is not listened to")), "{errors:?}");
    let errors = host.ns.enter(|| groups.release());
    assert!(errors.is_empty(), "{errors:?}");
    Ok(())
}

/// A configuration with one service.
fn config(vip: &str, backend: Ipv6Addr) -> String {
    format!(
        "[[interface]]\nname = \"eth0\"\n[limits]\nflows = 65536\ntable_slots = 65536\n\
         [[service]]\nname = \"six\"\nvip = \"{vip}\"\nport = 80\nmode = \"l2\"\ntable_size = 4093\n\
         [[service.backend]]\naddress = \"{backend}\"\n"
    )
}

#[test]
fn daemon_listens_for_its_vips_and_leaves_nothing_when_it_detaches() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (host, backend) = (&lab.balancers[0], lab.backends[0].v6);
    let mut daemon = Fairlead::launch(&lab, host, &config(VIPS[0], backend))?;
    check(host, FIRST, MEMBER, BOTH, "started")?;
    daemon.write_config(&config(VIPS[2], backend))?;
    daemon.ok(&["config", "reload"])?;
    check(host, FIRST, NONE, NONE, "reloaded without it")?;
    check(host, SECOND, MEMBER, BOTH, "reloaded with it")?;
    daemon.kill();
    check(host, SECOND, NONE, STATIC, "killed")?;
    daemon.write_config(&config(VIPS[0], backend))?;
    daemon.start()?;
    check(host, FIRST, MEMBER, BOTH, "adopted")?;
    check(host, SECOND, NONE, NONE, "removed while nobody ran")?;
    daemon.stop()?;
    check(host, FIRST, NONE, STATIC, "stopped")?;
    daemon.start()?;
    check(host, FIRST, MEMBER, BOTH, "started again")?;
    daemon.detach()?;
    check(host, FIRST, NONE, NONE, "detached")
}
