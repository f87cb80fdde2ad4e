//! What an operator does to a pair under load: upgrades, failbacks, and changes of the pool at the worst moments.

use anyhow::{Result, ensure};
use fairlead_tests::lab::ha::{FlowMaker, Stream, gap, overlap};
use fairlead_tests::lab::wait_until;
use std::net::SocketAddr;
use std::time::Duration;

use crate::load::*;
use crate::scene::*;
use crate::trio::*;

const DATAGRAM_EVERY: Duration = Duration::from_millis(1);

/// Waits until this node may have the role, or has it.
fn until_fit(trio: &Trio, node: usize) -> Result<()> {
    wait_until(&format!("node {node} is ready or active"), SOON, || {
        let group = trio.group(node)?;
        Ok(group["role"] == "active" || group["ready"] == true)
    })
}

/// Both daemons are restarted, the active one first, as OPERATIONS.md says.
fn upgrade(preempt: bool) -> Result<()> {
    let echo = echo_services()?;
    let mut trio = Trio::start(2, |cluster| {
        cluster.preempt = preempt;
        cluster.rest.push_str(&echo);
    })?;
    let _servers = echo_servers(&trio.lab)?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let herds = herds(&trio)?;
    trio.change_pool(&[0, 1], true)?;
    let client = &trio.lab.client;
    let streams = FAMILIES.map(|v6| {
        let target = echo_target(&trio, v6);
        Stream::start(client, client.address_like(target.ip()), target, DATAGRAM_EVERY)
    });
    for node in [0, 1] {
        let other = 1 - node;
        until_fit(&trio, other)?;
        if trio.group(node)?["role"] == "active" {
            trio.nodes[node].ok(&["ha", "handover", "--all"])?;
            trio.until_only(other)?;
            // The client has to learn of it before the node is without a daemon: its answers are what moves it.
            std::thread::sleep(ADVERT * 5);
        }
        trio.nodes[node].stop()?;
        // An upgrade takes its time; the one that stays must not mind.
        std::thread::sleep(ADVERT * 5);
        trio.nodes[node].start()?;
        until_fit(&trio, node)?;
        trio.nodes[node].ok(&["ha", "resume", "--all"])?;
        if preempt {
            trio.until_only(0)?;
        }
        all_whole(&herds, &format!("node {node} restarted"))?;
    }
    trio.until_only(0)?;
    for (stream, v6) in streams.into_iter().zip(FAMILIES) {
        let streamed = stream?.stop()?;
        let lost: Vec<_> = streamed
            .sent
            .iter()
            .zip(&streamed.answered)
            .filter(|(_, came)| !**came)
            .map(|(at, _)| at)
            .collect();
        ensure!(streamed.sent.len() > 1_000 && streamed.backends.len() == 1, "{:?}", streamed.backends);
        ensure!(lost.is_empty(), "v6 {v6}: {} of {} lost, at {lost:?}", lost.len(), streamed.sent.len());
    }
    all_whole(&herds, "at the end")
}

#[test]
fn a_rolling_upgrade_breaks_and_loses_nothing_where_the_better_one_takes_over() -> Result<()> {
    upgrade(true)
}

#[test]
fn a_rolling_upgrade_breaks_and_loses_nothing_where_nobody_takes_over_by_itself() -> Result<()> {
    upgrade(false)
}

#[test]
fn failbacks_amid_changes_of_the_pool_break_nothing() -> Result<()> {
    const RATE: u32 = 500;
    let mut trio = Trio::start(2, |_| {})?;
    FlowMaker::prepare(&trio.lab)?;
    trio.until_ready(1, "full")?;
    // Nothing is ever opened while the last backend is in the pool: it can go at any time.
    trio.change_pool(&[0, 1], false)?;
    let mut herds = herds(&trio)?;
    let target = SocketAddr::new(trio.vip(false), PORT);
    let mut made = 0;
    for round in 0..3 {
        let maker = FlowMaker::start(&trio.lab.client, trio.macs[0], target, RATE, made)?;
        std::thread::sleep(ADVERT * 5);
        made += maker.stop()?;
        trio.change_pool(&[0, 1], true)?;
        let watch = trio.watch(round % 2 == 1)?;
        until_answered_by(&watch, trio.macs[0])?;
        let killed_at = watch.now();
        trio.nodes[0].kill();
        trio.change_pool(&[1], false)?;
        trio.until_only(1)?;
        all_whole(&herds, &format!("round {round}, after the takeover"))?;
        let maker = FlowMaker::start(&trio.lab.client, trio.macs[1], target, RATE, made)?;
        herds.extend(crate::load::herds(&trio)?);
        trio.change_pool(&[1], true)?;
        until_answered_by(&watch, trio.macs[1])?;
        let both = overlap(&watch.stop()?, killed_at..Duration::MAX);
        assert_eq!(both.requests, 0, "both answered");

        copy_services(&trio, 1, 0)?;
        let watch = trio.watch(round % 2 == 1)?;
        until_answered_by(&watch, trio.macs[1])?;
        let returns_at = watch.now();
        trio.nodes[0].start()?;
        // It isn't ready yet, or has just become so.
        trio.change_pool(&[1, 0], false)?;
        trio.until_only(0)?;
        trio.change_pool(&[0, 1], true)?;
        trio.change_pool(&[1, 0], false)?;
        made += maker.stop()?;
        until_answered_by(&watch, trio.macs[0])?;
        let record = watch.stop()?;
        let (both, gap) = (overlap(&record, Duration::ZERO..Duration::MAX), gap(&record, returns_at));
        println!("failback: both for {:?}, nobody for {gap:?}", both.lasted);
        all_whole(&herds, &format!("round {round}, after the failback"))?;
        trio.until_ready(1, "full")?;
    }
    println!("{} herds of {} each, {made} flows beside", herds.len(), few());
    Ok(())
}

#[test]
fn sums_of_traffic_are_kept_by_a_node_of_a_cluster_as_by_any_other() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let file = trio.lab.folder().join("fairlead-balancer1/state/main/totals.json");
    // Sums of a backend are kept when it goes.
    trio.change_pool(&[0, 1], false)?;
    let log = trio.nodes[0].log();
    ensure!(!log.contains("sums of traffic can't be kept"), "{log}");
    wait_until("they are kept", SOON, || Ok(file.exists()))
}
