//! What the kernel knows about interfaces, routes and neighbours, by rtnetlink.
//!
//! Everything here speaks about the network namespace the calling thread is in.

mod check;
mod connection;
mod facts;
mod groups;
mod hops;
mod known;
mod link;
mod neighbour;
mod network;
mod route;
mod watch;
mod ways;

pub use check::{check_here, check_here_blocking};
pub use facts::{host_facts, host_facts_blocking};
pub use groups::Groups;
pub use link::{Link, XdpAttachment};
pub use network::{Network, Resolved};
