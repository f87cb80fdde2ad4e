//! The `fairlead` binary as a library: command line, API and daemon.

pub mod api;
pub mod bpf;
pub mod cli;

pub mod net;
pub mod probe;
mod daemon;
mod decap;
