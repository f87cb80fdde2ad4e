//! The exact operations of the changes that matter most, in their order.

use lb_common::{ServiceWord, SlotState};

use super::kernel::Kernel;
use super::world::{World, address, hop, key};
use crate::config::{AdminState, Limits, Mode, TableSize};
use crate::health::Verdict::{Down, Up};
use crate::plan::{Actual, DiffError, MapOp, diff};

fn limits() -> Limits {
    Limits { services: 4, backends: 16, table_slots: 32 * 4_096, ..Limits::default() }
}

/// Brings empty maps to a world.
fn settled(world: &World) -> Actual {
    let mut actual = Actual::new(limits());
    let ops = diff(&actual, &world.desired()).expect("room");
    ops.iter().for_each(|op| actual.apply(op));
    actual
}

/// An operation in a few letters.
fn brief(op: &MapOp) -> String {
    match op {
        MapOp::WriteRow { slot, .. } => format!("row {slot}"),
        MapOp::SetWord { slot, state, .. } => format!("{state:?} {slot}"),
        MapOp::WriteTable { region, .. } => format!("table @{}", region.unit),
        MapOp::StoreService { index, word } if word.has(ServiceWord::SERVE) => {
            format!("word {index} @{}", word.unit())
        }
        MapOp::StoreService { index, .. } => format!("word {index} without table"),
        MapOp::InsertService { index, .. } => format!("service {index}"),
        MapOp::RemoveService { .. } => "remove service".to_owned(),
        MapOp::InsertVip { .. } => "vip".to_owned(),
        MapOp::RemoveVip { .. } => "remove vip".to_owned(),
        MapOp::Grace => "grace".to_owned(),
        MapOp::SweepSlot { slot } => format!("sweep {slot}"),
        MapOp::FreeSlot { slot } => format!("free slot {slot}"),
        MapOp::FreeRegion { region } => format!("free @{}", region.unit),
        MapOp::FreeService { index } => format!("free service {index}"),
    }
}

#[track_caller]
fn check(before: &World, after: &World, expected: &[&str]) -> Vec<MapOp> {
    let ops = diff(&settled(before), &after.desired()).expect("room");
    assert_eq!(ops.iter().map(brief).collect::<Vec<_>>(), expected);
    ops
}

fn with(world: &World, change: impl FnOnce(&mut World)) -> World {
    let mut world = world.clone();
    change(&mut world);
    world
}

#[test]
fn new_service_becomes_visible_last() {
    check(
        &World::empty(),
        &World::one(&[1, 2]),
        &["row 1", "row 2", "Serving 1", "Serving 2", "table @0", "word 0 @0", "service 0", "vip"],
    );
}

#[test]
fn removed_service_becomes_invisible_first_and_is_forgotten_last() {
    check(
        &World::one(&[1, 2]),
        &World::empty(),
        &[
            "remove vip",
            "remove service",
            "Dead 1",
            "Dead 2",
            "grace",
            "sweep 1",
            "sweep 2",
            "free slot 1",
            "free slot 2",
            "free @0",
            "free service 0",
        ],
    );
}

#[test]
fn added_backend_is_ready_before_the_table_names_it() {
    let expected = ["row 3", "Serving 3", "table @1", "word 0 @1", "grace", "free @0"];
    check(&World::one(&[1, 1]), &World::one(&[1, 1, 1]), &expected);
}

#[test]
fn backend_that_goes_down_leaves_the_table_before_it_is_dead() {
    let up = World::one(&[1, 1]).checked(&[Up, Up]);
    let down = World::one(&[1, 1]).checked(&[Up, Down]);
    check(&up, &down, &["table @1", "word 0 @1", "Dead 2", "grace", "free @0"]);
    check(&down, &up, &["Serving 2", "table @1", "word 0 @1", "grace", "free @0"]);
}

#[test]
fn removed_backend_is_unpublished_swept_and_only_then_free() {
    let expected = ["table @1", "word 0 @1", "Dead 2", "grace", "sweep 2", "free slot 2", "free @0"];
    check(&World::one(&[1, 1]), &World::one(&[1]), &expected);
}

#[test]
fn draining_backend_keeps_its_slot() {
    let drain = with(&World::one(&[1, 1]), |world| {
        world.services[0].as_mut().expect("service").backends[1].state = AdminState::Drain;
    });
    check(&World::one(&[1, 1]), &drain, &["table @1", "word 0 @1", "Draining 2", "grace", "free @0"]);
}

#[test]
fn other_mac_is_one_word_and_an_unresolved_one_keeps_the_last() {
    let before = World::one(&[1, 1]);
    let moved = with(&before, |world| {
        world.hops.insert(address(0, 1), hop(false, Some(9), 0, 1));
    });
    let ops = check(&before, &moved, &["Serving 2"]);
    let expected = MapOp::SetWord { slot: 2, mac: [2, 0, 0, 0, 0, 9], egress: 0, state: SlotState::Serving };
    assert_eq!(ops, [expected]);
    let lost = with(&before, |world| {
        world.hops.insert(address(0, 1), hop(false, None, 0, 1));
    });
    check(&before, &lost, &[]);
    let elsewhere = with(&before, |world| {
        world.hops.insert(address(0, 1), hop(false, None, 1, 1));
    });
    let ops = check(&before, &elsewhere, &["Serving 2"]);
    let expected = MapOp::SetWord { slot: 2, mac: [0; 6], egress: 1, state: SlotState::Serving };
    assert_eq!(ops, [expected], "a MAC means nothing on another interface");
}

#[test]
fn lost_route_needs_no_other_row() {
    let before = World::one(&[1, 1]);
    let lost = with(&before, |world| {
        world.hops.remove(&address(0, 1));
    });
    check(&before, &lost, &["table @1", "word 0 @1", "Dead 2", "grace", "free @0"]);
    check(&World::empty(), &lost, &["row 1", "Serving 1", "table @0", "word 0 @0", "service 0", "vip"]);
}

#[test]
fn rows_are_immutable_so_that_another_mode_or_source_takes_another_slot() {
    let before = World::one(&[1]);
    let l2 = with(&before, |world| world.services[0].as_mut().expect("service").mode = Mode::L2);
    let expected = [
        "row 2",
        "Serving 2",
        "table @1",
        "word 0 @1",
        "Dead 1",
        "grace",
        "sweep 1",
        "free slot 1",
        "free @0",
    ];
    check(&before, &l2, &expected);
    let source = with(&before, |world| {
        world.hops.insert(address(0, 0), hop(false, Some(1), 0, 2));
    });
    check(&before, &source, &expected);
    let source_of_l2 = with(&l2, |world| {
        world.hops.insert(address(0, 0), hop(false, Some(1), 0, 2));
    });
    check(&l2, &source_of_l2, &[]);
}

#[test]
fn last_backend_gone_takes_the_table_along() {
    let none = with(&World::one(&[1]), |world| {
        world.services[0].as_mut().expect("service").backends[0].state = AdminState::Disabled;
    });
    check(&World::one(&[1]), &none, &["word 0 without table", "Dead 1", "grace", "free @0"]);
    check(&none, &World::one(&[1]), &["Serving 1", "table @0", "word 0 @0"]);
}

#[test]
fn other_table_size_or_tracking_touches_only_the_word() {
    let before = World::one(&[1]);
    let larger =
        with(&before, |world| world.services[0].as_mut().expect("service").table_size = TableSize::Medium);
    check(&before, &larger, &["table @16", "word 0 @16", "grace", "free @0"]);
    let untracked = with(&before, |world| world.services[0].as_mut().expect("service").track = false);
    check(&before, &untracked, &["word 0 @0"]);
}

#[test]
fn table_switch_counts_one_generation() {
    let (before, after) = (World::one(&[1]), World::one(&[1, 1]));
    let mut actual = settled(&before);
    let (_, first) = actual.service(&key(0)).expect("published");
    diff(&actual, &after.desired()).expect("room").iter().for_each(|op| actual.apply(op));
    let (_, second) = actual.service(&key(0)).expect("published");
    assert_eq!((first.generation(), second.generation()), (1, 2));
}

#[test]
fn weights_become_shares_of_the_table() {
    let actual = settled(&World::one(&[1, 2, 3]));
    let table = actual.table(&key(0)).expect("a table");
    for (number, weight) in [(0, 1), (1, 2), (2, 3)] {
        let slot = actual.slot_of(&key(0), address(0, number)).expect("a slot");
        let share = table.iter().filter(|place| **place == slot).count();
        assert!(share.abs_diff(4_093 * weight / 6) <= 2, "weight {weight} has {share} of 4093 places");
    }
}

#[test]
fn added_backend_moves_little_but_its_own_share() {
    let share_moved = |before: &World, after: &World| {
        let of = |world: &World| -> Vec<_> {
            let actual = settled(world);
            let address = |slot: &u16| {
                actual.slots().find(|(number, ..)| number == slot).map(|(_, row, _)| row.address)
            };
            actual.table(&key(0)).expect("a table").iter().map(address).collect()
        };
        of(before).iter().zip(of(after)).filter(|(a, b)| **a != *b).count() * 100 / 4_093
    };
    let moved = share_moved(&World::one(&[1; 4]), &World::one(&[1; 5]));
    assert!((19..35).contains(&moved), "{moved} % moved, of which 20 % are the new backend's");
}

#[test]
fn adopted_maps_are_left_alone_and_recognised() {
    let mut world = World::one(&[1, 2, 3]).checked(&[Up, Down, Up]);
    world.set_service(3, &[1, 0]);
    let mut kernel = Kernel::new(limits());
    for op in diff(&Actual::new(limits()), &world.desired()).expect("room") {
        kernel.perform(&op, &Default::default());
    }
    let mut adopted = Actual::from_snapshot(kernel.snapshot());
    assert_eq!(diff(&adopted, &world.desired()), Ok(vec![]));
    adopted.recognise(&world.desired());
    assert!(adopted.regions.values().all(|written| written.pool.is_some()), "not recognised");
    assert_eq!(diff(&adopted, &world.desired()), Ok(vec![]));
}

#[test]
fn rows_that_a_killed_daemon_left_are_swept_and_freed() {
    let world = World::one(&[1, 1]);
    let mut kernel = Kernel::new(limits());
    // Killed before the service could be found by any packet.
    for op in diff(&Actual::new(limits()), &world.desired()).expect("room").iter().take(5) {
        kernel.perform(op, &Default::default());
    }
    let ops = diff(&Actual::from_snapshot(kernel.snapshot()), &World::empty().desired()).expect("room");
    let brief: Vec<_> = ops.iter().map(brief).collect();
    assert_eq!(brief, ["grace", "sweep 1", "sweep 2", "free slot 1", "free slot 2"]);
}

#[test]
fn maps_that_are_too_small_are_named_with_the_remedy() {
    let actual = |limits: Limits| Actual::new(limits);
    let mut two = World::one(&[1, 1]);
    two.set_service(2, &[1]);
    let error = |limits: Limits| diff(&actual(limits), &two.desired()).expect_err("too small");
    assert!(matches!(error(Limits { services: 1, ..limits() }), DiffError::NoFreeService { limit: 1, .. }));
    let slots = error(Limits { backends: 2, ..limits() });
    assert!(matches!(slots, DiffError::NoFreeSlot { needed: 1, free: 0, limit: 2, .. }), "{slots}");
    assert!(slots.to_string().contains("raise `backends`"), "{slots}");
    assert!(matches!(
        error(Limits { table_slots: 4_096, ..limits() }),
        DiffError::NoFreeRegion { entries: 4_093, .. }
    ));
}
