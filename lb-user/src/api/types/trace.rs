//! What would become of single frames, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Frames in one request at most: the daemon does nothing else while it runs them.
pub const MAX_TRACE_FRAMES: usize = 64;

/// `POST /v1/trace`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// The frames from the Ethernet header on, as hexadecimal digits; up to 64 of up to 9,238 bytes each.
    pub frames: Vec<String>,
    /// The interface that they come in by; the first attached one of role steer if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Whether the attached program runs them for real: counted, and their flows stored.
    #[serde(default)]
    pub commit: bool,
}

/// Reply to [`TraceRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReply {
    /// One for each frame, in the same order.
    pub frames: Vec<FrameTrace>,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceVerdict {
    /// Sent out by the interface it came in by.
    Tx,
    /// Sent out by another interface.
    Redirect,
    /// Left to the kernel.
    Pass,
    /// Dropped.
    Drop,
}

impl TraceVerdict {
    /// The word in JSON and listings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Redirect => "redirect",
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// What the flow table said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceFlow {
    /// An entry decides.
    Hit,
    /// No entry that counts: the Maglev table decides.
    Miss,
    /// It was not asked: the frame is for no service, or the service does not track flows.
    None,
}

/// One frame explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameTrace {
    /// What becomes of it.
    pub verdict: TraceVerdict,
    /// Name of the counter that it counts in.
    pub reason: String,
    /// Name of the service that it is for.
    pub service: Option<String>,
    /// The backend that it goes to.
    pub backend: Option<IpAddr>,
    /// What the flow table said.
    pub flow: TraceFlow,
    /// Index into the service's Maglev table, if that was asked.
    pub table_index: Option<u32>,
    /// Slot of the backend.
    pub backend_slot: Option<u16>,
    /// The frame as it leaves the program; absent if it is dropped.
    pub output_hex: Option<String>,
    /// How it came to that, in sentences.
    pub steps: Vec<String>,
}
