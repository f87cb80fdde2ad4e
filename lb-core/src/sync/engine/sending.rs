//! What one peer is sent of this node's flows and verdicts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::context::{Context, ServiceSaid};
use super::legacy::Legacy;
use super::pack;
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;
use crate::sync::scan::{Scan, ToldOf};
use crate::sync::stream::{Missing, Outbox, Rate};
use crate::sync::wire::Sequenced;

/// Most messages that are sent again at once because a peer stands still.
const MAX_STALLED: u64 = 32;

/// The stream to one session of a peer.
pub(super) struct Sending {
    outbox: Outbox,
    rate: Rate,
    scan: Option<Scan>,
    /// Services of the bulk that was begun last; none if another one is due.
    services: BTreeSet<ServiceKey>,
    wanted: Vec<bool>,
    bulk_ended: bool,
    told: BTreeMap<ServiceKey, ServiceSaid>,
    /// What the peer expected next when it said so last.
    expected: u64,
    /// It lacked something then.
    was_behind: bool,
    /// Sequence of the start of the bulk that was begun last: nothing before it is sent again.
    bulk_from: u64,
    told_of: ToldOf,
    /// As of the last turn.
    was_active: BTreeSet<ServiceKey>,
    legacy: Option<Legacy>,
    /// What was sent in a turn: the sequence after it, and when.
    sent_at: VecDeque<(u64, Duration)>,
    /// Since when changes wait for the rate to allow them.
    held_back: Option<Duration>,
    /// Messages sent again.
    pub(super) resent: u64,
}

impl Sending {
    pub(super) fn new(now: Duration, max_rate: u64, told_of: ToldOf) -> Self {
        Self {
            outbox: Outbox::default(),
            rate: Rate::new(max_rate, now),
            scan: None,
            services: BTreeSet::new(),
            wanted: Vec::new(),
            bulk_ended: false,
            told: BTreeMap::new(),
            expected: 0,
            was_behind: false,
            bulk_from: 0,
            told_of,
            was_active: BTreeSet::new(),
            legacy: None,
            sent_at: VecDeque::new(),
            held_back: None,
            resent: 0,
        }
    }

    /// Everything is told again.
    pub(super) fn restart(&mut self) {
        self.services.clear();
        if let Some(legacy) = &mut self.legacy {
            legacy.restart();
        }
    }

    /// Messages that the peer has not confirmed.
    pub(super) fn lag(&self) -> u64 {
        self.outbox.next().saturating_sub(self.expected.max(1))
    }

    /// How long ago the oldest change came up that the peer has not confirmed; zero if it has all.
    pub(super) fn behind(&self, now: Duration) -> Duration {
        let oldest = self.sent_at.front().map(|(_, at)| *at).into_iter().chain(self.held_back).min();
        oldest.map_or(Duration::ZERO, |at| now.saturating_sub(at))
    }

    /// What is new since the last turn.
    pub(super) fn turn<W: FlowWord>(&mut self, now: Duration, context: &Context<'_, W>) -> Vec<Vec<u8>> {
        let active = context.active_services();
        self.leave(now, &active);
        let mut out = Vec::new();
        if active.is_empty() {
            // The shadow is not worth its memory.
            (self.scan, self.bulk_ended, self.held_back) = (None, false, None);
            self.services.clear();
            if self.legacy.is_none() {
                self.sent_at.clear();
            }
        } else {
            out = self.flows(now, active, context);
        }
        if let Some(legacy) = &mut self.legacy {
            let most = most_changes(self.rate.available(now));
            let parts = pack::batches(legacy.part(most, context), context.directory).into_iter();
            let parts = parts.map(|part| self.outbox.push(Sequenced::Legacy(part)));
            out.extend(parts.inspect(|message| self.rate.spend(message.len())));
            if legacy.is_whole(context.table.words.len()) {
                legacy.told_until(self.outbox.next());
            }
        }
        if !out.is_empty() {
            self.sent_at.push_back((self.outbox.next(), now));
        }
        out
    }

    /// Whether flows of services that this node has ceased to be active for have yet to be offered to the peer.
    pub(super) fn has_legacy<W>(&self, context: &Context<'_, W>) -> bool {
        self.legacy.is_some() || !self.was_active.is_subset(&context.active_services())
    }

    /// Takes note of services that this node is active for no longer.
    fn leave(&mut self, now: Duration, active: &BTreeSet<ServiceKey>) {
        let left: BTreeSet<ServiceKey> = self.was_active.difference(active).copied().collect();
        if !left.is_empty() {
            self.legacy = Some(Legacy::new(left, now));
        }
        self.legacy.take_if(|legacy| !legacy.is_due(now, active, self.expected));
        self.was_active.clone_from(active);
    }

    fn flows<W: FlowWord>(
        &mut self,
        now: Duration,
        services: BTreeSet<ServiceKey>,
        context: &Context<'_, W>,
    ) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let words = context.table.words;
        let scan = self.scan.get_or_insert_with(|| Scan::new(words.len(), self.told_of));
        let wanted = context.directory.slots_of(&services);
        let lost = self.wanted.iter().enumerate().any(|(slot, was)| *was && wanted.get(slot) != Some(&true));
        if wanted != self.wanted || self.services.is_empty() {
            scan.want(wanted.clone());
            self.wanted = wanted;
        }
        if services != self.services || lost {
            scan.restart();
            self.outbox.forget();
            self.sent_at.clear();
            self.bulk_from = self.outbox.next();
            self.told.clear();
            self.bulk_ended = false;
            let all: Vec<ServiceKey> = services.iter().copied().collect();
            out.extend(pack::bulk_begin(&all).map(|what| self.outbox.push(what)));
            self.services = services;
        }
        for said in context.verdicts.iter().filter(|said| self.services.contains(&said.service)) {
            if self.told.get(&said.service) != Some(said) {
                out.extend(pack::verdicts(said).into_iter().map(|what| self.outbox.push(what)));
                self.told.insert(said.service, said.clone());
            }
        }
        let most = most_changes(self.rate.available(now));
        let mut changes = Vec::new();
        self.held_back =
            if scan.scan(words, most, &mut changes) { None } else { self.held_back.or(Some(now)) };
        let batches = pack::batches(changes, context.directory).into_iter();
        out.extend(batches.map(|batch| self.outbox.push(Sequenced::Batch(batch))));
        if scan.is_whole() && !self.bulk_ended {
            self.bulk_ended = true;
            out.push(self.outbox.push(Sequenced::BulkEnd));
        }
        out.iter().for_each(|message| self.rate.spend(message.len()));
        out
    }

    /// The peer has all before `expected`. If it stood still since it said so last, it gets again what it lacks: what was
    /// lost last of all leaves no gap that it could see. If it has all and yet is not `complete`, it needs a bulk.
    pub(super) fn acknowledge(&mut self, expected: u64, complete: bool) -> Vec<Vec<u8>> {
        self.outbox.acknowledge(expected);
        while self.sent_at.front().is_some_and(|(next, _)| *next <= expected) {
            self.sent_at.pop_front();
        }
        let is_behind = expected < self.outbox.next();
        let stands = self.was_behind && is_behind && self.expected == expected;
        (self.expected, self.was_behind) = (expected, is_behind);
        if !complete && !is_behind && self.bulk_ended {
            self.restart();
        }
        if stands { self.again(expected, expected.saturating_add(MAX_STALLED - 1)) } else { Vec::new() }
    }

    /// Messages that the peer lacks, or a bulk at the next turn.
    pub(super) fn again(&mut self, from: u64, to: u64) -> Vec<Vec<u8>> {
        let from = from.max(self.bulk_from);
        let mut out = Vec::new();
        for sequence in from..=to.max(from) {
            match self.outbox.missing(sequence) {
                Missing::Kept(message) => out.push(message.to_vec()),
                Missing::Never => break,
                Missing::Gone => {
                    self.services.clear();
                    break;
                }
            }
        }
        self.resent += out.len() as u64;
        out.iter().for_each(|message| self.rate.spend(message.len()));
        out
    }
}

/// Changes that so many bytes carry: half of them at worst are headers of datagrams and groups.
fn most_changes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX) / (2 * pack::CHANGE_BYTES)
}
