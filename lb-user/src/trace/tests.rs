//! Explanations of made-up runs.

use lb_common::SlotState;
use lb_common::counters::Event;
use lb_common::flow::FlowEntry;
use lb_common::hash::FlowHash;
use lb_common::pick::Service;
use lb_common::reason::{DropReason, Outcome, Verdict};
use lb_common::service::{ServiceWord, TableClass};
use lb_common::trace::{Fact, TraceRow};

use super::*;
use crate::api::types::{FrameTrace, TraceFlow, TraceVerdict};

const MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

/// A TCP SYN from 198.51.100.7:40000 to 192.0.2.10:80 in a frame to [`MAC`].
fn syn() -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], MAC)
        .ipv4([198, 51, 100, 7], [192, 0, 2, 10], 64)
        .tcp(40_000, 80, 1, 1_024)
        .syn()
        .write(&mut frame, &[])
        .expect("a vector takes everything");
    frame
}

fn around() -> Surroundings {
    let slot = |last: u8, state| {
        // Slot 5 is behind another interface.
        let egress = if last == 5 { 3 } else { 2 };
        SlotFacts { backend: [10, 0, 0, last].into(), state, egress, service: 5 }
    };
    Surroundings {
        interface: "eth0".to_owned(),
        mac: MAC,
        interfaces: [(2, ("eth0".to_owned(), 1_500)), (3, ("eth1".to_owned(), 30))].into(),
        now: 10,
        buckets: 1_024,
        services: [(5, ("web".to_owned(), "192.0.2.10:80/tcp".to_owned()))].into(),
        slots: [
            (3, slot(3, SlotState::Serving)),
            (4, slot(4, SlotState::Dead)),
            (5, slot(5, SlotState::Serving)),
        ]
        .into(),
        vips: [([192, 0, 2, 10].into(), vec!["web (tcp 80)".to_owned()])].into(),
    }
}

fn told(verdict: TraceVerdict, outcome: Outcome, change: impl FnOnce(&mut TraceRow)) -> FrameTrace {
    let mut facts = TraceRow { outcome: outcome.row(), ..TraceRow::default() };
    change(&mut facts);
    let frame = syn();
    explain(&Run { input: &frame, output: &frame, verdict, facts, committed: false }, &around())
}

fn service() -> Service {
    let flags = ServiceWord::PUBLISHED | ServiceWord::SERVE | ServiceWord::TRACK;
    Service { index: 5, word: ServiceWord::new(0, TableClass::Small, flags, 1) }
}

/// A packet that steering found `slot` for.
fn steered(row: &mut TraceRow, slot: u64, new: bool) {
    row.learn(Fact::Hash(FlowHash(0x0000_00ab_0000_0001)));
    row.learn(Fact::Service(service()));
    row.known |= TraceRow::PICKED;
    row.pick = slot | if new { 1 << 16 } else { 0 };
}

#[track_caller]
fn says(told: &FrameTrace, parts: &[&str]) {
    let text = told.steps.join("\n");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_new_flow_is_a_miss_that_the_table_decides() {
    let told = told(TraceVerdict::Tx, Outcome::Verdict(Verdict::Forward), |row| {
        steered(row, 3, true);
        row.learn(Fact::Table { index: 17, slot: 3 });
        row.note(Event::Stored);
    });
    assert_eq!((told.flow, told.table_index, told.backend_slot), (TraceFlow::Miss, Some(17), Some(3)));
    assert_eq!((told.service.as_deref(), told.backend), (Some("web"), Some([10, 0, 0, 3].into())));
    says(
        &told,
        &[
            "in by eth0, to its own MAC: IPv4 198.51.100.7 -> 192.0.2.10, TCP 40000 -> 80 SYN, TTL 64, 40 bytes",
            "bucket 1 of 1024",
            "no entry there",
            "index 17 of 4093: slot 3, backend 10.0.0.3",
            "stored as a new flow (by a real packet; this trial stored nothing)",
        ],
    );
}

#[test]
fn an_entry_tells_state_age_and_why_it_counts_or_not() {
    let entry = |slot, state| Fact::Entry { way: 6, entry: FlowEntry::new(0xab, slot, 8, state) };
    let hit = told(TraceVerdict::Tx, Outcome::Verdict(Verdict::Forward), |row| {
        steered(row, 3, false);
        row.learn(entry(3, FlowEntry::CONFIRMED | FlowEntry::EXCEPTION));
    });
    assert_eq!((hit.flow, hit.table_index), (TraceFlow::Hit, None));
    says(
        &hit,
        &["entry in way 6: established, last packet 17 s ago, an exception", "keeps the flow at slot 3"],
    );
    for (slot, part) in [(4, "its backend 10.0.0.4 is out of service"), (9, "another service's flow")] {
        let miss = told(TraceVerdict::Tx, Outcome::Verdict(Verdict::Forward), |row| {
            steered(row, 3, true);
            row.learn(entry(slot, 0));
            row.learn(Fact::Table { index: 0, slot: 3 });
        });
        assert_eq!(miss.flow, TraceFlow::Miss);
        says(&miss, &["unconfirmed", part]);
    }
}

#[test]
fn the_table_decides_or_the_entry_whatever_counts_as_a_new_flow() {
    let reopened = told(TraceVerdict::Tx, Outcome::Verdict(Verdict::Forward), |row| {
        steered(row, 3, true);
        let closing = FlowEntry::CONFIRMED | FlowEntry::CLOSING;
        row.learn(Fact::Entry { way: 6, entry: FlowEntry::new(0xab, 3, 8, closing) });
    });
    assert_eq!((reopened.flow, reopened.table_index), (TraceFlow::Hit, None));
    says(&reopened, &["entry in way 6: closing", "keeps the flow at slot 3"]);
    let unstored = told(TraceVerdict::Tx, Outcome::Verdict(Verdict::Forward), |row| {
        steered(row, 3, false);
        row.learn(Fact::Table { index: 17, slot: 3 });
        row.note(Event::Guarded);
    });
    assert_eq!((unstored.flow, unstored.table_index), (TraceFlow::Miss, Some(17)));
    says(&unstored, &["no entry there", "not stored"]);
}

#[test]
fn the_interface_to_the_backend_is_named() {
    let redirected =
        told(TraceVerdict::Redirect, Outcome::Verdict(Verdict::Redirect), |row| steered(row, 5, false));
    says(&redirected, &["redirected: out by eth1 to the next hop"]);
    // The SYN has 40 bytes: the outer header is too much for eth0, and the packet itself for eth1.
    for (slot, part) in [
        (3, "40 bytes and the outer header exceed the MTU of 1500 of eth0"),
        (5, "40 bytes exceed the MTU of 30 of eth1"),
    ] {
        let large =
            told(TraceVerdict::Tx, Outcome::Verdict(Verdict::AnswerTooBig), |row| steered(row, slot, false));
        says(&large, &[part, "out by eth0"]);
    }
}

#[test]
fn a_drop_says_the_reason_and_what_to_do() {
    let told = told(TraceVerdict::Drop, Outcome::Drop(DropReason::UnknownPort), |_| {});
    assert_eq!(
        (told.reason.as_str(), told.output_hex.as_deref(), told.flow),
        ("unknown_port", None, TraceFlow::None)
    );
    says(
        &told,
        &[
            "192.0.2.10 is a VIP; its services: web (tcp 80)",
            "dropped: To a VIP, but no service",
            "remedy: add a",
        ],
    );
}

#[test]
fn a_drop_before_a_backend_is_looked_for_names_the_service() {
    for reason in [DropReason::TtlExpired, DropReason::OwnSource] {
        let told = told(TraceVerdict::Drop, Outcome::Drop(reason), |row| row.learn(Fact::Service(service())));
        assert_eq!((told.service.as_deref(), told.flow), (Some("web"), TraceFlow::None));
        assert_eq!((told.backend, told.backend_slot, told.table_index), (None, None, None));
        assert_eq!(told.steps[1], "192.0.2.10:80/tcp is service web");
        assert!(told.steps[2].starts_with("dropped: "), "{:?}", told.steps);
    }
}

#[test]
fn what_is_left_to_the_kernel_says_why() {
    let passed = told(TraceVerdict::Pass, Outcome::Verdict(Verdict::PassOtherMac), |_| {});
    says(&passed, &["passes to the kernel: Addressed to another station's MAC"]);
    let short = too_short(&[2, 0, 0], "eth0");
    assert_eq!((short.reason.as_str(), short.output_hex.as_deref()), ("passed_not_ip", Some("020000")));
    says(&short, &["3 bytes, too few", "runs no program on a frame this short"]);
}

#[test]
fn every_outcome_is_found_by_its_row() {
    let all = Verdict::ALL.iter().copied().map(Outcome::Verdict);
    for outcome in all.chain(DropReason::ALL.iter().copied().map(Outcome::Drop)) {
        assert_eq!(outcome_of(outcome.row()), Some(outcome));
    }
    assert_eq!(outcome_of(0), None);
}

#[test]
fn digits_survive_and_half_bytes_are_refused() {
    assert_eq!(from_hex(&to_hex(&[0, 0x9f, 0xff])), Ok(vec![0, 0x9f, 0xff]));
    assert!(from_hex("abc").is_err() && from_hex("ag").is_err());
}
