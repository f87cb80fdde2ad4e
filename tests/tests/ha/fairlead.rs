//! Two or three Fairleads that share VIPs: one answers for each, and connections survive when that changes.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::keepalived::{Instance, Keepalived, State};
use fairlead_tests::lab::ha::{Cut, GROUP, overlap};
use fairlead_tests::lab::{Fairlead, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

use crate::scene::*;
use crate::trio::*;

#[test]
fn a_killed_node_stops_answering_and_no_connection_breaks() -> Result<()> {
    for v6 in FAMILIES {
        let mut trio = Trio::start(2, |_| {})?;
        let herd = trio.herd(v6)?;
        let watch = trio.watch(v6)?;
        until_answered_by(&watch, trio.macs[0])?;
        let killed_at = watch.now();
        trio.nodes[0].kill();
        until_answered_by(&watch, trio.macs[1])?;
        more_answers(&watch, 300)?;
        let record = watch.stop()?;
        let both = overlap(&record, killed_at..Duration::MAX);
        assert_eq!((both.lasted, both.requests), (Duration::ZERO, 0), "both answered");
        ensure!(record.announcers(killed_at).contains_key(&trio.macs[1]), "it did not announce itself");
        whole(herd)?;
        // It comes back, preempts, and still nothing breaks.
        let herd = trio.herd(v6)?;
        trio.nodes[0].start()?;
        trio.until_only(0)?;
        whole(herd)?;
    }
    Ok(())
}

#[test]
fn a_stopped_node_never_answers_beside_its_successor_and_yields_when_it_wakes() -> Result<()> {
    let trio = Trio::start(2, |cluster| cluster.preempt = false)?;
    let herd = trio.herd(false)?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    let stopped_at = watch.now();
    trio.nodes[0].signal(Signal::SIGSTOP)?;
    until_answered_by(&watch, trio.macs[1])?;
    more_answers(&watch, 300)?;
    trio.nodes[0].signal(Signal::SIGCONT)?;
    more_answers(&watch, 500)?;
    trio.until_only(1)?;
    let record = watch.stop()?;
    let both = overlap(&record, stopped_at..Duration::MAX);
    assert_eq!((both.lasted, both.requests), (Duration::ZERO, 0), "both answered");
    whole(herd)
}

#[test]
fn a_cut_link_moves_the_vip_and_healing_leaves_one() -> Result<()> {
    let trio = Trio::start(3, |cluster| cluster.unicast = true)?;
    let herd = trio.herd(false)?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    let link = Cut::Detached.apply(&trio.lab, &trio.lab.balancers[0])?;
    until_answered_by(&watch, trio.macs[1])?;
    link.heal()?;
    trio.until_only(0)?;
    until_answered_by(&watch, trio.macs[0])?;
    ensure!(watch.stop()?.answerers().len() == 2, "the third, the worst, never answers");
    whole(herd)
}

#[test]
fn a_node_without_carrier_leaves_its_vips() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let link = Cut::Unplugged.apply(&trio.lab, &trio.lab.balancers[0])?;
    wait_until("it knows", SOON, || {
        let status = trio.nodes[0].json(&["ha", "status"])?;
        Ok(role(&status) != Some("active")
            && status["groups"][0]["fault"].as_str().is_some_and(|fault| fault.contains("carrier")))
    })?;
    wait_until("the other is active", SOON, || {
        Ok(role(&trio.nodes[1].json(&["ha", "status"])?) == Some("active"))
    })?;
    link.heal()?;
    trio.until_only(0)
}

#[test]
fn a_handover_loses_nothing_and_lasts_until_resumed() -> Result<()> {
    // With flow sync the peer is asked, whatever its settings; without, this node makes itself the worse one.
    for (sync, preempt, said, priority) in
        [("full", false, "pair: a peer is asked", 200), ("", true, "pair: a peer takes over", 1)]
    {
        let trio = Trio::start(2, |cluster| (cluster.sync, cluster.preempt) = (sync.to_owned(), preempt))?;
        trio.until_ready(1, sync)?;
        let herd = trio.herd(true)?;
        let answer = trio.nodes[0].ok(&["ha", "handover", "--all"])?;
        ensure!(answer.contains(said), "{answer:?}");
        trio.until_only(1)?;
        let status = trio.nodes[0].json(&["ha", "status"])?;
        let group = &status["groups"][0];
        ensure!(group["handed_over"] == true && group["priority"] == priority, "{status}");
        let refused = trio.nodes[0].cli(&["ha", "handover", "--all"])?;
        ensure!(refused.code == 5 && refused.stderr.contains("not active"), "{refused:?}");
        trio.nodes[0].ok(&["ha", "resume", "--all"])?;
        if preempt {
            trio.until_only(0)?;
        } else {
            trio.until_ready(0, sync)?;
            trio.nodes[1].ok(&["ha", "handover", "--group", GROUP])?;
            trio.until_only(0)?;
        }
        whole(herd)?;
    }
    Ok(())
}

#[test]
fn a_handover_without_a_peer_leaves_the_role_here() -> Result<()> {
    let mut trio = Trio::new(2, |_| {})?;
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    trio.nodes[0].ok(&["ha", "handover", "--group", GROUP])?;
    let mut last = Value::Null;
    let taken_back = wait_until("it takes that back", SOON, || {
        last = trio.nodes[0].json(&["ha", "status"])?;
        Ok(role(&last) == Some("active") && last["groups"][0]["handed_over"] == false)
    });
    taken_back.with_context(|| last.to_string())
}

#[test]
fn a_paused_node_takes_nothing_over_and_a_stopped_daemon_says_goodbye() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.nodes[1].ok(&["ha", "pause", "--all"])?;
    trio.nodes[0].stop()?;
    let watch = trio.watch(false)?;
    std::thread::sleep(ADVERT * 10);
    ensure!(watch.answers() == 0, "somebody answered: {:?}", watch.answering());
    trio.nodes[1].ok(&["ha", "resume", "--all"])?;
    until_answered_by(&watch, trio.macs[1])?;
    trio.nodes[0].start()?;
    trio.until_only(0)
}

#[test]
fn reload_moves_no_vip() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let before = trio.nodes[0].json(&["ha", "status"])?;
    trio.nodes[0].ok(&["backend", "drain", "herd", &trio.lab.backends[0].v4.to_string()])?;
    let text = std::fs::read_to_string(trio.nodes[0].config_path())?;
    std::fs::write(trio.nodes[0].config_path(), text.replace("priority = 200", "priority = 190"))?;
    trio.nodes[0].ok(&["config", "reload"])?;
    let after = trio.nodes[0].json(&["ha", "status"])?;
    assert_eq!(after["groups"][0]["priority"], 190);
    for key in ["role", "since", "reason"] {
        assert_eq!(before["groups"][0][key], after["groups"][0][key], "{key}");
    }
    assert_eq!(after["transitions"], before["transitions"]);
    Ok(())
}

#[test]
fn external_decisions_are_carried_out_and_survive_a_restart() -> Result<()> {
    let mut trio = Trio::new(2, |cluster| cluster.mode = "external".to_owned())?;
    trio.nodes.iter_mut().try_for_each(Fairlead::start)?;
    let watch = trio.watch(false)?;
    std::thread::sleep(ADVERT);
    ensure!(watch.answers() == 0, "nobody was told to answer");
    trio.nodes[0].ok(&["ha", "set", "active"])?;
    until_answered_by(&watch, trio.macs[0])?;
    trio.nodes[0].kill();
    let before = watch.answers();
    trio.nodes[0].start()?;
    more_answers(&watch, 100)?;
    ensure!(watch.answers() > before && watch.answering() == Some(trio.macs[0]));
    assert_eq!(role(&trio.nodes[0].json(&["ha", "status"])?), Some("active"));
    trio.nodes[0].ok(&["ha", "set", "standby", "--group", GROUP])?;
    trio.nodes[1].ok(&["ha", "set", "active", "--group", GROUP])?;
    until_answered_by(&watch, trio.macs[1])?;
    let record = watch.stop()?;
    assert_eq!(overlap(&record, Duration::ZERO..Duration::MAX).requests, 0);
    let refused = trio.nodes[0].cli(&["ha", "handover", "--all"])?;
    ensure!(refused.code == 5 && refused.stderr.contains("fairlead ha set"), "{refused:?}");
    Ok(())
}

#[test]
fn an_external_decision_that_ran_out_while_the_daemon_was_stopped_is_not_renewed() -> Result<()> {
    let mut trio = Trio::new(2, |cluster| cluster.mode = "external".to_owned())?;
    trio.nodes.iter_mut().try_for_each(Fairlead::start)?;
    trio.nodes[0].ok(&["ha", "set", "active"])?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    trio.nodes[0].signal(Signal::SIGSTOP)?;
    let silent = || {
        let before = watch.answers();
        std::thread::sleep(ADVERT);
        watch.answers() == before
    };
    // Its lease of ten seconds goes on without it.
    wait_until("the lease ends", SOON * 2, || Ok(silent()))?;
    trio.nodes[1].ok(&["ha", "set", "active"])?;
    until_answered_by(&watch, trio.macs[1])?;
    trio.nodes[0].signal(Signal::SIGCONT)?;
    let status = trio.nodes[0].json(&["ha", "status"])?;
    ensure!(role(&status) == Some("backup"), "{status}");
    ensure!(status["groups"][0]["reason"].as_str().is_some_and(|why| why.contains("run out")), "{status}");
    more_answers(&watch, 200)?;
    let record = watch.stop()?;
    assert_eq!(overlap(&record, Duration::ZERO..Duration::MAX).requests, 0, "both answered");
    Ok(())
}

#[test]
fn a_node_that_cannot_send_adverts_leaves_its_vips() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    trio.lab.balancers[0].ns.ip("address flush dev eth0 scope link\n")?;
    let mut last = Value::Null;
    let left = wait_until("it knows", SOON, || {
        last = trio.nodes[0].json(&["ha", "status"])?;
        let fault = last["groups"][0]["fault"].as_str().unwrap_or_default();
        Ok(role(&last) != Some("active") && fault.contains("no link-local IPv6 address"))
    });
    left.with_context(|| last.to_string())?;
    wait_until("the other is active", SOON, || {
        Ok(role(&trio.nodes[1].json(&["ha", "status"])?) == Some("active"))
    })
}

/// A keepalived on the second balancer, with a VIP of each family.
fn keepalived(trio: &Trio, priority: u8) -> Result<Keepalived> {
    let instances = FAMILIES.map(|v6| Instance::new(name(v6), 51, priority, ADVERT, &[trio.vip(v6)]));
    let mut peer = Keepalived::new(&trio.lab, &trio.lab.balancers[1], instances.to_vec())?;
    peer.start()?;
    Ok(peer)
}

#[test]
fn keepalived_is_a_peer_as_backup_and_as_master() -> Result<()> {
    let mut trio = Trio::new(2, |cluster| cluster.sync.clear())?;
    trio.nodes[0].start()?;
    trio.until_only(0)?;
    let mut peer = keepalived(&trio, 100)?;
    for v6 in FAMILIES {
        peer.until(name(v6), State::Backup, SOON)?;
    }
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;
    // Killed: the lease ends before keepalived takes over.
    trio.nodes[0].kill();
    until_answered_by(&watch, trio.macs[1])?;
    peer.until(name(true), State::Master, SOON)?;
    more_answers(&watch, 200)?;
    let record = watch.stop()?;
    assert_eq!(overlap(&record, Duration::ZERO..Duration::MAX).requests, 0, "both answered");
    // Back, it preempts by its priority, and keepalived yields.
    trio.nodes[0].start()?;
    wait_until("it is active", SOON, || Ok(role(&trio.nodes[0].json(&["ha", "status"])?) == Some("active")))?;
    for v6 in FAMILIES {
        peer.until(name(v6), State::Backup, SOON)?;
    }
    // A greater priority of keepalived wins; when it ends, this node has the VIPs again.
    peer.stop()?;
    drop(peer);
    let mut peer = keepalived(&trio, 220)?;
    for v6 in FAMILIES {
        peer.until(name(v6), State::Master, SOON)?;
    }
    let heard = |trio: &Trio| -> Result<Value> { trio.nodes[0].json(&["ha", "status"]) };
    wait_until("it yields", SOON, || Ok(role(&heard(&trio)?) == Some("backup")))?;
    let status = heard(&trio)?;
    assert_eq!(status["groups"][0]["routers"][0]["active"]["priority"], 220, "{status}");
    peer.stop()?;
    wait_until("it is active again", SOON, || Ok(role(&heard(&trio)?) == Some("active")))?;
    status["groups"].as_array().context("groups").map(drop)
}
