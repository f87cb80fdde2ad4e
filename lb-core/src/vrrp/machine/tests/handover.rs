//! Roles that change because somebody wants it.

use super::*;

fn gate(bench: &mut Bench, at: u64, open: bool) {
    bench.check(at, Input::Gate { open }, &[]);
}

#[test]
fn a_handover_asks_and_yields_only_when_the_peer_is_heard() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, Input::Handover, &["lease 7000", "advert 100", "ask"]);
    assert!(bench.view(4_000).handing_over);
    bench.check(4_610, Input::Tick, &["announce"]);
    bench.check(5_000, Input::Tick, &["lease 8000", "advert 100"]);
    bench.check(5_100, heard(LOWER, 50), &["lease off", "backup: handed over to 192.0.2.4"]);
    assert!(bench.view(5_100).held_back);
}

#[test]
fn a_handover_that_nobody_takes_changes_nothing() {
    let mut bench = Bench::active(settings());
    bench.put(4_000, Input::Handover);
    let seen = bench.run(8_000);
    assert!(
        seen.contains(&(7_000, "warning: no peer took over: this node stays active".to_owned())),
        "{seen:?}"
    );
    assert_eq!(bench.machine.role(), Role::Active);
    bench.check(8_100, heard(LOWER, 50), &["lease 11100", "advert 100"]);
}

#[test]
fn who_handed_over_leaves_the_role_until_the_peer_is_gone() {
    let mut bench = Bench::active(settings());
    gate(&mut bench, 3_700, true);
    bench.put(4_000, Input::Handover);
    bench.put(4_100, heard(LOWER, 50));
    for at in [5_100, 6_100, 7_100, 8_100, 9_100] {
        bench.check(at, heard(LOWER, 50), &[]);
        assert_eq!(bench.deadline(), Some(at + 3_609));
    }
    assert_eq!(bench.put(9_100 + DOWN, Input::Tick)[0], "active: 192.0.2.4 is not heard any more");
    assert!(!bench.view(20_000).held_back);
}

#[test]
fn resume_lets_who_handed_over_preempt_again() {
    let mut bench = Bench::active(settings());
    gate(&mut bench, 3_700, true);
    bench.put(4_000, Input::Handover);
    bench.put(4_100, heard(LOWER, 50));
    bench.put(5_100, heard(LOWER, 50));
    bench.check(5_200, Input::Resume, &[]);
    bench.check(6_100, heard(LOWER, 50), &[]);
    assert_eq!(bench.deadline(), Some(5_100 + 3_609));
}

#[test]
fn a_handover_of_a_backup_is_refused() {
    let mut bench = Bench::started(settings());
    bench.check(100, Input::Handover, &["warning: nothing to hand over: this node is backup, not active"]);
}

#[test]
fn a_takeover_is_at_once_whatever_priorities_and_gate_say() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.check(
        1_100,
        Input::TakeOver,
        &["active: taken over from a peer that asked for it", "lease 4100", "advert 100", "announce"],
    );
}

#[test]
fn who_took_over_holds_against_the_giver_for_a_while_without_answering_it() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.put(1_100, Input::TakeOver);
    for at in [1_150, 2_000, 3_000, 4_000, 5_000] {
        assert!(bench.put(at, heard(HIGHER, 200)).is_empty());
        bench.run(at + 100);
    }
    // The giver has given up waiting: it is active, and the better one.
    bench.run(5_000);
    bench.check(5_100, heard(HIGHER, 200), &["lease off", "backup: 192.0.2.6 is active with priority 200"]);
}

#[test]
fn a_giver_that_was_not_heard_before_is_the_first_one_that_is() {
    let mut bench = Bench::started(settings());
    bench.put(1_100, Input::TakeOver);
    bench.check(1_200, heard(HIGHER, 200), &[]);
    bench.check(1_300, heard(LOWER, 200), &["lease off", "backup: 192.0.2.4 is active with priority 200"]);
}

#[test]
fn who_started_just_before_a_handover_yields_to_a_better_third_one() {
    // Adverts of the giver are as rare as one a second, and this node has missed the last one.
    let mut giver = Bench::active(Settings { priority: priority(144), ..settings() });
    let mut taker = Bench::new(settings());
    taker.put(4_000, START);
    let told = giver.put(4_100, Input::Handover);
    if told.iter().any(|word| word == "advert 144") {
        taker.put(4_110, heard(LOWER, 144));
    }
    taker.put(4_110, Input::TakeOver);
    taker.run(6_500);
    taker.check(6_600, heard(HIGHER, 185), &["lease off", "backup: 192.0.2.6 is active with priority 185"]);
}

#[test]
fn a_giver_that_was_silent_is_a_rival_like_any_other() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.put(1_100, Input::TakeOver);
    bench.run(4_050);
    bench.check(4_100, heard(HIGHER, 200), &["lease off", "backup: 192.0.2.6 is active with priority 200"]);
}

#[test]
fn who_took_over_yields_to_a_better_third_one() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.put(1_100, Input::TakeOver);
    bench.check(1_200, heard(LOWER, 150), &["lease off", "backup: 192.0.2.4 is active with priority 150"]);
}

#[test]
fn a_takeover_by_a_paused_or_faulty_node_is_refused() {
    let mut bench = Bench::started(settings());
    bench.put(100, Input::Pause);
    bench.check(200, Input::TakeOver, &["warning: asked to take over, but paused or not started"]);
    let mut bench = Bench::started(settings());
    bench.put(100, Input::Track { fault: Some("no carrier".to_owned()), penalty: 0 });
    bench.check(200, Input::TakeOver, &["warning: asked to take over, but no carrier"]);
}

#[test]
fn two_active_ones_of_which_one_hands_over_do_not_both_yield() {
    // The worse one is asked while it is active itself.
    let mut bench = Bench::active(settings());
    bench.put(3_900, heard(HIGHER, 50));
    bench.check(4_000, Input::TakeOver, &["lease 7000", "advert 100"]);
    bench.check(4_100, heard(HIGHER, 200), &[]);
    assert_eq!(bench.machine.role(), Role::Active);
}

#[test]
fn takeover_ends_being_held_back() {
    let mut bench = Bench::active(settings());
    bench.put(4_000, Input::Handover);
    bench.put(4_100, heard(LOWER, 50));
    assert_eq!(bench.put(4_200, Input::TakeOver)[0], "active: taken over from a peer that asked for it");
    assert!(!bench.view(4_200).held_back);
}

#[test]
fn a_closed_gate_keeps_a_live_peer_active() {
    let mut bench = Bench::started(settings());
    for at in [1_000, 2_000, 3_000, 4_000, 5_000] {
        bench.check(at, heard(LOWER, 50), &[]);
        assert_eq!(bench.deadline(), Some(at + 3_609));
    }
    gate(&mut bench, 5_100, true);
    bench.put(6_000, heard(LOWER, 50));
    assert_eq!(bench.deadline(), Some(5_000 + 3_609));
    gate(&mut bench, 6_100, false);
    bench.put(7_000, heard(LOWER, 50));
    assert_eq!(bench.deadline(), Some(7_000 + 3_609));
}

#[test]
fn what_comes_to_stand_against_a_preemption_under_way_stops_it() {
    // With the skew of priority 50 it waits longer.
    let inputs = [
        (Input::Gate { open: false }, 3_609),
        (Input::Settings(Settings { preempt: false, ..settings() }), 3_609),
        (Input::Settings(Settings { priority: priority(50), ..settings() }), 3_804),
        (Input::Track { fault: None, penalty: 50 }, 3_804),
    ];
    for (input, down) in inputs {
        let mut bench = Bench::started(settings());
        gate(&mut bench, 0, true);
        bench.put(2_000, heard(LOWER, 50));
        bench.put(3_000, heard(LOWER, 50));
        bench.check(3_500, input.clone(), &[]);
        bench.check(DOWN, Input::Tick, &[]);
        assert_eq!(bench.deadline(), Some(3_000 + down), "{input:?}: as if it had been followed");
    }
}

#[test]
fn a_closed_gate_does_not_matter_once_the_peer_is_gone() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(LOWER, 50));
    assert_eq!(bench.put(1_000 + DOWN, Input::Tick)[0], "active: 192.0.2.4 is not heard any more");
}

#[test]
fn the_gate_is_for_fairlead_peers_alone() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, Input::Advert { router: R4, from: ip(LOWER), advert: advert(50), fairlead: false });
    assert_eq!(bench.deadline(), Some(3_609));
}

#[test]
fn preemption_waits_for_its_delay_from_when_nothing_stands_against_it() {
    let mut bench = Bench::started(Settings { preempt_delay: ms(10_000), ..settings() });
    bench.put(1_000, heard(LOWER, 50));
    gate(&mut bench, 1_500, true);
    for at in (2..=11).map(|second| second * 1_000) {
        bench.put(at, heard(LOWER, 50));
        assert_eq!(bench.deadline(), Some(at + 3_609));
    }
    bench.put(12_000, heard(LOWER, 50));
    assert_eq!(bench.deadline(), Some(11_000 + 3_609));
}

#[test]
fn a_better_active_one_lets_the_delay_of_a_preemption_begin_anew() {
    let mut bench = Bench::started(Settings { preempt_delay: ms(3_000), ..settings() });
    gate(&mut bench, 0, true);
    bench.put(1_000, heard(LOWER, 50));
    bench.put(2_000, heard(HIGHER, 200));
    bench.put(4_500, heard(LOWER, 50));
    assert_eq!(bench.deadline(), Some(4_500 + 3_609));
}

#[test]
fn a_paused_backup_neither_takes_over_nor_preempts() {
    let mut bench = Bench::started(settings());
    gate(&mut bench, 0, true);
    bench.put(100, Input::Pause);
    bench.put(1_000, heard(LOWER, 50));
    assert_eq!(bench.deadline(), None);
    bench.check(50_000, Input::Tick, &[]);
    bench.check(60_000, Input::Resume, &[]);
    assert_eq!(bench.deadline(), Some(60_000 + 3_609));
}

#[test]
fn a_paused_active_one_stays_until_a_better_one_comes() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, Input::Pause, &[]);
    assert_eq!(bench.put(4_610, Input::Tick)[1], "advert 100");
    bench.put(4_700, heard(HIGHER, 200));
    assert_eq!((bench.machine.role(), bench.deadline()), (Role::Backup, None));
}
