//! Both worlds side by side, fast enough for millions of frames: what one frame changes is compared word by word.

use std::sync::atomic::Ordering;

use fairlead_tests::packets::balancer::Change;
use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::{HostWorld, Probe, Setup};
use lb_common::counters::{COUNTERS_PER_CPU, Event, FIRST_EVENT};
use lb_common::limits::WAYS;
use lb_common::reason::{Action, DropReason, Outcome, Verdict};

use crate::both::present_tick;
use crate::kernel::{Kernel, LONGEST, run_into};

/// The loaded program on one CPU, and plain memory with the same maps.
pub(crate) struct Pair {
    kernel: Kernel,
    host: HostWorld,
    cpu: usize,
    flows_at: usize,
    before: Vec<u64>,
    by_kernel: Vec<u64>,
    by_host: Vec<u64>,
    out: Vec<u8>,
}

/// What both worlds did with a frame.
pub(crate) struct Step<'p> {
    pub(crate) action: Action,
    outcome: Outcome,
    /// The frame afterwards, without meaning if it was dropped.
    pub(crate) frame: &'p [u8],
    /// How often each event happened, by its row behind [`FIRST_EVENT`].
    pub(crate) events: [u64; Event::ALL.len()],
}

impl Step<'_> {
    /// Name of the outcome.
    pub(crate) const fn name(&self) -> &'static str {
        match self.outcome {
            Outcome::Verdict(verdict) => verdict.name(),
            Outcome::Drop(reason) => reason.name(),
        }
    }
}

impl Pair {
    /// Two worlds with the same maps; the program will always run on `cpu`, to which the caller is bound.
    pub(crate) fn new(setup: &Setup, cpu: usize) -> Self {
        let (kernel, host) = (Kernel::new(setup), HostWorld::new(setup));
        let mut pair = Self {
            kernel,
            host,
            cpu,
            flows_at: 0,
            before: Vec::new(),
            by_kernel: Vec::new(),
            by_host: Vec::new(),
            out: vec![0; LONGEST],
        };
        pair.kernel.words(cpu, &mut pair.before);
        pair.flows_at = pair.before.len() - setup.buckets as usize * WAYS;
        pair
    }

    /// Puts a frame of 14 octets or more through both.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn step(&mut self, frame: &[u8]) -> Result<Step<'_>, String> {
        let tick = present_tick();
        let (action, length) = run_into(self.kernel.program(), frame, &mut self.out);
        let later = present_tick();
        self.kernel.words(self.cpu, &mut self.by_kernel);
        let mut in_memory = self.in_memory(frame, tick);
        if self.by_host != self.by_kernel && later != tick {
            // The program may have run in either tick.
            self.put_back();
            in_memory = self.in_memory(frame, later);
        }
        self.agree(action, &self.out[..length], in_memory)?;
        let outcome = self.outcome()?;
        let events = std::array::from_fn(|event| {
            let row = FIRST_EVENT as usize + Event::ALL[event] as usize;
            self.by_kernel[row] - self.before[row]
        });
        self.tuples_agree()?;
        std::mem::swap(&mut self.before, &mut self.by_kernel);
        Ok(Step { action, outcome, frame: &self.out[..length], events })
    }

    fn in_memory(&mut self, frame: &[u8], tick: u16) -> Action {
        self.host.tick.set(tick);
        let action = self.host.step(frame);
        self.by_host.clear();
        self.by_host.extend(self.host.words().map(|word| word.load(Ordering::Relaxed)));
        action
    }

    fn put_back(&self) {
        for (word, value) in self.host.words().zip(&self.before) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    fn agree(&self, action: Action, out: &[u8], in_memory: Action) -> Result<(), String> {
        if action != in_memory {
            return Err(format!("kernel {action:?}, memory {in_memory:?}"));
        }
        let left = self.host.left();
        if action != Action::Drop && left != out {
            return Err(format!("kernel {}, memory {}", hex(out), hex(&left)));
        }
        if let Some(at) = (0..self.by_kernel.len()).find(|at| self.by_kernel[*at] != self.by_host[*at]) {
            let [before, kernel, host] =
                [&self.before, &self.by_kernel, &self.by_host].map(|words| words[at]);
            return Err(format!(
                "{}: {before:#x} before, kernel {kernel:#x}, memory {host:#x}",
                self.name(at)
            ));
        }
        Ok(())
    }

    /// What a word stands for.
    fn name(&self, at: usize) -> String {
        let first_slot = COUNTERS_PER_CPU as usize;
        if at < first_slot {
            format!("counter {at}")
        } else if at < self.flows_at {
            format!("word {} of slot {}", (at - first_slot) % 3, (at - first_slot) / 3)
        } else {
            format!("bucket {} way {}", (at - self.flows_at) / WAYS, (at - self.flows_at) % WAYS)
        }
    }

    fn outcome(&self) -> Result<Outcome, String> {
        let outcomes = (Verdict::ALL.iter().map(|verdict| Outcome::Verdict(*verdict)))
            .chain(DropReason::ALL.iter().map(|reason| Outcome::Drop(*reason)));
        let rose = |row: usize| self.by_kernel[row] - self.before[row];
        let mut counted = outcomes.filter(|outcome| rose(outcome.row() as usize) != 0);
        let all: u64 = (0..FIRST_EVENT as usize).map(rose).sum();
        match (counted.next(), all) {
            (Some(outcome), 1) => Ok(outcome),
            _ => Err(format!("{all} outcomes were counted")),
        }
    }

    /// The remembered 5-tuples of entries that changed.
    fn tuples_agree(&self) -> Result<(), String> {
        for at in self.flows_at..self.before.len() {
            if self.before[at] == self.by_kernel[at] {
                continue;
            }
            let (bucket, way) = ((at - self.flows_at) / WAYS, (at - self.flows_at) % WAYS);
            let tuples = (self.kernel.tuple(bucket as u32, way), self.host.tuple(bucket as u32, way));
            if tuples.0 != tuples.1 {
                return Err(format!(
                    "tuple of {}: kernel {:x?}, memory {:x?}",
                    self.name(at),
                    tuples.0,
                    tuples.1
                ));
            }
        }
        Ok(())
    }

    /// Puts less than an Ethernet header through memory alone, since the kernel makes no such frames.
    ///
    /// # Errors
    /// If it does not pass as it is.
    pub(crate) fn stub(&mut self, frame: &[u8]) -> Result<(), String> {
        let action = self.host.step(frame);
        let passed = action == Action::Pass && self.host.left() == frame;
        self.put_back();
        if passed { Ok(()) } else { Err(format!("{action:?} of {} octets", frame.len())) }
    }

    /// Changes both.
    pub(crate) fn change(&mut self, change: &Change) {
        match change {
            Change::Backend(slot, word) => {
                self.kernel.put_backend(*slot, word.0);
                self.host.put_backend(*slot, word.0);
            }
            Change::Table(index, word, table) => {
                self.kernel.put_table(word.first_entry(), table);
                self.host.put_table(word.first_entry(), table);
                self.kernel.put_service((*index).into(), word.0);
                self.host.put_service((*index).into(), word.0);
            }
        }
    }

    /// Writes a flow entry in both.
    pub(crate) fn put_entry(&mut self, bucket: u32, way: usize, entry: u64) {
        self.kernel.put_entry(bucket, way, entry);
        self.host.put_entry(bucket, way, entry);
        self.before[self.flows_at + bucket as usize * WAYS + way] = entry;
    }

    /// All flow entries before the last frame that was compared, or after it if nothing differed.
    pub(crate) fn entries(&self) -> &[u64] {
        &self.before[self.flows_at..]
    }

    /// All flow entries before the last frame, in which nothing differed.
    pub(crate) fn entries_before(&self) -> &[u64] {
        &self.by_kernel[self.flows_at..]
    }

    /// Whether the program ran on its CPU only, so that nothing went unseen.
    pub(crate) fn counted_here_only(&self) -> bool {
        self.kernel.frames() == self.before[..FIRST_EVENT as usize].iter().sum::<u64>()
    }
}
