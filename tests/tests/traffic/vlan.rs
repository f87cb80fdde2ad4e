//! Tagged frames keep their tags.

use anyhow::Result;
use fairlead_tests::lab::{Fairlead, Lab, wait_until};
use fairlead_tests::packets::wire::{self, Tag};
use fairlead_tests::packets::{Client, Route};

use crate::scene::*;
use crate::tap::Tap;

#[test]
fn tagged_frames_leave_with_the_same_tags_around_the_tunnel() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (sender, own_mac, backend) = (mac(&lab.client)?, mac(&lab.balancers[0])?, mac(&lab.backends[0])?);
    // Tags must be in the frames, where XDP and the tap look for them, and not beside them.
    for port in ["balancer1", "backend1"] {
        lab.bridge.features(port, &["txvlan", "off", "tx-vlan-stag-hw-insert", "off"])?;
    }
    let service =
        |v6| Service::new(&named("echo", v6), vip(v6, 0), ECHO).key("protocol", "udp").over(&lab.backends);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config(&FAMILIES.map(service)))?;
    let (out, tap) = (Tap::open(&lab.client.ns, "eth0")?, Tap::open(&lab.bridge, "backend1")?);
    balancer.until("the backends' MACs are known", "/v1/backends", SOON, |list| {
        list["backends"].as_array().is_some_and(|all| all.iter().all(|one| one["slot_state"] == "serving"))
    })?;

    let tags: [&[Tag]; 4] =
        [&[], &[Tag::Customer(0x2064)], &[Tag::Service(0x00c8), Tag::Customer(0x0064)], &[Tag::Customer(0)]];
    let mut port = 20_000;
    for v6 in FAMILIES {
        for tags in tags {
            port += 1;
            let packet = Client {
                from: own(&lab.client, v6),
                port,
                to_port: ECHO,
                tags: tags.to_vec(),
                mac: own_mac,
                source_mac: sender,
                ..Client::new("192.0.2.1", &vip(v6, 0).to_string()).udp(64)
            };
            let before = counter(&balancer, "forwarded")?;
            out.send(&packet.frame())?;
            wait_until("the frame is forwarded", SOON, || Ok(counter(&balancer, "forwarded")? > before))?;
            let came = tap.find("the tunnelled frame", |frame| {
                let inner = packet.data.as_slice();
                let ours = frame.octets.windows(inner.len()).any(|window| window == inner)
                    && frame.octets.starts_with(&backend);
                (ours && frame.outgoing).then(|| frame.octets.clone())
            })?;
            let label = label(&came, tags.len()).filter(|_| v6).unwrap_or_default();
            let outer = (own(&lab.balancers[0], v6), own(&lab.backends[0], v6));
            let mut expected =
                packet.forwarded(&Route { mac: backend, outer: Some(outer), label, redirected: false });
            expected[6..12].copy_from_slice(&own_mac);
            assert_eq!(came, expected, "v6 {v6}, {tags:?}");
        }
    }
    Ok(())
}

/// The flow label of the outer IPv6 header, which is the balancer's to choose.
fn label(frame: &[u8], tags: usize) -> Option<u32> {
    let word: [u8; 4] = frame.get(14 + 4 * tags..18 + 4 * tags)?.try_into().ok()?;
    let ethertype: [u8; 2] = frame.get(12 + 4 * tags..14 + 4 * tags)?.try_into().ok()?;
    (u16::from_be_bytes(ethertype) == wire::IPV6).then(|| u32::from_be_bytes(word) & 0x000f_ffff)
}
