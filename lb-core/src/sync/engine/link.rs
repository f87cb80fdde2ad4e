//! One session of a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::context::Context;
use super::receiving::Receiving;
use super::sending::Sending;
use crate::plan::ServiceKey;
use crate::sync::wire::{Hello, Window};

/// One session of a peer.
pub(super) struct Link {
    pub(super) session: u64,
    pub(super) up: bool,
    pub(super) last_heard: Duration,
    pub(super) window: Window,
    pub(super) hello: Hello,
    pub(super) is_compatible: bool,
    pub(super) sending: Sending,
    pub(super) receiving: Receiving,
}

impl Link {
    /// Whether the peer says that it is active for a group.
    pub(super) fn is_active(&self, group: &str) -> bool {
        self.hello.groups.iter().any(|said| said.active && said.name == group)
    }

    /// Services of the groups that the peer says it is active for.
    pub(super) fn claimed<W>(&self, context: &Context<'_, W>) -> BTreeSet<ServiceKey> {
        let claimed = context.groups.iter().filter(|group| self.is_active(&group.name));
        claimed.flat_map(|group| group.services.iter().copied()).collect()
    }

    /// Services that the peer has told a digest of, and that this node has another one of, or none.
    pub(super) fn differing(&self, digests: &BTreeMap<ServiceKey, u64>) -> Vec<ServiceKey> {
        let theirs = self.receiving.digests.iter();
        theirs.filter(|(service, digest)| digests.get(service) != Some(digest)).map(|(key, _)| *key).collect()
    }

    /// Takes in a Hello that was not overtaken; returns what the peer lacks.
    pub(super) fn listen(&mut self, hello: Hello) -> Vec<Vec<u8>> {
        if !hello.groups.iter().any(|said| said.active) {
            // Whatever it sent is of the past; when it is active again a bulk comes.
            self.receiving.complete = false;
            self.receiving.digests.clear();
        }
        let (expected, complete) = (hello.next_expected, hello.bulk_complete);
        self.hello = hello;
        self.sending.acknowledge(expected, complete)
    }
}
