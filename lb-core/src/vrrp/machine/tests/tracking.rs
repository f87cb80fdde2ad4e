//! What a node can do, and how well.

use super::*;

fn fault(text: &str) -> Input {
    Input::Track { fault: Some(text.to_owned()), penalty: 0 }
}

const fn penalty(penalty: u8) -> Input {
    Input::Track { fault: None, penalty }
}

#[test]
fn an_active_one_with_a_fault_resigns() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, fault("no carrier"), &["lease off", "advert 0", "backup: no carrier"]);
    assert_eq!(bench.deadline(), None);
    assert_eq!(bench.view(4_000).fault.as_deref(), Some("no carrier"));
    bench.check(4_100, fault("no program"), &[]);
}

#[test]
fn a_backup_with_a_fault_does_not_take_over() {
    let mut bench = Bench::started(settings());
    bench.check(100, fault("no carrier"), &[]);
    bench.check(60_000, Input::Tick, &[]);
    bench.check(60_100, penalty(0), &[]);
    assert_eq!(bench.deadline(), Some(60_100 + 3_609), "a whole down interval from then on");
}

#[test]
fn a_penalty_lowers_the_priority_and_says_so_at_once() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, penalty(60), &["lease 7000", "advert 40"]);
    bench.check(4_100, penalty(60), &[]);
    assert_eq!(bench.view(4_100).priority, priority(40));
    bench.check(4_200, heard(LOWER, 41), &["lease off", "backup: 192.0.2.4 is active with priority 41"]);
    bench.check(4_300, penalty(0), &[]);
    assert_eq!(bench.view(4_300).priority, priority(100));
}

#[test]
fn a_penalty_never_makes_a_node_say_goodbye() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, penalty(255), &["lease 7000", "advert 1"]);
}

#[test]
fn a_node_without_routers_never_becomes_active() {
    let mut bench = Bench::started(Settings { routers: BTreeMap::new(), ..settings() });
    assert_eq!(bench.deadline(), None);
    bench.check(60_000, Input::Tick, &[]);
    bench.check(60_000, Input::TakeOver, &["warning: asked to take over, but paused or not started"]);
}
