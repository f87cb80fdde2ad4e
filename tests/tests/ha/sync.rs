//! Fairleads that tell each other of flows and of what they believe: what a failover finds on the other node.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{Cut, GROUP, overlap};
use fairlead_tests::lab::{Fairlead, wait_until};
use nix::sys::signal::Signal;
use std::time::Duration;

use crate::load::nearly_whole;
use crate::scene::*;
use crate::trio::*;

/// Flows in a node's table, as its last sweep counted them.
fn flows(node: &Fairlead) -> Result<u64> {
    node.json(&["status"])?["flow_table"]["used"].as_u64().context("the number of flows")
}

#[test]
fn flows_that_the_tables_would_send_elsewhere_stay_without_an_election() -> Result<()> {
    let mut trio = Trio::new(2, |cluster| cluster.mode = "external".to_owned())?;
    trio.nodes.iter_mut().try_for_each(Fairlead::start)?;
    trio.change_pool(&[0, 1], false)?;
    trio.nodes[0].ok(&["ha", "set", "active"])?;
    wait_until("node 1 has heard of it", SOON, || Ok(trio.peer(1)?["have_theirs"] == true))?;
    let herd = trio.herd(false)?;
    let connections = herd.plan().connections as u64;
    wait_until("all flows are on the standby", SOON, || Ok(flows(&trio.nodes[1])? >= connections))?;
    // Right before and right after the VIP moves, the tables change.
    trio.change_pool(&[0, 1], true)?;
    trio.nodes[0].ok(&["ha", "set", "standby"])?;
    trio.nodes[1].ok(&["ha", "set", "active"])?;
    trio.change_pool(&[0, 1], false)?;
    trio.change_pool(&[0, 1], true)?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[1])?;
    let checkup = herd.check(SOON)?;
    ensure!(checkup.broken.is_empty(), "{:?}", checkup.reasons());
    let marked = trio.nodes[1].json(&["status"])?["flow_table"]["exceptions"].as_u64();
    ensure!(marked.is_some_and(|marked| marked > 0), "no flow needed the sync: {marked:?}");
    // And back, with connections of the second reign.
    let second = trio.herd(false)?;
    wait_until("they are known to the first", SOON, || Ok(flows(&trio.nodes[0])? >= 2 * connections))?;
    trio.nodes[1].ok(&["ha", "set", "standby"])?;
    trio.nodes[0].ok(&["ha", "set", "active"])?;
    until_answered_by(&watch, trio.macs[0])?;
    whole(herd)?;
    whole(second)
}

#[test]
fn only_exceptions_travel_if_that_is_asked_for() -> Result<()> {
    let trio = Trio::start(2, |cluster| cluster.sync = "exceptions".to_owned())?;
    trio.until_ready(1, "exceptions")?;
    trio.change_pool(&[0, 1], false)?;
    let herd = trio.herd(false)?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(flows(&trio.nodes[1])?, 0);
    trio.change_pool(&[0, 1], true)?;
    wait_until("exceptions are on the standby", SOON, || {
        let (all, told) = (flows(&trio.nodes[0])?, flows(&trio.nodes[1])?);
        Ok(told > 0 && told < all)
    })?;
    trio.nodes[0].ok(&["ha", "handover", "--all"])?;
    trio.until_only(1)?;
    whole(herd)
}

#[test]
fn what_the_active_says_of_backends_counts_until_an_operator_says_otherwise() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    let backend = trio.lab.backends[0].v4.to_string();
    let of = |trio: &Trio, node: usize| -> Result<serde_json::Value> {
        let all = trio.nodes[node].json(&["backend", "list", "herd"])?;
        let found =
            all["backends"].as_array().into_iter().flatten().find(|one| one["address"] == backend.as_str());
        found.cloned().context("the backend")
    };
    trio.nodes[0].ok(&["backend", "drain", "herd", &backend])?;
    wait_until("the standby drains it, too", SOON, || Ok(of(&trio, 1)?["state"] == "drain"))?;
    let standby = of(&trio, 1)?;
    ensure!(standby["overridden"] == true && standby["share_percent"] == 0.0, "{standby}");
    ensure!(trio.nodes[1].ok(&["backend", "list", "herd"])?.contains("drain (peer)"));
    trio.nodes[0].kill();
    trio.until_only(1)?;
    ensure!(of(&trio, 1)?["state"] == "drain", "it goes on after the takeover");
    trio.nodes[1].ok(&["backend", "enable", "herd", &backend])?;
    let enabled = of(&trio, 1)?;
    ensure!(enabled["state"] == "enabled" && enabled["overridden"] == false, "{enabled}");
    // The first comes back with its own file, which says otherwise, and follows.
    trio.nodes[0].start()?;
    wait_until("it follows, or is active again", SOON, || {
        Ok(of(&trio, 0)?["state"] == "enabled" || trio.group(0)?["role"] == "active")
    })?;
    trio.until_only(0)?;
    ensure!(of(&trio, 0)?["state"] == "enabled", "what the second said last");
    Ok(())
}

#[test]
fn nobody_preempts_a_node_that_steers_by_another_configuration() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.nodes[0].stop()?;
    trio.until_only(1)?;
    trio.change_pool(&[1], false)?;
    trio.nodes[0].start()?;
    wait_until("it knows why it waits", SOON, || {
        let group = trio.group(0)?;
        let why = group["not_ready"].as_str().unwrap_or_default().to_owned();
        Ok(group["role"] == "backup" && why.contains("herd") && why.contains("another configuration"))
    })?;
    assert_eq!(trio.peer(0)?["differing"], serde_json::json!(["herd", "herd6"]));
    let status = trio.nodes[0].ok(&["status"])?;
    ensure!(status.contains("by another configuration"), "{status}");
    // Longer than an election takes.
    std::thread::sleep(ADVERT * 15);
    assert_eq!(trio.group(0)?["role"], "backup");
    trio.change_pool(&[0], false)?;
    trio.until_only(0)
}

#[test]
fn a_planned_restart_moves_nothing_and_is_answered_through() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    let before = trio.nodes[1].json(&["ha", "status"])?["transitions"].clone();
    let herd = trio.herd(false)?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    trio.nodes[0].ok(&["stop", "--hold", "5s"])?;
    wait_until("it has ended", SOON, || Ok(trio.nodes[0].ended().is_ok()))?;
    // Ten times what a backup waits for otherwise.
    std::thread::sleep(ADVERT * 30);
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    more_answers(&watch, 100)?;
    let record = watch.stop()?;
    assert_eq!(record.answerers().keys().copied().collect::<Vec<_>>(), [trio.macs[0]]);
    assert_eq!(trio.nodes[1].json(&["ha", "status"])?["transitions"], before);
    whole(herd)
}

#[test]
fn a_restart_that_not_all_nodes_know_of_is_a_goodbye() -> Result<()> {
    let trio = Trio::start(3, |_| {})?;
    trio.until_ready(1, "full")?;
    wait_until("all nodes are there", SOON, || {
        let peers = trio.nodes[0].json(&["ha", "status"])?["sync"]["peers"].clone();
        Ok(peers.as_array().is_some_and(|peers| peers.iter().all(|peer| peer["up"] == true)))
    })?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    trio.nodes[2].signal(Signal::SIGSTOP)?;
    trio.nodes[0].ok(&["stop", "--hold", "10s"])?;
    until_answered_by(&watch, trio.macs[1]).with_context(|| trio.nodes[0].log())?;
    more_answers(&watch, 100)?;
    let log = trio.nodes[0].log();
    ensure!(log.contains("VIPs of groups are given away"), "{log}");
    let record = watch.stop()?;
    assert_eq!(overlap(&record, Duration::ZERO..Duration::MAX).requests, 0, "both answered");
    trio.nodes[2].signal(Signal::SIGCONT)
}

#[test]
fn a_node_alone_answers_without_its_daemon_and_yields_as_ever_once_there_is_another() -> Result<()> {
    let mut trio = Trio::new(2, |_| {})?;
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    wait_until("it knows that it is alone", SOON, || Ok(trio.group(0)?["lone"] == true))?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    trio.nodes[0].kill();
    let before = watch.answers();
    std::thread::sleep(ADVERT * 15);
    ensure!(watch.answers() > before + 100, "the VIP is answered for");
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    trio.nodes[1].start()?;
    trio.until_ready(1, "full")?;
    assert_eq!(trio.group(0)?["lone"], false);
    let killed_at = watch.now();
    trio.nodes[0].kill();
    until_answered_by(&watch, trio.macs[1])?;
    more_answers(&watch, 100)?;
    let record = watch.stop()?;
    assert_eq!(overlap(&record, killed_at..Duration::MAX).requests, 0, "both answered");
    Ok(())
}

#[test]
fn three_nodes_one_after_the_other_keep_all_connections() -> Result<()> {
    let mut trio = Trio::start(3, |_| {})?;
    trio.change_pool(&[0, 1, 2], false)?;
    let herd = trio.herd(false)?;
    trio.change_pool(&[0, 1, 2], true)?;
    for node in [1, 2] {
        trio.until_ready(node, "full")?;
    }
    std::thread::sleep(ADVERT * 5);
    trio.nodes[0].kill();
    trio.until_only(1)?;
    trio.until_ready(2, "full")?;
    trio.nodes[1].kill();
    trio.until_only(2)?;
    let checkup = herd.check(SOON)?;
    ensure!(checkup.broken.is_empty(), "{:?}", checkup.reasons());
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    whole(herd)
}

#[test]
fn a_split_heals_and_nearly_all_connections_of_both_sides_live_on() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let before = trio.herd(false)?;
    std::thread::sleep(ADVERT * 5);
    let watch = trio.watch(false)?;
    let link = Cut::Detached.apply(&trio.lab, &trio.lab.balancers[0])?;
    until_answered_by(&watch, trio.macs[1])?;
    // Made where the winner can't see it, and at once an exception on both sides.
    let during = trio.herd(false)?;
    trio.change_pool(&[0, 1], true)?;
    // Its questions would call the client away before the winner has been told of the flows.
    drop(watch);
    link.heal()?;
    trio.until_only(0)?;
    std::thread::sleep(ADVERT * 10);
    until_answered_by(&trio.watch(false)?, trio.macs[0])?;
    whole(before)?;
    nearly_whole(&[during], "made during the split")
}

#[test]
fn a_node_with_another_key_is_named_and_harms_nothing() -> Result<()> {
    let mut trio = Trio::new(2, |_| {})?;
    let config = trio.nodes[1].read_config()?;
    let key = trio.lab.folder().join("other.key");
    std::fs::write(&key, "another key than that of the other nodes\n")?;
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let other = config.replace("cluster.key", "other.key");
    ensure!(other != config);
    trio.nodes[1].write_config(&other)?;
    trio.nodes.iter_mut().try_for_each(Fairlead::start)?;
    trio.until_only(0)?;
    for node in [0, 1] {
        wait_until("it says so", SOON, || {
            Ok(trio.peer(node)?["rejected"]["key"].as_u64().is_some_and(|count| count > 0))
        })?;
        ensure!(trio.peer(node)?["up"] == false);
        ensure!(trio.nodes[node].log().contains("another key file"), "{}", trio.nodes[node].log());
    }
    // The worse one still takes over when the better one is gone.
    trio.nodes[0].ok(&["ha", "pause", "--group", GROUP])?;
    trio.nodes[0].stop()?;
    trio.until_only(1)
}
