//! The VIP on the segment: ARP, neighbour discovery, duplicate address detection, echo.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Fairlead, Lab, wait_until};
use fairlead_tests::packets::neighbour::{Arp, REQUEST, Solicitation};
use fairlead_tests::packets::wire::{ALL, octets};
use std::net::{IpAddr, Ipv4Addr};

use crate::scene::*;
use crate::tap::Tap;

fn launch(lab: &Lab) -> Result<Fairlead> {
    let service = |v6| Service::new(&named("web", v6), vip(v6, 0), WEB).over(&lab.backends);
    Fairlead::launch(lab, &lab.balancers[0], &config(&FAMILIES.map(service)))
}

#[test]
fn ping_of_the_vip_is_answered_by_the_balancer() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let balancer = launch(&lab)?;
    let mac = ip_json(&lab.balancers[0].ns, "link show eth0")?[0]["address"].clone();
    for v6 in FAMILIES {
        let vip = vip(v6, 0).to_string();
        let ping = lab.client.ns.command("ping").args(["-c", "5", "-i", "0.05", "-W", "2", &vip]).output()?;
        let said = String::from_utf8_lossy(&ping.stdout);
        ensure!(said.contains("5 received"), "ping {vip}: {said}");
        let neighbour = ip_json(&lab.client.ns, &format!("neigh show {vip}"))?;
        assert_eq!(neighbour[0]["lladdr"], mac, "{vip}: {neighbour}");
    }
    assert_eq!(counter(&balancer, "answered_echo")?, 10);
    Ok(())
}

/// The target of an ARP reply or neighbour advertisement, and the MAC it names.
fn announced(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 2] => {
            let sender: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
            Some((sender.into(), frame.get(22..28)?.try_into().ok()?))
        }
        [0x86, 0xdd] if *frame.get(20)? == 58 && *frame.get(54)? == 136 => {
            let target: [u8; 16] = frame.get(62..78)?.try_into().ok()?;
            Some((target.into(), frame.get(80..86)?.try_into().ok()?))
        }
        _ => None,
    }
}

#[test]
fn only_vips_are_answered_for_and_with_the_balancers_own_mac() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let _balancer = launch(&lab)?;
    let (client, own_mac) = (mac(&lab.client)?, mac(&lab.balancers[0])?);
    let tap = Tap::open(&lab.client.ns, "eth0")?;
    let arp = |sender: Ipv4Addr, target: IpAddr| {
        Arp { operation: REQUEST, sender: (client, sender.into()), target: ([0; 6], target) }.frame(ALL, &[])
    };
    let solicit = |target: IpAddr| {
        let mut frame = Solicitation::new(lab.client.v6.into(), target).frame();
        frame[6..12].copy_from_slice(&client);
        frame
    };
    // What is not to be answered goes first: the answer that comes was asked for later.
    let requests = [
        (arp(lab.client.v4, Row::Vip.v4(7).into()), arp(lab.client.v4, vip(false, 0)), vip(false, 0)),
        (
            arp(Ipv4Addr::UNSPECIFIED, Row::Vip.v4(7).into()),
            arp(Ipv4Addr::UNSPECIFIED, vip(false, 0)),
            vip(false, 0),
        ),
        (solicit(Row::Vip.v6(7).into()), solicit(vip(true, 0)), vip(true, 0)),
    ];
    for (foreign, asked, vip) in requests {
        tap.send(&foreign)?;
        tap.send(&asked)?;
        let answer = tap.find("an answer", |frame| {
            announced(&frame.octets)
                .filter(|_| !frame.outgoing)
                .map(|(target, mac)| (target, mac, frame.octets[..12].to_vec()))
        })?;
        assert_eq!(answer, (vip, own_mac, [client, own_mac].concat()), "asked by {:?}", octets(vip));
    }
    Ok(())
}

#[test]
fn another_host_that_takes_the_vip_is_told_that_it_is_a_duplicate() -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(1).build()?;
    let balancer = launch(&lab)?;
    let rival = &lab.balancers[1].ns;
    rival.sysctl("net/ipv6/conf/eth0/accept_dad", "1")?;
    rival.ip(&format!("addr add {}/64 dev eth0", vip(true, 0)))?;
    // An address that nobody has goes the same way and is not refused.
    rival.ip(&format!("addr add {}/64 dev eth0", Row::Vip.v6(7)))?;
    let state = |address: IpAddr| {
        let shown = ip_json(rival, "-6 addr show dev eth0")?;
        let mut all = shown[0]["addr_info"].as_array().into_iter().flatten();
        all.find(|info| info["local"] == address.to_string())
            .cloned()
            .with_context(|| format!("{address}: {shown}"))
    };
    wait_until("the VIP is a duplicate", SOON, || Ok(state(vip(true, 0))?["dadfailed"] == true))?;
    wait_until("the free address is not", SOON, || {
        Ok(state(Row::Vip.v6(7).into())?.get("tentative").is_none())
    })?;
    assert_eq!(state(Row::Vip.v6(7).into())?.get("dadfailed"), None);
    assert!(counter(&balancer, "answered_nd")? >= 1);
    // IPv4: arping -D fails if somebody answers a probe with sender 0.
    let mut probe = rival.command("arping");
    let probed =
        probe.args(["-D", "-c", "1", "-w", "2", "-I", "eth0", &vip(false, 0).to_string()]).output()?;
    ensure!(!probed.status.success(), "{}", String::from_utf8_lossy(&probed.stdout));
    Ok(())
}
