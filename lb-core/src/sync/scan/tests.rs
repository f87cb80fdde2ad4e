//! Changes that a scan finds in small tables.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::hash::SplitMix64;

use super::*;

const LIVE: u8 = FlowEntry::CONFIRMED;

fn table(buckets: usize) -> Vec<AtomicU64> {
    (0..buckets * WAYS).map(|_| AtomicU64::new(0)).collect()
}

fn put(table: &[AtomicU64], at: usize, fingerprint: u32, slot: u16, state: u8) {
    table[at].store(FlowEntry::new(fingerprint, slot, 9, state).0, Ordering::Relaxed);
}

fn clear(table: &[AtomicU64], at: usize) {
    table[at].store(0, Ordering::Relaxed);
}

/// Slots 1 to 3 are wanted.
fn scan_of(table: &[AtomicU64]) -> Scan {
    let mut scan = Scan::new(table.len(), ToldOf::All);
    scan.want(vec![false, true, true, true]);
    scan
}

fn changes(scan: &mut Scan, table: &[AtomicU64]) -> Vec<(u32, u32, u16, u8)> {
    let mut found = Vec::new();
    scan.scan(table, usize::MAX, &mut found);
    found.iter().map(|one| (one.bucket, one.fingerprint, one.slot, one.state)).collect()
}

#[test]
fn a_flow_is_told_of_once_and_again_when_it_changes_and_when_it_is_gone() {
    let table = table(4);
    let mut scan = scan_of(&table);
    assert_eq!(changes(&mut scan, &table), []);
    put(&table, 17, 0, 1, 0);
    assert_eq!(changes(&mut scan, &table), [], "unconfirmed");
    put(&table, 17, 0, 1, LIVE);
    assert_eq!(changes(&mut scan, &table), [(2, 0, 1, LIVE)]);
    assert_eq!(changes(&mut scan, &table), []);
    table[17].store(
        FlowEntry::new(0, 1, 77, LIVE | FlowEntry::REMOTE | FlowEntry::EXCEPTION).0,
        Ordering::Relaxed,
    );
    assert_eq!(changes(&mut scan, &table), [], "neither its tick nor what is this node's own");
    put(&table, 17, 0, 2, LIVE | FlowEntry::CLOSING);
    assert_eq!(changes(&mut scan, &table), [(2, 0, 2, LIVE | FlowEntry::CLOSING)]);
    put(&table, 17, 0, 2, 0);
    assert_eq!(changes(&mut scan, &table), [(2, 0, 2, DELETE)], "unconfirmed again");
    clear(&table, 17);
    assert_eq!(changes(&mut scan, &table), []);
}

#[test]
fn a_flow_that_moves_within_its_bucket_is_no_change() {
    let table = table(1);
    let mut scan = scan_of(&table);
    put(&table, 1, 5, 1, LIVE);
    assert_eq!(changes(&mut scan, &table).len(), 1);
    clear(&table, 1);
    put(&table, 6, 5, 1, LIVE);
    assert_eq!(changes(&mut scan, &table), []);
    put(&table, 6, 7, 1, LIVE);
    assert_eq!(changes(&mut scan, &table), [(0, 5, 1, DELETE), (0, 7, 1, LIVE)], "gone first");
}

#[test]
fn of_a_flow_stored_twice_the_one_that_packets_find_is_told_of() {
    let table = table(1);
    let mut scan = scan_of(&table);
    put(&table, 2, 5, 1, LIVE);
    put(&table, 6, 5, 2, LIVE);
    assert_eq!(changes(&mut scan, &table), [(0, 5, 2, LIVE)]);
    clear(&table, 6);
    assert_eq!(changes(&mut scan, &table), [(0, 5, 1, LIVE)]);
}

#[test]
fn slots_that_are_not_wanted_any_more_are_passed_over_in_silence() {
    let table = table(2);
    let mut scan = scan_of(&table);
    put(&table, 0, 5, 1, LIVE);
    put(&table, 1, 6, 2, LIVE);
    put(&table, 9, 7, 4, LIVE);
    assert_eq!(changes(&mut scan, &table), [(0, 5, 1, LIVE), (0, 6, 2, LIVE)]);
    scan.want(vec![false, false, true, true]);
    clear(&table, 0);
    clear(&table, 1);
    assert_eq!(changes(&mut scan, &table), [(0, 6, 2, DELETE)]);
    scan.want(vec![false, false, true, true, true]);
    assert_eq!(changes(&mut scan, &table), [(1, 7, 4, LIVE)]);
}

#[test]
fn what_does_not_fit_waits_and_nothing_waits_for_ever() {
    let table = table(64);
    let mut scan = scan_of(&table);
    (0..64u32).for_each(|bucket| put(&table, bucket as usize * WAYS, bucket, 1, LIVE));
    let mut told = Vec::new();
    let mut calls = 0;
    while !scan.is_whole() {
        let before = told.len();
        scan.scan(&table, 20, &mut told);
        assert!(told.len() - before <= 20 && told.len() > before);
        // The first bucket never rests.
        put(&table, 0, 1_000 + calls, 1, LIVE);
        calls += 1;
    }
    let buckets: std::collections::BTreeSet<u32> = told.iter().map(|change| change.bucket).collect();
    assert_eq!(buckets.len(), 64);
    scan.scan(&table, MAX_BUCKET_CHANGES - 1, &mut told);
    scan.restart();
    assert!(!scan.is_whole());
    assert_eq!(changes(&mut scan, &table).len(), 64);
    assert!(scan.is_whole());
}

#[test]
fn whoever_follows_the_changes_has_what_the_table_has() {
    for seed in 0..30 {
        let mut random = SplitMix64(seed);
        let table = table(8);
        let mut scan = scan_of(&table);
        let mut peer = BTreeMap::new();
        for round in 0..300 {
            for _ in 0..random.draw() % 12 {
                let [at, fingerprint, slot, state, empty, ..] = random.draw().to_le_bytes();
                let at = usize::from(at) % table.len();
                if empty < 60 {
                    clear(&table, at);
                } else {
                    put(&table, at, u32::from(fingerprint % 20), u16::from(slot % 5), state & 31);
                }
            }
            let mut found = Vec::new();
            let all = round == 299;
            scan.scan(&table, if all { usize::MAX } else { 40 }, &mut found);
            for Change { bucket, fingerprint, slot, state } in found {
                if state == DELETE {
                    assert!(peer.remove(&(bucket, fingerprint)).is_some(), "seed {seed}: never told of");
                } else {
                    peer.insert((bucket, fingerprint), (slot, state));
                }
            }
        }
        let mut right = BTreeMap::new();
        for (bucket, words) in table.chunks(WAYS).enumerate() {
            let words: [u64; WAYS] = core::array::from_fn(|way| {
                to_tell(words[way].load(Ordering::Relaxed), &scan.wanted, ToldOf::All)
            });
            right.extend(flows(&words).map(|entry| {
                ((u32::try_from(bucket).unwrap(), entry.fingerprint()), (entry.slot(), entry.state()))
            }));
        }
        assert_eq!(peer, right, "seed {seed}");
    }
}

#[test]
fn only_exceptions_are_told_where_that_is_asked_for() {
    let entry = |state| FlowEntry::new(9, 1, 0, state).0;
    let words = [const { AtomicU64::new(0) }; WAYS];
    let mut scan = Scan::new(words.len(), ToldOf::Exceptions);
    scan.want(vec![false, true]);
    let mut told = |state| {
        words[0].store(entry(state), Ordering::Relaxed);
        let mut changes = Vec::new();
        assert!(scan.scan(&words, usize::MAX, &mut changes));
        changes.iter().map(|change| change.state).collect::<Vec<_>>()
    };
    let confirmed = FlowEntry::CONFIRMED;
    assert_eq!(told(confirmed), []);
    assert_eq!(told(FlowEntry::EXCEPTION), []);
    assert_eq!(told(confirmed | FlowEntry::EXCEPTION), [confirmed]);
    assert_eq!(told(confirmed | FlowEntry::EXCEPTION), []);
    // The tables lead to it again.
    assert_eq!(told(confirmed), [DELETE]);
}
