//! What proves high availability: who answers for an address and for how long nobody did, thousands of connections
//! that must survive, and ways to take a balancer away.
//!
//! Everything here measures from outside, so it is used on any peer the same way: on Fairlead, and on keepalived.

mod cluster;
mod control;
mod cut;
mod fairlead_pair;
mod flow_maker;
pub mod herd;
pub mod keepalived;
mod pair;
mod processes;
mod question;
mod record;
mod rhythm;
mod socket;
mod stream;
mod watch;

pub use cluster::{Cluster, GROUP};
pub use control::{ControlPing, SPOILED_BY, Stall, mac_of};
pub use cut::{Cut, CutLink, part};
pub use fairlead_pair::{FLOWS, FairleadPair, HERD, STREAM};
pub use flow_maker::FlowMaker;
pub use herd::{Herd, HerdPlan};
pub use keepalived::Keepalived;
pub use pair::{How, Pair};
pub use processes::{MAX_STARVE, Starve, processes_of, signal_all, signal_namespace, vanish};
pub use question::{Question, To};
pub use record::{Announcement, Answer, Mac, Overlap, Record, gap, overlap, switched_at};
pub use stream::{Stream, Streamed};
pub use watch::{AnswerWatch, EVERY, MAX_LENGTH};
