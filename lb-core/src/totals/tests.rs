//! Histories of slots, and that no sum ever goes backwards over them.

use proptest::prelude::*;

use super::*;

fn owner(service: &str, last: u8) -> Owner {
    Owner { service: service.to_owned(), backend: IpAddr::from([10, 0, 0, last]) }
}

/// Traffic of so many packets.
fn traffic(packets: u64) -> Traffic {
    Traffic { packets, bytes: packets * 100, flows: packets / 10 }
}

#[test]
fn a_backend_that_is_removed_and_added_again_goes_on_from_what_it_had() {
    let (mut totals, web) = (Totals::default(), owner("web", 1));
    totals.observe(&web, 3, traffic(100));
    totals.retire(3, traffic(120));
    assert_eq!(totals.of_backend(&web), traffic(120));
    totals.observe(&web, 3, traffic(200));
    assert_eq!(totals.of_backend(&web), traffic(320));
    totals.observe(&web, 3, traffic(210));
    assert_eq!(totals.of_backend(&web), traffic(330));
}

#[test]
fn a_slot_that_another_backend_gets_takes_nothing_along() {
    let (mut totals, first, second) = (Totals::default(), owner("web", 1), owner("web", 2));
    totals.observe(&first, 3, traffic(100));
    totals.retire(3, traffic(100));
    totals.observe(&second, 3, traffic(10));
    assert_eq!((totals.of_backend(&first), totals.of_backend(&second)), (traffic(100), traffic(10)));
    assert_eq!(totals.of_services()["web"], traffic(110));
}

#[test]
fn a_slot_that_was_cleared_unseen_keeps_what_was_last_seen() {
    let (mut totals, first, second) = (Totals::default(), owner("web", 1), owner("web", 2));
    totals.observe(&first, 3, traffic(100));
    totals.observe(&first, 3, traffic(40));
    assert_eq!(totals.of_backend(&first), traffic(140));
    totals.observe(&second, 3, traffic(20));
    assert_eq!((totals.of_backend(&first), totals.of_backend(&second)), (traffic(140), traffic(20)));
}

#[test]
fn services_that_swap_names_keep_their_own_sums() {
    let (mut totals, a, b) = (Totals::default(), owner("a", 1), owner("b", 1));
    totals.observe(&a, 1, traffic(1_000));
    totals.observe(&b, 2, traffic(10));
    totals.observe(&a, 2, traffic(20));
    totals.observe(&b, 1, traffic(1_030));
    // Nobody knows who had the packets since the last look: b is given both the ten and the thirty.
    assert_eq!((totals.of_backend(&a), totals.of_backend(&b)), (traffic(1_000), traffic(50)));
    totals.observe(&a, 2, traffic(25));
    assert_eq!(totals.of_backend(&a), traffic(1_000).plus(Traffic { packets: 5, bytes: 500, flows: 0 }));
}

#[test]
fn what_is_kept_goes_on_where_the_slots_counted_meanwhile() {
    let (mut totals, web) = (Totals::default(), owner("web", 1));
    totals.observe(&web, 3, traffic(100));
    totals.retire(3, traffic(100));
    totals.observe(&web, 4, traffic(10));
    assert!(totals.take_changed() && !totals.take_changed());
    let mut next = Totals::from_kept(totals.kept());
    assert_eq!(next.of_backend(&web), traffic(110));
    next.observe(&web, 4, traffic(50));
    assert_eq!(next.of_backend(&web), traffic(150));
    assert!(!next.take_changed());
    assert_eq!(Totals::from_kept(next.kept()).kept(), next.kept());
}

#[test]
fn forgotten_backends_stay_in_the_sum_of_their_service() {
    let mut totals = Totals::default();
    let count = u32::try_from(MAX_RETIRED).expect("a small number") + 10;
    for number in 0..count {
        let owner = Owner { service: "web".to_owned(), backend: IpAddr::from(number.to_be_bytes()) };
        totals.observe(&owner, 1, traffic(10));
        totals.retire(1, traffic(10));
    }
    assert_eq!(totals.entries.len(), MAX_RETIRED);
    assert_eq!(totals.of_services()["web"], traffic(u64::from(count) * 10));
    let first = Owner { service: "web".to_owned(), backend: IpAddr::from([0, 0, 0, 0]) };
    assert_eq!(totals.of_backend(&first), Traffic::default());
}

#[test]
fn services_that_are_gone_are_forgotten_beyond_the_limit() {
    let mut totals = Totals::default();
    let count = MAX_RETIRED + MAX_RETIRED_SERVICES + 7;
    for number in 0..count {
        let owner = owner(&format!("service{number}"), 1);
        totals.observe(&owner, 1, traffic(10));
        totals.retire(1, traffic(10));
    }
    assert_eq!((totals.entries.len(), totals.forgotten.len()), (MAX_RETIRED, MAX_RETIRED_SERVICES));
    assert!(!totals.forgotten.contains_key("service0") && totals.forgotten.contains_key("service7"));
}

#[test]
fn transitions_are_counted_by_their_end_and_not_kept() {
    let (mut totals, web) = (Totals::default(), owner("web", 1));
    for to in [Verdict::Up, Verdict::Down, Verdict::Up, Verdict::Unknown] {
        totals.transition(&web, to);
    }
    assert_eq!(totals.transitions(&web), Transitions { up: 2, down: 1 });
    assert_eq!(Totals::from_kept(totals.kept()).transitions(&web), Transitions::default());
}

/// One thing that can happen to one of four slots and one of four backends.
#[derive(Clone, Debug)]
enum Step {
    Packets(u16, u64),
    Assign(u16, u8),
    Free(u16),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..5u16, 1..50u64).prop_map(|(slot, packets)| Step::Packets(slot, packets)),
        3 => (1..5u16, 1..5u8).prop_map(|(slot, backend)| Step::Assign(slot, backend)),
        2 => (1..5u16).prop_map(Step::Free),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn no_history_makes_a_sum_go_backwards(steps in prop::collection::vec(step(), 1..80)) {
        let mut totals = Totals::default();
        // What the maps hold: by slot the backend and what was counted.
        let mut maps: BTreeMap<u16, (u8, u64)> = BTreeMap::new();
        let mut kept = totals.kept();
        let (mut shown, mut expected) = (BTreeMap::<u8, u64>::new(), BTreeMap::<u8, u64>::new());
        for step in steps {
            match step {
                Step::Packets(slot, packets) => if let Some((backend, count)) = maps.get_mut(&slot) {
                    *count += packets;
                    *expected.entry(*backend).or_default() += packets;
                },
                Step::Assign(slot, backend) => {
                    let has_one = maps.values().any(|(other, _)| *other == backend);
                    if !maps.contains_key(&slot) && !has_one {
                        maps.insert(slot, (backend, 0));
                    }
                }
                Step::Free(slot) => if let Some((_, count)) = maps.get(&slot).copied() {
                    totals.retire(slot, Traffic { packets: count, ..Traffic::default() });
                    maps.remove(&slot);
                },
                Step::Restart => totals = Totals::from_kept(kept.clone()),
            }
            for (slot, (backend, count)) in &maps {
                totals.observe(&owner("web", *backend), *slot, Traffic { packets: *count, ..Traffic::default() });
            }
            if totals.take_changed() {
                kept = totals.kept();
            }
            for backend in 1..5 {
                let now = totals.of_backend(&owner("web", backend)).packets;
                prop_assert!(now >= shown.insert(backend, now).unwrap_or(0));
                prop_assert_eq!(now, expected.get(&backend).copied().unwrap_or(0));
            }
        }
    }
}
