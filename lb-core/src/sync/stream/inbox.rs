//! The receiver's side: puts in order what came, and knows what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{FIRST, MAX_NACK};
use crate::sync::wire::Sequenced;

/// Most messages that wait for one before them. What comes beyond is dropped, and asked for later.
pub const MAX_REORDERED: u64 = 1_024;
/// How long a message may be overtaken before it is asked for.
pub const NACK_AFTER: Duration = Duration::from_millis(10);
/// When it is asked for once more: a round trip and the sender's next turn.
pub const NACK_AGAIN: Duration = Duration::from_millis(50);

/// Messages from one session of a peer.
#[derive(Clone, Debug)]
pub struct Inbox {
    next: u64,
    waiting: BTreeMap<u64, Sequenced>,
    /// While something is missing: when it is asked for.
    nack_at: Option<Duration>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { next: FIRST, waiting: BTreeMap::new(), nack_at: None }
    }
}

impl Inbox {
    /// Takes a message in. [`Inbox::pop`] then gives all whose turn it is.
    pub fn push(&mut self, now: Duration, sequence: u64, what: Sequenced) {
        // None follows the last number there is, and no peer lives that long.
        if sequence < self.next || sequence == u64::MAX {
            return;
        }
        if matches!(what, Sequenced::BulkBegin { first: true, .. }) {
            // It replaces all before it.
            self.next = sequence;
            self.waiting = self.waiting.split_off(&sequence);
        }
        if sequence - self.next < MAX_REORDERED {
            self.waiting.insert(sequence, what);
        }
        self.look_for_gap(now);
    }

    /// The next message in order.
    pub fn pop(&mut self, now: Duration) -> Option<Sequenced> {
        let what = self.waiting.remove(&self.next)?;
        self.next += 1;
        self.nack_at = None;
        self.look_for_gap(now);
        Some(what)
    }

    /// First and last of the messages to be asked for now, if it is time.
    pub fn nack(&mut self, now: Duration) -> Option<(u64, u64)> {
        if self.nack_at.is_none_or(|at| now < at) {
            return None;
        }
        let (first, _) = self.waiting.first_key_value()?;
        let last = (first - 1).min(self.next.saturating_add(MAX_NACK - 1));
        self.nack_at = Some(now + NACK_AGAIN);
        (last >= self.next).then_some((self.next, last))
    }

    /// When [`Inbox::nack`] has something to ask.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Duration> {
        self.nack_at
    }

    /// All before this one have been given out.
    #[must_use]
    pub const fn next_expected(&self) -> u64 {
        self.next
    }

    fn look_for_gap(&mut self, now: Duration) {
        let is_gap = self.waiting.first_key_value().is_some_and(|(first, _)| *first != self.next);
        self.nack_at = if is_gap { self.nack_at.or(Some(now + NACK_AFTER)) } else { None };
    }
}
