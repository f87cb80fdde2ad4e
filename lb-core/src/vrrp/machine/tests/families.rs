//! One machine with a virtual router in each family.

use super::*;

#[test]
fn who_yielded_in_one_family_does_not_wait_for_another_one_in_which_nobody_was_heard() {
    let mut bench = Bench::active(dual_stack());
    bench.put(4_000, heard_v6("fe80::6", 200));
    assert_eq!((bench.machine.role(), bench.deadline()), (Role::Backup, Some(4_000 + 3_609)));
    bench.put(5_000, heard_v6("fe80::6", 0));
    assert_eq!(bench.put(5_000 + SKEW, Input::Tick)[0], "active: fe80::6 resigned");
}

#[test]
fn who_yielded_in_one_family_waits_for_whom_it_heard_in_the_other() {
    let mut bench = Bench::active(dual_stack());
    bench.put(3_900, heard(LOWER, 50));
    bench.put(4_000, heard_v6("fe80::6", 200));
    bench.put(5_000, heard_v6("fe80::6", 0));
    assert_eq!(bench.deadline(), Some(3_900 + 3_609));
}

#[test]
fn two_rivals_of_equal_priority_in_turn_do_not_keep_each_other_s_tie_open() {
    let mut bench = Bench::active(dual_stack());
    // IPv4 is cut; a worse one and a better one are heard in IPv6.
    let roles: Vec<(u64, Role)> = (4..=9)
        .map(|second| {
            let at = second * 1_000 + 100;
            bench.run(at);
            bench.put(at, heard_v6("fe80::4", 100));
            bench.put(at + 10, heard_v6("fe80::6", 100));
            (second, bench.machine.role())
        })
        .collect();
    let yields = roles.iter().find(|(_, role)| *role == Role::Backup);
    assert_eq!(yields, Some(&(7, Role::Backup)), "{roles:?}");
}

#[test]
fn of_more_rivals_than_a_group_has_those_that_are_not_heard_any_more_are_forgotten() {
    let mut bench = Bench::active(dual_stack());
    for second in 4..=7 {
        for invented in 0..100 {
            let at = second * 1_000 + invented;
            bench.run(at);
            bench.put(at, heard_v6(&format!("fe80::4:{second}:{invented}"), 100));
            bench.put(at, heard_v6("fe80::6", 100));
        }
    }
    assert_eq!(bench.machine.role(), Role::Backup);
}
