//! High availability as the kernel sees it: sockets, announcements, addresses, time. Nothing here decides anything.
//!
//! Everything speaks about the network namespace the calling thread is in.

mod announce;
mod primary;
mod realtime;
mod socket;

pub use announce::Announcer;
pub use primary::{mac_of, source_of};
pub use realtime::{PRIORITY, RealTime, Waiter, boot_time, make_real_time};
pub use socket::{Datagram, MAX_DATAGRAM, VrrpSocket};
