//! What the file says about telling the other nodes of flows.

use std::fmt;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use super::words;

/// How flows travel between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowSync {
    /// Where this node hears the others; what it sends comes from there.
    pub listen: SocketAddr,
    /// The other nodes, told apart by their addresses.
    pub peers: Vec<SocketAddr>,
    /// Of which flows the others are told.
    pub mode: SyncMode,
    /// Bytes a second to each peer at most.
    pub max_rate: u64,
}

words! {
    /// Of which flows the others are told.
    #[derive(Default)]
    SyncMode {
        /// Of all confirmed ones.
        #[default]
        Full = "full",
        /// Of those that the present tables would send elsewhere: the others are found again by their hash.
        Exceptions = "exceptions",
    }
}
