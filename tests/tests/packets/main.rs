//! Packets in, packets out: every case goes through the loaded BPF program and through the same journey in plain memory,
//! and what became of the frame, what was counted and every byte must agree with the expectation and with each other.

#![expect(
    clippy::cast_possible_truncation,
    reason = "random numbers are cut to size, and literals of tests fit"
)]

mod both;
mod comparison;
mod cross;
mod decap;
mod differential;
mod echo;
mod eviction;
mod fixture;
mod flows;
mod forward;
mod guard;
mod headers;
mod judged;
mod kernel;
mod link;
mod neighbours;
mod properties;
mod redirect;
mod refused;
mod too_big;
mod two_cpus;
mod unmarked;
