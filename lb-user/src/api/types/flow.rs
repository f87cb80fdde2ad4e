//! Flows and counters.

use std::net::{IpAddr, SocketAddr};

use lb_core::config::Protocol;
use serde::{Deserialize, Serialize};

use crate::api::{Timestamp, words};

/// Most flows in one reply: some 20 MB of JSON, which the daemon writes between two health checks.
pub const MAX_FLOW_LIMIT: u32 = 100_000;

/// Flows in a reply when the request does not say.
pub const DEFAULT_FLOW_LIMIT: u32 = 100;

/// `GET /v1/flows?service=&backend=&limit=`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowQuery {
    /// Of this service only.
    pub service: Option<String>,
    /// To this backend only.
    pub backend: Option<IpAddr>,
    /// At most so many; 1 to 100,000.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

const fn default_limit() -> u32 {
    DEFAULT_FLOW_LIMIT
}

/// Reply to [`FlowQuery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowList {
    /// The flows, in no particular order.
    pub flows: Vec<Flow>,
    /// Whether there are more of them than the limit.
    pub truncated: bool,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    /// Only its first packet was seen.
    Unconfirmed,
    /// In use.
    Established,
    /// FIN or RST was seen, and no data since.
    Closing,
}

impl FlowState {
    /// The word in JSON and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unconfirmed => "unconfirmed",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

/// An entry of the flow table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The client.
    pub client: SocketAddr,
    /// The virtual address and port.
    pub vip: SocketAddr,
    /// Name of the service.
    pub service: String,
    /// The backend it goes to.
    pub backend: IpAddr,
    /// TCP or UDP.
    #[serde(deserialize_with = "words::protocol")]
    pub protocol: Protocol,
    /// How far it is.
    pub state: FlowState,
    /// Seconds since its last packet, to about 9 s.
    pub age_s: u64,
    /// Whether the present table would send it elsewhere.
    pub exception: bool,
}

/// `GET /v1/flows/lookup?from=IP:PORT&to=VIP:PORT&protocol=`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupQuery {
    /// The client.
    pub from: SocketAddr,
    /// The virtual address and port.
    pub to: SocketAddr,
    /// TCP or UDP.
    #[serde(deserialize_with = "words::protocol")]
    pub protocol: Protocol,
}

/// Reply to [`LookupQuery`]: where a packet of this flow goes now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLookup {
    /// Name of the service.
    pub service: String,
    /// Where the next packet goes; absent if it is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<IpAddr>,
    /// The entry of the flow table, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Flow>,
    /// Index of the Maglev table that the flow falls on.
    pub table_index: u32,
    /// Backend that this index names, which decides for flows without an entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_backend: Option<IpAddr>,
    /// Since when the table would send it elsewhere than its entry does; absent if it would not, or if that was so
    /// before the daemon started or longer than it remembers, which `explanation` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception_since: Option<ExceptionSince>,
    /// The same in sentences, in the order in which the program looks.
    pub explanation: Vec<String>,
}

/// The change of a service's table that made a flow an exception: the table before named its backend, none since did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionSince {
    /// When it came into force.
    pub at: Timestamp,
    /// What changed: a command, `reload`, `health of …`, `network: …`.
    pub cause: String,
    /// The service's `table_generation` from then on.
    pub generation: u32,
}

/// `GET /v1/counters`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterList {
    /// All of them, those at zero too: verdicts, drops, events.
    pub counters: Vec<Counter>,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CounterKind {
    /// Packets sent on, answered or left to the kernel.
    Verdict,
    /// Packets dropped, for one reason.
    Drop,
    /// Something that happened beside: these packets count as verdict or drop as well.
    Event,
}

impl CounterKind {
    /// The word in JSON and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Drop => "drop",
            Self::Event => "event",
        }
    }
}

/// A counter since the program was loaded, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its name, as in metrics.
    pub name: String,
    /// What it counts.
    pub kind: CounterKind,
    /// What it means, in words.
    pub description: String,
    /// Packets.
    pub packets: u64,
}
