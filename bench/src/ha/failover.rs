//! One failover after another, watched by a client: how long nobody answered, and whether two did.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{
    AnswerWatch, ControlPing, How, Overlap, Pair, gap, mac_of, overlap, switched_at,
};
use fairlead_tests::lab::{interrupt, wait_until};
use nix::sys::signal::Signal;

/// What came of one failover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failover {
    /// The longest time in which nobody answered.
    pub(super) gap: Duration,
    /// From the disturbance to the first answer of the second.
    pub(super) switched: Duration,
    /// How far both answered, or did for as long as they were watched.
    pub(super) both: Overlap,
    /// How long the machine itself stood still meanwhile.
    pub(super) stall: Duration,
}

/// Runs of a row, and how many had to be repeated because the machine stood still.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) all: Vec<Failover>,
    pub(super) repeated: u32,
    /// Counted all the same, as there were too many to repeat.
    pub(super) spoiled: u32,
}

/// Runs that are repeated, of a row.
const MAX_REPEATED: u32 = 5;
/// How long the second may take.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(20);
/// A quiet time before each disturbance.
const CALM: Duration = Duration::from_millis(200);
/// How long is watched on after the change, at least.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// `runs` failovers, each at another moment between two adverts.
pub(super) fn series(pair: &mut impl Pair, how: How, runs: u32) -> Result<Runs> {
    let mut series = Runs::default();
    let mut number = 0;
    while number < runs {
        interrupt::stand_still_if_interrupted();
        let phase = pair.advert_interval() * number / runs.max(1);
        let what = || format!("{} {} at {:?}, run {number}", pair_name(how), how.name(), phase);
        let run = once(pair, how, phase).with_context(what)?;
        let spoiled = run.is_none_or(|run| run.stall > fairlead_tests::lab::ha::SPOILED_BY);
        if spoiled && series.repeated < MAX_REPEATED {
            series.repeated += 1;
            continue;
        }
        let run = run.with_context(|| format!("{}: the machine stands still too often", what()))?;
        series.spoiled += u32::from(spoiled);
        series.all.push(run);
        number += 1;
    }
    Ok(series)
}

fn pair_name(how: How) -> &'static str {
    if how == How::HandOver { "a planned" } else { "an unplanned" }
}

/// Takes the first node away so long after a calm moment, and lets it come back. `None`: it was away before.
fn once(pair: &mut impl Pair, how: How, phase: Duration) -> Result<Option<Failover>> {
    pair.settle().context("before")?;
    let second = mac_of(pair.lab().balancers.get(1).context("a pair has two nodes")?)?;
    let control = ControlPing::start(pair.lab())?;
    let watch = AnswerWatch::start(&pair.lab().client, pair.vip())?;
    wait_until("somebody answers", TAKES_OVER_WITHIN, || Ok(watch.answers() > 50))?;
    if how == How::Stop {
        // What it does when it wakes up is watched, not how it takes over from a live peer later.
        pair.may_take_back(false)?;
    }
    sleep(CALM + phase);
    let (at, begun) = (watch.now(), Instant::now());
    let link = pair.disturb(how)?;
    wait_until("the second answers", TAKES_OVER_WITHIN, || {
        Ok(watch.last_answer_of(second).is_some_and(|last| last > at))
    })?;
    let after = AFTERWARDS.max(pair.advert_interval() * 3);
    sleep(after);
    let (change_ends, ended) = (watch.now(), Instant::now());
    if how == How::Stop {
        // What it does when it wakes up late is watched as well.
        pair.signal(Signal::SIGCONT)?;
        sleep(after);
    }
    let end = watch.now();
    let record = watch.stop()?;
    let stall = control.stop(begun, ended)?;
    if let Some(link) = link {
        link.heal()?;
    }
    if how == How::Stop {
        pair.may_take_back(true)?;
    }
    let before = at.saturating_sub(CALM);
    let (change, back) = (overlap(&record, before..change_ends), overlap(&record, change_ends..end));
    let Some(switched) = switched_at(&record, at) else {
        // It had changed hands before: the first was late, as the machine stood still.
        ensure!(
            stall.longest > fairlead_tests::lab::ha::SPOILED_BY,
            "it changed hands before it was disturbed"
        );
        return Ok(None);
    };
    Ok(Some(Failover {
        gap: gap_until(&record, at, change_ends)?,
        switched: switched.saturating_sub(at),
        both: if back.lasted > change.lasted { back } else { change },
        stall: stall.longest,
    }))
}

/// The gap of the change alone, not of the way back.
fn gap_until(record: &fairlead_tests::lab::ha::Record, at: Duration, end: Duration) -> Result<Duration> {
    let mut record = record.clone();
    record.answers.retain(|answer| answer.at <= end);
    gap(&record, at).context("nobody answered before or after")
}
