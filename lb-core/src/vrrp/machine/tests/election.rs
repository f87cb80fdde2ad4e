//! The rules of RFC 9568, 6.4.

use super::*;

#[test]
fn start_is_always_backup_and_waits_for_a_whole_down_interval() {
    let mut bench = Bench::new(settings());
    assert_eq!(bench.deadline(), None);
    bench.check(0, START, &["backup: started"]);
    assert_eq!(bench.deadline(), Some(3_609));
    bench.check(3_609, Input::Tick, &[]);
    bench.check(
        3_610,
        Input::Tick,
        &["active: no active node is heard", "lease 6610", "advert 100", "announce"],
    );
}

#[test]
fn a_backup_waits_as_long_as_it_hears_an_active_one_of_at_least_its_priority() {
    for priority in [100, 101, 255] {
        let mut bench = Bench::started(settings());
        for at in [1_000, 2_000, 3_000, 4_000] {
            let seen = bench.put(at, heard(LOWER, priority));
            assert!(seen.iter().all(|seen| seen.starts_with("warning")), "{seen:?}");
            assert_eq!(bench.deadline(), Some(at + 3_609), "{priority}");
        }
        assert_eq!(bench.put(4_000 + DOWN, Input::Tick)[0], "active: 192.0.2.4 is not heard any more");
    }
}

#[test]
fn a_worse_active_one_is_preempted_after_a_down_interval_without_a_better_one() {
    let mut bench = Bench::started(settings());
    bench.put(0, Input::Gate { open: true });
    for at in [1_000, 2_000, 3_000] {
        bench.check(at, heard(LOWER, 99), &[]);
        assert_eq!(bench.deadline(), Some(3_609));
    }
    assert_eq!(bench.put(DOWN, Input::Tick)[0], "active: 192.0.2.4 was active with priority 99");
}

#[test]
fn without_preemption_a_worse_active_one_is_followed() {
    let mut bench = Bench::started(Settings { preempt: false, ..settings() });
    bench.put(0, Input::Gate { open: true });
    bench.check(3_000, heard(LOWER, 1), &[]);
    assert_eq!(bench.deadline(), Some(3_000 + 3_609));
}

#[test]
fn the_interval_of_the_active_one_sets_the_timer() {
    let mut bench = Bench::started(settings());
    let slow = Advert { interval: interval(200), ..advert(200) };
    bench.put(1_000, Input::Advert { router: R4, from: ip(HIGHER), advert: slow, fairlead: false });
    assert_eq!(bench.deadline(), Some(1_000 + 2 * 3_609));
    bench.put(2_000, heard(HIGHER, 0));
    assert_eq!(bench.deadline(), Some(2_000 + 2 * 609), "the skew is made of it too");
}

#[test]
fn a_goodbye_leaves_only_the_skew_to_wait_for() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.check(1_500, heard(HIGHER, 0), &[]);
    assert_eq!(bench.deadline(), Some(1_500 + 609));
    assert_eq!(bench.put(1_500 + SKEW, Input::Tick)[0], "active: 192.0.2.6 resigned");
}

#[test]
fn a_goodbye_of_somebody_else_than_the_active_one_changes_nothing() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    bench.check(1_500, heard(LOWER, 0), &[]);
    assert_eq!(bench.deadline(), Some(1_000 + 3_609));
}

#[test]
fn an_active_one_sends_adverts_by_its_interval() {
    let mut bench = Bench::active(settings());
    let adverts: Vec<u64> =
        bench.run(7_000).into_iter().filter(|(_, seen)| seen == "advert 100").map(|(at, _)| at).collect();
    assert_eq!(adverts, [4_610, 5_610, 6_610]);
}

#[test]
fn an_active_one_yields_to_a_greater_priority_and_says_nothing() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, heard(LOWER, 101), &["lease off", "backup: 192.0.2.4 is active with priority 101"]);
    assert_eq!(bench.deadline(), Some(4_000 + 3_609));
}

#[test]
fn an_active_one_answers_a_worse_one_at_once() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, heard(HIGHER, 99), &["lease 7000", "advert 100"]);
    assert_eq!(bench.view(4_000).routers[0].statistics.rivals, 1);
}

#[test]
fn a_rival_lasts_from_its_first_advert_until_three_intervals_after_its_last() {
    let mut bench = Bench::active(settings());
    let rival_for = |bench: &Bench, at: u64| bench.view(at).routers[0].rival_for;
    assert_eq!(rival_for(&bench, 3_700), None);
    for at in [4_000, 5_000, 7_000] {
        bench.run(at);
        bench.put(at, heard(HIGHER, 99));
    }
    assert_eq!(rival_for(&bench, 9_999), Some(ms(5_999)), "one of its adverts was lost, and then all");
    assert_eq!(rival_for(&bench, 10_000), None);
    bench.run(10_000);
    bench.put(10_100, heard(LOWER, 98));
    assert_eq!(rival_for(&bench, 10_200), Some(ms(100)), "another one, or the same after a silence");
    bench.put(10_300, heard(HIGHER, 101));
    assert_eq!(rival_for(&bench, 10_300), None, "there is one active again");
    assert_eq!(bench.view(10_300).routers[0].statistics.rivals, 4, "it was not yielded to four times");
}

#[test]
fn changes_of_the_role_are_counted_by_cause() {
    let mut bench = Bench::active(settings());
    bench.put(4_000, heard(HIGHER, 101));
    bench.put(4_100, heard(HIGHER, 0));
    bench.run(6_000);
    let transitions = bench.view(6_000).transitions;
    let counted =
        Cause::ALL.iter().map(|cause| (*cause, transitions.of(*cause))).filter(|(_, count)| *count > 0);
    let expected = [Cause::Started, Cause::NoneHeard, Cause::Resigned, Cause::Better].map(|cause| (cause, 1));
    assert_eq!(counted.collect::<Vec<_>>(), expected);
}

#[test]
fn an_active_one_answers_a_goodbye_at_once() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, heard(HIGHER, 0), &["lease 7000", "advert 100"]);
}

#[test]
fn answers_keep_a_distance() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, heard(LOWER, 99), &["lease 7000", "advert 100"]);
    bench.check(4_004, heard(LOWER, 99), &[]);
    bench.check(4_005, heard(LOWER, 99), &["lease 7005", "advert 100"]);
}

#[test]
fn equal_priorities_are_settled_by_address_with_one_warning() {
    let warning = "has the same priority 100: the greater address wins; give one of them another priority";
    let mut bench = Bench::active(settings());
    let first = format!("warning: {LOWER} {warning}");
    bench.check(4_000, heard(LOWER, 100), &[&first, "lease 7000", "advert 100"]);
    bench.check(4_500, heard(LOWER, 100), &["lease 7500", "advert 100"]);
    bench.check(5_000, heard(HIGHER, 100), &["lease off", "backup: 192.0.2.6 is active with priority 100"]);
}

#[test]
fn addresses_are_compared_as_unsigned_numbers() {
    let mut settings = settings();
    settings.routers.insert(R4, router("192.0.2.127", "203.0.113.1"));
    let mut bench = Bench::active(settings);
    bench.put(4_000, heard("192.0.2.9", 100));
    assert_eq!(bench.machine.role(), Role::Active);
    bench.put(5_000, heard("192.0.2.128", 100));
    assert_eq!(bench.machine.role(), Role::Backup);
}

#[test]
fn a_tie_between_peers_is_settled_by_the_first_router_that_hears_the_other() {
    let mut bench = Bench::active(dual_stack());
    bench.put(4_000, heard(LOWER, 100));
    bench.put(4_100, heard_v6("fe80::6", 100));
    assert_eq!(bench.machine.role(), Role::Active, "settled in IPv4");
    // Nothing is heard in IPv4, or it was overtaken.
    let mut bench = Bench::active(dual_stack());
    for (at, role) in
        [(4_100, Role::Active), (5_100, Role::Active), (6_100, Role::Active), (7_100, Role::Backup)]
    {
        bench.run(at);
        bench.put(at, heard_v6("fe80::6", 100));
        assert_eq!(bench.machine.role(), role, "{at}");
    }
}

#[test]
fn a_third_node_in_one_family_does_not_keep_a_tie_in_the_other_open_for_ever() {
    let mut bench = Bench::active(dual_stack());
    // A worse one in IPv4 that does not hear us and stays, and a better one in IPv6.
    let roles: Vec<(u64, Role)> = (4..=11)
        .map(|second| {
            let at = second * 1_000 + 100;
            bench.run(at);
            bench.put(at, heard(LOWER, 100));
            bench.put(at, heard_v6("fe80::6", 100));
            (second, bench.machine.role())
        })
        .collect();
    let yields = roles.iter().find(|(_, role)| *role == Role::Backup);
    assert_eq!(yields, Some(&(10, Role::Backup)), "{roles:?}");
}

#[test]
fn a_tie_with_a_foreign_router_is_settled_on_each_router() {
    let mut bench = Bench::active(dual_stack());
    bench.put(4_000, heard(LOWER, 100));
    let Input::Advert { router, from, advert, .. } = heard_v6("fe80::6", 100) else {
        unreachable!("an advert")
    };
    bench.put(4_100, Input::Advert { router, from, advert, fairlead: false });
    assert_eq!(bench.machine.role(), Role::Backup);
}

#[test]
fn own_adverts_that_come_back_are_counted_and_ignored() {
    let mut bench = Bench::active(settings());
    bench.check(4_000, heard(OWN, 200), &[]);
    assert_eq!(bench.view(4_000).routers[0].statistics.discarded.own_address, 1);
    assert_eq!(bench.view(4_000).routers[0].statistics.received, 0);
}

#[test]
fn backup_stays_as_long_as_any_of_its_routers_hears_an_active_one() {
    let mut bench = Bench::started(dual_stack());
    bench.put(1_000, heard(HIGHER, 200));
    bench.put(1_000, heard_v6("fe80::6", 200));
    // IPv4 is cut.
    for at in [2_000, 3_000, 4_000, 5_000] {
        bench.put(at, heard_v6("fe80::6", 200));
        assert!(bench.run(at).is_empty());
        assert_eq!(bench.deadline(), Some(at + 3_609));
    }
    // A goodbye in one family only.
    bench.put(5_100, heard(HIGHER, 0));
    assert_eq!(bench.deadline(), Some(5_000 + 3_609));
    bench.put(5_200, heard_v6("fe80::6", 0));
    assert_eq!(bench.deadline(), Some(5_200 + 609));
}

#[test]
fn active_yields_as_soon_as_any_of_its_routers_hears_a_better_one() {
    let mut bench = Bench::active(dual_stack());
    bench.check(
        4_000,
        heard_v6("fe80::4", 101),
        &["lease off", "backup: fe80::4 is active with priority 101"],
    );
}

#[test]
fn adverts_of_all_routers_come_after_one_lease() {
    let mut bench = Bench::active(dual_stack());
    bench.check(4_610, Input::Tick, &["lease 7610", "advert 100", "advert 100 on 1", "announce"]);
}

#[test]
fn other_intervals_and_addresses_are_warned_of_once_and_counted() {
    let mut bench = Bench::started(settings());
    let other = Advert { interval: interval(300), addresses: vec![ip("203.0.113.2")], ..advert(200) };
    let input = Input::Advert { router: R4, from: ip(HIGHER), advert: other, fairlead: false };
    let interval = "warning: 192.0.2.6 sends adverts every 3s, this node every 1s: they should be equal";
    let addresses =
        "warning: 192.0.2.6 has other VIPs (missing there: 203.0.113.1; missing here: 203.0.113.2)";
    bench.check(100, input.clone(), &[interval, addresses]);
    bench.check(200, input.clone(), &[]);
    bench.check(300, heard(HIGHER, 200), &[]);
    bench.check(400, input, &[interval, addresses]);
    let statistics = bench.view(400).routers[0].statistics;
    assert_eq!((statistics.received, statistics.other_interval, statistics.other_addresses), (4, 3, 3));
}

#[test]
fn takeover_is_announced_at_once_and_five_times_more() {
    let mut bench = Bench::active(settings());
    let at = |seen: Vec<(u64, String)>| -> Vec<u64> {
        seen.into_iter().filter(|(_, seen)| seen == "announce").map(|(at, _)| at).collect()
    };
    assert_eq!(at(bench.run(60_000)), [1_000, 3_000, 5_000, 7_000, 9_000].map(|after| DOWN + after));
    let mut bench = Bench::started(Settings { interval: AdvertInterval::MIN, ..settings() });
    assert_eq!(at(bench.run(60_000)), [36, 136, 336, 736, 1_536, 3_136], "not all at once");
}

#[test]
fn a_rival_is_followed_by_one_more_announcement() {
    let mut bench = Bench::active(settings());
    bench.run(30_000);
    bench.put(30_100, heard(LOWER, 99));
    bench.put(30_200, heard(LOWER, 99));
    let seen = bench.run(60_000);
    let announced: Vec<u64> =
        seen.into_iter().filter(|(_, seen)| seen == "announce").map(|(at, _)| at).collect();
    assert_eq!(announced, [31_100]);
}

#[test]
fn clients_are_called_away_from_a_peer_only_when_flow_sync_has_had_time() {
    let quick = AdvertInterval::from_duration(Duration::from_millis(100)).expect("in range");
    for (fairlead, announced_at) in [(true, 30_650), (false, 30_150)] {
        let mut bench = Bench::started(Settings { interval: quick, ..settings() });
        bench.run(30_000);
        let Input::Advert { router, from, advert, .. } = heard(LOWER, 99) else { unreachable!() };
        bench.put(30_050, Input::Advert { router, from, advert, fairlead });
        let seen = bench.run(31_500);
        let announced: Vec<u64> =
            seen.into_iter().filter(|(_, seen)| seen == "announce").map(|(at, _)| at).collect();
        assert_eq!(announced, [announced_at], "{fairlead}");
    }
}

#[test]
fn stopping_clears_the_lease_says_goodbye_and_ends() {
    let mut bench = Bench::active(dual_stack());
    bench.check(
        4_000,
        Input::Stop { hold: None },
        &["lease off", "advert 0", "advert 0 on 1", "init: stopped"],
    );
    assert_eq!(bench.deadline(), None);
    bench.check(4_100, heard(HIGHER, 200), &[]);
    let mut bench = Bench::started(settings());
    bench.check(100, Input::Stop { hold: None }, &["init: stopped"]);
}

#[test]
fn packets_that_are_no_adverts_are_counted_by_reason() {
    let mut bench = Bench::started(settings());
    bench.put(1, Input::Discarded { router: R4, why: AdvertError::Checksum });
    bench.put(2, Input::Discarded { router: R4, why: AdvertError::HopLimit(64) });
    bench.put(3, Input::Discarded { router: R6, why: AdvertError::HopLimit(64) });
    let discarded = bench.view(4).routers[0].statistics.discarded;
    assert_eq!((discarded.checksum, discarded.hop_limit, discarded.total()), (1, 1, 2));
}

#[test]
fn the_view_says_who_is_active_and_why_this_node_is_what_it_is() {
    let mut bench = Bench::started(settings());
    bench.put(1_000, heard(HIGHER, 200));
    let view = bench.view(1_000);
    assert_eq!((view.role, view.since(), view.lease), (Role::Backup, Some(ms(0)), None));
    let active = view.routers[0].heard.expect("one was heard");
    assert_eq!((active.from, active.priority, active.at), (ip(HIGHER), 200, ms(1_000)));
    bench.put(1_000 + DOWN, Input::Tick);
    let view = bench.view(1_000 + DOWN);
    assert_eq!((view.role, view.lease), (Role::Active, Some(ms(4_000 + DOWN))));
    let last = view.last.expect("it took over");
    assert_eq!((last.from, last.to, last.at), (Role::Backup, Role::Active, ms(1_000 + DOWN)));
    let statistics = view.routers[0].statistics;
    assert_eq!((statistics.sent, statistics.received, statistics.became_active), (1, 1, 1));
}
