//! The messages.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::AdminState;
use crate::health::Verdict;
use crate::plan::ServiceKey;

/// State of a [`FlowChange`] that says that the flow is gone.
pub const DELETE: u8 = 0x80;

/// A group that the sender may be active for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSaid {
    /// Its name.
    pub name: String,
    /// VRRP priority of the sender.
    pub priority: u8,
    /// Whether the sender is active.
    pub active: bool,
}

/// Who the sender is and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Its flow table has two to the power of this many buckets.
    pub bucket_bits: u8,
    /// Flows it sends come with 32 bits of their hash, not only with those that its own table uses.
    pub hash_complete: bool,
    /// Its groups.
    pub groups: Vec<GroupSaid>,
    /// Sequence that it expects next from the receiver: all before have been applied.
    pub next_expected: u64,
    /// It has all flows of the receiver.
    pub bulk_complete: bool,
}

/// A flow that is new, has changed, or is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowChange {
    /// Lower half of the flow hash, or as many bits of it as the sender's buckets need.
    pub hash_low: u32,
    /// Upper half of the flow hash.
    pub fingerprint: u32,
    /// State of the entry, or [`DELETE`].
    pub state: u8,
}

/// Changes of flows of one backend of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchGroup {
    /// The service.
    pub service: ServiceKey,
    /// Its backend.
    pub backend: IpAddr,
    /// What changed, in the order in which it is to be applied.
    pub changes: Vec<FlowChange>,
}

/// What one node believes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendSaid {
    /// Address of the backend.
    pub backend: IpAddr,
    /// What the operator wants of it.
    pub state: AdminState,
    /// Its share of new flows.
    pub weight: u32,
    /// What probes say.
    pub verdict: Verdict,
}

/// What one node believes of a service, or a part of it if it does not fit into one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictsSaid {
    /// The service.
    pub service: ServiceKey,
    /// No part comes before.
    pub first: bool,
    /// No part follows.
    pub last: bool,
    /// Its backends.
    pub backends: Vec<BackendSaid>,
    /// Of the service's configuration: both nodes steer alike if it is equal.
    pub digest: u64,
}

/// What must arrive, in the order in which it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sequenced {
    /// Flows.
    Batch(Vec<BatchGroup>),
    /// From here to [`Sequenced::BulkEnd`] come all flows of these services: others are gone.
    BulkBegin {
        /// Nothing before it counts any more; otherwise it only names more services of the same bulk.
        first: bool,
        /// The services.
        services: Vec<ServiceKey>,
    },
    /// See [`Sequenced::BulkBegin`].
    BulkEnd,
    /// Backends.
    Verdicts(VerdictsSaid),
    /// Flows of services that the sender has just ceased to be active for. Whoever is active takes those that it lacks.
    Legacy(Vec<BatchGroup>),
}

/// One datagram's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who and how far.
    Hello(Hello),
    /// Something with a place in the sequence.
    Sequenced(u64, Sequenced),
    /// These sequences, both included, are missing.
    Nack {
        /// First missing one.
        from: u64,
        /// Last missing one.
        to: u64,
    },
    /// The receiver shall take over this group.
    HandOver {
        /// Name of the group.
        group: String,
    },
    /// Answer to [`Message::HandOver`] and [`Message::Hold`].
    HandOverReply {
        /// Name of the group.
        group: String,
        /// Whether it takes over.
        accepted: bool,
    },
    /// The sender restarts as planned: the receiver shall not take over before.
    Hold {
        /// Name of the group.
        group: String,
        /// How long, in whole milliseconds.
        time: Duration,
    },
}
