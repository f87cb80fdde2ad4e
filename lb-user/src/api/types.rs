//! Requests and replies of the API. The JSON is what these types say; fields may be added, never renamed.

mod flow;
mod ha;
mod service;
mod status;
mod trace;

use lb_core::config::Problem;
use serde::{Deserialize, Serialize};

pub use flow::{
    Counter, CounterKind, CounterList, DEFAULT_FLOW_LIMIT, ExceptionSince, Flow, FlowList, FlowLookup,
    FlowQuery, FlowState, LookupQuery, MAX_FLOW_LIMIT,
};
pub use ha::{
    HaActive, HaCommand, HaDeed, HaGroupStatus, HaPeerStatus, HaRouterStatus, HaStatus, HaSyncStatus,
    HaThreadStatus, HaTransition,
};
pub use service::{
    Backend, BackendList, BackendQuery, Health, Service, ServiceList, ServiceTable, SlotState,
};
pub use status::{
    AttachedMode, ConfigStatus, FlowTableStatus, InterfaceStatus, LimitsStatus, ServicesSummary, Status,
};
pub use trace::{FrameTrace, MAX_TRACE_FRAMES, TraceFlow, TraceReply, TraceRequest, TraceVerdict};

use super::time::Timestamp;

/// Largest weight of a backend.
pub const MAX_WEIGHT: u32 = 1000;

/// `POST /v1/services/{name}/backends`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBackendRequest {
    /// The backend's own address.
    pub address: std::net::IpAddr,
    /// Its share of new flows, 0 to 1000.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

const fn default_weight() -> u32 {
    1
}

/// `PUT /v1/services/{name}/backends/{address}/weight`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// Share of new flows, 0 to 1000.
    pub weight: u32,
}

/// `POST /v1/stop`; an empty body means that forwarding goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Whether programs and pins are removed, so that forwarding ends.
    #[serde(default)]
    pub detach: bool,
    /// The daemon will be back within so many milliseconds: VIPs are answered for until then, and peers that are told of it
    /// by flow sync leave them here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u32>,
}

/// Reply to a change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReply {
    /// Generation of the configuration that is now in force.
    pub generation: u64,
    /// What was done, in a sentence.
    pub message: String,
    /// What works but is probably not meant.
    #[serde(default)]
    pub warnings: Vec<Problem>,
}

/// Reply to a request that has nothing else to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, in a sentence.
    pub message: String,
}

/// `GET /v1/config`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigReply {
    /// The file it came from.
    pub file: String,
    /// Counts the configurations put in force since the daemon started, from 1.
    pub generation: u64,
    /// When it was put in force.
    pub loaded: Timestamp,
    /// Whether the file on disk says something else by now.
    pub changed_on_disk: bool,
    /// Text of the file as loaded.
    pub text: String,
    /// The same with every default filled in: `lb_core::config::Config` as JSON.
    pub config: serde_json::Value,
}
