//! Explaining what the program does with a frame: from the facts of a dry run to sentences. Pure.

pub mod entry;
mod explain;
mod frame;

pub use explain::{Run, SlotFacts, Surroundings, explain, outcome_of, too_short};
pub use frame::{destination, from_hex, mac, to_hex};

#[cfg(test)]
mod tests;
