//! A small network of namespaces on one bridge, the processes in it, and the certainty that nothing of it is left.
//!
//! Everything the lab makes (namespaces, pins, folders, processes) carries the name `fl-<pid>-<n>`, so that whatever an
//! interrupted run left can be found and removed later ([`leftover`]). Nothing outside namespaces the lab made is
//! touched, except that the BPF file system is mounted on /sys/fs/bpf where it is not.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use fairlead_tests::lab::{Lab, Nginx, http};
//! let lab = Lab::builder().backends(1).build()?;
//! let _web = Nginx::start(&lab, &lab.backends[0])?;
//! let target = (lab.backends[0].v4, 80).into();
//! let answer = lab.client.ns.enter(|| http::get(None, target, "/", http::PATIENCE))?;
//! assert_eq!(answer.body.trim(), lab.backends[0].role);
//! # Ok(()) }
//! ```

mod binaries;
mod decap;
mod fairlead;
pub mod ha;
pub mod http;
pub mod interrupt;
pub mod leftover;
mod line_client;
pub mod line_server;
mod load;
mod netns;
mod nginx;
mod peer;
pub mod plan;
mod process;
mod prometheus;
mod topology;
pub mod udp;
mod wait;
mod xdp_pass;

pub use binaries::{binary, use_folder};
pub use decap::Decap;
pub use fairlead::{Answer, Fairlead};
pub use line_client::{Broken, Line, LineClient, SILENCE};
use line_server::listen;
pub use load::{Attempt, Load, Tries};
pub use netns::Namespace;
pub use nginx::Nginx;
pub use peer::Peer;
pub use process::{Process, survive_us};
pub use prometheus::Prometheus;
use topology::DEVICE;
pub use topology::{Builder, Host, Lab, VipRoute};
pub use wait::wait_until;
pub use xdp_pass::attach as attach_pass;

/// Whether repetitions are to be few: `cargo xtask test --quick` sets `FAIRLEAD_QUICK`.
#[must_use]
pub fn quick() -> bool {
    std::env::var_os("FAIRLEAD_QUICK").is_some()
}
