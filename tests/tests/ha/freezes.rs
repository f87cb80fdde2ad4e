//! The active daemon stops again and again, as under a debugger or on a machine that stands still, under load.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{ControlPing, FlowMaker, GROUP, gap, overlap};
use fairlead_tests::lab::quick;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::load::*;
use crate::scene::*;
use crate::trio::*;

/// How often it stops where nothing else is said: enough of it takes minutes.
const ROUNDS: u32 = 5;
/// Rounds with `FAIRLEAD_STOPS`, at most: the flows that are made must have room.
const MAX_ROUNDS: u32 = 200;
const FLOWS_A_SECOND: u32 = 300;

fn rounds() -> Result<u32> {
    match std::env::var("FAIRLEAD_STOPS") {
        Ok(text) if !quick() => {
            let rounds = text.parse().with_context(|| format!("FAIRLEAD_STOPS is {text:?}"))?;
            ensure!((1..=MAX_ROUNDS).contains(&rounds), "FAIRLEAD_STOPS: 1 to {MAX_ROUNDS}, not {rounds}");
            Ok(rounds)
        }
        _ => Ok(ROUNDS),
    }
}

#[test]
fn a_daemon_stopped_again_and_again_never_answers_beside_the_other_and_breaks_nothing() -> Result<()> {
    // Nobody preempts: both would answer for a moment, which is another thing than what is looked for.
    let trio = Trio::start(2, |cluster| {
        cluster.preempt = false;
        cluster.rest = cluster.rest.replace("flows = 65536", "flows = 524288");
    })?;
    FlowMaker::prepare(&trio.lab)?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let herds = herds(&trio)?;
    trio.change_pool(&[0, 1], true)?;
    let target = SocketAddr::new(trio.vip(false), PORT);
    let (mut active, mut made) = (0, 0);
    for round in 0..rounds()? {
        let other = 1 - active;
        trio.until_ready(other, "full")?;
        let watch = trio.watch(round % 2 == 1)?;
        until_answered_by(&watch, trio.macs[active])?;
        let maker = FlowMaker::start(&trio.lab.client, trio.macs[active], target, FLOWS_A_SECOND, made)?;
        let (control, begun) = (ControlPing::start(&trio.lab)?, Instant::now());
        more_answers(&watch, 200)?;
        let stopped_at = watch.now();
        trio.nodes[active].signal(Signal::SIGSTOP)?;
        until_answered_by(&watch, trio.macs[other])?;
        // Between one and some intervals after the other one has taken over.
        more_answers(&watch, 100 + 37 * u64::from(round % 7))?;
        trio.nodes[active].signal(Signal::SIGCONT)?;
        more_answers(&watch, 300)?;
        let stall = control.stop(begun, Instant::now())?;
        made += maker.stop()?;
        let record = watch.stop()?;
        let both = overlap(&record, stopped_at..Duration::MAX);
        trio.until_only(other)?;
        let lateness = |node: usize| -> Result<u64> {
            let status = trio.nodes[node].json(&["ha", "status"])?;
            status["thread"]["lateness_max_us"].as_u64().with_context(|| status.to_string())
        };
        println!(
            "round {round}: {GROUP} from node {active} to {other}: overlap {:?} ({} requests), gap {:?}, late at most \
             {} us where it stopped and {} us at the other, machine stood still for {:?}",
            both.lasted,
            both.requests,
            gap(&record, stopped_at).unwrap_or_default(),
            lateness(active)?,
            lateness(other)?,
            stall.longest
        );
        assert_eq!((both.lasted, both.requests), (Duration::ZERO, 0), "both answered in round {round}");
        for herd in &herds {
            let broken = herd.broken();
            ensure!(broken.is_empty(), "round {round}: {broken:?}");
        }
        active = other;
    }
    all_whole(&herds, &format!("{made} flows later"))
}
