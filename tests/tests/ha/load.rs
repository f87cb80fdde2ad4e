//! What goes through a trio while something happens to it, and what of that must be whole afterwards.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{Herd, HerdPlan, Mac, Record};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Lab, Peer, quick};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use crate::scene::*;
use crate::trio::{PORT, Trio};

/// Where servers of datagrams are.
pub(crate) const ECHO: u16 = 5300;

/// Connections of each family where both graze.
pub(crate) fn few() -> usize {
    if quick() { 100 } else { 500 }
}

/// A herd by a plan of its own.
pub(crate) fn herd_by(trio: &Trio, v6: bool, plan: HerdPlan) -> Result<Herd> {
    let vip = trio.vip(v6);
    Herd::open(&trio.lab.client, trio.lab.client.address_like(vip), (vip, PORT).into(), plan)
}

/// A herd of each family.
pub(crate) fn herds(trio: &Trio) -> Result<Vec<Herd>> {
    herds_by(trio, HerdPlan::new(few()))
}

/// A herd of each family by a plan of its own.
pub(crate) fn herds_by(trio: &Trio, plan: HerdPlan) -> Result<Vec<Herd>> {
    FAMILIES.iter().map(|v6| herd_by(trio, *v6, plan)).collect()
}

/// Whether all connections of all herds are answered by their own backends; they can be asked again.
pub(crate) fn all_whole(herds: &[Herd], when: &str) -> Result<()> {
    for (number, herd) in herds.iter().enumerate() {
        let checkup = herd.check(SOON)?;
        let (broken, all) = (checkup.broken.len(), checkup.connections);
        ensure!(broken == 0, "{when}, herd {number}: {broken} of {all} broken: {:?}", checkup.reasons());
    }
    Ok(())
}

/// Whether at most a tenth of the connections of each herd broke: those of a split whose packets reach the winner before it
/// has been told of their flows. Untold, a third would: so many are exceptions.
pub(crate) fn nearly_whole(herds: &[Herd], when: &str) -> Result<()> {
    for (number, herd) in herds.iter().enumerate() {
        let checkup = herd.check(SOON)?;
        let (broken, all) = (checkup.broken.len(), checkup.connections);
        println!("{when}, herd {number}: {broken} of {all} broken");
        ensure!(
            broken * 10 <= all,
            "{when}, herd {number}: {broken} of {all} broken: {:?}",
            checkup.reasons()
        );
    }
    Ok(())
}

/// Within this time this station answered, and no other one.
pub(crate) fn only_answerer(record: &Record, within: Range<Duration>, mac: Mac) -> Result<()> {
    let mut answers = record.answers.iter().filter(|answer| within.contains(&answer.at)).peekable();
    ensure!(answers.peek().is_some(), "nobody answered within {within:?}");
    match answers.find(|answer| answer.mac != mac) {
        Some(other) => anyhow::bail!("{} answered at {:?}, within {within:?} of {mac}", other.mac, other.at),
        None => Ok(()),
    }
}

/// Services of datagrams, as the configuration of a lab with three backends writes them.
pub(crate) fn echo_services() -> Result<String> {
    let mut text = String::new();
    let vips = [("echo", IpAddr::from(Row::Vip.v4(0))), ("echo6", Row::Vip.v6(0).into())];
    for (name, vip) in vips {
        writeln!(text, "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {ECHO}\nprotocol = \"udp\"")?;
        writeln!(text, "mode = \"l2\"\ntable_size = 4093")?;
        for index in 0..3 {
            let own: IpAddr =
                if vip.is_ipv4() { Row::Backend.v4(index).into() } else { Row::Backend.v6(index).into() };
            writeln!(text, "[[service.backend]]\naddress = \"{own}\"")?;
        }
    }
    Ok(text)
}

/// Their servers.
pub(crate) fn echo_servers(lab: &Lab) -> Result<Vec<Peer>> {
    let (v4, v6) = lab.vips[0];
    lab.backends.iter().map(|host| Peer::udp(lab, host, ECHO, &[v4.into(), v6.into()])).collect()
}

/// Where datagrams go to.
pub(crate) fn echo_target(trio: &Trio, v6: bool) -> SocketAddr {
    (trio.vip(v6), ECHO).into()
}

/// What a node that does not run will find as its services: those that another one has now.
pub(crate) fn copy_services(trio: &Trio, from: usize, to: usize) -> Result<()> {
    let split = |text: &str| text.find("[limits]").context("a configuration of the trio");
    let (own, other) = (trio.nodes[to].read_config()?, trio.nodes[from].read_config()?);
    trio.nodes[to].write_config(&format!("{}{}", &own[..split(&own)?], &other[split(&other)?..]))
}
