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

/// How often it stops: a minute's worth.
const ROUNDS: u32 = 50;
const FEW_ROUNDS: u32 = 5;
const FLOWS_A_SECOND: u32 = 300;

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
    for round in 0..if quick() { FEW_ROUNDS } else { ROUNDS } {
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
            "round {round}: {GROUP} from node {active} to {other}: overlap {:?} ({} requests), gap {:?}, {} where it stopped \
             (so far {} us at most, {} us at the other), machine stood still for {:?}",
            both.lasted,
            both.requests,
            gap(&record, stopped_at).unwrap_or_default(),
            trio.group(active)?["reason"],
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
