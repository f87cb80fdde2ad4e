//! Who serves: configuration, verdicts and routes in, states and weights out.

use lb_common::SlotState;

use super::world::{World, address, key, name};
use crate::config::{AdminState, UnknownPort, WhenAllDown};
use crate::health::Verdict::{self, Down, Unchecked, Unknown, Up};
use crate::plan::VipFlags;

/// States and table weights of service 0: `S2` serves with weight 2, `~` drains, `-` is dead.
fn planned(world: &World) -> String {
    let desired = world.desired();
    let backends = desired.services[&key(0)].backends.values();
    let word = backends.map(|backend| match (backend.state, backend.table_weight) {
        (SlotState::Serving, weight) => format!("S{weight}"),
        (SlotState::Draining, 0) => "~".to_owned(),
        (SlotState::Dead, 0) => "-".to_owned(),
        other => format!("{other:?}"),
    });
    word.collect::<Vec<_>>().join(" ")
}

#[test]
fn verdicts_decide_who_serves() {
    let cases: &[(&[u32], &[Verdict], &str)] = &[
        (&[1, 2, 3], &[Up, Up, Up], "S1 S2 S3"),
        (&[1, 2, 3], &[Up, Down, Up], "S1 - S3"),
        (&[1, 2, 3], &[Up, Unknown, Down], "S1 - -"),
        (&[1, 2, 3], &[Unknown, Unknown, Unknown], "- - -"),
        // All down: the check is suspected. Not while one is unknown.
        (&[1, 2, 3], &[Down, Down, Down], "S1 S2 S3"),
        (&[1, 2, 3], &[Down, Down, Unknown], "- - -"),
        // Weight 0 takes no new flows and does not keep the rule for "all down" from applying.
        (&[0, 2], &[Up, Up], "~ S2"),
        (&[0, 2], &[Down, Up], "- S2"),
        (&[0, 2], &[Up, Down], "~ S2"),
        (&[0, 2], &[Down, Down], "~ S2"),
        (&[0, 2], &[Unknown, Up], "- S2"),
    ];
    for (weights, verdicts, expected) in cases {
        assert_eq!(planned(&World::one(weights).checked(verdicts)), *expected, "{weights:?} {verdicts:?}");
    }
}

#[test]
fn drop_believes_the_check() {
    let mut world = World::one(&[1, 2]).checked(&[Down, Down]);
    world.services[0].as_mut().expect("service").when_all_down = WhenAllDown::Drop;
    assert_eq!(planned(&world), "- -");
}

#[test]
fn backends_without_a_check_serve_whatever_the_verdicts_say() {
    let mut world = World::one(&[1, 2]);
    assert_eq!(planned(&world), "S1 S2");
    world.verdicts.insert((name(0), address(0, 0)), Down);
    assert_eq!(planned(&world), "S1 S2");
}

#[test]
fn backend_that_was_never_probed_is_unknown() {
    assert_eq!(planned(&World::one(&[1, 2]).checked(&[Up])), "S1 -");
    assert_eq!(planned(&World::one(&[1, 2]).checked(&[Up, Unchecked])), "S1 S2");
}

#[test]
fn operator_decides_before_the_check() {
    use AdminState::{Disabled, Drain, Enabled};
    let cases: &[(&[AdminState], &[Verdict], &str)] = &[
        (&[Enabled, Drain], &[Up, Up], "S1 ~"),
        (&[Enabled, Drain], &[Up, Unknown], "S1 ~"),
        // Flows do not stay on a backend that is down, draining or not.
        (&[Enabled, Drain], &[Up, Down], "S1 -"),
        (&[Enabled, Disabled], &[Up, Up], "S1 -"),
        (&[Disabled, Disabled], &[Up, Up], "- -"),
        // Only enabled backends count for "all down", and only they serve then.
        (&[Enabled, Drain], &[Down, Up], "S1 ~"),
        (&[Enabled, Drain], &[Down, Down], "S1 ~"),
        (&[Enabled, Disabled], &[Down, Up], "S1 -"),
        (&[Enabled, Disabled], &[Down, Down], "S1 -"),
    ];
    for (states, verdicts, expected) in cases {
        let mut world = World::one(&[1, 1]).checked(verdicts);
        let service = world.services[0].as_mut().expect("service");
        service.backends.iter_mut().zip(*states).for_each(|(backend, state)| backend.state = *state);
        assert_eq!(planned(&world), *expected, "{states:?} {verdicts:?}");
    }
}

#[test]
fn backend_without_a_route_is_dead_even_if_all_are() {
    let mut world = World::one(&[1, 1]).checked(&[Down, Down]);
    world.hops.remove(&address(0, 1));
    assert_eq!(planned(&world), "S1 -");
    world.hops.clear();
    assert_eq!(planned(&world), "- -");
}

#[test]
fn vip_passes_unknown_ports_only_by_choice() {
    let mut world = World::one(&[1]);
    let vip = key(0).vip;
    assert_eq!(world.desired().vips[&vip], VipFlags::default());
    world.services[0].as_mut().expect("service").unknown_port = UnknownPort::Pass;
    let flags = world.desired().vips[&vip];
    assert_eq!(flags, VipFlags { pass_unknown_port: true, lease: 0 });
    assert_eq!(VipFlags::from_row(flags.lease, flags.bits()), flags);
}
