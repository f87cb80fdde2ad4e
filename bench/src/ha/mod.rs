//! `cargo xtask bench ha`: what a client notices when a balancer fails, of Fairlead and of keepalived beside it.

mod connections;
mod failover;
mod keepalived;
mod lag;
mod rows;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fairlead_tests::lab::ha::{FairleadPair, How, Pair};
use fairlead_tests::lab::{self, interrupt};
use fairlead_tests::report::{Promise, Report};
use serde_json::{Map, Value, json};

use crate::control::own_folder;
use failover::{Runs, series};
use keepalived::KeepalivedPair;
use rows::{BASELINE, PROMISES, Row, Series};

/// Balancers do not tell each other of flows yet: connections go on by the hash that they have in common. The rows that
/// measure the telling can't be run.
const SYNC: &str = "full";

/// What `cargo xtask bench ha` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rows to measure, all if none is named
    rows: Vec<String>,
    /// Print one JSON object on stdout, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// Failovers of each row
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Whom to measure; keepalived's rows have no value to reach
    #[arg(long, value_enum, default_value_t = Peer::Both)]
    peer: Peer,
}

/// Whom to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    /// Fairlead, and keepalived beside it.
    Both,
    /// Fairlead alone.
    Fairlead,
    /// keepalived alone.
    Keepalived,
}

/// Measures; false: a value was not reached, or could not be measured.
///
/// # Errors
/// A row that there is not.
pub(crate) fn run(options: &Options) -> Result<bool> {
    lab::use_folder(own_folder()?);
    let started = Instant::now();
    let mut bench = Bench::new(options)?;
    if options.peer != Peer::Fairlead {
        bench.baseline();
    }
    if options.peer != Peer::Keepalived {
        bench.fairlead();
    }
    interrupt::stand_still_if_interrupted();
    let Bench { mut report, details, .. } = bench;
    report.environment("rows", Value::Object(details));
    report.environment("runs", options.runs);
    report.environment("seconds", started.elapsed().as_secs());
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(report.ok())
}

struct Bench {
    rows: Vec<Row>,
    runs: u32,
    report: Report,
    /// What each series came to, by its name.
    details: Map<String, Value>,
    /// The longest time in which two answered, by kills and by stops.
    two_answering: BTreeMap<&'static str, f64>,
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let names = &options.rows;
        if let Some(unknown) = names.iter().find(|name| PROMISES.iter().all(|(row, _)| row.0 != **name)) {
            let known: Vec<&str> = PROMISES.iter().map(|(promise, _)| promise.0).collect();
            bail!("there is no row {unknown}; there are {}", known.join(", "));
        }
        let wanted = PROMISES.iter().filter(|(promise, _)| {
            options.peer != Peer::Keepalived
                && (names.is_empty() || names.iter().any(|name| name == promise.0))
        });
        let (promises, mut rows): (Vec<Promise>, Vec<Row>) = wanted.copied().unzip();
        rows.dedup();
        let report = Report::new(&promises);
        Ok(Self { rows, runs: options.runs, report, details: Map::new(), two_answering: BTreeMap::new() })
    }

    /// keepalived's series, which have nothing to reach. One that fails is told, and the others go on.
    fn baseline(&mut self) {
        for (interval, how) in BASELINE {
            let outcome = KeepalivedPair::new(interval, true)
                .and_then(|mut pair| self.failovers(&mut pair, how).map(drop))
                .with_context(|| format!("keepalived, {}", rows::series_name(how, interval)));
            tell_failure(outcome);
        }
    }

    fn fairlead(&mut self) {
        for row in self.rows.clone() {
            interrupt::stand_still_if_interrupted();
            eprintln!("== {row:?}");
            tell_failure(self.row(row).with_context(|| format!("{row:?}")));
        }
    }

    fn row(&mut self, row: Row) -> Result<()> {
        match row {
            Row::Failover(how, interval) => {
                let mut pair = FairleadPair::new(interval, SYNC)?;
                let series = self.failovers(&mut pair, how)?;
                for (name, value) in series.values(how, interval) {
                    self.measured(&name, value)?;
                }
                Ok(())
            }
            Row::TwoAnswering => {
                for how in [How::Kill, How::Stop] {
                    if !self.two_answering.contains_key(how.name()) {
                        self.failovers(&mut FairleadPair::new(rows::QUICK, SYNC)?, how)?;
                    }
                }
                let most = Series::of(self.two_answering.values().copied()).max();
                self.measured("two_answering_max_ms", most)
            }
            Row::Lost => {
                let lost = connections::lost(&mut FairleadPair::new(rows::QUICK, SYNC)?, self.runs)?;
                self.report.counted("handover_lost_packets", lost)
            }
            Row::Broken => self.broken(),
            Row::Lag => {
                let lags = lag::standby_lag(&mut FairleadPair::new(rows::QUICK, "full")?)?;
                let series = Series::of(lags);
                self.details.insert("standby_lag".to_owned(), series.json());
                self.measured("standby_lag_ms", series.at(0.99))
            }
            Row::Cpu => {
                let with = lag::cpu_percent(&mut FairleadPair::new(rows::QUICK, "full")?)?;
                let without = lag::cpu_percent(&mut FairleadPair::new(rows::QUICK, "")?)?;
                self.details.insert("cpu_percent".to_owned(), json!({"with": with, "without": without}));
                self.measured("sync_cpu_percent", with - without)
            }
        }
    }

    /// What breaks by each kind of failover, and on all ways back.
    fn broken(&mut self) -> Result<()> {
        let mut back = 0;
        for how in [How::Cut, How::Kill, How::Stop, How::HandOver] {
            let broken = connections::broken(&mut FairleadPair::new(rows::QUICK, SYNC)?, how, self.runs)?;
            back += broken.back;
            self.measured(&format!("broken_{}", how.name()), count(broken.there))?;
        }
        self.measured("broken_failback", count(back))
    }

    /// One series of failovers, told and kept.
    fn failovers(&mut self, pair: &mut impl Pair, how: How) -> Result<rows::Failovers> {
        let runs: Runs = series(pair, how, self.runs)?;
        let failovers = rows::Failovers::of(&runs);
        let name = rows::series_name(how, pair.advert_interval());
        eprintln!("   {} {name}: {failovers}", pair.name());
        self.details.insert(format!("{}_{name}", pair.name()), failovers.json());
        if pair.name() == "fairlead" && matches!(how, How::Kill | How::Stop) {
            self.two_answering.insert(how.name(), failovers.both.max());
        }
        Ok(failovers)
    }

    /// Records a value, if somebody asked for it.
    fn measured(&mut self, name: &str, value: f64) -> Result<()> {
        if self.report.promises(name) { self.report.measured(name, value) } else { Ok(()) }
    }
}

fn count(of: usize) -> f64 {
    f64::from(u32::try_from(of).unwrap_or(u32::MAX))
}

fn tell_failure(outcome: Result<()>) {
    if let Err(error) = outcome {
        eprintln!("error: {error:#}");
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
