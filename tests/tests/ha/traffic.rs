//! The steady stream, flows made of frames, and configurations of a cluster.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{Cluster, Cut, FlowMaker, GROUP, Stream, mac_of};
use fairlead_tests::lab::{Fairlead, Lab, Peer, wait_until};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::scene::*;

const ECHO: u16 = 5300;
const FLOWS: u16 = 7200;
const EVERY: Duration = Duration::from_millis(1);

#[test]
fn stream_is_answered_by_one_server_and_what_a_cut_swallows_is_lost() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let backend = &lab.backends[0];
    for v6 in FAMILIES {
        let address: IpAddr = if v6 { backend.v6.into() } else { backend.v4.into() };
        let _server = Peer::udp(&lab, backend, ECHO, &[address])?;
        let source = lab.client.address_like(address);
        let begin = || Stream::start(&lab.client, source, SocketAddr::new(address, ECHO), EVERY);
        let stream = begin()?;
        wait_until("200 answers", SOON, || Ok(stream.answered() >= 200))?;
        let whole = stream.stop()?;
        assert_eq!((whole.lost(), whole.backends.len()), (0, 1), "{:?}", whole.backends);

        let stream = begin()?;
        let link = Cut::ToHost.apply(&lab, backend)?;
        std::thread::sleep(Duration::from_millis(100));
        link.heal()?;
        let before = stream.answered();
        wait_until("more answers", SOON, || Ok(stream.answered() > before + 50))?;
        let cut = stream.stop()?;
        ensure!(cut.lost() > 0 && cut.backends["backend1"] + cut.lost() == cut.sent.len(), "{}", cut.lost());
        println!("v6 {v6}: {} lost, longest gap {:?}", cut.lost(), cut.longest_gap());
    }
    Ok(())
}

#[test]
fn each_flow_made_of_frames_is_established_in_the_table() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let (vip, _) = lab.vips[0];
    let config = format!(
        "[[interface]]\nname = \"eth0\"\n[limits]\nflows = 65536\nnew_flows_per_second = 1000000\n[[service]]\n\
         name = \"flows\"\nvip = \"{vip}\"\nport = {FLOWS}\nmode = \"l2\"\ntable_size = 4093\n\
         [[service.backend]]\naddress = \"{}\"\n",
        lab.backends[0].v4
    );
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config)?;
    FlowMaker::prepare(&lab)?;
    let station = mac_of(&lab.balancers[0])?;
    let target = SocketAddr::new(vip.into(), FLOWS);
    let maker = FlowMaker::start(&lab.client, station, target, 2_000, 0)?;
    wait_until("a thousand flows", SOON, || Ok(maker.made() >= 1_000))?;
    let made = maker.stop()?;
    // Both frames of each, and the silence of the backends: nothing else belongs to the service.
    balancer.until("both frames of each flow are forwarded", "/v1/services/flows", SOON, |service| {
        service["packets"] == 2 * made
    })?;
    let (_, v6) = lab.vips[0];
    ensure!(FlowMaker::start(&lab.client, station, (v6, FLOWS).into(), 1, 0).is_err());
    Ok(())
}

#[test]
fn configurations_of_a_cluster_differ_in_node_priority_and_peers_only() -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(1).second_segment(1500).build()?;
    let rest = "[limits]\nflows = 65536\n";
    let cluster = Cluster { unicast: true, sync_apart: true, ..Cluster::new(ADVERT, rest) };
    let mut seen = Vec::new();
    for (index, host) in lab.balancers.iter().enumerate() {
        let text = cluster.config(&lab, index)?;
        let config: toml_edit::DocumentMut = text.parse().with_context(|| text.clone())?;
        let group = &config["ha"]["group"][0];
        assert_eq!(group["name"].as_str(), Some(GROUP));
        assert_eq!(group["advert_interval"].as_str(), Some("100ms"));
        assert_eq!(group["vips"].as_array().map(toml_edit::Array::len), Some(2));
        let other = &lab.balancers[1 - index];
        let peers = group["peers"].as_array().context("peers")?.iter().filter_map(|peer| peer.as_str());
        assert_eq!(peers.collect::<Vec<_>>(), [other.v4.to_string(), other.v6.to_string()]);
        assert_eq!(config["cluster"]["node"].as_str(), Some(host.role.as_str()));
        let own = format!("{}:7301", host.second().0);
        assert_eq!(config["sync"]["listen"].as_str(), Some(own.as_str()));
        assert_eq!(config["limits"]["flows"].as_integer(), Some(65536));
        seen.push(group["priority"].as_integer().context("a priority")?);
        let key = config["cluster"]["key_file"].as_str().context("a key")?.to_owned();
        assert_eq!(std::fs::read_to_string(key)?.trim().len(), 64);
    }
    ensure!(seen[0] > seen[1] && seen[1] >= 1, "{seen:?}");
    assert_eq!(cluster.daemons(&lab)?.len(), 2);
    Ok(())
}
