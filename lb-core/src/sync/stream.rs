//! What must arrive, in order, over a network that loses, doubles and overtakes: numbered on one side, put in order on
//! the other, which asks for what is missing.
//!
//! A bulk is where both start anew: what it replaces need not arrive any more.

mod inbox;
mod outbox;
mod rate;

pub use inbox::{Inbox, MAX_REORDERED, NACK_AFTER, NACK_AGAIN};
pub use outbox::{MAX_RING_BYTES, Missing, Outbox};
pub use rate::Rate;

/// Sequence of the first message of a session.
pub const FIRST: u64 = 1;
/// Most messages that one NACK asks for: a burst that a socket buffer takes.
pub const MAX_NACK: u64 = 64;

#[cfg(test)]
mod tests;
