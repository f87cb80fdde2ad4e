//! Changes put into small tables.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const LIVE: u8 = FlowEntry::CONFIRMED;
const REMOTE: u8 = LIVE | FlowEntry::REMOTE;
const NOW: u16 = 100;
const IDLE: IdleTicks = IdleTicks::new(50, 50, 50, 50);

fn words(buckets: usize) -> Vec<AtomicU64> {
    (0..buckets * WAYS).map(|_| AtomicU64::new(0)).collect()
}

const fn table(words: &[AtomicU64]) -> Table<'_, AtomicU64> {
    Table { words, tick: NOW, idle: IDLE }
}

const fn set(hash_low: u32, fingerprint: u32) -> FlowChange {
    FlowChange { hash_low, fingerprint, state: LIVE }
}

const fn gone(hash_low: u32, fingerprint: u32) -> FlowChange {
    FlowChange { hash_low, fingerprint, state: DELETE }
}

fn put(words: &[AtomicU64], at: usize, entry: FlowEntry) {
    words[at].store(entry.0, Ordering::Relaxed);
}

fn entries(words: &[AtomicU64]) -> Vec<(usize, FlowEntry)> {
    let all = words.iter().map(|word| FlowEntry(word.load(Ordering::Relaxed))).enumerate();
    all.filter(|(_, entry)| !entry.is_empty()).collect()
}

fn follow(words: &[AtomicU64], changes: &[FlowChange], slot: Option<u16>) -> Applied {
    table(words).apply(changes, slot, Stance::Follow, None)
}

#[test]
fn a_flow_comes_changes_and_goes() {
    let words = words(4);
    assert_eq!(follow(&words, &[set(2, 3)], Some(7)).stored, 1);
    assert_eq!(entries(&words), [(19, FlowEntry::new(3, 7, NOW, REMOTE))]);
    let closing = FlowChange { state: LIVE | FlowEntry::CLOSING | FlowEntry::EXCEPTION, ..set(2, 3) };
    follow(&words, &[closing], Some(8));
    assert_eq!(entries(&words), [(19, FlowEntry::new(3, 8, NOW, REMOTE | FlowEntry::CLOSING))]);
    assert_eq!(follow(&words, &[gone(2, 4)], Some(8)).cleared, 0);
    assert_eq!(follow(&words, &[gone(2, 3)], Some(8)).cleared, 1);
    assert_eq!(entries(&words), []);
}

#[test]
fn its_own_entry_comes_first_then_an_empty_one_then_what_is_worth_least() {
    let words = words(1);
    let state = |way| if way == 4 { LIVE | FlowEntry::CLOSING } else { LIVE | FlowEntry::EXCEPTION };
    (100..).zip(0..8).for_each(|(flow, way)| put(&words, way, FlowEntry::new(flow, 1, NOW, state(way))));
    put(&words, 6, FlowEntry::EMPTY);
    put(&words, 7, FlowEntry::new(5, 2, NOW, LIVE));
    follow(&words, &[set(0, 5)], Some(9));
    assert_eq!(entries(&words)[6], (7, FlowEntry::new(5, 9, NOW, REMOTE)));
    follow(&words, &[set(0, 8)], Some(9));
    assert_eq!(entries(&words)[6], (6, FlowEntry::new(8, 9, NOW, REMOTE)));
    follow(&words, &[set(0, 9)], Some(9));
    assert_eq!(entries(&words)[4], (4, FlowEntry::new(9, 9, NOW, REMOTE)));
    (100..).zip(0..8).for_each(|(flow, way)| {
        put(&words, way, FlowEntry::new(flow, 1, NOW, LIVE | FlowEntry::EXCEPTION));
    });
    assert_eq!(follow(&words, &[set(0, 10)], Some(9)).unplaced, 1);
}

#[test]
fn what_this_node_marked_stays_marked_while_the_backend_is_the_same() {
    let words = words(1);
    put(&words, 5, FlowEntry::new(5, 7, 1, REMOTE | FlowEntry::EXCEPTION));
    follow(&words, &[set(0, 5)], Some(7));
    assert_eq!(entries(&words), [(5, FlowEntry::new(5, 7, NOW, REMOTE | FlowEntry::EXCEPTION))]);
    follow(&words, &[set(0, 5)], Some(8));
    assert_eq!(entries(&words), [(5, FlowEntry::new(5, 8, NOW, REMOTE))]);
}

#[test]
fn only_flows_of_a_peer_are_cleared_by_one() {
    let words = words(1);
    put(&words, 5, FlowEntry::new(5, 7, NOW, LIVE));
    assert_eq!(follow(&words, &[gone(0, 5)], Some(7)).cleared, 0);
    // Stored by two packets at once, and received: all that was received goes.
    put(&words, 6, FlowEntry::new(5, 7, NOW, REMOTE));
    put(&words, 1, FlowEntry::new(5, 7, NOW, REMOTE));
    assert_eq!(follow(&words, &[gone(0, 5)], None).cleared, 2);
    assert_eq!(entries(&words), [(5, FlowEntry::new(5, 7, NOW, LIVE))]);
}

#[test]
fn a_flow_whose_backend_is_unknown_is_forgotten() {
    let words = words(1);
    follow(&words, &[set(0, 5)], Some(7));
    let applied = follow(&words, &[set(0, 5)], None);
    assert_eq!((applied.unknown, applied.cleared, entries(&words)), (1, 1, vec![]));
}

#[test]
fn an_active_node_takes_only_what_it_does_not_know() {
    let words = words(1);
    put(&words, 5, FlowEntry::new(5, 7, 90, LIVE));
    let import = |changes: &[FlowChange], slot| table(&words).apply(changes, slot, Stance::Import, None);
    import(&[set(0, 5), set(0, 6), gone(0, 6)], Some(8));
    assert_eq!(import(&[set(0, 7)], None).unknown, 1);
    assert_eq!(entries(&words), [(5, FlowEntry::new(5, 7, 90, LIVE)), (6, FlowEntry::new(6, 8, NOW, LIVE))]);
}

#[test]
fn what_a_bulk_does_not_speak_of_is_swept() {
    let words = words(16);
    let theirs = |slot| slot == 7;
    put(&words, 90, FlowEntry::new(2, 7, NOW, LIVE));
    put(&words, 91, FlowEntry::new(3, 7, NOW, REMOTE));
    put(&words, 92, FlowEntry::new(4, 8, NOW, REMOTE));
    let mut seen = Seen::new(words.len());
    table(&words).apply(&[set(3, 5), set(15, 7)], Some(7), Stance::Follow, Some(&mut seen));
    assert_eq!(table(&words).sweep(&seen, theirs, |_| false), 2);
    let left: Vec<u32> = entries(&words).iter().map(|(_, entry)| entry.fingerprint()).collect();
    assert_eq!(left, [5, 4, 7]);
}

#[test]
fn a_peer_with_more_buckets_is_understood_and_one_with_fewer_only_if_it_says_more() {
    let words = words(4);
    follow(&words, &[set(4 + 2, 0)], Some(7));
    assert_eq!(entries(&words)[0].0, 16);
    assert_eq!((bucket_bits(0), bucket_bits(8), bucket_bits(32), bucket_bits(1 << 23)), (0, 0, 2, 20));
    let check = |bits, complete| check_buckets(bits, complete, words.len());
    assert_eq!((check(2, false), check(3, false), check(1, true)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(check(1, false), Err(Incompatible { theirs: 1, ours: 2 }));
}

#[test]
fn a_table_of_nothing_takes_nothing() {
    assert_eq!(follow(&[], &[set(9, 9), gone(9, 9)], Some(1)).unplaced, 1);
}

#[test]
fn flows_of_a_service_that_becomes_ours_are_ours() {
    let words = words(1);
    put(&words, 1, FlowEntry::new(1, 7, 3, REMOTE | FlowEntry::EXCEPTION));
    put(&words, 2, FlowEntry::new(2, 8, 3, REMOTE));
    put(&words, 3, FlowEntry::new(3, 7, 3, LIVE));
    assert_eq!(adopt(&words, |slot| slot == 7, NOW), 1);
    assert_eq!(
        entries(&words),
        [
            (1, FlowEntry::new(1, 7, NOW, LIVE | FlowEntry::EXCEPTION)),
            (2, FlowEntry::new(2, 8, 3, REMOTE)),
            (3, FlowEntry::new(3, 7, 3, LIVE)),
        ]
    );
}
