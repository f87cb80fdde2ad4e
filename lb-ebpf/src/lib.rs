//! The world of Fairlead's BPF programs: maps, packet access, clock. The programs themselves are in `main.rs`, the
//! packet's journey in lb-common.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
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

pub mod atomic;
pub mod balancer;
pub mod decapsulator;
pub mod dry;
pub mod frame;
pub mod maps;
pub mod watch;
