//! What the API asks of the daemon: one variant for each call.

use std::time::Duration;

use bytes::Bytes;
use lb_core::edit::Change;
use tokio::sync::oneshot;

use super::error::ApiError;
use super::types::{
    BackendList, ChangeReply, ConfigReply, CounterList, Done, FlowList, FlowLookup, FlowQuery, HaCommand,
    HaStatus, LookupQuery, Service, ServiceList, ServiceTable, Status, StopRequest, TraceReply,
};

/// Where the daemon puts the answer. Dropping it without an answer tells the client that the daemon is stopping.
pub type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

/// A call of the API, on its way to the daemon.
///
/// Arguments are well-formed (addresses parse, numbers are in range); whether they fit what is there is for the daemon.
#[derive(Debug)]
pub enum Command {
    /// `GET /v1/status`
    Status(Answer<Status>),
    /// `GET /v1/services`
    Services(Answer<ServiceList>),
    /// `GET /v1/services/{name}`
    Service {
        /// The service's name.
        name: String,
        /// The service with its backends.
        answer: Answer<Service>,
    },
    /// `GET /v1/services/{name}/table`
    Table {
        /// The service's name.
        name: String,
        /// Its Maglev table as the kernel has it.
        answer: Answer<ServiceTable>,
    },
    /// `GET /v1/backends?service=`
    Backends {
        /// Of this service only.
        service: Option<String>,
        /// The backends.
        answer: Answer<BackendList>,
    },
    /// `POST` and `DELETE` below `/v1/services/{name}/backends`, and `PUT …/weight`
    Change {
        /// The change to the file.
        change: Change,
        /// What came of it.
        answer: Answer<ChangeReply>,
    },
    /// `GET /v1/flows`
    Flows {
        /// Which flows.
        query: FlowQuery,
        /// The flows.
        answer: Answer<FlowList>,
    },
    /// `GET /v1/flows/lookup`
    Lookup {
        /// The flow.
        query: LookupQuery,
        /// Where it goes, and why.
        answer: Answer<FlowLookup>,
    },
    /// `POST /v1/trace`
    Trace {
        /// The frames.
        frames: Vec<Vec<u8>>,
        /// The interface that they come in by.
        interface: Option<String>,
        /// Whether they are counted and their flows stored.
        commit: bool,
        /// What becomes of them.
        answer: Answer<TraceReply>,
    },
    /// `GET /v1/ha`
    Ha(Answer<HaStatus>),
    /// `POST /v1/ha`
    HaDo {
        /// What to do.
        command: HaCommand,
        /// What was done.
        answer: Answer<Done>,
    },
    /// `GET /v1/counters`
    Counters(Answer<CounterList>),
    /// `GET /metrics`
    Metrics {
        /// A text that was written less than this ago will do.
        lifetime: Duration,
        /// The text.
        answer: Answer<Bytes>,
    },
    /// `GET /v1/config`
    Config(Answer<ConfigReply>),
    /// `POST /v1/config/reload`
    Reload(Answer<ChangeReply>),
    /// `POST /v1/stop`: answer first, then stop.
    Stop {
        /// Whether forwarding ends too.
        request: StopRequest,
        /// Sent before the daemon stops.
        answer: Answer<Done>,
    },
    /// `POST /v1/confirm`
    Confirm(Answer<Done>),
}
