//! Services and their backends.

use std::net::IpAddr;

use lb_core::config::{AdminState, Mode, Protocol, WhenAllDown};
use lb_core::health::Verdict;
use serde::{Deserialize, Serialize};

use crate::api::Timestamp;
use crate::api::words;

/// `GET /v1/services`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceList {
    /// All services, in the order of the file.
    pub services: Vec<Service>,
}

/// `GET /v1/services/{name}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The address clients connect to.
    pub vip: IpAddr,
    /// The port clients connect to.
    pub port: u16,
    /// TCP or UDP.
    #[serde(deserialize_with = "words::protocol")]
    pub protocol: Protocol,
    /// How packets reach the backends.
    #[serde(deserialize_with = "words::mode")]
    pub mode: Mode,
    /// Entries of its Maglev table.
    pub table_size: u32,
    /// Counts the switches of the table; wraps.
    pub table_generation: u32,
    /// Whether flows are remembered.
    pub track: bool,
    /// The check in a few words, such as `http :80/health every 1s`; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// What happens when every checked backend is down.
    #[serde(deserialize_with = "words::when_all_down")]
    pub when_all_down: WhenAllDown,
    /// Whether that is the case now.
    pub all_down: bool,
    /// Whether any backend takes new flows now.
    pub serving: bool,
    /// Flows in the flow table.
    pub flows: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, from the IP header on, without the outer header.
    pub bytes: u64,
    /// Its backends, in the order of the file.
    pub backends: Vec<Backend>,
}

/// `GET /v1/backends?service=`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendQuery {
    /// Of this service only.
    pub service: Option<String>,
}

/// Reply to [`BackendQuery`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendList {
    /// All backends, by service in the order of the file.
    pub backends: Vec<Backend>,
}

/// What the data plane does with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotState {
    /// Takes new flows and keeps old ones.
    Serving,
    /// Keeps old flows only.
    Draining,
    /// Takes nothing: its flows are picked anew.
    Dead,
}

impl SlotState {
    /// The word in JSON and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }
}

/// A backend of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The service it is a backend of.
    pub service: String,
    /// Its own address.
    pub address: IpAddr,
    /// Its weight as configured.
    pub weight: u32,
    /// What the operator wants of it.
    #[serde(deserialize_with = "words::admin_state")]
    pub state: AdminState,
    /// Weight or state are not as configured here, but as the node has them, or had them, that was active last.
    #[serde(default)]
    pub overridden: bool,
    /// What its checks say.
    pub health: Health,
    /// What the data plane does with it.
    pub slot_state: SlotState,
    /// Its slot; absent if it has none, as a backend without a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u16>,
    /// Its part of the Maglev table, which is its part of new flows.
    pub share_percent: f64,
    /// Its flows in the flow table.
    pub flows: u64,
    /// Packets forwarded to it since its slot was made.
    pub packets: u64,
    /// Bytes of these packets, from the IP header on, without the outer header.
    pub bytes: u64,
}

/// What the checks of a backend say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict in force.
    #[serde(deserialize_with = "words::verdict")]
    pub verdict: Verdict,
    /// Why: the last failure, or where a verdict without checks of our own comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the last probe ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Timestamp>,
}

/// `GET /v1/services/{name}/table`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTable {
    /// Entries of the table.
    pub size: u32,
    /// Addresses that the table names.
    pub backends: Vec<IpAddr>,
    /// For each entry the position of its backend in `backends`; `null` where no backend serves.
    pub table: Vec<Option<u16>>,
}
