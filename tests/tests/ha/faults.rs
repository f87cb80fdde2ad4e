//! Links cut in one direction, a host that is gone, a daemon that is starved, a backend that fails with the balancer.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::{Cut, HerdPlan, Starve, overlap, signal_namespace, vanish};
use fairlead_tests::lab::{Fairlead, Lab, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

use crate::load::*;
use crate::scene::*;
use crate::trio::*;

/// Six intervals and 200 ms: by then one is active, whatever was before. Doubled for a machine that does other work.
const SETTLED: Duration = Duration::from_millis(1_600);
/// How long it is looked at after that.
const LOOK: Duration = Duration::from_millis(700);

/// Who is active of these nodes.
fn active_of(trio: &Trio, nodes: &[usize]) -> Result<Vec<usize>> {
    let mut active = Vec::new();
    for node in nodes {
        if trio.group(*node)?["role"] == "active" {
            active.push(*node);
        }
    }
    Ok(active)
}

/// A link of three nodes is cut one way; `expected` is to be the one active node among the other two, which hear each
/// other. None if they hear the one that is cut off, and leave the role to it.
fn one_way(cut: Cut, victim: usize, expected: Option<usize>) -> Result<()> {
    let trio = Trio::start(3, |_| {})?;
    for node in [1, 2] {
        trio.until_ready(node, "full")?;
    }
    trio.change_pool(&[0, 1, 2], false)?;
    let herds = herds(&trio)?;
    std::thread::sleep(ADVERT * 5);
    trio.change_pool(&[0, 1, 2], true)?;
    let watch = trio.watch(false)?;
    until_answered_by(&watch, trio.macs[0])?;

    let link = cut.apply(&trio.lab, &trio.lab.balancers[victim])?;
    std::thread::sleep(SETTLED);
    let settled_at = watch.now();
    std::thread::sleep(LOOK);
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    assert_eq!(active_of(&trio, &others)?, Vec::from_iter(expected), "{cut:?} of {victim}: active");
    let during = settled_at..watch.now();
    if let Some(expected) = expected {
        all_whole(&herds, "while it is cut")?;
        assert_eq!(watch.answering(), Some(trio.macs[expected]));
    } else {
        println!("what it says of itself: {}", trio.group(victim)?);
    }

    link.heal()?;
    std::thread::sleep(SETTLED);
    let settled_at = watch.now();
    std::thread::sleep(LOOK);
    trio.until_only(0)?;
    let after = settled_at..watch.now();
    let record = watch.stop()?;
    if let Some(expected) = expected {
        only_answerer(&record, during, trio.macs[expected]).context("while it was cut")?;
    } else {
        ensure!(!record.answers.iter().any(|one| during.contains(&one.at)), "somebody answered");
    }
    only_answerer(&record, after, trio.macs[0]).context("after it has healed")?;
    all_whole(&herds, "after it has healed")
}

#[test]
fn an_active_node_that_is_not_heard_is_followed_and_takes_its_role_back_whole() -> Result<()> {
    one_way(Cut::FromHost, 0, Some(1))
}

#[test]
fn an_active_node_that_is_deaf_is_waited_for_and_connections_outlast_it() -> Result<()> {
    one_way(Cut::ToHost, 0, None)
}

#[test]
fn a_backup_that_is_not_heard_changes_nothing() -> Result<()> {
    one_way(Cut::FromHost, 1, Some(0))
}

#[test]
fn a_backup_that_is_deaf_takes_no_connection_away() -> Result<()> {
    one_way(Cut::ToHost, 1, Some(0))
}

/// Every way to cut either node off one way only.
const ONE_WAY: [(Cut, usize); 4] =
    [(Cut::FromHost, 0), (Cut::ToHost, 0), (Cut::FromHost, 1), (Cut::ToHost, 1)];

/// Nodes of a pair are cut off, and connections from before and from meanwhile go on. If they tell each other of flows
/// `apart`, they do so while both are active.
fn pair_is_cut_and_healed(apart: bool, plan: HerdPlan, cuts: &[(Cut, usize)]) -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(3).control();
    let lab = if apart { lab.second_segment(1_500) } else { lab }.build()?;
    let mut trio = Trio::within(lab, |cluster| cluster.sync_apart = apart)?;
    trio.nodes.iter_mut().try_for_each(Fairlead::start)?;
    trio.until_only(0)?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let old = herds_by(&trio, plan)?;
    for (round, (cut, victim)) in cuts.iter().copied().enumerate() {
        let watch = trio.watch(round % 2 == 1)?;
        until_answered_by(&watch, trio.macs[0])?;
        let link = cut.apply(&trio.lab, &trio.lab.balancers[victim])?;
        std::thread::sleep(SETTLED);
        let during = if (cut, victim) == (Cut::ToHost, 0) { vec![] } else { herds_by(&trio, plan)? };
        // Whoever has these flows must be told of them by the other one: the tables would send some elsewhere.
        trio.change_pool(&[0, 1], true)?;
        link.heal()?;
        std::thread::sleep(SETTLED);
        let settled_at = watch.now();
        std::thread::sleep(LOOK);
        trio.until_only(0)?;
        let until = watch.now();
        let what = format!("{cut:?} of {victim}");
        only_answerer(&watch.stop()?, settled_at..until, trio.macs[0]).context(what.clone())?;
        all_whole(&old, &format!("{what}, from before"))?;
        let meanwhile = format!("{what}, made meanwhile");
        // Who is silent until the winner has been told loses nothing, nor does anybody if flows travel all the time.
        if apart || plan.requests_per_second == 0 {
            all_whole(&during, &meanwhile)?;
        } else {
            nearly_whole(&during, &meanwhile)?;
        }
        trio.until_ready(1, "full")?;
        trio.change_pool(&[0, 1], false)?;
    }
    Ok(())
}

#[test]
fn a_pair_of_which_one_is_cut_off_one_way_is_one_again_with_nearly_all_connections() -> Result<()> {
    pair_is_cut_and_healed(false, HerdPlan::new(few()), &ONE_WAY)
}

/// It depends on who of the two hears the other one first: so many times show both.
const SPLITS: [(Cut, usize); 4] = [(Cut::Detached, 0); 4];

#[test]
fn a_pair_that_was_split_is_one_again_with_all_idle_connections() -> Result<()> {
    let idle = HerdPlan { idle: few(), requests_per_second: 0, bulk: 0, ..HerdPlan::new(few()) };
    pair_is_cut_and_healed(false, idle, &SPLITS)
}

#[test]
fn a_pair_that_was_split_is_one_again_with_nearly_all_busy_connections() -> Result<()> {
    pair_is_cut_and_healed(false, HerdPlan::new(few()), &SPLITS)
}

#[test]
fn a_pair_that_tells_flows_by_another_way_is_one_again_with_all_connections() -> Result<()> {
    let cuts = [&ONE_WAY[..], &[(Cut::Detached, 0)]].concat();
    pair_is_cut_and_healed(true, HerdPlan::new(few()), &cuts)
}

#[test]
fn a_host_that_is_gone_is_followed_and_connections_are_whole() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let herds = herds(&trio)?;
    std::thread::sleep(ADVERT * 5);
    trio.change_pool(&[0, 1], true)?;
    let watches = [trio.watch(false)?, trio.watch(true)?];
    for watch in &watches {
        until_answered_by(watch, trio.macs[0])?;
    }
    vanish(&trio.lab, &trio.lab.balancers[0])?;
    trio.nodes[0].kill();
    trio.until_only(1)?;
    for watch in watches {
        until_answered_by(&watch, trio.macs[1])?;
        more_answers(&watch, 300)?;
        assert_eq!(overlap(&watch.stop()?, Duration::ZERO..Duration::MAX).requests, 0, "both answered");
    }
    all_whole(&herds, "afterwards")?;
    all_whole(&crate::load::herds(&trio)?, "made afterwards")
}

#[test]
fn a_node_whose_interface_is_gone_says_so_and_the_other_one_answers() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let herds = herds(&trio)?;
    std::thread::sleep(ADVERT * 5);
    trio.change_pool(&[0, 1], true)?;
    trio.lab.bridge.ip(&format!("link delete {}", trio.lab.balancers[0].role))?;
    let mut last = serde_json::Value::Null;
    let left = wait_until("it leaves, and says why", SOON, || {
        last = trio.group(0)?;
        Ok(last["role"] != "active" && !last["fault"].is_null())
    });
    left.with_context(|| last.to_string())?;
    wait_until("the other one is active", SOON, || Ok(trio.group(1)?["role"] == "active"))?;
    all_whole(&herds, "afterwards")
}

#[test]
fn a_starved_daemon_is_on_time_or_leaves_and_two_never_answer() -> Result<()> {
    // Nobody preempts: a failback, where both answer for a moment, would hide what is looked for.
    let trio = Trio::start(2, |cluster| cluster.preempt = false)?;
    trio.until_ready(1, "full")?;
    trio.change_pool(&[0, 1], false)?;
    let herds = herds(&trio)?;
    trio.change_pool(&[0, 1], true)?;
    let mut active = 0;
    for length in [80, 150, 220, 260, 300, 400, 900].map(Duration::from_millis) {
        let watches = [trio.watch(false)?, trio.watch(true)?];
        for watch in &watches {
            until_answered_by(watch, trio.macs[active])?;
        }
        let pid = trio.nodes[active].pid().context("the daemon runs")?;
        Starve::begin(Pid::from_raw(pid.cast_signed()), length)?.end()?;
        std::thread::sleep(ADVERT * 8);
        let now = active_of(&trio, &[0, 1])?;
        let left = trio.group(active)?;
        println!("starved for {length:?}: node {active}, active now {now:?}, {}", left["reason"]);
        ensure!(now.len() == 1, "after {length:?} active: {now:?}");
        if now[0] != active {
            ensure!(left["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{left}");
        }
        for watch in watches {
            more_answers(&watch, 50)?;
            let both = overlap(&watch.stop()?, Duration::ZERO..Duration::MAX);
            assert_eq!((both.lasted, both.requests), (Duration::ZERO, 0), "both answered, {length:?}");
        }
        active = now[0];
        trio.until_only(active)?;
        trio.until_ready(1 - active, "full")?;
    }
    all_whole(&herds, "afterwards")
}

/// Checks, and by when they have found a dead backend: one is due within `interval`, and three must fail, each within
/// `timeout` and half of `interval` after the one before.
struct Checks {
    interval: Duration,
    timeout: Duration,
}

impl Checks {
    fn config(&self) -> String {
        format!(
            "table_size = 4093\n[service.check]\nkind = \"tcp\"\ninterval = \"{}ms\"\nfast = \"{}ms\"\n\
             timeout = \"{}ms\"\nfall = 3",
            self.interval.as_millis(),
            self.interval.as_millis() / 2,
            self.timeout.as_millis()
        )
    }

    fn fall(&self) -> Duration {
        self.interval + (self.timeout + self.interval / 2) * 3
    }
}

/// What a machine that does other work may add.
const SLACK: Duration = Duration::from_millis(1_000);

/// Health of a backend as a node sees it.
fn health(trio: &Trio, node: usize, service: &str, backend: usize, v6: bool) -> Result<String> {
    let address = trio.lab.backends[backend].address_like(trio.vip(v6)).to_string();
    let all = trio.nodes[node].json(&["backend", "list", service])?;
    let mut backends = all["backends"].as_array().into_iter().flatten();
    let found = backends.find(|one| one["address"] == address.as_str()).context("the backend")?;
    Ok(found["health"]["verdict"].as_str().unwrap_or_default().to_owned())
}

/// The first backend fails as `fail` does it, and the active node in the same moment.
fn fails_with_the_active(v6: bool, checks: &Checks, fail: impl Fn(&Trio) -> Result<()>) -> Result<()> {
    let service = if v6 { "herd6" } else { "herd" };
    let mut trio = Trio::start(2, |cluster| {
        cluster.rest = cluster.rest.replace("table_size = 4093", &checks.config());
    })?;
    trio.until_ready(1, "full")?;
    for (node, backend) in [0, 1].into_iter().flat_map(|node| [0, 1, 2].map(|backend| (node, backend))) {
        wait_until("all backends are up", SOON, || Ok(health(&trio, node, service, backend, v6)? == "up"))?;
    }
    let herd = trio.herd(v6)?;
    let lost = herd.backends()["backend1"];
    std::thread::sleep(ADVERT * 5);
    let failed_at = Instant::now();
    fail(&trio)?;
    trio.nodes[0].kill();
    wait_until("it is down", SOON, || Ok(health(&trio, 1, service, 0, v6)? == "down"))?;
    let noticed = failed_at.elapsed();
    trio.until_only(1)?;
    println!("v6 {v6}: down after {noticed:?}, active after {:?} at most", failed_at.elapsed());
    ensure!(noticed <= checks.fall() + SLACK, "it was down after {noticed:?}: {}", trio.nodes[1].log());
    let new = trio.herd(v6)?;
    ensure!(!new.backends().contains_key("backend1"), "new ones go to {:?}", new.backends());
    let checkup = herd.check(SOON)?;
    let others: Vec<_> = checkup.broken.iter().filter(|one| one.backend != "backend1").collect();
    ensure!(others.is_empty(), "broken of other backends: {others:?}");
    ensure!(checkup.broken.len() == lost, "{} of {lost}: {:?}", checkup.broken.len(), checkup.reasons());
    whole(new)
}

#[test]
fn a_backend_that_is_cut_off_with_the_active_node_takes_its_own_connections_only() -> Result<()> {
    // The other one is active before its checks have failed.
    let checks = Checks { interval: Duration::from_millis(300), timeout: Duration::from_millis(200) };
    fails_with_the_active(false, &checks, |trio| {
        trio.lab.bridge.ip(&format!("link set {} nomaster", trio.lab.backends[0].role))
    })
}

#[test]
fn a_server_that_dies_with_the_active_node_takes_its_own_connections_only() -> Result<()> {
    // The checks of the other one have failed before it is active; whom it follows did not live to say so.
    let checks = Checks { interval: Duration::from_millis(40), timeout: Duration::from_millis(40) };
    fails_with_the_active(true, &checks, |trio| {
        signal_namespace(&trio.lab.backends[0].ns, Signal::SIGKILL).map(drop)
    })
}
