//! The sender's look at the flow table: what has changed since it last told.
//!
//! A shadow of the table holds what was told. Most entries are as they were: one comparison each. Where one differs, the
//! whole bucket is compared by fingerprint, since a flow may have moved within it.

use lb_common::flow::{FlowEntry, TICKS};
use lb_common::limits::WAYS;

use super::wire::DELETE;
use crate::sweep::FlowWord;

/// Changes that one bucket can make: each flow in it gone, and another one in its place.
pub const MAX_BUCKET_CHANGES: usize = 2 * WAYS;

/// What a peer is told of an entry: neither ticks nor what each node says for itself.
const TOLD: u64 = !(FlowEntry::new(0, 0, TICKS - 1, FlowEntry::REMOTE | FlowEntry::EXCEPTION).0);

/// A flow that is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it is: as many bits of the flow hash as the table uses.
    pub bucket: u32,
    /// Upper half of the flow hash.
    pub fingerprint: u32,
    /// Its backend, or the one that it had.
    pub slot: u16,
    /// State of the entry, or [`DELETE`].
    pub state: u8,
}

/// The shadow of a table, for one peer.
#[derive(Clone, Debug)]
pub struct Scan {
    shadow: Vec<u64>,
    /// By slot: whether the peer is told of its flows.
    wanted: Vec<bool>,
    /// Bucket to look at next.
    next: usize,
    /// Buckets to look at until all were since the last [`Scan::restart`].
    unseen: usize,
    /// Of which flows the peer is told.
    told_of: ToldOf,
}

/// Of which flows of the wanted slots a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToldOf {
    /// Of all that are confirmed.
    #[default]
    All,
    /// Of those among them that are exceptions: the present tables lead to all others.
    Exceptions,
}

impl Scan {
    /// For a table of so many entries, of which nothing was told and no slot is wanted.
    #[must_use]
    pub fn new(entries: usize, told_of: ToldOf) -> Self {
        let buckets = entries / WAYS;
        Self { shadow: vec![0; buckets * WAYS], wanted: Vec::new(), next: 0, unseen: buckets, told_of }
    }

    /// From now on flows of these slots are told of. Of flows of others nothing is said any more, not even that they are
    /// gone: another node may answer for them now.
    pub fn want(&mut self, wanted: Vec<bool>) {
        let lost = self.wanted.iter().enumerate().any(|(slot, was)| *was && wanted.get(slot) != Some(&true));
        self.wanted = wanted;
        if lost {
            for told in self.shadow.iter_mut().filter(|told| **told != 0) {
                if !is_wanted(*told, &self.wanted) {
                    *told = 0;
                }
            }
        }
    }

    /// Forgets what was told: everything is told again, from the first bucket on.
    pub fn restart(&mut self) {
        self.shadow.fill(0);
        self.next = 0;
        self.unseen = self.shadow.len() / WAYS;
    }

    /// Whether all buckets were looked at since the last [`Scan::restart`].
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.unseen == 0
    }

    /// Adds up to `most` changes to `changes`, and goes on where it stopped when it is called next: what did not fit is
    /// not forgotten, nor does a busy part of the table keep the rest waiting. Nothing is taken if less than
    /// [`MAX_BUCKET_CHANGES`] fit. Returns whether all buckets were looked at.
    pub fn scan<W: FlowWord>(&mut self, table: &[W], most: usize, changes: &mut Vec<Change>) -> bool {
        let end = changes.len().saturating_add(most);
        let buckets = self.shadow.len().min(table.len()) / WAYS;
        self.next = if self.next < buckets { self.next } else { 0 };
        let (start, mut looked_at) = (self.next, 0);
        for range in [start..buckets, 0..start] {
            let told = self.shadow[range.start * WAYS..range.end * WAYS].chunks_exact_mut(WAYS);
            let found = table[range.start * WAYS..range.end * WAYS].chunks_exact(WAYS);
            for (bucket, (told, found)) in range.zip(told.zip(found)) {
                if end - changes.len() < MAX_BUCKET_CHANGES {
                    self.next = bucket;
                    self.unseen = self.unseen.saturating_sub(looked_at);
                    return false;
                }
                looked_at += 1;
                if is_as_told(told, found, &self.wanted, self.told_of) {
                    continue;
                }
                let now = core::array::from_fn(|way| to_tell(found[way].load(), &self.wanted, self.told_of));
                compare(u32::try_from(bucket).unwrap_or(u32::MAX), told, now, changes);
                told.copy_from_slice(&now);
            }
        }
        self.unseen = self.unseen.saturating_sub(looked_at);
        true
    }
}

/// Whether nothing in a bucket differs. Nearly always so, and the only thing that happens to most entries.
#[inline]
fn is_as_told<W: FlowWord>(told: &[u64], found: &[W], wanted: &[bool], told_of: ToldOf) -> bool {
    told.iter().zip(found).all(|(told, word)| {
        let word = word.load();
        word & TOLD == *told && told_of == ToldOf::All || to_tell(word, wanted, told_of) == *told
    })
}

/// The part of an entry that a peer is told of; 0 if it is told nothing.
fn to_tell(word: u64, wanted: &[bool], told_of: ToldOf) -> u64 {
    let entry = FlowEntry(word);
    let is_told =
        entry.is(FlowEntry::CONFIRMED) && (told_of == ToldOf::All || entry.is(FlowEntry::EXCEPTION));
    if is_told && is_wanted(word, wanted) { word & TOLD } else { 0 }
}

fn is_wanted(word: u64, wanted: &[bool]) -> bool {
    wanted.get(usize::from(FlowEntry(word).slot())).copied().unwrap_or(false)
}

/// What has changed in a bucket. What is gone comes first: it makes room where the bucket is full.
fn compare(bucket: u32, told: &[u64], now: [u64; WAYS], changes: &mut Vec<Change>) {
    let change = |entry: FlowEntry, state| Change {
        bucket,
        fingerprint: entry.fingerprint(),
        slot: entry.slot(),
        state,
    };
    for entry in flows(told) {
        if flow_of(&now, entry.fingerprint()).is_none() {
            changes.push(change(entry, DELETE));
        }
    }
    for entry in flows(&now) {
        if flow_of(told, entry.fingerprint()) != Some(entry) {
            changes.push(change(entry, entry.state()));
        }
    }
}

/// The flows of a bucket. One that two packets stored at once is in it twice, and is the one that packets find.
fn flows(words: &[u64]) -> impl Iterator<Item = FlowEntry> {
    let all = words.iter().map(|word| FlowEntry(*word)).enumerate().filter(|(_, entry)| !entry.is_empty());
    all.filter(|(way, entry)| way_of(words, entry.fingerprint()) == Some(*way)).map(|(_, entry)| entry)
}

fn flow_of(words: &[u64], fingerprint: u32) -> Option<FlowEntry> {
    way_of(words, fingerprint).map(|way| FlowEntry(words[way]))
}

/// In the order in which packets look.
fn way_of(words: &[u64], fingerprint: u32) -> Option<usize> {
    let ways = (0..WAYS).map(|step| (fingerprint as usize).wrapping_add(step) % WAYS);
    ways.into_iter().find(|way| {
        let entry = FlowEntry(words[*way]);
        entry.fingerprint() == fingerprint && !entry.is_empty()
    })
}

#[cfg(test)]
mod tests;
