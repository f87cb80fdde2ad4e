//! What has to be asked of the kernel so that the neighbour entries of all next hops stay resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::neighbour::{Key, Neighbour};

/// The entries that this process keeps resolved.
#[derive(Debug, Default)]
pub(super) struct Hops {
    /// `None` until the kernel was asked for the first time.
    held: Option<BTreeSet<Key>>,
}

/// What to ask of the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Requests {
    /// Entries to resolve and keep.
    pub(super) manage: Vec<Key>,
    /// Entries to let go.
    pub(super) release: Vec<Key>,
}

impl Hops {
    /// From what the kernel has to what is needed. The first call also lets go what an earlier process of ours held and
    /// nobody needs any more.
    pub(super) fn turn(&mut self, kernel: &BTreeMap<Key, Neighbour>, needed: BTreeSet<Key>) -> Requests {
        let held = self.held.take().unwrap_or_else(|| {
            kernel.iter().filter(|(_, neighbour)| neighbour.ours).map(|(key, _)| *key).collect()
        });
        let left_alone = |key: &Key| kernel.get(key).is_some_and(|entry| entry.fixed || entry.managed);
        let still_ours = |key: &Key| kernel.get(key).is_some_and(|entry| entry.ours && !entry.fixed);
        let requests = Requests {
            manage: needed.iter().filter(|key| !left_alone(key)).copied().collect(),
            release: held.difference(&needed).filter(|key| still_ours(key)).copied().collect(),
        };
        self.held = Some(needed);
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Neighbour =
        Neighbour { mac: Some([2; 6]), failed: false, fixed: false, managed: false, ours: false };
    const OURS: Neighbour = Neighbour { managed: true, ours: true, ..PLAIN };

    fn key(last: u8) -> Key {
        (3, [10, 0, 0, last].into())
    }

    fn check(hops: &mut Hops, kernel: &[(u8, Neighbour)], needed: &[u8], manage: &[u8], release: &[u8]) {
        let entries = kernel.iter().map(|(last, neighbour)| (key(*last), *neighbour)).collect();
        let requests = hops.turn(&entries, needed.iter().copied().map(key).collect());
        let keys = |lasts: &[u8]| lasts.iter().copied().map(key).collect();
        let expected = Requests { manage: keys(manage), release: keys(release) };
        assert_eq!(requests, expected, "kernel {kernel:?}, needed {needed:?}");
    }

    #[test]
    fn entry_that_is_missing_or_unmanaged_is_asked_for_and_managed_one_left() {
        check(&mut Hops::default(), &[(1, PLAIN), (2, OURS)], &[1, 2, 3], &[1, 3], &[]);
    }

    #[test]
    fn entry_that_the_administrator_wrote_is_left_alone() {
        let permanent = Neighbour { fixed: true, ..PLAIN };
        let hops = &mut Hops::default();
        check(hops, &[(1, permanent)], &[1], &[], &[]);
        check(hops, &[(1, permanent)], &[], &[], &[]);
        check(hops, &[(1, Neighbour { fixed: true, ..OURS })], &[], &[], &[]);
    }

    #[test]
    fn entry_that_another_program_has_managed_is_not_let_go() {
        let theirs = Neighbour { managed: true, ..PLAIN };
        let hops = &mut Hops::default();
        check(hops, &[(1, theirs)], &[1], &[], &[]);
        check(hops, &[(1, theirs)], &[], &[], &[]);
    }

    #[test]
    fn entry_no_longer_needed_is_let_go_once() {
        let hops = &mut Hops::default();
        check(hops, &[], &[1, 2], &[1, 2], &[]);
        check(hops, &[(1, OURS), (2, OURS)], &[2], &[], &[1]);
        check(hops, &[(1, PLAIN), (2, OURS)], &[2], &[], &[]);
    }

    #[test]
    fn leftover_of_a_killed_process_is_let_go_at_first_only() {
        let hops = &mut Hops::default();
        check(hops, &[(1, OURS), (2, OURS)], &[2], &[], &[1]);
        // From now on, what is not held here belongs to another instance.
        check(hops, &[(2, OURS), (9, OURS)], &[2], &[], &[]);
    }
}
