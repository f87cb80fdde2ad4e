//! Flow sync as far as the election is concerned: a gate that opens some time after a peer was heard.

use std::time::Duration;

/// What a node's flow sync has to be: the model below, or the real one.
pub(crate) trait FlowSync {
    /// A message of a peer came.
    fn heard(&mut self, now: Duration);
    /// Time has passed; whether this node has all that it needs to preempt a live peer.
    fn is_complete(&mut self, now: Duration) -> bool;
    /// The process starts anew, with nothing.
    fn restart(&mut self);
}

/// Complete a fixed time after a peer was first heard, unless that falls silent.
pub(crate) struct SyncModel {
    pub(crate) takes: Option<Duration>,
    pub(crate) silence: Duration,
    pub(crate) since: Option<Duration>,
    pub(crate) last: Duration,
}

impl SyncModel {
    pub(crate) const fn new(takes: Option<Duration>, silence: Duration) -> Self {
        Self { takes, silence, since: None, last: Duration::ZERO }
    }
}

impl FlowSync for SyncModel {
    fn heard(&mut self, now: Duration) {
        self.since.get_or_insert(now);
        self.last = now;
    }

    fn is_complete(&mut self, now: Duration) -> bool {
        if now > self.last + self.silence {
            self.since = None;
        }
        matches!((self.since, self.takes), (Some(since), Some(takes)) if now >= since + takes)
    }

    fn restart(&mut self) {
        self.since = None;
    }
}
