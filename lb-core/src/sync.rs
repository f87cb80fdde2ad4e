//! Flow sync: keeps a standby's flow table like the active's, over datagrams that may be lost, doubled and overtaken.
//!
//! Pure like the rest of the crate: no socket, no clock, no chance. Session numbers and `now` are passed in; the table
//! is anything made of [`FlowWord`](crate::sweep::FlowWord)s.
//!
//! What is secret comes from one key file ([`ClusterKey`]); one datagram is one authenticated message ([`wire`]). The
//! sender finds out what changed by comparing its table with what it told ([`Scan`]); [`stream`] brings it over, and
//! [`apply`] puts it into the receiver's table. [`engine`] ties them together. What is believed of backends travels, too:
//! [`belief`].

pub mod apply;
pub mod belief;
pub mod engine;
mod key;
mod scan;
pub mod stream;
pub mod wire;

pub use engine::{
    Context, Directory, Effect, GroupFacts, PeerStatus, Readiness, SCAN_INTERVAL, ServiceSaid, Settings, Sync,
};
pub use key::{ClusterKey, KeyError, MIN_KEY_BYTES};
pub use scan::{Change, MAX_BUCKET_CHANGES, Scan, ToldOf};
