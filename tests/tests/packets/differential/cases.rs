//! Frames that once made a difference, as files that say all that is needed to have the difference again.
//!
//! A line is `balancer SEED`, `backend SLOT WORD`, `table SERVICE WORD SLOT…` (the Maglev table of these slots),
//! `entry BUCKET WAY FINGERPRINT SLOT AGE STATE` (age in ticks) or `frame OCTETS`; numbers are decimal, but words,
//! fingerprints and octets hexadecimal. `#` starts a comment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use fairlead_tests::oracle::Oracle;
use fairlead_tests::packets::Setup;
use fairlead_tests::packets::balancer::{Change, balancer, table_of};
use fairlead_tests::packets::seen::{hex, unhex};
use lb_common::backend::BackendWord;
use lb_common::flow::{FlowEntry, age};
use lb_common::limits::WAYS;
use lb_common::service::ServiceWord;

use super::judge;
use super::pair::Pair;
use crate::both::present_tick;

/// A balancer and how it changed.
pub(crate) struct Case {
    seed: u64,
    changes: BTreeMap<(&'static str, u16), Change>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases")
}

impl Case {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, changes: BTreeMap::new() }
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Remembers the last change of each backend and service.
    pub(crate) fn changed(&mut self, change: &Change) {
        let key = match change {
            Change::Backend(slot, _) => ("backend", *slot),
            Change::Table(index, ..) => ("table", *index),
        };
        self.changes.insert(key, change.clone());
    }

    /// The case as text: the maps before the frame, and the frame.
    fn text(&self, entries: &[u64], frame: &[u8], why: &str) -> String {
        let now = present_tick();
        let mut text = String::new();
        for line in why.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "balancer {}", self.seed);
        for change in self.changes.values() {
            let _ = match change {
                Change::Backend(slot, word) => writeln!(text, "backend {slot} {:x}", word.0),
                Change::Table(index, word, table) => {
                    let mut slots: Vec<u16> = table.iter().copied().filter(|slot| *slot != 0).collect();
                    slots.sort_unstable();
                    slots.dedup();
                    let slots: String = slots.iter().map(|slot| format!(" {slot}")).collect();
                    writeln!(text, "table {index} {:x}{slots}", word.0)
                }
            };
        }
        for (at, entry) in entries.iter().map(|entry| FlowEntry(*entry)).enumerate() {
            if !entry.is_empty() {
                let (bucket, way, age) = (at / WAYS, at % WAYS, age(now, entry.tick()));
                let (fingerprint, slot, state) = (entry.fingerprint(), entry.slot(), entry.state());
                let _ = writeln!(text, "entry {bucket} {way} {fingerprint:x} {slot} {age} {state}");
            }
        }
        let _ = writeln!(text, "frame {}", hex(frame));
        text
    }

    /// Writes the case to a file, without the flow entries if the difference is there without them; says where it is.
    pub(crate) fn save(&self, entries: &[u64], frame: &[u8], why: &str) -> String {
        let alone = self.text(&[], frame, why);
        let text = if replay(&alone).is_err() { alone } else { self.text(entries, frame, why) };
        let path = folder().join(format!("{:x}-{}.hex", self.seed, frame.len()));
        match std::fs::write(&path, text) {
            Ok(()) => format!("kept as {}: a test replays it from now on", path.display()),
            Err(error) => format!("could not be written to {}: {error}", path.display()),
        }
    }
}

/// Does what a file says.
fn replay(text: &str) -> Result<(), String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let lines: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .filter(|line: &Vec<_>| !line.is_empty())
        .collect();
    let Some(["balancer", seed]) = lines.first().map(Vec::as_slice) else {
        return Err("the first line names no balancer".to_owned());
    };
    let setup = balancer(number(seed, 10) as u64);
    super::bind_to(0);
    let mut replay = Replay { pair: Pair::new(&setup, 0), oracle: Oracle::new(&setup), setup };
    lines[1..].iter().try_for_each(|line| replay.apply(line))
}

fn number(text: &str, radix: u32) -> u128 {
    u128::from_str_radix(text, radix).unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// Both worlds and the judge, as a file has them so far.
struct Replay {
    pair: Pair,
    oracle: Oracle,
    setup: Setup,
}

impl Replay {
    fn change(&mut self, change: &Change) {
        self.pair.change(change);
        self.oracle.changed(change);
    }

    fn apply(&mut self, line: &[&str]) -> Result<(), String> {
        let decimal = |text: &str| number(text, 10) as u16;
        match line {
            ["backend", slot, word] => {
                self.change(&Change::Backend(decimal(slot), BackendWord(number(word, 16) as u64)));
            }
            ["table", index, word, slots @ ..] => {
                let slots: Vec<u16> = slots.iter().map(|slot| decimal(slot)).collect();
                let table = table_of(&self.setup, decimal(index), |backend| slots.contains(&backend.slot));
                self.change(&Change::Table(decimal(index), ServiceWord(number(word, 16) as u64), table));
            }
            ["entry", bucket, way, fingerprint, slot, age, state] => {
                let tick = present_tick().wrapping_sub(decimal(age));
                let fingerprint = number(fingerprint, 16) as u32;
                let entry = FlowEntry::new(fingerprint, decimal(slot), tick, decimal(state) as u8);
                self.pair.put_entry(decimal(bucket).into(), decimal(way).into(), entry.0);
                self.oracle.planted(decimal(bucket).into(), entry);
            }
            ["frame", octets] => {
                let frame = unhex(octets);
                judge(&mut self.oracle, &frame, &self.pair.step(&frame)?)?;
            }
            other => return Err(format!("what is {other:?}?")),
        }
        Ok(())
    }
}

#[test]
fn what_once_differed_no_longer_does() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the folder of cases")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    files.sort();
    let mut failures = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a readable case");
        if let Err(difference) = replay(&text) {
            failures.push(format!("{}: {difference}", file.display()));
        }
    }
    assert!(!files.is_empty(), "no cases at all: the folder moved");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
