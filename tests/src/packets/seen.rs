//! What one run of a program on one frame did, in a form in which two worlds can be compared.

use std::collections::BTreeMap;
use std::fmt;

use lb_common::reason::Action;

/// What became of a frame and what was counted for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the kernel is told to do.
    pub action: Action,
    /// Names of the outcome counters that went up, each as often as it did.
    pub outcomes: Vec<&'static str>,
    /// Names of the event counters that went up.
    pub events: Vec<&'static str>,
    /// Packets, bytes and flows added to slots.
    pub slots: BTreeMap<usize, [u64; 3]>,
    /// The frame afterwards; empty if it was dropped, since nobody sees it then.
    pub frame: Vec<u8>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, outcomes, events, slots, frame } = self;
        write!(out, "{action:?} {outcomes:?} events {events:?} slots {slots:?} frame {}", hex(frame))
    }
}

/// Bytes as a paste-ready string.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The bytes of such a string; for regression cases.
///
/// # Panics
/// If it is not made of pairs of digits.
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|letter| letter.to_digit(16).expect("hexadecimal digits") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A balancer that frames can be put through and whose maps can be changed meanwhile.
pub trait Probe {
    /// Puts a frame through the program.
    fn run(&mut self, frame: &[u8]) -> Seen;
    /// One bucket of the flow table.
    fn bucket(&self, index: u32) -> [u64; 8];
    /// Writes one entry of the flow table.
    fn put_entry(&mut self, bucket: u32, way: usize, entry: u64);
    /// The remembered 5-tuple of an entry, as its octets.
    fn tuple(&self, bucket: u32, way: usize) -> [u64; 5];
    /// Changes a backend's word.
    fn put_backend(&mut self, slot: u16, word: u64);
    /// Changes a service's word.
    fn put_service(&mut self, index: u32, word: u64);
    /// Writes table entries from this one on.
    fn put_table(&mut self, first_entry: u32, slots: &[u16]);
}
