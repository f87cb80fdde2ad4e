//! Other settings move nothing.

use super::*;

fn reload(settings: Settings) -> Input {
    Input::Settings(settings)
}

#[test]
fn the_same_settings_do_nothing() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, reload(settings()), &[]);
    assert_eq!(bench.deadline(), Some(4_610));
}

#[test]
fn an_active_one_stays_and_tells_its_peers() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, reload(Settings { priority: priority(1), ..settings() }), &["lease 7000", "advert 1"]);
    let slow = Settings { interval: interval(1_000), ..settings() };
    bench.check(4_100, reload(slow), &["lease 34100", "advert 100"]);
    let fast = Settings { interval: interval(10), ..settings() };
    bench.check(4_200, reload(fast), &["lease 4500", "advert 100"]);
}

#[test]
fn a_longer_interval_does_not_make_the_present_lease_look_late() {
    let mut bench = Bench::active(settings());
    // 1,000 ms of the lease are left: less than half of the new interval.
    bench.check(
        5_610,
        reload(Settings { interval: interval(1_000), ..settings() }),
        &["lease 35610", "advert 100"],
    );
}

#[test]
fn a_backup_goes_on_waiting() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.check(
        2_000,
        reload(Settings { priority: priority(254), interval: interval(1), ..settings() }),
        &[],
    );
    assert_eq!(bench.deadline(), Some(1_000 + 3_609));
}

#[test]
fn new_addresses_are_announced() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, reload(dual_stack()), &["lease 7000", "advert 100", "advert 100 on 1", "announce"]);
}

#[test]
fn a_router_that_goes_says_goodbye() {
    let mut bench = Bench::active(dual_stack());
    bench.check(4_000, reload(settings()), &["advert 0 on 1", "lease 7000", "advert 100", "announce"]);
    bench.check(4_100, heard_v6("fe80::6", 200), &[]);
    assert_eq!(bench.view(4_100).routers.len(), 1);
}

#[test]
fn a_backup_that_loses_a_router_waits_for_the_others_alone() {
    let mut bench = Bench::started(dual_stack());
    bench.put(1_000, heard_v6("fe80::6", 200));
    assert_eq!(bench.deadline(), Some(1_000 + 3_609));
    bench.put(2_000, reload(settings()));
    assert_eq!(bench.deadline(), Some(3_609));
    bench.put(3_000, reload(dual_stack()));
    assert_eq!(bench.deadline(), Some(3_000 + 3_609), "a new one waits from its beginning");
}

#[test]
fn counters_outlive_a_reload_and_warnings_come_again() {
    let mut bench = Bench::active(settings());
    assert_eq!(bench.put(4_000, heard(LOWER, 100)).len(), 3);
    assert_eq!(bench.put(4_100, heard(LOWER, 100)).len(), 2);
    bench.put(4_200, reload(Settings { preempt: false, ..settings() }));
    assert_eq!(bench.put(4_300, heard(LOWER, 100)).len(), 3);
    assert_eq!(bench.view(4_300).routers[0].statistics.received, 3);
}
