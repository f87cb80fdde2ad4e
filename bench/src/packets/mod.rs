//! `cargo xtask bench`: what each kind of packet costs, as a multiple of a program that does nothing.

mod balancer;
mod case;
mod harness;
mod rows;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fairlead_tests::packets::Random;
use fairlead_tests::report::{Promise, Reach, Report};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use crate::stats::Summary;
use balancer::Balancer;
use case::{Case, Cost, NULL_GROW};
use harness::Harness;
use rows::{Place, ROWS, Row};

/// What `cargo xtask bench` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rows to measure, all if none is named
    rows: Vec<String>,
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// Measure every row this many times, in turns
    #[arg(long, default_value_t = 60)]
    rounds: u32,
}

/// What the flow table needs for a flow when it is half full, the load that alarms; and at the quarter that it is sized
/// for, by half of the same flows.
const BYTES_PER_FLOW: [Promise; 2] = [
    ("bytes_per_flow_hot", "bytes at 0.5", Reach::AtMost(16.0)),
    ("bytes_per_flow_hot_design", "bytes at 0.25", Reach::AtMost(29.0)),
];

/// Measures; false: a value was not reached.
///
/// # Errors
/// A row took another path than it should, or nothing could be measured at all.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let rows = chosen(&options.rows)?;
    let started = Instant::now();
    pin_to_last_cpu()?;
    let mut promises: Vec<Promise> =
        rows.iter().filter_map(|row| row.reach.map(|reach| (row.name, "null_grow", reach))).collect();
    if rows.iter().any(|row| row.place == Place::Full) {
        promises.extend(BYTES_PER_FLOW);
    }
    let mut report = Report::new(&promises);
    let measured = measure(&rows, options.rounds, &mut report);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.environment("kernel", kernel.trim());
    report.environment("processor", processor());
    report.environment("rounds", options.rounds);
    report.environment("seconds", started.elapsed().as_secs());
    let details = measured?;
    if options.json {
        report.environment("rows", details);
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(report.ok())
}

fn chosen(names: &[String]) -> Result<Vec<Row>> {
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != *name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        bail!("there is no row {unknown}; there are {}", known.join(", "));
    }
    Ok(ROWS.into_iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

/// The harness and its counters are of one CPU; the first has the most interrupts.
fn pin_to_last_cpu() -> Result<()> {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut set = CpuSet::new();
    set.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one CPU")
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or_else(String::new, |name| name.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn measure(rows: &[Row], rounds: u32, report: &mut Report) -> Result<Value> {
    let mut harness = Harness::load()?;
    let mut balancers = BTreeMap::new();
    let mut cases = Case::nulls(&mut harness)?;
    for row in rows {
        let balancer = match balancers.entry(row.place) {
            Entry::Occupied(loaded) => loaded.into_mut(),
            Entry::Vacant(place) => place.insert(Balancer::load(row.place == Place::FreshWithTuples)?),
        };
        cases.push(Case::of(row, balancer, &mut harness).with_context(|| format!("row {}", row.name))?);
    }
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut random = Random::new(1);
    for round in 0..rounds {
        shuffle(&mut order, &mut random);
        for at in &order {
            let Some(case) = cases.get_mut(*at) else { continue };
            let balancer = case.place().and_then(|place| balancers.get(&place));
            case.measure(&mut harness, balancer)
                .with_context(|| format!("row {}, round {round}", case.name))?;
        }
    }
    if let Some(balancer) = balancers.get(&Place::Full) {
        let [(at_half, ..), (at_quarter, ..)] = BYTES_PER_FLOW;
        report.measured(at_half, balancer.hot_bytes_per_flow(false))?;
        report.measured(at_quarter, balancer.hot_bytes_per_flow(true))?;
    }
    tell(rows, &cases, report)
}

/// Puts a series into another order, the same in every run of the bench.
fn shuffle(order: &mut [usize], random: &mut Random) {
    for at in (1..order.len()).rev() {
        let other = random.below(at as u64 + 1);
        order.swap(at, usize::try_from(other).unwrap_or(0));
    }
}

fn tell(rows: &[Row], cases: &[Case], report: &mut Report) -> Result<Value> {
    let nulls = case::Nulls::among(cases)?;
    let mut details = Map::new();
    for null in cases.iter().take(case::NULLS.len()) {
        let gross = Summary::of(null.gross.iter().copied());
        eprintln!(
            "{:<24} gross {:6.1} ns (median {:.1}, spread {:.1})",
            null.name, gross.min, gross.median, gross.spread
        );
        details.insert(null.name.to_owned(), json!({"gross_ns": gross.json()}));
    }
    for (row, case) in rows.iter().zip(cases.iter().skip(case::NULLS.len())) {
        let Cost { gross, net, multiple, by_min } = nulls.cost(case, row.kind.passes());
        eprintln!(
            "{:<24} gross {:6.1} ns (median {:.1}, spread {:.1})  net {:6.1} ns (median {:.1}, spread {:.1})  \
             {:.2} {NULL_GROW} by the least, {:.2} by the median of rounds (spread {:.2}){}",
            row.name,
            gross.min,
            gross.median,
            gross.spread,
            net.min,
            net.median,
            net.spread,
            by_min,
            multiple.median,
            multiple.spread,
            case.remark(),
        );
        details.insert(
            row.name.to_owned(),
            json!({
                "gross_ns": gross.json(), "net_ns": net.json(), "multiple_of_rounds": multiple.json(),
                "multiple": (by_min * 1000.0).round() / 1000.0, "misses_percent": case.misses_percent(),
            }),
        );
        if row.reach.is_some() {
            report.measured(row.name, by_min)?;
        }
    }
    Ok(Value::Object(details))
}
