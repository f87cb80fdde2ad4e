//! Which slot stands for which backend of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::SlotState;
use lb_common::backend::RowSpec;
use lb_common::maglev::Candidate;

use super::actual::{Actual, Slot};
use super::{DesiredBackend, DesiredService};
use crate::config::Mode;

/// Order of preference among the slots of one backend: the one that takes most first.
fn rank(slot: &Slot) -> u8 {
    match slot.word.state() {
        SlotState::Serving => 0,
        SlotState::Draining => 1,
        SlotState::Dead => 2,
        SlotState::Free => 3,
    }
}

/// The slot of an address in a service; of several the one that takes most.
pub(super) fn find(actual: &Actual, index: u32, address: IpAddr) -> Option<u16> {
    let found = actual.slots_of(index).filter(|(_, slot)| slot.spec.address == address);
    found.min_by_key(|(number, slot)| (rank(slot), *number)).map(|(number, _)| number)
}

/// The slots of each address of a service, the one that takes most first.
pub(super) fn by_backend(actual: &Actual, index: u32) -> BTreeMap<IpAddr, Vec<u16>> {
    let mut found: BTreeMap<IpAddr, Vec<(u8, u16)>> = BTreeMap::new();
    for (number, slot) in actual.slots_of(index) {
        found.entry(slot.spec.address).or_default().push((rank(slot), number));
    }
    let sorted = |(address, mut slots): (IpAddr, Vec<(u8, u16)>)| {
        slots.sort_unstable();
        (address, slots.into_iter().map(|(_, number)| number).collect())
    };
    found.into_iter().map(sorted).collect()
}

/// The row that a backend needs; `None` if there is no route to say its source.
pub(super) fn row(index: u32, address: IpAddr, backend: &DesiredBackend) -> Option<RowSpec> {
    let source = backend.source?;
    let l2 = backend.mode == Mode::L2;
    // Rows of l2 backends do not keep the source: one read back must compare equal.
    let none = match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let service = u16::try_from(index).ok()?;
    Some(RowSpec { service, l2, inner: backend.inner, address, source: if l2 { none } else { source } })
}

/// The slots that can go on standing for the backends of a service. Backends that are not in it need a new one, but
/// for those without a route, which need none. `except`: slots that are on their way out.
pub(super) fn assign(
    actual: &Actual,
    index: u32,
    service: &DesiredService,
    except: &BTreeSet<u16>,
) -> BTreeMap<IpAddr, u16> {
    let mut of_address: BTreeMap<IpAddr, Vec<(u16, &Slot)>> = BTreeMap::new();
    for (number, slot) in actual.slots_of(index).filter(|(number, _)| !except.contains(number)) {
        of_address.entry(slot.spec.address).or_default().push((number, slot));
    }
    let keep = |(address, backend): (&IpAddr, &DesiredBackend)| {
        let wanted = row(index, *address, backend);
        let fits = |slot: &Slot| wanted.is_none_or(|wanted| wanted == slot.spec);
        let found = of_address.get(address)?.iter().filter(|(_, slot)| fits(slot));
        let best = found.min_by_key(|(number, slot)| (rank(slot), *number))?;
        Some((*address, best.0))
    };
    service.backends.iter().filter_map(keep).collect()
}

/// What the table of a service is made of, in order of addresses.
pub(super) fn pool_of(service: &DesiredService, slots: &BTreeMap<IpAddr, u16>) -> Vec<Candidate> {
    let candidate = |(address, backend): (&IpAddr, &DesiredBackend)| {
        let slot = *slots.get(address)?;
        let weight = backend.table_weight;
        (weight > 0).then_some(Candidate { address: *address, weight, slot })
    };
    service.backends.iter().filter_map(candidate).collect()
}
