//! How long a new flow takes to the standby's table, and what telling it costs the active.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use fairlead_tests::lab::ha::{FLOWS, FairleadPair, FlowMaker, Pair, mac_of};
use lb_common::flow::FlowEntry;
use lb_user::bpf::mapped::Mapped;

/// Flows that are known already.
const STANDING: u64 = 100_000;
/// How many of those are made a second.
const BEFORE_PER_SECOND: u32 = 25_000;
/// New flows a second while it is measured.
const PER_SECOND: u32 = 10_000;
/// How long it is measured.
const LENGTH: Duration = Duration::from_secs(8);
/// How long the standby may take to the last of them.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the tables are looked at: how exact a lag is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A table, looked at from outside: when each established flow was seen first.
struct Looking {
    words: Mapped<u64>,
    last: Vec<u32>,
    first_seen: HashMap<u32, Instant>,
}

impl Looking {
    fn at(path: &Path, entries: u32) -> Result<Self> {
        let map = MapData::from_pin(path).with_context(|| format!("no map at {}", path.display()))?;
        let words = Mapped::new(map.fd(), entries)?;
        let last = vec![0; words.len()];
        Ok(Self { words, last, first_seen: HashMap::new() })
    }

    fn look(&mut self) {
        let now = Instant::now();
        for (index, last) in self.last.iter_mut().enumerate() {
            let entry = FlowEntry(self.words.word(index).load(Ordering::Relaxed));
            let fingerprint = entry.fingerprint();
            if fingerprint != *last && entry.is(FlowEntry::CONFIRMED) {
                *last = fingerprint;
                self.first_seen.entry(fingerprint).or_insert(now);
            }
        }
    }
}

/// The lags of all flows that were new while it was measured, ascending, in milliseconds.
pub(super) fn standby_lag(pair: &mut FairleadPair) -> Result<Vec<f64>> {
    pair.settle()?;
    let known = stand(pair)?;
    let tables = [pair.flow_table(0)?, pair.flow_table(1)?];
    let [(active, size), (standby, _)] = &tables;
    let (mut active, mut standby) = (Looking::at(active, *size)?, Looking::at(standby, *size)?);
    active.look();
    standby.look();
    let begun = Instant::now();
    let maker = make(pair, PER_SECOND, known)?;
    while begun.elapsed() < LENGTH {
        active.look();
        standby.look();
        sleep(LOOK_EVERY);
    }
    let made = maker.stop()?;
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        active.look();
        standby.look();
        sleep(LOOK_EVERY);
    }
    lags(&active, &standby, begun, made)
}

fn lags(active: &Looking, standby: &Looking, begun: Instant, made: u64) -> Result<Vec<f64>> {
    let new: Vec<(&u32, &Instant)> = active.first_seen.iter().filter(|(_, at)| **at > begun).collect();
    ensure!(new.len() as u64 > made / 2, "of {made} flows {} are in the active's table", new.len());
    let lag = |(fingerprint, at): &(&u32, &Instant)| {
        let seen = standby.first_seen.get(fingerprint)?;
        Some(seen.saturating_duration_since(**at).as_secs_f64() * 1_000.0)
    };
    let mut lags: Vec<f64> = new.iter().map(|flow| lag(flow).unwrap_or(f64::INFINITY)).collect();
    lags.sort_by(f64::total_cmp);
    Ok(lags)
}

/// Makes the flows that are known beforehand; how many there are.
fn stand(pair: &FairleadPair) -> Result<u64> {
    FlowMaker::prepare(pair.lab()).context("backends that are silent")?;
    let maker = make(pair, BEFORE_PER_SECOND, 0)?;
    while maker.made() < STANDING {
        sleep(LOOK_EVERY);
    }
    let made = maker.stop()?;
    sleep(PATIENCE);
    Ok(made)
}

fn make(pair: &FairleadPair, rate: u32, first: u64) -> Result<FlowMaker> {
    let balancer = mac_of(pair.lab().balancers.first().context("a pair has two nodes")?)?;
    FlowMaker::start(&pair.lab().client, balancer, (pair.vip(), FLOWS).into(), rate, first)
}

/// What part of one CPU the active's daemon takes while flows come, in percent.
pub(super) fn cpu_percent(pair: &mut FairleadPair) -> Result<f64> {
    pair.settle()?;
    let known = stand(pair)?;
    let pid = pair.node(0)?.pid().context("the active runs")?;
    let maker = make(pair, PER_SECOND, known)?;
    let (begun, before) = (Instant::now(), cpu_time(pid)?);
    sleep(LENGTH);
    let (took, used) = (begun.elapsed(), cpu_time(pid)?.saturating_sub(before));
    maker.stop()?;
    Ok(100.0 * used.as_secs_f64() / took.as_secs_f64())
}

/// What a process has run so far, exactly: the sum of its threads' `schedstat`.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("the daemon's threads")?.flatten() {
        // A thread that has ended meanwhile is missing: none of the daemon's does.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}
