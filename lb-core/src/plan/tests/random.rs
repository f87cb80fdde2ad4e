//! Random histories of changes, deaths of the daemon and adoptions.

use proptest::prelude::*;

use super::kernel::Kernel;
use super::world::{BACKENDS, Change, SERVICES, World, any_change};
use crate::config::Limits;
use crate::plan::{Actual, DiffError, diff};

/// Some changes that come at once, and after how many operations the daemon dies, if it does.
type Step = (Vec<Change>, Option<usize>);

fn any_steps(sizes: bool, length: usize) -> impl Strategy<Value = Vec<Step>> {
    let death = prop::option::weighted(0.25, 0..25usize);
    prop::collection::vec((prop::collection::vec(any_change(sizes), 1..6), death), 1..length)
}

/// How many rows the maps have.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    /// For all backends there can be and as many as one service can have besides.
    Spare,
    /// Often too few: a way is refused then, but none that is gone leaves a gap.
    Few,
}

fn limits(rows: Rows, units: u32) -> Limits {
    let backends = if rows == Rows::Spare { (SERVICES + 1) * BACKENDS } else { 2 * BACKENDS };
    Limits {
        services: u32::try_from(SERVICES).expect("few"),
        backends: u32::try_from(backends).expect("few"),
        table_slots: units * 4_096,
        ..Limits::default()
    }
}

/// Lives through a history; every operation and every state it leads to is checked.
fn live_through(steps: &[Step], rows: Rows, units: u32) {
    let limits = limits(rows, units);
    let mut world = World::empty();
    let mut kernel = Kernel::new(limits.clone());
    let mut actual = Actual::new(limits.clone());
    for (changes, death) in steps {
        changes.iter().for_each(|change| world.change(change));
        let desired = world.desired();
        assert_eq!(desired, world.desired_from_reversed_lists());
        let ops = match diff(&actual, &desired) {
            Ok(ops) => ops,
            Err(DiffError::NoFreeSlot { .. }) if rows == Rows::Few => continue,
            Err(error) => panic!("{error}"),
        };
        let promises = kernel.promises(&desired);
        for op in ops.iter().take(death.unwrap_or(usize::MAX)) {
            kernel.perform(op, &promises);
            actual.apply(op);
        }
        if death.is_some_and(|after| after < ops.len()) {
            actual = Actual::from_snapshot(kernel.snapshot());
            continue;
        }
        kernel.assert_is(&desired);
        assert_eq!(diff(&actual, &desired), Ok(vec![]), "not done");
        let adopted = Actual::from_snapshot(kernel.snapshot());
        assert_eq!(diff(&adopted, &desired), Ok(vec![]), "adoption changes something");
    }
    same_as_without_history(&world, &actual, &mut kernel, &limits);
}

/// The tables must not depend on what happened before.
fn same_as_without_history(world: &World, actual: &Actual, kernel: &mut Kernel, limits: &Limits) {
    let desired = world.desired();
    let Ok(ops) = diff(actual, &desired) else { return };
    let promises = kernel.promises(&desired);
    ops.iter().for_each(|op| kernel.perform(op, &promises));
    kernel.assert_is(&desired);
    let mut fresh = Kernel::new(limits.clone());
    for op in diff(&Actual::new(limits.clone()), &desired).expect("room in empty maps") {
        fresh.perform(&op, &Default::default());
    }
    for key in desired.services.keys() {
        assert_eq!(kernel.class(key), fresh.class(key));
        assert!(kernel.addresses(key) == fresh.addresses(key), "the table of {key} depends on its history");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn random_history_never_harms_a_packet(steps in any_steps(false, 12)) {
        live_through(&steps, Rows::Spare, 16);
    }

    #[test]
    fn random_history_with_few_rows_never_harms_a_packet(steps in any_steps(false, 12)) {
        live_through(&steps, Rows::Few, 5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Three services of either size, one small one and the spare place that the limits promise: tables have to be
    /// moved out of the way of larger ones.
    #[test]
    fn random_history_with_one_spare_place_for_tables_never_runs_out_of_room(steps in any_steps(true, 10)) {
        live_through(&steps, Rows::Spare, 3 * 16 + 1 + 16);
    }
}
