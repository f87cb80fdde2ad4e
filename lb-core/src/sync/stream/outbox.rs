//! The sender's side: numbers, and what was sent lately.

use std::collections::VecDeque;

use super::FIRST;
use crate::sync::wire::{Message, Sequenced};

/// Bytes that are kept to be sent again: a second at 8 MB/s, far more than a peer takes to ask.
pub const MAX_RING_BYTES: usize = 8 << 20;

/// What becomes of a request for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing<'a> {
    /// It is sent again.
    Kept(&'a [u8]),
    /// It is gone: only a bulk helps.
    Gone,
    /// It was never sent.
    Never,
}

/// Messages sent to one session of a peer.
#[derive(Clone, Debug)]
pub struct Outbox {
    next: u64,
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    most_bytes: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(MAX_RING_BYTES)
    }
}

impl Outbox {
    /// One that keeps so many bytes.
    #[must_use]
    pub const fn new(most_bytes: usize) -> Self {
        Self { next: FIRST, kept: VecDeque::new(), bytes: 0, most_bytes }
    }

    /// Numbers a message and keeps it. The encoded message is returned to be sent.
    pub fn push(&mut self, what: Sequenced) -> Vec<u8> {
        let message = Message::Sequenced(self.next, what).encode();
        self.next += 1;
        self.bytes += message.len();
        self.kept.push_back(message.clone());
        while self.bytes > self.most_bytes {
            self.drop_oldest();
        }
        message
    }

    /// The peer has all before `next_expected`. `false`: it has more than was sent, which no honest peer has.
    pub fn acknowledge(&mut self, next_expected: u64) -> bool {
        while self.oldest() < next_expected && !self.kept.is_empty() {
            self.drop_oldest();
        }
        next_expected <= self.next
    }

    /// A message that the peer lacks.
    #[must_use]
    pub fn missing(&self, sequence: u64) -> Missing<'_> {
        if sequence >= self.next {
            return Missing::Never;
        }
        let at = sequence.checked_sub(self.oldest()).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.kept.get(at)).map_or(Missing::Gone, |message| Missing::Kept(message))
    }

    /// Sequence of the next message.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Nothing that was sent so far is sent again.
    pub fn forget(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    fn oldest(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    fn drop_oldest(&mut self) {
        if let Some(message) = self.kept.pop_front() {
            self.bytes -= message.len();
        }
    }
}
