//! Millions of random frames through the loaded program and through plain memory: verdict, octets, counters, flow entries
//! must be the same after each of them.

mod cases;
mod pair;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::Instant;

use fairlead_tests::oracle::{Done, Oracle};
use fairlead_tests::packets::balancer::{NOWHERE, balancer, change};
use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::{Generator, Random, Setup};
use lb_common::counters::Event;
use lb_common::flow::FlowEntry;
use lb_common::limits::WAYS;
use lb_common::reason::{DropReason, Verdict};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::both::present_tick;
use cases::Case;
use pair::{Pair, Step};

/// Frames of a whole run, unless FAIRLEAD_FRAMES says otherwise; and of a quick one.
const FRAMES: [u64; 2] = [10_000_000, 100_000];
/// Balancers that each CPU goes through; and in a quick run.
const BALANCERS: [u64; 2] = [24, 4];

/// How often each outcome and event was seen.
type Counts = BTreeMap<&'static str, u64>;

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a decimal number, not {text:?}")))
}

fn bind_to(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("few CPUs");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a thread may be bound to a CPU that is there");
}

/// Asks the oracle about what both worlds did.
fn judge(oracle: &mut Oracle, frame: &[u8], step: &Step<'_>) -> Result<(), String> {
    let placeless = [Event::Evicted, Event::Unstored, Event::Guarded, Event::ExceptionKept];
    let lost = placeless.iter().map(|event| step.events[*event as usize]).sum();
    let done = Done { action: step.action, outcome: step.name(), frame: step.frame, lost };
    oracle.judge(frame, done).map_err(|wrong| format!("{wrong}\n  after {}", hex(step.frame)))
}

/// One balancer under random frames.
struct Run {
    pair: Pair,
    setup: Setup,
    generator: Generator,
    oracle: Oracle,
    case: Case,
    counts: Counts,
}

impl Run {
    fn new(seed: u64, cpu: usize) -> Self {
        let setup = balancer(seed);
        Self {
            pair: Pair::new(&setup, cpu),
            generator: Generator::new(&setup, seed),
            oracle: Oracle::new(&setup),
            case: Case::new(seed),
            counts: Counts::new(),
            setup,
        }
    }

    /// One frame, and before it now and then a change.
    fn turn(&mut self) -> Result<(), String> {
        if self.generator.random().one_in(1_000) {
            self.change();
        }
        if self.generator.random().one_in(50) {
            self.age();
        }
        let frame = self.generator.frame();
        if self.generator.random().one_in(200) {
            let length = self.generator.random().below(14) as usize;
            self.pair.stub(&frame[..length])?;
        }
        let step = match self.pair.step(&frame) {
            Ok(step) => step,
            Err(difference) => return Err(self.report(self.pair.entries(), &frame, &difference)),
        };
        *self.counts.entry(step.name()).or_default() += 1;
        for (event, times) in Event::ALL.iter().zip(step.events) {
            *self.counts.entry(event.name()).or_default() += times;
        }
        match judge(&mut self.oracle, &frame, &step) {
            Ok(()) => Ok(()),
            Err(wrong) => Err(self.report(self.pair.entries_before(), &frame, &wrong)),
        }
    }

    fn change(&mut self) {
        if let Some(change) = change(&mut self.setup, self.generator.random()) {
            self.pair.change(&change);
            self.oracle.changed(&change);
            self.case.changed(&change);
        }
    }

    /// All flows of a bucket become exceptions, so that no newcomer finds a place.
    fn fill(&mut self) {
        let entries = self.pair.entries().len() as u64;
        let first = self.generator.random().below(entries) as usize / WAYS * WAYS;
        for at in first..first + WAYS {
            let entry = FlowEntry(self.pair.entries()[at]);
            let entry = if entry.is_empty() { FlowEntry::new(at as u32, 1, 0, 0) } else { entry };
            let entry = entry.with_state(entry.state() | FlowEntry::EXCEPTION);
            self.pair.put_entry((at / WAYS) as u32, at % WAYS, entry.0);
        }
    }

    /// A flow entry as it is after some time, or as user space makes it; or a stranger in its place.
    fn age(&mut self) {
        if self.generator.random().one_in(32) {
            self.fill();
        }
        let entries = self.pair.entries().len() as u64;
        let at = self.generator.random().below(entries) as usize;
        let before = FlowEntry(self.pair.entries()[at]);
        let random = self.generator.random();
        let state = random.next() as u8 & 0x1f;
        let tick = present_tick().wrapping_sub(random.below(1_100) as u16);
        let entry = match random.below(8) {
            0 => FlowEntry::EMPTY,
            1 => FlowEntry::new(random.next() as u32, random.below(70) as u16 + 1, tick, state),
            _ if before.is_empty() => return,
            2 => before.with_state(state),
            3 => before.with_state(before.state() | FlowEntry::EXCEPTION),
            _ => before.with_tick(tick),
        };
        if entry.fingerprint() != before.fingerprint() || entry.slot() != before.slot() {
            self.oracle.overwritten(before);
        }
        self.pair.put_entry((at / WAYS) as u32, at % WAYS, entry.0);
    }

    /// Writes the case down, and says how to have it again.
    fn report(&self, entries: &[u64], frame: &[u8], difference: &str) -> String {
        let saved = self.case.save(entries, frame, difference);
        format!("{difference}\n  balancer {}\n  frame {}\n  {saved}", self.case.seed(), hex(frame))
    }
}

/// The share of one CPU: what it counted.
fn share(seed: u64, cpu: usize, frames: u64, balancers: u64) -> Result<Counts, String> {
    bind_to(cpu);
    let mut counts = Counts::new();
    let mut seeds = Random::new(seed ^ (cpu as u64) << 32);
    for turn in 0..=balancers {
        let seed = seeds.next() >> 16;
        // One more balancer, which knows no interface and so passes everything, gets a hundredth.
        let (seed, frames) = match turn {
            0 => (seed - seed % NOWHERE, frames / 100),
            _ => (seed | 1, frames / balancers),
        };
        let mut run = Run::new(seed, cpu);
        for _ in 0..frames {
            run.turn()?;
        }
        if !run.pair.counted_here_only() {
            return Err(format!("the program ran on another CPU than {cpu}, too"));
        }
        *counts.entry("sure").or_default() += run.oracle.sure();
        *counts.entry("stuck").or_default() += run.oracle.stuck();
        for (name, times) in run.counts {
            *counts.entry(name).or_default() += times;
        }
    }
    Ok(counts)
}

/// Runs the frames on both CPUs: all that was counted.
fn both_cpus(test: &str) -> Counts {
    let quick = usize::from(std::env::var_os("FAIRLEAD_QUICK").is_some());
    let frames = given("FAIRLEAD_FRAMES").unwrap_or(FRAMES[quick]);
    let seed = Random::seeded(test).next() >> 16;
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get).min(2);
    let started = Instant::now();
    let shares: Vec<_> = std::thread::scope(|scope| {
        let balancers = BALANCERS[quick];
        let share = |cpu| scope.spawn(move || share(seed, cpu, frames / cpus as u64, balancers));
        let threads: Vec<_> = (0..cpus).map(share).collect();
        threads.into_iter().map(|thread| thread.join().expect("the thread ends by itself")).collect()
    });
    let mut counts = Counts::new();
    for share in shares {
        let share = share.unwrap_or_else(|difference| panic!("{difference}"));
        for (name, times) in share {
            *counts.entry(name).or_default() += times;
        }
    }
    println!("{frames} frames on {cpus} CPUs in {:.0?}: {counts:?}", started.elapsed());
    counts
}

#[test]
fn kernel_and_memory_agree_on_millions_of_frames() {
    let counts = both_cpus("kernel_and_memory_agree_on_millions_of_frames");
    let frames: u64 = counts
        .iter()
        .filter(|(name, _)| !name.starts_with("flow_") && !matches!(**name, "sure" | "stuck"))
        .map(|(_, times)| times)
        .sum();
    // Cut headroom, races of two CPUs and the flood guard have tests of their own; few balancers have maps that
    // contradict themselves, or flows that nobody marked as exceptions yet.
    // And what becomes of redirected frames is not the program's to count.
    let never = ["no_headroom", "flow_lost_race", "flow_guarded", "redirect_refused", "redirect_lost"];
    let seldom = if frames < 1_000_000 { &["internal", "no_egress", "flow_exception_kept"][..] } else { &[] };
    let verdicts = Verdict::ALL.iter().map(|verdict| verdict.name());
    let reasons = DropReason::ALL.iter().map(|reason| reason.name());
    let events = Event::ALL.iter().map(|event| event.name());
    let all = verdicts.chain(reasons).chain(events);
    let missed: Vec<_> = all
        .filter(|name| {
            !never.contains(name) && !seldom.contains(name) && counts.get(name).copied().unwrap_or(0) == 0
        })
        .collect();
    assert!(missed.is_empty(), "never reached: {missed:?} of {counts:?}");
    assert!(counts["sure"] > frames / 2, "of few frames it is known what must become of them: {counts:?}");
    // One flow, one backend: the frames that show it are those that the table alone would have sent elsewhere. How many
    // they are depends on the balancers, of which a quick run has few.
    let stuck = if frames < 1_000_000 { 0 } else { frames / 4_000 };
    assert!(counts["stuck"] > stuck, "hardly any flow was where the table is not: {counts:?}");
    assert!(counts["forwarded"] > frames / 8, "hardly anything is forwarded: {counts:?}");
    assert!(counts["redirected"] > frames / 100, "hardly anything is redirected: {counts:?}");
}
