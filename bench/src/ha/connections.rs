//! Whether connections and a steady stream survive each kind of failover.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{
    AnswerWatch, CutLink, FairleadPair, HERD, Herd, HerdPlan, How, Pair, STREAM, Stream, mac_of,
};
use fairlead_tests::lab::{interrupt, wait_until};

/// Established connections of each run, half of them idle.
const CONNECTIONS: usize = 2_000;
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);
/// How long the last answers may take: TCP waits longer each time before it sends again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// Between two datagrams of the stream.
const EVERY: Duration = Duration::from_millis(1);
/// How long traffic flows before and after a change.
const CALM: Duration = Duration::from_millis(500);

/// What became of the connections, in all runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Broken {
    /// By the failover.
    pub(super) there: usize,
    /// By the way back, of those that were whole.
    pub(super) back: usize,
}

/// So many runs, each with connections of its own; the pool changes right before and right after.
pub(super) fn broken(pair: &mut FairleadPair, how: How, runs: u32) -> Result<Broken> {
    let mut sum = Broken::default();
    for number in 0..runs {
        interrupt::stand_still_if_interrupted();
        let broken = herd_over(pair, how).with_context(|| format!("{}, run {number}", how.name()))?;
        sum.there += broken.there;
        sum.back += broken.back;
    }
    Ok(sum)
}

fn herd_over(pair: &mut FairleadPair, how: How) -> Result<Broken> {
    pair.settle().context("before")?;
    let client = pair.lab().client.clone();
    let herd = Herd::open(&client, client.v4.into(), (pair.vip(), HERD).into(), HerdPlan::new(CONNECTIONS))?;
    sleep(CALM);
    pair.change_pool(&[0, 1], true)?;
    let link = away(pair, how)?;
    // Another change, not the first one undone: idle connections are asked only now, and with the first pool the tables
    // alone would lead them right.
    pair.weigh(&[1], 5)?;
    let there = tell(&herd, how.name())?;
    pair.bring_back(how, link)?;
    pair.settle().context("the way back")?;
    let back = tell(&herd, "failback")?.saturating_sub(there);
    pair.change_pool(&[0, 1], false)?;
    pair.weigh(&[0, 1], 1)?;
    Ok(Broken { there, back })
}

/// Takes the first away and waits until the second answers.
fn away(pair: &mut FairleadPair, how: How) -> Result<Option<CutLink>> {
    let second = mac_of(pair.lab().balancers.get(1).context("a pair has two nodes")?)?;
    let watch = AnswerWatch::start(&pair.lab().client, pair.vip())?;
    let link = pair.disturb(how)?;
    wait_until("the second answers", TAKES_OVER_WITHIN, || Ok(watch.last_answer_of(second).is_some()))?;
    Ok(link)
}

fn tell(herd: &Herd, what: &str) -> Result<usize> {
    let checkup = herd.check(ANSWERED_WITHIN)?;
    if !checkup.broken.is_empty() {
        eprintln!("   {what}: of {} connections broke: {:?}", checkup.connections, checkup.reasons());
    }
    Ok(checkup.broken.len())
}

/// Datagrams that were lost over so many planned handovers, there and back.
pub(super) fn lost(pair: &mut FairleadPair, runs: u32) -> Result<usize> {
    let mut lost = 0;
    for number in 0..runs {
        interrupt::stand_still_if_interrupted();
        pair.settle().context("before")?;
        let client = pair.lab().client.clone();
        let stream = Stream::start(&client, client.v4.into(), (pair.vip(), STREAM).into(), EVERY)?;
        sleep(CALM);
        away(pair, How::HandOver).with_context(|| format!("run {number}"))?;
        sleep(CALM);
        pair.node(0)?.ok(&["ha", "resume", "--all"])?;
        pair.settle().context("the way back")?;
        sleep(CALM);
        let streamed = stream.stop()?;
        ensure!(streamed.backends.len() == 1, "one flow was answered by {:?}", streamed.backends);
        lost += streamed.lost();
    }
    Ok(lost)
}
