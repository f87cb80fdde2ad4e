//! Tables and the free places for them.

use std::ops::Range;
use std::sync::Arc;

use lb_common::maglev::{self, Candidate, Turn};
use lb_common::service::TableClass;

use super::Region;
use super::actual::Actual;

/// The table of a pool, which has at least one member.
pub(crate) fn populate(class: TableClass, pool: &[Candidate]) -> Arc<[u16]> {
    let mut turns: Vec<Turn> = pool.iter().map(|candidate| Turn::new(*candidate, class)).collect();
    let mut table = vec![0; class.entries() as usize];
    maglev::populate(class, &mut turns, &mut table);
    table.into()
}

/// A free region outside the `forbidden` units: the one whose neighbourhood is fullest, so that large free blocks stay
/// whole. `None` if there is none.
pub(super) fn find_free(actual: &Actual, class: TableClass, forbidden: &[Range<u32>]) -> Option<Region> {
    let used = occupancy(actual);
    let (free_in_large, free_in_medium) =
        (free_in(&used, TableClass::Large), free_in(&used, TableClass::Medium));
    let neighbourhood = |region: &Region| {
        let place = |class: TableClass| (region.unit / class.units()) as usize;
        (free_in_large[place(TableClass::Large)], free_in_medium[place(TableClass::Medium)], region.unit)
    };
    places(actual, class)
        .filter(|region| region.units().all(|unit| !used[unit as usize]))
        .filter(|region| !forbidden.iter().any(|range| overlap(range, &region.units())))
        .min_by_key(neighbourhood)
}

/// Free units in each place for a region of this class; the last place may be cut off.
fn free_in(used: &[bool], class: TableClass) -> Vec<usize> {
    used.chunks(class.units() as usize).map(|place| place.iter().filter(|used| !**used).count()).collect()
}

/// Places for a region of this class that hold only smaller ones, and these, largest first; the emptiest place first.
pub(super) fn clearable(
    actual: &Actual,
    class: TableClass,
    forbidden: &[Range<u32>],
) -> Vec<(Region, Vec<Region>)> {
    let occupants = |place: &Region| {
        let mut regions: Vec<Region> = actual
            .regions
            .values()
            .map(|written| written.region)
            .filter(|region| overlap(&region.units(), &place.units()))
            .collect();
        regions.sort_by_key(|region| (std::cmp::Reverse(region.class), region.unit));
        regions
    };
    let mut found: Vec<_> = places(actual, class)
        .filter(|place| !forbidden.iter().any(|range| overlap(range, &place.units())))
        .map(|place| (place, occupants(&place)))
        .filter(|(_, occupants)| occupants.iter().all(|region| region.class < class))
        .collect();
    found.sort_by_key(|(place, occupants)| {
        (occupants.iter().map(|r| r.class.units()).sum::<u32>(), place.unit)
    });
    found
}

fn places(actual: &Actual, class: TableClass) -> impl Iterator<Item = Region> {
    (0..actual.units() / class.units()).map(move |number| Region { unit: number * class.units(), class })
}

fn occupancy(actual: &Actual) -> Vec<bool> {
    let mut used = vec![false; actual.units() as usize];
    for written in actual.regions.values() {
        for unit in written.region.units() {
            if let Some(used) = used.get_mut(unit as usize) {
                *used = true;
            }
        }
    }
    used
}

fn overlap(a: &Range<u32>, b: &Range<u32>) -> bool {
    a.start < b.end && b.start < a.end
}
