//! One case: a program under test and its packets; measured once a round, and held to the path it should take.

use anyhow::{Context, Result, bail, ensure};

use super::balancer::{Balancer, Counts};
use super::harness::{Harness, Stream, Target};
use super::rows::{Kind, Place, Row};
use crate::stats::Summary;

/// The unit of all multiples.
pub(super) const NULL_GROW: &str = "null_grow";
/// The programs that do nothing, by their names in the tables and in the object.
pub(super) const NULLS: [(&str, &str, u32); 4] = [
    ("null", "bench_null", XDP_TX),
    ("null_pass", "bench_null_pass", XDP_PASS),
    (NULL_GROW, "bench_null_grow", XDP_TX),
    ("null_grow_shrink_grow", "bench_null_grow_shrink_grow", XDP_TX),
];

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// How long a case is measured in each round.
const TURN_NS: f64 = 12_000_000.0;
/// Runs from which the length of a turn is estimated.
const ESTIMATE: u32 = 20_000;
/// Runs of a turn at most: new flows with those of the warm-up fill a tenth of the table.
const MAX_RUNS: u32 = 180_000;
/// One of this many runs warms caches and branch prediction up, unmeasured.
const WARM_UP: u32 = 8;
/// In a flow table that is half full some flows share an over-full bucket and take turns in it: one in so many at most.
const CROWDED: u64 = 12;
/// New flows that meet a full bucket although the table is nearly empty: one in so many at most.
const UNLUCKY: u64 = 1_000;

/// A case.
pub(super) struct Case {
    pub(super) name: &'static str,
    what: Option<(Kind, Place)>,
    target: Target,
    stream: Stream,
    verdict: u32,
    runs: u32,
    next: u64,
    /// Nanoseconds a run, by round.
    pub(super) gross: Vec<f64>,
    packets: u64,
    misses: u64,
}

impl Case {
    /// The programs that do nothing, in the order of [`NULLS`].
    ///
    /// # Errors
    /// If one can't be run.
    pub(super) fn nulls(harness: &mut Harness) -> Result<Vec<Self>> {
        let frame = vec![0; 64];
        let all = NULLS.into_iter().map(|(name, program, verdict)| {
            let target = harness.null(program)?;
            let mut case = Self::new(name, target, Stream { frame: frame.clone(), flows: 1 }, verdict);
            case.estimate(harness)?;
            Ok(case)
        });
        all.collect()
    }

    fn new(name: &'static str, target: Target, stream: Stream, verdict: u32) -> Self {
        Self {
            name,
            what: None,
            target,
            stream,
            verdict,
            runs: 0,
            next: 0,
            gross: Vec::new(),
            packets: 0,
            misses: 0,
        }
    }

    /// A row on its balancer. Makes its flows known there.
    ///
    /// # Errors
    /// If the kernel refuses, or the flows are not stored.
    pub(super) fn of(row: &Row, balancer: &mut Balancer, harness: &mut Harness) -> Result<Self> {
        let verdict = if row.kind.passes() { XDP_PASS } else { XDP_TX };
        let mut case = Self::new(row.name, balancer.target()?, row.stream(), verdict);
        case.what = Some((row.kind, row.place));
        harness.choose(&case.target)?;
        for stream in row.before() {
            harness.prepare(&stream, 0);
            let runs = u32::try_from(stream.flows).context("more flows than can be made known")?;
            harness.run(&stream, runs, verdict)?;
        }
        case.estimate(harness)?;
        Ok(case)
    }

    fn estimate(&mut self, harness: &mut Harness) -> Result<()> {
        harness.choose(&self.target)?;
        harness.prepare(&self.stream, self.next);
        let took = harness.run(&self.stream, ESTIMATE, self.verdict)?;
        let each = took.as_nanos() as f64 / f64::from(ESTIMATE);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the bounds just given"
        )]
        let runs = (TURN_NS / each).clamp(1_000.0, f64::from(MAX_RUNS)) as u32;
        self.runs = runs;
        self.next = harness.next();
        Ok(())
    }

    /// Where it runs.
    pub(super) fn place(&self) -> Option<Place> {
        self.what.map(|(_, place)| place)
    }

    /// Measures once.
    ///
    /// # Errors
    /// If a packet took another path.
    pub(super) fn measure(&mut self, harness: &mut Harness, balancer: Option<&Balancer>) -> Result<()> {
        if let (Some((Kind::New, _)), Some(balancer)) = (self.what, balancer) {
            balancer.forget_flows();
            let enough = self.next + u64::from(self.runs) * 2 < self.stream.flows;
            ensure!(enough, "so many rounds would make flows come again");
        }
        harness.choose(&self.target)?;
        harness.prepare(&self.stream, self.next);
        harness.run(&self.stream, self.runs / WARM_UP, self.verdict)?;
        let before = balancer.map(Balancer::counts);
        let took = harness.run(&self.stream, self.runs, self.verdict)?;
        self.next = harness.next();
        if let (Some(before), Some(balancer)) = (before, balancer) {
            self.check(&before, &balancer.counts())?;
        }
        self.gross.push(took.as_nanos() as f64 / f64::from(self.runs));
        Ok(())
    }

    /// Holds the counters against the path that every packet should have taken.
    fn check(&mut self, before: &Counts, after: &Counts) -> Result<()> {
        let Some((kind, place)) = self.what else { return Ok(()) };
        let runs = u64::from(self.runs);
        let rose = after
            .iter()
            .map(|(name, count)| (*name, count - before.get(name).copied().unwrap_or(0)))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.misses += misses(kind, place, runs, &rose)?;
        self.packets += runs;
        Ok(())
    }

    /// How many of a hundred packets found their flow displaced.
    pub(super) fn misses_percent(&self) -> f64 {
        (self.misses as f64 / self.packets.max(1) as f64 * 10_000.0).round() / 100.0
    }

    /// What has to be said of the row.
    pub(super) fn remark(&self) -> String {
        if self.misses == 0 {
            String::new()
        } else {
            format!("; {} % displaced flows", self.misses_percent())
        }
    }
}

/// Holds what the counters rose by against the path that `runs` packets should have taken; how many of them found
/// their flow displaced, which only the full table may do.
fn misses(kind: Kind, place: Place, runs: u64, rose: &Counts) -> Result<u64> {
    let mut left = rose.clone();
    let mut take = |name: &str| left.remove(name).unwrap_or(0);
    let mut fine = take(kind.outcome()) == runs;
    let mut missed = 0;
    if kind == Kind::New {
        let (stored, unstored, evicted) = (take("flow_stored"), take("flow_unstored"), take("flow_evicted"));
        fine &= stored + unstored == runs && take("new_flows") == runs;
        fine &= unstored + evicted <= runs / UNLUCKY;
    } else if place == Place::Full {
        missed = take("flow_midstream_miss");
        let stored = take("flow_stored");
        // They are packets in the middle: a flow that is not stored does not count as new.
        fine &= stored + take("flow_unstored") == missed && take("new_flows") == stored;
        fine &= take("flow_evicted") <= missed && missed <= runs / CROWDED;
    }
    if !fine || !left.is_empty() {
        bail!("{runs} packets were sent, and these counters rose: {rose:?}");
    }
    Ok(missed)
}

/// What a row costs.
pub(super) struct Cost {
    /// Nanoseconds of a whole run.
    pub(super) gross: Summary,
    /// Nanoseconds of the program alone.
    pub(super) net: Summary,
    /// Multiple of the null program that grows, of each round.
    pub(super) multiple: Summary,
    /// The same of the least values.
    pub(super) by_min: f64,
}

/// The programs that do nothing, measured.
pub(super) struct Nulls<'c> {
    pass: &'c [f64],
    grow: &'c [f64],
    thrice: &'c [f64],
}

impl<'c> Nulls<'c> {
    /// The first of all cases.
    ///
    /// # Errors
    /// If they are not there.
    pub(super) fn among(cases: &'c [Case]) -> Result<Self> {
        let [_, pass, grow, thrice, ..] = cases else { bail!("nothing to subtract") };
        Ok(Self { pass: &pass.gross, grow: &grow.gross, thrice: &thrice.gross })
    }

    /// What a row costs without the harness: of what is passed, net = gross - null.
    pub(super) fn cost(&self, case: &Case, passed: bool) -> Cost {
        let net = |gross: f64, pass: f64, grow: f64, thrice: f64| {
            if passed { gross - pass } else { net_of_sent(gross, grow, thrice) }
        };
        let rounds = || {
            let nulls = self.pass.iter().zip(self.grow).zip(self.thrice);
            case.gross
                .iter()
                .zip(nulls)
                .map(|(gross, ((pass, grow), thrice))| (*gross, *pass, *grow, *thrice))
        };
        let min = |series: &[f64]| Summary::of(series.iter().copied()).min;
        let grow = min(self.grow);
        let least = net(min(&case.gross), min(self.pass), grow, min(self.thrice));
        let of_rounds =
            Summary::of(rounds().map(|(gross, pass, grow, thrice)| net(gross, pass, grow, thrice)));
        Cost {
            gross: Summary::of(case.gross.iter().copied()),
            // The least of differences would be the round in which the null program was disturbed most.
            net: Summary { min: least, ..of_rounds },
            multiple: Summary::of(
                rounds().map(|(gross, pass, grow, thrice)| net(gross, pass, grow, thrice) / grow),
            ),
            by_min: least / grow,
        }
    }
}

/// What is sent on: net = gross - null_grow + g, where g, one change of the head, is half of what two more cost.
fn net_of_sent(gross: f64, grow: f64, thrice: f64) -> f64 {
    gross - grow + (thrice - grow) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rose(counts: &[(&'static str, u64)]) -> Counts {
        counts.iter().copied().collect()
    }

    #[test]
    fn the_growth_of_the_head_is_part_of_what_a_program_costs() {
        // A harness of 10, a program of 30 of which a growth is 5, which the harness takes back for another 5.
        let (gross, grow, thrice) = (10.0 + 30.0 + 5.0, 10.0 + 5.0 + 5.0, 10.0 + 15.0 + 5.0);
        assert!((net_of_sent(gross, grow, thrice) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn packets_that_all_took_the_path_are_accepted() {
        let few = |kind, counts| misses(kind, Place::Few, 1_000, &rose(counts)).ok();
        assert_eq!(few(Kind::Established, &[("forwarded", 1_000)]), Some(0));
        assert_eq!(few(Kind::NotVip, &[("passed_not_vip", 1_000)]), Some(0));
        let new = [("forwarded", 1_000), ("flow_stored", 999), ("flow_unstored", 1), ("new_flows", 1_000)];
        assert_eq!(misses(Kind::New, Place::Fresh, 1_000, &rose(&new)).ok(), Some(0));
        let full = [
            ("forwarded", 1_000),
            ("flow_midstream_miss", 50),
            ("flow_stored", 50),
            ("flow_evicted", 50),
            ("new_flows", 50),
        ];
        assert_eq!(misses(Kind::Established, Place::Full, 1_000, &rose(&full)).ok(), Some(50));
    }

    #[test]
    fn one_packet_on_another_path_is_refused() {
        let refused = |kind, place, counts: &[_]| misses(kind, place, 1_000, &rose(counts)).is_err();
        assert!(refused(Kind::Established, Place::Few, &[("forwarded", 999)]));
        assert!(refused(Kind::Established, Place::Few, &[("forwarded", 1_000), ("flow_lost_race", 1)]));
        assert!(refused(Kind::Established, Place::Few, &[("forwarded", 1_000), ("new_flows", 1)]));
        assert!(refused(Kind::NotVip, Place::Few, &[("passed_not_vip", 999), ("passed_other_mac", 1)]));
        let guarded = [("forwarded", 1_000), ("flow_stored", 999), ("flow_guarded", 1), ("new_flows", 1_000)];
        assert!(refused(Kind::New, Place::Fresh, &guarded));
        let crowded =
            [("forwarded", 1_000), ("flow_midstream_miss", 90), ("flow_stored", 90), ("new_flows", 90)];
        assert!(refused(Kind::Established, Place::Full, &crowded));
    }
}
