//! The contract of kernel and user space: what the BPF programs and the controller must agree on to the byte.
//!
//! Nothing here does IO, reads a clock or allocates (but for [`maglev`], which only user space calls): the packet's
//! [`journey()`] is generic over a [`World`], which is BPF maps in the kernel and plain memory in tests.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of headers and words are taken out by narrowing casts"
)]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod backend;
pub mod checksum;
mod counted;
pub mod counters;
pub mod decap;
pub mod egress;
pub mod flow;
pub mod frame;
pub mod guard;
pub mod hash;
pub mod idle;
pub mod journey;
pub mod limits;
pub mod maglev;
pub mod packet;
pub mod pick;
pub mod reason;
pub mod rewrite;
pub mod service;
pub mod settings;
pub mod trace;
pub mod world;

pub use backend::{BackendRow, BackendWord, SlotState};
pub use journey::journey;
pub use reason::{DropReason, Outcome, Verdict};
pub use service::{ServiceKey4, ServiceKey6, ServiceWord};
pub use world::World;
