//! A VIP moves between a pair of keepalived, and the watch sees how: who answers, how often, who announces it.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::keepalived::State;
use fairlead_tests::lab::ha::{Cut, Record, gap, overlap, switched_at};
use nix::sys::signal::Signal;
use std::time::Duration;

use crate::scene::*;

/// Enough answers that somebody who answers at all has answered.
const SOME: u64 = 50;

/// Says what was measured: timings are told, never asserted.
fn tell(what: &str, record: &Record, since: Duration) {
    let overlap = overlap(record, Duration::ZERO..Duration::MAX);
    println!(
        "{what}: gap {:?}, switched after {:?}, both answered for {:?} ({} requests), real time {}",
        gap(record, since),
        switched_at(record, since).map(|at| at.saturating_sub(since)),
        overlap.lasted,
        overlap.requests,
        record.real_time,
    );
}

#[test]
fn vip_moves_to_the_backup_when_a_link_is_cut_and_back_when_it_heals() -> Result<()> {
    for (unicast, v6) in [(false, false), (true, true)] {
        let pair = Pair::start(unicast)?;
        let watch = pair.watch(v6)?;
        more_answers(&watch, SOME)?;
        let cut_at = watch.now();
        let link = Cut::Detached.apply(&pair.lab, &pair.lab.balancers[0])?;
        until_answered_by(&watch, pair.macs[1])?;
        more_answers(&watch, SOME)?;
        let record = watch.stop()?;
        tell(&format!("cut, unicast {unicast}, v6 {v6}"), &record, cut_at);
        assert_eq!(record.answerers().keys().copied().collect::<Vec<_>>(), sorted(&pair.macs));
        let switched = switched_at(&record, cut_at).context("it did not move")?;
        ensure!(gap(&record, cut_at).context("no gap")? >= Duration::from_millis(1));
        let announcers = record.announcers(cut_at);
        assert_eq!(announcers.keys().copied().collect::<Vec<_>>(), [pair.macs[1]], "at {switched:?}");
        // Behind the cut the first still has it, and both say so.
        assert_eq!(pair.nodes[1].state(name(v6)), Some(State::Master));
        assert_eq!(pair.nodes[0].state(name(v6)), Some(State::Master));

        let watch = fairlead_tests::lab::ha::AnswerWatch::start(&pair.lab.client, pair.vip(v6))?;
        until_answered_by(&watch, pair.macs[1])?;
        link.heal()?;
        pair.settle()?;
        until_answered_by(&watch, pair.macs[0])?;
        ensure!(watch.stop()?.answerers().len() == 2);
    }
    Ok(())
}

fn sorted(macs: &[fairlead_tests::lab::ha::Mac]) -> Vec<fairlead_tests::lab::ha::Mac> {
    let mut macs = macs.to_vec();
    macs.sort();
    macs
}

#[test]
fn both_answer_after_keepalived_is_killed() -> Result<()> {
    let mut pair = Pair::start(false)?;
    for v6 in FAMILIES {
        let watch = pair.watch(v6)?;
        more_answers(&watch, SOME)?;
        let killed_at = watch.now();
        pair.nodes[0].kill()?;
        pair.nodes[1].until(name(v6), State::Master, SOON)?;
        more_answers(&watch, SOME)?;
        let record = watch.stop()?;
        tell(&format!("kill, v6 {v6}"), &record, killed_at);
        assert_eq!(record.answerers().len(), 2);
        // What it left in the kernel answers on: that is what a lease is for.
        ensure!(overlap(&record, Duration::ZERO..Duration::MAX).requests > 0);
        pair.nodes[0].clean_addresses()?;
        pair.nodes[0].start()?;
        pair.settle()?;
    }
    Ok(())
}

#[test]
fn both_answer_while_keepalived_is_stopped_and_one_when_it_goes_on() -> Result<()> {
    let pair = Pair::start(true)?;
    let watch = pair.watch(false)?;
    let stopped_at = watch.now();
    pair.nodes[0].signal(Signal::SIGSTOP)?;
    pair.nodes[1].until(name(false), State::Master, SOON)?;
    more_answers(&watch, SOME)?;
    pair.nodes[0].signal(Signal::SIGCONT)?;
    pair.settle()?;
    until_answered_by(&watch, pair.macs[0])?;
    let record = watch.stop()?;
    tell("stop", &record, stopped_at);
    ensure!(overlap(&record, stopped_at..Duration::MAX).requests > 0);
    assert_eq!(record.answerers().len(), 2);
    Ok(())
}

#[test]
fn nobody_moves_when_only_the_others_adverts_are_lost() -> Result<()> {
    // The backup is deaf and takes over; the active hears a worse one and stays: two have it.
    let pair = Pair::start(false)?;
    let watch = pair.watch(false)?;
    let link = Cut::ToHost.apply(&pair.lab, &pair.lab.balancers[1])?;
    pair.nodes[1].until(name(false), State::Master, SOON)?;
    more_answers(&watch, SOME)?;
    assert_eq!(pair.nodes[0].state(name(false)), Some(State::Master));
    // It is deaf to questions as well, so only the first answers; but it announced itself.
    let record = watch.stop()?;
    assert_eq!(record.answerers().keys().copied().collect::<Vec<_>>(), [pair.macs[0]]);
    ensure!(record.announcers(Duration::ZERO).contains_key(&pair.macs[1]), "{:?}", record.announcements);
    link.heal()?;
    pair.settle()
}

#[test]
fn keepalived_that_is_asked_to_end_gives_its_addresses_up() -> Result<()> {
    let mut pair = Pair::start(false)?;
    let watch = pair.watch(true)?;
    let asked_at = watch.now();
    pair.nodes[0].stop()?;
    until_answered_by(&watch, pair.macs[1])?;
    more_answers(&watch, SOME)?;
    assert_eq!(watch.answering(), Some(pair.macs[1]));
    let record = watch.stop()?;
    tell("asked to end", &record, asked_at);
    ensure!(switched_at(&record, asked_at).is_some());
    assert_eq!((pair.nodes[1].takeovers(), pair.nodes[1].state("v6")), (2, Some(State::Master)));
    Ok(())
}
