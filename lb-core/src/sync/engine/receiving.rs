//! What one peer says of its flows and verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::context::{Context, ServiceSaid};
use super::legacy::is_offered;
use crate::plan::ServiceKey;
use crate::sweep::FlowWord;
use crate::sync::apply::{Seen, Stance};
use crate::sync::stream::Inbox;
use crate::sync::wire::{BackendSaid, BatchGroup, Sequenced, VerdictsSaid};

/// Most backends of a service that are put together from parts: more than any service has.
const MAX_BACKENDS: usize = 1 << 16;

/// The stream from one session of a peer.
#[derive(Default)]
pub(super) struct Receiving {
    pub(super) inbox: Inbox,
    bulk: Option<(BTreeSet<ServiceKey>, Seen)>,
    /// The bulk is of no use: it is let pass, and asked for again by saying that it is not complete.
    spoiled: bool,
    /// A bulk came to its end, and nothing has happened since that makes it worthless.
    pub(super) complete: bool,
    /// Digests that the peer said.
    pub(super) digests: BTreeMap<ServiceKey, u64>,
    part: Vec<BackendSaid>,
    /// Flows that found no place, or whose backend is unknown.
    pub(super) unplaced: u64,
}

impl Receiving {
    /// Takes in a message; of services that the peer does not claim nothing is believed, which is what a former active
    /// still says when another one has taken over. `spares`: own flows have yet to be offered to this peer, so its bulk is no
    /// reason to clear them. Returns what became whole of verdicts.
    pub(super) fn take<W: FlowWord>(
        &mut self,
        now: Duration,
        (sequence, what): (u64, Sequenced),
        claimed: &BTreeSet<ServiceKey>,
        context: &Context<'_, W>,
        spares: bool,
    ) -> Vec<ServiceSaid> {
        self.inbox.push(now, sequence, what);
        let mut said = Vec::new();
        let ours = context.active_services();
        while let Some(what) = self.inbox.pop(now) {
            match what {
                Sequenced::Batch(groups) => {
                    for group in &groups {
                        if claimed.contains(&group.service) {
                            self.flows(group, &ours, context);
                        } else {
                            self.spoil();
                        }
                    }
                }
                Sequenced::Legacy(groups) => {
                    for group in groups.iter().filter(|group| ours.contains(&group.service)) {
                        self.flows(group, &ours, context);
                    }
                }
                Sequenced::BulkBegin { first, services } => {
                    if first {
                        (self.complete, self.spoiled) = (false, false);
                        self.digests.clear();
                        self.bulk = Some((BTreeSet::new(), Seen::new(context.table.words.len())));
                    }
                    if let Some((named, _)) = &mut self.bulk {
                        named.extend(services);
                    }
                }
                Sequenced::BulkEnd => self.end_bulk(claimed, &ours, context, spares),
                Sequenced::Verdicts(part) => said.extend(self.verdicts(part)),
            }
        }
        said
    }

    /// What was received is not what the peer has any more: another one wrote, too, or the peer was not believed.
    pub(super) fn spoil(&mut self) {
        (self.complete, self.spoiled) = (false, true);
    }

    fn flows<W: FlowWord>(
        &mut self,
        group: &BatchGroup,
        ours: &BTreeSet<ServiceKey>,
        context: &Context<'_, W>,
    ) {
        let stance = if ours.contains(&group.service) { Stance::Import } else { Stance::Follow };
        let slot = context.directory.slot(group.service, group.backend);
        let seen = self.bulk.as_mut().map(|(_, seen)| seen);
        let applied = context.table.apply(&group.changes, slot, stance, seen);
        self.unplaced += applied.unplaced + applied.unknown;
    }

    fn end_bulk<W: FlowWord>(
        &mut self,
        claimed: &BTreeSet<ServiceKey>,
        ours: &BTreeSet<ServiceKey>,
        context: &Context<'_, W>,
        spares: bool,
    ) {
        let Some((named, seen)) = self.bulk.take() else { return };
        if self.spoiled || !named.is_subset(claimed) {
            return;
        }
        let swept: BTreeSet<ServiceKey> = named.difference(ours).copied().collect();
        let slots = context.directory.slots_of(&swept);
        let is_swept = |slot: u16| slots.get(usize::from(slot)) == Some(&true);
        let is_spared = |entry| spares && is_offered(entry, context.table.tick);
        context.table.sweep(&seen, is_swept, is_spared);
        // Another bulk clears what the peer did not want.
        (self.complete, self.spoiled) = (!spares, spares);
    }

    fn verdicts(&mut self, part: VerdictsSaid) -> Option<ServiceSaid> {
        if part.first {
            self.part.clear();
        }
        if self.part.len() < MAX_BACKENDS {
            self.part.extend(part.backends);
        }
        if !part.last {
            return None;
        }
        self.digests.insert(part.service, part.digest);
        Some(ServiceSaid {
            service: part.service,
            backends: std::mem::take(&mut self.part),
            digest: part.digest,
        })
    }
}
