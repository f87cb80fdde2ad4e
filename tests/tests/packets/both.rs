//! Both worlds side by side, and tables of cases for them.

use fairlead_tests::packets::seen::hex;
use fairlead_tests::packets::verify::checksums_hold;
use fairlead_tests::packets::{HostWorld, Probe, Seen, Setup};
use lb_common::flow::{FlowEntry, age, tick_of};
use lb_common::reason::Action;

use crate::kernel::Kernel;

/// The loaded program and plain memory, with the same maps.
pub(crate) struct Both {
    pub(crate) kernel: Kernel,
    pub(crate) host: HostWorld,
    buckets: u32,
}

/// The tick of the clock that the program reads.
pub(crate) fn present_tick() -> u16 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock");
    tick_of(u64::try_from(std::time::Duration::from(now).as_nanos()).expect("centuries of uptime fit"))
}

impl Both {
    pub(crate) fn new(setup: &Setup) -> Self {
        let (kernel, host) = (Kernel::new(setup), HostWorld::new(setup));
        host.tick.set(present_tick());
        Self { kernel, host, buckets: setup.buckets }
    }

    /// Puts the frame through both; what they did is the same, or else this panics.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Seen {
        let tick = present_tick();
        let kernel = self.kernel.run(frame);
        self.host.tick.set(tick);
        let host = self.host.run(frame);
        assert_eq!(kernel, host, "kernel (left) and memory (right) differ on {}", hex(frame));
        if tick != present_tick() {
            // The program may have run in either tick: go on with what it wrote.
            self.follow();
        }
        kernel
    }

    fn follow(&mut self) {
        for bucket in 0..self.buckets {
            for (way, entry) in self.kernel.bucket(bucket).into_iter().enumerate() {
                self.host.put_entry(bucket, way, entry);
            }
        }
        self.host.tick.set(present_tick());
    }

    /// The tick of the last run.
    pub(crate) fn tick(&self) -> u16 {
        self.host.tick.get()
    }

    /// Whether a tick is that of the last run, which may have begun in one and ended in the next.
    pub(crate) fn is_now(&self, tick: u16) -> bool {
        age(tick, self.tick()) <= 1 && age(self.tick(), tick) <= 1
    }

    /// The flows of one bucket, the same in both.
    pub(crate) fn entries(&self, bucket: u32) -> [FlowEntry; 8] {
        let entries = self.kernel.bucket(bucket);
        assert_eq!(
            entries,
            self.host.bucket(bucket),
            "kernel (left) and memory (right) differ in bucket {bucket}"
        );
        entries.map(FlowEntry)
    }

    /// All flows there are, as (bucket, way, entry).
    pub(crate) fn flows(&self) -> Vec<(u32, usize, FlowEntry)> {
        (0..self.buckets)
            .flat_map(|bucket| {
                let entries = self.entries(bucket).into_iter().enumerate();
                entries.map(move |(way, entry)| (bucket, way, entry))
            })
            .filter(|(_, _, entry)| !entry.is_empty())
            .collect()
    }
}

impl Probe for Both {
    fn run(&mut self, frame: &[u8]) -> Seen {
        Self::run(self, frame)
    }

    fn bucket(&self, index: u32) -> [u64; 8] {
        self.entries(index).map(|entry| entry.0)
    }

    fn put_entry(&mut self, bucket: u32, way: usize, entry: u64) {
        self.kernel.put_entry(bucket, way, entry);
        self.host.put_entry(bucket, way, entry);
    }

    fn tuple(&self, bucket: u32, way: usize) -> [u64; 5] {
        let tuple = self.kernel.tuple(bucket, way);
        assert_eq!(tuple, self.host.tuple(bucket, way));
        tuple
    }

    fn put_backend(&mut self, slot: u16, word: u64) {
        self.kernel.put_backend(slot, word);
        self.host.put_backend(slot, word);
    }

    fn put_service(&mut self, index: u32, word: u64) {
        self.kernel.put_service(index, word);
        self.host.put_service(index, word);
    }

    fn put_table(&mut self, first_entry: u32, slots: &[u16]) {
        self.kernel.put_table(first_entry, slots);
        self.host.put_table(first_entry, slots);
    }
}

/// A frame and what must become of it.
pub(crate) struct Case {
    name: String,
    frame: Vec<u8>,
    outcome: &'static str,
    expected: Expected,
}

enum Expected {
    Passed,
    Dropped,
    Sent(Vec<u8>),
    Redirected(Vec<u8>),
}

/// The kernel gets the frame, byte for byte.
pub(crate) fn passed(name: impl Into<String>, frame: Vec<u8>, outcome: &'static str) -> Case {
    Case { name: name.into(), frame, outcome, expected: Expected::Passed }
}

/// The frame is dropped.
pub(crate) fn dropped(name: impl Into<String>, frame: Vec<u8>, outcome: &'static str) -> Case {
    Case { name: name.into(), frame, outcome, expected: Expected::Dropped }
}

/// `expected` is sent back out.
pub(crate) fn sent(
    name: impl Into<String>,
    frame: Vec<u8>,
    outcome: &'static str,
    expected: Vec<u8>,
) -> Case {
    Case { name: name.into(), frame, outcome, expected: Expected::Sent(expected) }
}

/// `expected` leaves by another interface.
pub(crate) fn redirected(name: impl Into<String>, frame: Vec<u8>, expected: Vec<u8>) -> Case {
    Case { name: name.into(), frame, outcome: "redirected", expected: Expected::Redirected(expected) }
}

/// Runs all cases and reports every one that fails.
pub(crate) fn check(setup: &Setup, cases: Vec<Case>) {
    let mut both = Both::new(setup);
    let failures: Vec<String> = cases.into_iter().filter_map(|case| failure(&mut both, case)).collect();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

fn failure(both: &mut Both, case: Case) -> Option<String> {
    let Case { name, frame, outcome, expected } = case;
    let seen = both.run(&frame);
    let (action, after) = match expected {
        Expected::Passed => (Action::Pass, frame.clone()),
        Expected::Dropped => (Action::Drop, Vec::new()),
        Expected::Sent(after) => (Action::Transmit, after),
        Expected::Redirected(after) => (Action::Redirect, after),
    };
    let mut reasons = Vec::new();
    if (seen.action, &seen.outcomes[..]) != (action, &[outcome]) {
        reasons
            .push(format!("expected {action:?} as {outcome}, seen {:?} as {:?}", seen.action, seen.outcomes));
    }
    if seen.frame != after {
        reasons.push(format!("expected {}\n      seen {}", hex(&after), hex(&seen.frame)));
    }
    if matches!(seen.action, Action::Transmit | Action::Redirect)
        && let Err(error) = checksums_hold(&seen.frame)
    {
        reasons.push(error);
    }
    (!reasons.is_empty()).then(|| format!("{name}: {}\n        in {}", reasons.join("\n"), hex(&frame)))
}
