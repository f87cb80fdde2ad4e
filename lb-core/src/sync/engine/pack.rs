//! Changes and lists, cut into messages that fit into a datagram.

use super::context::{Directory, ServiceSaid};
use crate::plan::ServiceKey;
use crate::sync::scan::Change;
use crate::sync::wire::{BatchGroup, DELETE, FlowChange, MAX_MESSAGE, Sequenced, VerdictsSaid};

/// Bytes of a change in a message.
pub(super) const CHANGE_BYTES: usize = 9;
/// Most bytes of what a group of changes says of itself: service, backend, number of changes.
const GROUP_BYTES: usize = 20 + 17 + 2;
/// Kind, sequence and number of groups.
const HEAD_BYTES: usize = 1 + 8 + 2;
/// Services that fit into a message whatever their addresses.
const SERVICES: usize = (MAX_MESSAGE - HEAD_BYTES - 1) / 20;
/// Backends that fit beside a service.
const BACKENDS: usize = (MAX_MESSAGE - HEAD_BYTES - 20 - 2 - 8) / 23;

/// Changes of one scan, in which no flow occurs twice, one message each. What is gone comes first, to make room.
pub(super) fn batches(mut changes: Vec<Change>, directory: &Directory) -> Vec<Vec<BatchGroup>> {
    changes.sort_by_key(|change| (change.state != DELETE, change.slot));
    let (mut all, mut groups, mut size) = (Vec::new(), Vec::<BatchGroup>::new(), HEAD_BYTES);
    let mut slot = None;
    for change in changes {
        let Some((service, backend)) = directory.owner(change.slot) else { continue };
        if size + GROUP_BYTES + CHANGE_BYTES > MAX_MESSAGE {
            all.push(std::mem::take(&mut groups));
            size = HEAD_BYTES;
        }
        if slot != Some(change.slot) || groups.is_empty() {
            groups.push(BatchGroup { service, backend, changes: Vec::new() });
            size += GROUP_BYTES;
            slot = Some(change.slot);
        }
        if let Some(group) = groups.last_mut() {
            let Change { bucket, fingerprint, state, .. } = change;
            group.changes.push(FlowChange { hash_low: bucket, fingerprint, state });
            size += CHANGE_BYTES;
        }
    }
    if !groups.is_empty() {
        all.push(groups);
    }
    all
}

/// The start of a bulk of these services.
pub(super) fn bulk_begin(services: &[ServiceKey]) -> impl Iterator<Item = Sequenced> {
    let parts = services.chunks(SERVICES).enumerate();
    parts.map(|(at, part)| Sequenced::BulkBegin { first: at == 0, services: part.to_vec() })
}

/// What is believed of a service.
pub(super) fn verdicts(said: &ServiceSaid) -> Vec<Sequenced> {
    let parts: Vec<_> = match said.backends.as_slice() {
        [] => vec![said.backends.as_slice()],
        backends => backends.chunks(BACKENDS).collect(),
    };
    let last = parts.len() - 1;
    let part = |(at, part): (usize, &&[_])| VerdictsSaid {
        service: said.service,
        first: at == 0,
        last: at == last,
        backends: part.to_vec(),
        digest: said.digest,
    };
    parts.iter().enumerate().map(part).map(Sequenced::Verdicts).collect()
}
