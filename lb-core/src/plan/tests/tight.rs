//! Maps that are just large enough.

use super::kernel::Kernel;
use super::world::{World, address, key};
use crate::config::{Limits, TableSize};
use crate::plan::{Actual, DiffError, diff};

/// Goes from world to world; every operation is checked. Returns how many operations each took.
#[track_caller]
fn go_through(limits: &Limits, worlds: &[World]) {
    let mut kernel = Kernel::new(limits.clone());
    let mut actual = Actual::new(limits.clone());
    for world in worlds {
        let desired = world.desired();
        let ops = diff(&actual, &desired).expect("there is just enough room");
        let promises = kernel.promises(&desired);
        for op in &ops {
            kernel.perform(op, &promises);
            actual.apply(op);
        }
        kernel.assert_is(&desired);
    }
}

#[test]
fn backend_is_exchanged_when_all_rows_are_taken() {
    let limits = Limits { services: 1, backends: 2, table_slots: 2 * 4_096, ..Limits::default() };
    let mut exchanged = World::one(&[1, 1]);
    exchanged.services[0].as_mut().expect("service").backends[0].address = address(0, 4);
    go_through(&limits, &[World::one(&[1, 1]), exchanged]);
}

#[test]
fn pool_that_could_only_be_exchanged_with_a_gap_is_refused() {
    let limits = Limits { services: 1, backends: 2, table_slots: 2 * 4_096, ..Limits::default() };
    let (before, mut after) = (World::one(&[1, 1]), World::one(&[1, 1]));
    for (number, backend) in after.services[0].as_mut().expect("service").backends.iter_mut().enumerate() {
        backend.address = address(0, 3 + number);
    }
    let mut actual = Actual::new(limits);
    for op in diff(&actual, &before.desired()).expect("there is just enough room") {
        actual.apply(&op);
    }
    assert!(matches!(diff(&actual, &after.desired()), Err(DiffError::NoFreeSlot { needed: 2, free: 0, .. })));
}

#[test]
fn service_is_exchanged_when_all_are_taken() {
    let limits = Limits { services: 1, backends: 1, table_slots: 2 * 4_096, ..Limits::default() };
    let mut other = World::empty();
    other.set_service(3, &[1]);
    go_through(&limits, &[World::one(&[1]), other]);
}

#[test]
fn many_tables_change_with_one_spare_place() {
    let limits = Limits { services: 4, backends: 32, table_slots: 5 * 4_096, ..Limits::default() };
    let all = |weights: &[u32]| {
        let mut world = World::empty();
        for number in 0..4 {
            world.set_service(number, weights);
        }
        world
    };
    go_through(&limits, &[all(&[1, 1]), all(&[1, 2]), all(&[1, 2, 3]), all(&[1])]);
}

#[test]
fn sizes_change_places_with_one_spare_place() {
    let limits =
        Limits { services: 4, backends: 32, table_slots: (16 + 1 + 16) * 4_096, ..Limits::default() };
    let world = |sizes: [TableSize; 2], weights: &[u32]| {
        let mut world = World::empty();
        for (number, size) in sizes.into_iter().enumerate() {
            world.set_service(number, weights).table_size = size;
        }
        world
    };
    use TableSize::{Medium, Small};
    go_through(
        &limits,
        &[
            world([Medium, Small], &[1]),
            world([Medium, Small], &[1, 1]),
            world([Small, Medium], &[1, 1]),
            world([Small, Medium], &[1, 2]),
            world([Medium, Small], &[2, 1]),
            world([Medium, Small], &[3, 1]),
        ],
    );
}

#[test]
fn small_table_moves_out_of_the_way_of_a_large_one() {
    // Two large places and one unit. The small table is alone in the second large place.
    let limits =
        Limits { services: 4, backends: 32, table_slots: (256 + 256 + 1) * 4_096, ..Limits::default() };
    let mut kernel = Kernel::new(limits.clone());
    let mut actual = Actual::new(limits.clone());
    let mut go = |world: &World| {
        let desired = world.desired();
        let ops = diff(&actual, &desired).expect("there is just enough room");
        let promises = kernel.promises(&desired);
        for op in &ops {
            kernel.perform(op, &promises);
            actual.apply(op);
        }
        kernel.assert_is(&desired);
        actual.service(&key(1)).map(|(_, word)| word.unit())
    };
    let world = |large: &[u32], small: &[u32]| {
        let mut world = World::empty();
        world.set_service(0, large).table_size = TableSize::Large;
        world.set_service(1, small);
        world
    };
    assert_eq!(go(&world(&[1], &[1])), Some(512));
    assert_eq!(go(&world(&[1], &[1, 1])), Some(256), "its old place is the only other one");
    assert_eq!(go(&world(&[1, 1], &[1, 1])), Some(512), "it has to make room");
}
