//! Links between nodes, one in each direction and family.

use crate::plan::{MAX_NODES, Plan};
use crate::random::Random;

/// Adverts in a row that a link may lose.
const MAX_LOST: u8 = 2;

#[derive(Default)]
pub(crate) struct Network {
    links: [[[Link; 2]; MAX_NODES]; MAX_NODES],
}

#[derive(Clone, Copy, Default)]
struct Link {
    /// By so many causes.
    cuts: u8,
    lost: u8,
}

/// Which links a cut cuts: from a set of nodes to another, in one family or both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) from: u8,
    pub(crate) to: u8,
    /// Bits.
    pub(crate) families: u8,
    pub(crate) both_ways: bool,
}

impl Network {
    pub(crate) fn change(&mut self, cut: Cut, heals: bool) {
        let is_in = |set: u8, index: usize| set >> index & 1 == 1;
        for (from, to) in (0..MAX_NODES).flat_map(|from| (0..MAX_NODES).map(move |to| (from, to))) {
            let there = is_in(cut.from, from) && is_in(cut.to, to);
            let back = cut.both_ways && is_in(cut.to, from) && is_in(cut.from, to);
            if from == to || !(there || back) {
                continue;
            }
            for family in (0..2).filter(|family| is_in(cut.families, *family)) {
                let cuts = &mut self.links[from][to][family].cuts;
                *cuts = if heals { *cuts - 1 } else { *cuts + 1 };
            }
        }
    }

    /// Whether packets of one reach the other, in any of the families.
    pub(crate) fn reaches(&self, from: usize, to: usize, families: usize) -> bool {
        self.links[from][to][..families].iter().any(|link| link.cuts == 0)
    }

    pub(crate) fn hear_each_other(&self, one: usize, other: usize, families: usize) -> bool {
        self.reaches(one, other, families) && self.reaches(other, one, families)
    }

    /// Nodes fall into groups that hear each other, and nothing of another one.
    pub(crate) fn is_partition(&self, count: usize, families: usize) -> bool {
        let pairs =
            || (0..count).flat_map(|one| (0..count).map(move |other| (one, other))).filter(|(a, b)| a != b);
        pairs().all(|(one, other)| {
            let hears = self.reaches(one, other, families);
            hears == self.reaches(other, one, families)
                && (0..count).all(|third| {
                    third == one
                        || third == other
                        || !hears
                        || self.reaches(other, third, families) == self.reaches(one, third, families)
                })
        })
    }

    /// How long each copy of a packet is on its way.
    pub(crate) fn send(
        &mut self,
        random: &mut Random,
        plan: &Plan,
        ends: (usize, usize),
        family: usize,
        is_advert: bool,
    ) -> [Option<u64>; 2] {
        let link = &mut self.links[ends.0][ends.1][family];
        if link.cuts > 0 {
            return [None; 2];
        }
        let loses = plan.loss > 0 && random.once_in(plan.loss);
        if loses && (!is_advert || link.lost < MAX_LOST) {
            link.lost += u8::from(is_advert);
            return [None; 2];
        }
        if is_advert {
            link.lost = 0;
        }
        let (shortest, longest) = plan.delay;
        let mut way = || Some(shortest + random.below(longest - shortest + 1));
        let first = way();
        let second = way();
        [first, second.filter(|_| random.once_in(plan.duplication))]
    }
}
