//! What high availability does to links and time: sockets for adverts, frames that announce VIPs, a thread that is
//! punctual. Nothing here decides anything.

pub mod announce;
pub mod primary;
pub mod realtime;
pub mod socket;
