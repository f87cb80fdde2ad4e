//! Population of Maglev tables (Eisenbud et al., "Maglev: A fast and reliable software network load balancer", NSDI
//! 2016, section 3.4), with weights.
//!
//! A backend's permutation depends on its address alone and turns go by address, so that the same pool gives the same
//! table on every balancer, in whatever order it came about.

use core::net::IpAddr;

use crate::service::TableClass;

/// A backend that wants places in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Identity of the backend.
    pub address: IpAddr,
    /// Share of the table relative to the other weights; 0 gets no place.
    pub weight: u32,
    /// What is written into the table.
    pub slot: u16,
}

/// State of one candidate while the table fills; scratch memory for [`populate`].
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    candidate: Candidate,
    next: u32,
    skip: u32,
    credit: u64,
}

impl Turn {
    /// The first turn of a candidate.
    #[must_use]
    pub fn new(candidate: Candidate, class: TableClass) -> Self {
        let (low, high) = identity(candidate.address);
        let entries = u64::from(class.entries());
        let reduce =
            |hash: u64, range: u64| ((u128::from(hash).wrapping_mul(u128::from(range))) >> 64) as u32;
        Self {
            candidate,
            next: reduce(low, entries),
            skip: reduce(high, entries.wrapping_sub(1)).wrapping_add(1),
            credit: 0,
        }
    }
}

/// Two independent hashes of an address. Not keyed: whoever chooses backend addresses owns the pool anyway.
fn identity(address: IpAddr) -> (u64, u64) {
    let octets = match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    };
    let mix = |mut word: u64| {
        word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        word = (word ^ (word >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        word ^ (word >> 32)
    };
    let (upper, lower) = ((octets >> 64) as u64, octets as u64);
    let seed = mix(upper ^ 0x243f_6a88_85a3_08d3).wrapping_add(lower);
    (mix(seed ^ 0x1319_8a2e_0370_7344), mix(seed ^ 0xa409_3822_299f_31d0))
}

/// Fills `table` (as long as the class has entries) from `turns`, one for each candidate in any order, which is sorted and
/// used up. Returns `false`, and a table of zeroes, if no candidate has a weight.
///
/// Each round gives a candidate credit by its weight; each full credit takes its next preferred free place. The
/// expected cost is M ln M steps.
pub fn populate(class: TableClass, turns: &mut [Turn], table: &mut [u16]) -> bool {
    fill(class, turns, table, None)
}

/// What [`populate`] writes at `index`; 0 if no candidate has a weight. `table` is as for that, and holds nothing of
/// use afterwards.
///
/// It stops as soon as the place is taken, which it mostly is early: the expected cost is M steps.
pub fn choice(class: TableClass, turns: &mut [Turn], table: &mut [u16], index: u32) -> u16 {
    fill(class, turns, table, Some(index));
    table.get(index as usize).copied().unwrap_or(0)
}

/// [`populate`] that ends early once the place `last` is taken.
#[inline]
fn fill(class: TableClass, turns: &mut [Turn], table: &mut [u16], last: Option<u32>) -> bool {
    table.fill(0);
    turns.sort_unstable_by_key(|turn| turn.candidate.address);
    let full = turns.iter().map(|turn| turn.candidate.weight).max().unwrap_or(0);
    if full == 0 {
        return false;
    }
    let entries = class.entries();
    let mut free = table.len().min(entries as usize);
    loop {
        for turn in turns.iter_mut() {
            turn.credit = turn.credit.wrapping_add(u64::from(turn.candidate.weight));
            if turn.credit < u64::from(full) {
                continue;
            }
            turn.credit = turn.credit.wrapping_sub(u64::from(full));
            let taken = loop {
                let index = turn.next;
                let place = table.get_mut(index as usize);
                turn.next = turn.next.wrapping_add(turn.skip);
                if turn.next >= entries {
                    turn.next = turn.next.wrapping_sub(entries);
                }
                if let Some(place) = place
                    && *place == 0
                {
                    *place = turn.candidate.slot;
                    break index;
                }
            };
            free = free.wrapping_sub(1);
            if free == 0 || last == Some(taken) {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use std::vec::Vec;

    const CLASS: TableClass = TableClass::Medium;

    fn pool(count: u16, weight: impl Fn(u16) -> u32) -> Vec<Candidate> {
        (1..=count)
            .map(|slot| Candidate {
                address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(slot))),
                weight: weight(slot),
                slot,
            })
            .collect()
    }

    fn table(class: TableClass, pool: &[Candidate]) -> Vec<u16> {
        let mut turns: Vec<Turn> = pool.iter().map(|candidate| Turn::new(*candidate, class)).collect();
        let mut table = std::vec![0; class.entries() as usize];
        assert!(populate(class, &mut turns, &mut table));
        table
    }

    fn share(table: &[u16], slot: u16) -> f64 {
        table.iter().filter(|place| **place == slot).count() as f64 / table.len() as f64
    }

    fn moved(before: &[u16], after: &[u16]) -> f64 {
        before.iter().zip(after).filter(|(a, b)| a != b).count() as f64 / before.len() as f64
    }

    #[test]
    fn golden_table_is_frozen() {
        // Changing the population moves flows on every upgrade.
        let table = table(TableClass::Small, &pool(5, u32::from));
        let sum = table.iter().fold(0u64, |sum, slot| sum.wrapping_mul(31).wrapping_add(u64::from(*slot)));
        assert_eq!(sum, GOLDEN);
    }

    const GOLDEN: u64 = 18_045_755_255_807_536_398;

    #[test]
    fn the_order_of_candidates_does_not_matter() {
        let mut pool = pool(40, |slot| u32::from(slot % 3) + 1);
        let before = table(CLASS, &pool);
        pool.reverse();
        assert_eq!(before, table(CLASS, &pool));
    }

    #[test]
    fn weights_are_honoured_to_a_few_places() {
        let pool = pool(6, u32::from);
        let table = table(CLASS, &pool);
        for candidate in &pool {
            let ideal = f64::from(candidate.weight) / 21.0;
            let places = (share(&table, candidate.slot) - ideal).abs() * table.len() as f64;
            assert!(places <= 2.0, "slot {} is {places} places off", candidate.slot);
        }
    }

    #[test]
    fn a_candidate_without_weight_gets_no_place_and_none_at_all_gives_no_table() {
        let table = table(CLASS, &pool(3, |slot| u32::from(slot != 2)));
        assert!(!table.contains(&2) && !table.contains(&0));
        let mut turns: Vec<Turn> = pool(2, |_| 0).into_iter().map(|c| Turn::new(c, CLASS)).collect();
        assert!(!populate(CLASS, &mut turns, &mut [0; 65_521]));
    }

    #[test]
    fn the_choice_for_one_place_is_what_the_table_has_there() {
        let pool = pool(30, |slot| u32::from(slot % 4));
        let table = table(TableClass::Small, &pool);
        let mut scratch = std::vec![0; table.len()];
        for index in 0..TableClass::Small.entries() {
            let mut turns: Vec<Turn> = pool.iter().map(|c| Turn::new(*c, TableClass::Small)).collect();
            let choice = choice(TableClass::Small, &mut turns, &mut scratch, index);
            assert_eq!(choice, table[index as usize], "index {index}");
        }
        assert_eq!(choice(TableClass::Small, &mut [], &mut scratch, 7), 0);
    }

    #[test]
    fn one_more_backend_moves_little_but_its_share() {
        let before = table(CLASS, &pool(100, |_| 1));
        let after = table(CLASS, &pool(101, |_| 1));
        let (moved, share) = (moved(&before, &after) * 100.0, share(&after, 101) * 100.0);
        assert!(moved <= 2.0, "{moved} % of the places moved");
        assert!((0.9..=1.1).contains(&share), "the new backend has {share} %");
    }
}
