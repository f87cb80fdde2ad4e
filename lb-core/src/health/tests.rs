//! Sequences of probe results and what must come of them.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn params() -> HealthParams {
    HealthParams { interval: ms(1_000), fast: ms(200), down: ms(5_000), rise: 2, fall: 3 }
}

fn probe(health: &mut Health, success: bool) -> Option<Transition> {
    let now = health.next_due();
    let id = health.begin(now);
    health.finish(now + ms(1), id, if success { Ok(()) } else { Err("connection refused".to_owned()) })
}

/// Feeds results (`+` success, `-` failure) and compares the verdict after each (`?` unknown, `U` up, `D` down).
#[track_caller]
fn check(params: HealthParams, adopted: Option<Verdict>, results: &str, verdicts: &str) {
    let mut health = Health::new(params, ms(0));
    if let Some(verdict) = adopted {
        health.adopt(verdict);
    }
    let after = |result: char| {
        probe(&mut health, result == '+');
        match health.verdict() {
            Verdict::Unknown => '?',
            Verdict::Up => 'U',
            Verdict::Down => 'D',
            Verdict::Unchecked => '!',
        }
    };
    assert_eq!(
        results.chars().map(after).collect::<String>(),
        verdicts,
        "results {results}, adopted {adopted:?}"
    );
}

#[test]
fn verdict_changes_after_exactly_rise_successes_or_fall_failures_in_a_row() {
    let cases = [
        ("+", "U"),
        ("---", "??D"),
        ("--+", "??U"),
        ("+--+---", "UUUUUUD"),
        ("---+-++", "??DDDDU"),
        ("---++---", "??DDUUUD"),
    ];
    for (results, verdicts) in cases {
        check(params(), None, results, verdicts);
    }
}

#[test]
fn counts_of_one_decide_at_once() {
    check(HealthParams { rise: 1, fall: 1, ..params() }, None, "-+-+", "DUDU");
}

#[test]
fn larger_counts_are_met_exactly() {
    check(HealthParams { rise: 4, fall: 2, ..params() }, Some(Verdict::Down), "+++-++++--", "DDDDDDDUUD");
}

#[test]
fn adopted_verdict_holds_until_own_results_are_conclusive() {
    check(params(), Some(Verdict::Up), "--+---", "UUUUUD");
    check(params(), Some(Verdict::Down), "+-++", "DDDU");
    check(params(), Some(Verdict::Unknown), "--", "??");
}

#[test]
fn own_failures_count_after_an_adoption_and_the_next_probe_is_soon() {
    let mut health = Health::new(params(), ms(0));
    for _ in 0..3 {
        probe(&mut health, false);
    }
    assert_eq!(health.verdict(), Verdict::Down);
    let down_until = health.next_due();
    health.adopt(Verdict::Up);
    assert_eq!((health.verdict(), down_until - health.next_due()), (Verdict::Up, ms(5_000 - 200)));
    probe(&mut health, false);
    assert_eq!(health.verdict(), Verdict::Down, "it had failed three times already");
    health.adopt(Verdict::Up);
    probe(&mut health, true);
    probe(&mut health, false);
    assert_eq!(health.verdict(), Verdict::Up, "after a success it takes three again");
}

#[test]
fn next_probe_is_due_by_state() {
    // (results so far, gap from the start of the last probe to the next)
    for (results, gap) in [
        ("-", 200),
        ("+", 1_000),
        ("+-", 200),
        ("+--", 200),
        ("+---", 5_000),
        ("+----", 5_000),
        ("+---+", 200),
        ("+---++", 1_000),
    ] {
        let mut health = Health::new(params(), ms(0));
        let mut began = ms(0);
        for result in results.chars() {
            began = health.next_due();
            probe(&mut health, result == '+');
        }
        assert_eq!(health.next_due() - began, ms(gap), "after {results}");
    }
}

#[test]
fn fast_longer_than_the_interval_is_cut_to_it() {
    let mut health = Health::new(HealthParams { fast: ms(9_000), ..params() }, ms(0));
    probe(&mut health, false);
    assert_eq!(health.next_due(), ms(1_000));
}

#[test]
fn slow_answer_does_not_stretch_the_interval_nor_schedule_the_past() {
    let mut health = Health::new(params(), ms(0));
    let id = health.begin(ms(0));
    assert_eq!(health.next_due(), Duration::MAX, "a probe is on its way");
    health.finish(ms(300), id, Ok(()));
    assert_eq!(health.next_due(), ms(1_000));
    let id = health.begin(ms(1_000));
    health.finish(ms(1_300), id, Err("timed out".to_owned()));
    assert_eq!(health.next_due(), ms(1_300), "200 ms after the start is over already");
}

#[test]
fn late_result_of_a_given_up_probe_is_ignored() {
    let mut health = Health::new(HealthParams { rise: 1, fall: 1, ..params() }, ms(0));
    let stale = health.begin(ms(0));
    let id = health.begin(ms(500));
    assert_eq!(health.finish(ms(501), stale, Err("late".to_owned())), None);
    assert_eq!(health.verdict(), Verdict::Unknown);
    assert!(health.finish(ms(502), id, Ok(())).is_some());
    assert_eq!(health.finish(ms(503), id, Err("twice".to_owned())), None);
    assert_eq!((health.verdict(), health.last_error()), (Verdict::Up, None));
}

#[test]
fn transition_names_both_verdicts_and_the_cause() {
    let mut health = Health::new(params(), ms(0));
    let up = probe(&mut health, true).expect("first success");
    assert_eq!((up.from, up.to, up.reason.as_str()), (Verdict::Unknown, Verdict::Up, "1 success"));
    assert_eq!(probe(&mut health, false), None);
    assert_eq!((health.streak(), health.last_error()), (Streak::Failures(1), Some("connection refused")));
    probe(&mut health, false);
    let down = probe(&mut health, false).expect("third failure");
    assert_eq!((down.from, down.to), (Verdict::Up, Verdict::Down));
    assert_eq!(down.reason, "3 failures in a row: connection refused");
}

#[test]
fn reconfigure_keeps_the_verdict_and_moves_the_next_probe() {
    let mut health = Health::new(params(), ms(0));
    probe(&mut health, true);
    health.reconfigure(HealthParams { interval: ms(3_000), fall: 1, ..params() });
    assert_eq!((health.verdict(), health.next_due()), (Verdict::Up, ms(3_000)));
    assert!(probe(&mut health, false).is_some_and(|transition| transition.to == Verdict::Down));
}

#[test]
fn first_probe_is_due_when_the_caller_said() {
    let mut health = Health::new(params(), ms(730));
    assert_eq!(health.next_due(), ms(730));
    health.reconfigure(HealthParams { interval: ms(10), ..params() });
    assert_eq!(health.next_due(), ms(730), "nothing has been probed yet");
}
