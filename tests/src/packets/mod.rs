//! Packets in, packets out: frames built by hand, maps described once, and a world of plain memory to run the packet's
//! journey in. The kernel's half needs the BPF object and is therefore in the tests, not here.

#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of headers and maps are narrow, and literals of tests fit"
)]

pub mod balancer;
pub mod client;
pub mod decap;
pub mod extension;
pub mod generate;
pub mod host;
pub mod icmp;
pub mod memory;
pub mod neighbour;
pub mod random;
pub mod seen;
pub mod setup;
pub mod verify;
pub mod wire;

pub use client::{Client, Route};
pub use decap::HostDecap;
pub use generate::Generator;
pub use host::HostWorld;
pub use random::Random;
pub use seen::{Probe, Seen};
pub use setup::{DecapSetup, ServiceSetup, Setup};
