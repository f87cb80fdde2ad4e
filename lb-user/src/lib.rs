//! The `fairlead` binary as a library: command line, API and daemon.

pub mod api;
pub mod bpf;
pub mod cli;

mod daemon;
mod decap;
pub mod ha;
pub mod metrics;
pub mod net;
pub mod probe;
pub mod trace;
