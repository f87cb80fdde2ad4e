//! Who answers, and for how long without saying so.

use super::*;

#[test]
fn the_lease_comes_before_the_advert_and_lasts_three_intervals_from_before() {
    let mut bench = Bench::active(settings());
    bench.check(4_700, Input::Tick, &["lease 7700", "advert 100", "announce"]);
}

#[test]
fn a_tick_that_is_a_little_late_renews() {
    let mut bench = Bench::active(settings());
    // The lease ends at 6,610; half an interval before it is the last time.
    assert_eq!(bench.put(6_110, Input::Tick)[0], "lease 9110");
}

#[test]
fn a_late_wake_up_never_renews_and_waits_like_any_other() {
    for at in [6_111, 6_610, 60_000] {
        let mut bench = Bench::active(settings());
        let seen = bench.put(at, Input::Tick);
        assert_eq!(seen[0], "lease off");
        assert!(seen[1].starts_with("backup: late by"), "{seen:?}");
        assert_eq!(seen.len(), 2);
        assert_eq!(bench.deadline(), Some(at + 3_609));
    }
}

#[test]
fn whatever_wakes_a_late_one_finds_it_backup() {
    let inputs = [
        heard(LOWER, 1),
        heard(LOWER, 0),
        Input::PeerHeard,
        Input::TakeOver,
        Input::Handover,
        Input::Track { fault: None, penalty: 7 },
        Input::Settings(Settings { priority: priority(50), ..settings() }),
        Input::Gate { open: true },
        Input::Pause,
        Input::Resume,
        Input::Hold { until: ms(70_000) },
    ];
    for input in inputs {
        let mut bench = Bench::active(settings());
        let seen = bench.put(10_000, input.clone());
        assert_eq!(seen[..2], ["lease off", "backup: late by 5s 390ms"], "{input:?}");
        if input != Input::TakeOver {
            let renewed =
                seen[1..].iter().any(|seen| seen.starts_with("lease") || seen.starts_with("advert"));
            assert!(!renewed, "{input:?}: {seen:?}");
        }
    }
}

#[test]
fn a_backup_that_wakes_late_waits_once_for_what_it_may_have_missed() {
    let mut bench = Bench::started(settings());
    bench.put(0, heard(HIGHER, 200));
    bench.check(20_000, Input::Tick, &[]);
    assert_eq!(bench.deadline(), Some(20_000 + 1_609));
    // It was there all the time.
    bench.check(20_100, heard(HIGHER, 200), &[]);
    assert_eq!(bench.deadline(), Some(20_100 + 3_609));
    // It is gone.
    bench.check(40_000, Input::Tick, &[]);
    assert_eq!(bench.put(41_610, Input::Tick)[0], "active: 192.0.2.6 is not heard any more");
}

#[test]
fn a_backup_that_is_always_late_takes_over_nevertheless() {
    let mut bench = Bench::started(settings());
    bench.check(20_000, Input::Tick, &[]);
    assert_eq!(bench.put(40_000, Input::Tick)[0], "active: no active node is heard");
}

fn lone() -> Settings {
    Settings { lone_lease: ms(60_000), ..settings() }
}

#[test]
fn a_node_without_peers_for_ten_intervals_has_a_long_lease() {
    let mut bench = Bench::active(lone());
    let seen = bench.run(10_700);
    let leases: Vec<&str> =
        seen.iter().filter(|(_, seen)| seen.starts_with("lease")).map(|(_, seen)| seen.as_str()).collect();
    assert_eq!(
        leases,
        [
            "lease 7610",
            "lease 8610",
            "lease 9610",
            "lease 10610",
            "lease 11610",
            "lease 12610",
            "lease 70610"
        ]
    );
    assert!(bench.view(10_700).lone);
}

#[test]
fn without_a_lone_lease_it_stays_at_three_intervals() {
    let mut bench = Bench::active(settings());
    bench.run(100_000);
    assert!(!bench.view(100_000).lone);
    assert_eq!(bench.view(100_000).lease, Some(ms(102_610)));
}

#[test]
fn a_lone_lease_is_cut_back_at_once_when_a_peer_is_heard() {
    let mut bench = Bench::active(lone());
    bench.run(20_000);
    bench.check(20_100, Input::PeerHeard, &["lease 23100", "advert 100"]);
    bench.check(20_200, Input::PeerHeard, &[]);
    let mut bench = Bench::active(lone());
    bench.run(20_000);
    bench.check(20_100, heard(LOWER, 1), &["lease 23100", "advert 100"]);
}

#[test]
fn peers_that_are_heard_now_and_then_keep_the_lease_short() {
    let mut bench = Bench::active(lone());
    for at in (1..20).map(|nine| DOWN + nine * 9_000) {
        bench.run(at);
        bench.put(at, Input::PeerHeard);
        assert!(!bench.view(at).lone);
    }
}

#[test]
fn a_lone_node_that_slept_less_than_its_lease_goes_on() {
    let mut bench = Bench::active(lone());
    bench.run(20_000);
    let seen = bench.put(50_000, Input::Tick);
    assert_eq!(seen[..2], ["lease 110000", "advert 100"]);
    assert_eq!(bench.put(109_501, Input::Tick)[0], "lease off");
}

#[test]
fn a_lease_in_force_survives_the_start_until_an_active_peer_is_heard() {
    let mut bench = Bench::new(settings());
    let start = Input::Start { lease_in_force: Some(ms(30_000)) };
    bench.check(1_000, start.clone(), &["backup: started"]);
    assert_eq!(bench.view(1_000).lease, Some(ms(30_000)));
    bench.check(2_000, heard(LOWER, 0), &[]);
    bench.check(2_000, Input::PeerHeard, &[]);
    bench.check(2_100, heard(LOWER, 1), &["lease off"]);
    assert_eq!(bench.view(2_100).lease, None);
    let mut bench = Bench::new(settings());
    bench.put(1_000, start);
    assert_eq!(bench.put(1_000 + DOWN, Input::Tick)[1], "lease 7610", "it is alone");
}

#[test]
fn a_lease_in_force_ends_with_a_fault_and_with_a_stop() {
    let start = Input::Start { lease_in_force: Some(ms(30_000)) };
    let fault = Input::Track { fault: Some("no carrier".to_owned()), penalty: 0 };
    let mut bench = Bench::new(settings());
    bench.put(1_000, start.clone());
    bench.check(2_000, fault.clone(), &["lease off"]);
    let mut bench = Bench::new(settings());
    bench.put(900, fault);
    bench.check(1_000, start.clone(), &["backup: started", "lease off"]);
    let mut bench = Bench::new(settings());
    bench.put(1_000, start);
    bench.check(2_000, Input::Stop { hold: None }, &["lease off", "init: stopped"]);
}

#[test]
fn a_planned_restart_leaves_a_lease_and_says_no_goodbye() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, Input::Stop { hold: Some(ms(30_000)) }, &["lease 34000", "init: stopped"]);
    let mut bench = Bench::active(settings());
    bench.check(4_000, Input::Stop { hold: Some(Duration::MAX) }, &["lease 604000", "init: stopped"]);
    let mut bench = Bench::started(settings());
    bench.check(4_000, Input::Stop { hold: Some(ms(30_000)) }, &["init: stopped"]);
}

#[test]
fn nobody_takes_over_before_the_end_of_a_hold() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.put(1_500, Input::Hold { until: ms(20_000) });
    assert_eq!(bench.deadline(), Some(20_000));
    assert_eq!(bench.view(1_500).hold_until, Some(ms(20_000)));
    bench.check(19_999, Input::Tick, &[]);
    assert_eq!(bench.put(20_000, Input::Tick)[0], "active: 192.0.2.6 is not heard any more");
}

#[test]
fn a_hold_ends_when_the_peer_is_heard_again() {
    let mut bench = Bench::started(settings());
    bench.put(1_500, Input::Hold { until: ms(20_000) });
    bench.put(1_600, heard(HIGHER, 200));
    assert_eq!(bench.deadline(), Some(20_000), "its last word before");
    bench.put(5_000, heard(HIGHER, 200));
    assert_eq!(bench.deadline(), Some(5_000 + 3_609));
}

#[test]
fn a_hold_is_not_longer_than_somebody_would_wait() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, Input::Hold { until: Duration::MAX });
    assert_eq!(bench.deadline(), Some(601_000));
    let mut bench = Bench::active(settings());
    bench.put(4_000, Input::Hold { until: ms(20_000) });
    assert_eq!(bench.view(4_000).hold_until, None, "an active one has nothing to hold back");
}

#[test]
fn a_lease_is_renewed_up_to_the_limit_of_lateness_and_the_role_given_up_after_it() {
    let due = DOWN + 1_000;
    let limit = u64::try_from(settings().interval.lateness_limit().as_millis()).expect("few of them");
    for (late, role) in [(limit, Role::Active), (limit + 1, Role::Backup)] {
        let mut bench = Bench::active(settings());
        bench.put(due + late, Input::Tick);
        assert_eq!(bench.machine.role(), role, "late by {late} ms");
    }
}

#[test]
fn a_backup_that_was_late_and_then_followed_after_all_waits_again_when_it_is_late() {
    let mut bench = Bench::started(settings());
    bench.put(0, Input::Gate { open: true });
    bench.put(3_000, heard(LOWER, 50));
    bench.check(4_200, Input::Tick, &[]);
    bench.put(4_300, Input::Gate { open: false });
    bench.check(5_810, Input::Tick, &[]);
    assert_eq!(bench.deadline(), Some(3_000 + 3_609), "it follows");
    // Stopped meanwhile; what came is still to be read.
    bench.check(7_300, Input::Tick, &[]);
    bench.put(7_300, heard(LOWER, 50));
    assert_eq!((bench.machine.role(), bench.deadline()), (Role::Backup, Some(7_300 + 3_609)));
}
