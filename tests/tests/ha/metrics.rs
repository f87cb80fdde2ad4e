//! Metrics of high availability: what Prometheus would see of a pair that is well, and of what the alerts are about.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fairlead_tests::alerts;
use fairlead_tests::lab::ha::{Cut, GROUP};
use fairlead_tests::lab::{Fairlead, wait_until};
use nix::sys::signal::Signal;

use crate::scene::{ADVERT, SOON};
use crate::trio::Trio;

/// Labels of the pair's virtual router of IPv4.
const V4: &str = "group=\"pair\",vrid=\"51\",family=\"ipv4\"";
const V6: &str = "group=\"pair\",vrid=\"51\",family=\"ipv6\"";

/// What a scrape of a node gives, by series without the prefix `fairlead_ha_`.
#[derive(Debug)]
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn of(node: &Fairlead) -> Result<Self> {
        let text = node.ok(&["metrics"])?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("fairlead_ha_")?.rsplit_once(' '));
        Ok(Self(lines.map(|(name, value)| Ok((name.to_owned(), value.parse()?))).collect::<Result<_>>()?))
    }

    fn get(&self, name: &str, labels: &str) -> Result<f64> {
        let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") };
        self.0.get(&series).copied().with_context(|| format!("no {series} among {:?}", self.0.keys()))
    }

    /// Of the group, with more labels behind its name.
    fn group(&self, name: &str, more: &str) -> Result<f64> {
        self.get(name, &format!("group=\"{GROUP}\"{more}"))
    }

    /// What this node is, which is one thing.
    fn role(&self) -> Result<&'static str> {
        let mut is = Vec::new();
        for role in ["active", "backup", "init"] {
            if self.get("role", &format!("cluster=\"lab\",group=\"{GROUP}\",role=\"{role}\""))? > 0.0 {
                is.push(role);
            }
        }
        ensure!(is.len() == 1, "it is {is:?}");
        Ok(is[0])
    }
}

/// Waits for a scrape that is so.
fn until(node: &Fairlead, what: &str, is: impl Fn(&Scrape) -> Result<bool>) -> Result<Scrape> {
    let mut last = Scrape::of(node)?;
    let waited = wait_until(what, SOON, || {
        last = Scrape::of(node)?;
        is(&last)
    });
    waited.with_context(|| format!("{:#?}", last.0))?;
    Ok(last)
}

#[test]
fn a_pair_that_is_well_tells_all_that_the_alerts_rest_on() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let [one, two] = [Scrape::of(&trio.nodes[0])?, Scrape::of(&trio.nodes[1])?];
    assert_eq!((one.role()?, two.role()?), ("active", "backup"));
    ensure!(
        one.group("lease_remaining_seconds", "")? > 0.0 && one.group("lease_remaining_seconds", "")? <= 0.3
    );
    assert_eq!(two.group("lease_remaining_seconds", "")?, 0.0);
    assert_eq!((one.group("priority", "")?, two.group("configured_priority", "")?), (200.0, 150.0));
    assert_eq!(
        (one.group("advert_interval_seconds", "")?, one.group("lateness_limit_seconds", "")?),
        (0.1, 0.15)
    );
    for labels in [V4, V6] {
        ensure!(
            one.get("adverts_sent_total", labels)? > 0.0 && two.get("adverts_received_total", labels)? > 0.0
        );
        assert_eq!(one.get("rival_seconds", labels)?, 0.0);
        assert_eq!(two.get("adverts_rejected_total", &format!("{labels},reason=\"checksum\""))?, 0.0);
    }
    assert_eq!(two.group("transitions_total", ",to=\"backup\",reason=\"started\"")?, 1.0);
    assert_eq!(two.group("transitions_total", ",to=\"backup\",reason=\"late\"")?, 0.0);
    ensure!(one.get("wakeup_lateness_seconds_count", "")? > 0.0);
    let node = format!("cluster=\"lab\",node=\"{}\",mode=\"vrrp\"", trio.lab.balancers[0].role);
    assert_eq!((one.get("info", &node)?, one.get("thread_up", "")?), (1.0, 1.0));

    trio.until_ready(1, "full")?;
    wait_until("the active knows that", SOON, || Ok(trio.peer(0)?["has_ours"] == true))?;
    let ready = trio.nodes[1].ok(&["metrics"])?;
    let text = trio.nodes[0].ok(&["metrics"])?;
    let peer = trio.peer(0)?["address"].as_str().context("the peer's address")?.to_owned();
    let own = trio.peer(1)?["address"].as_str().context("this node's address")?.to_owned();
    for (text, line) in [
        (&text, format!("fairlead_sync_peer_up{{peer=\"{peer}\"}} 1")),
        (&text, format!("fairlead_sync_peer_has_ours{{peer=\"{peer}\"}} 1")),
        (&text, format!("fairlead_sync_digest_differs{{peer=\"{peer}\",service=\"herd6\"}} 0")),
        (&text, format!("fairlead_sync_datagrams_rejected_total{{peer=\"{peer}\",reason=\"key\"}} 0")),
        (&text, "fairlead_sync_group_ready{group=\"pair\"} 0".to_owned()),
        (&ready, "fairlead_sync_group_ready{group=\"pair\"} 1".to_owned()),
        (&ready, format!("fairlead_sync_have_theirs{{peer=\"{own}\"}} 1")),
    ] {
        ensure!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    for name in &alerts::metrics()? {
        ensure!(text.contains(&format!("# TYPE {name} ")), "the daemon tells no {name}:\n{text}");
    }
    accepted_by_promtool(&text)
}

fn accepted_by_promtool(text: &str) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool is missing: run `cargo xtask setup`")?;
    promtool.stdin.take().context("stdin")?.write_all(text.as_bytes())?;
    let said = promtool.wait_with_output()?;
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(said.status.success() && words.trim().is_empty(), "promtool: {}: {words}\n{text}", said.status);
    Ok(())
}

#[test]
fn a_rival_that_hears_nothing_is_told_of_for_as_long_as_it_is_there() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let link = Cut::ToHost.apply(&trio.lab, &trio.lab.balancers[1])?;
    let during = until(&trio.nodes[0], "a rival for more than five intervals", |seen| {
        Ok(seen.get("rival_seconds", V4)? > 0.5 && seen.get("rival_seconds", V6)? > 0.5)
    })?;
    assert_eq!(during.role()?, "active");
    ensure!(during.get("rival_adverts_total", V4)? >= 5.0, "{during:?}");
    assert_eq!(Scrape::of(&trio.nodes[1])?.role()?, "active");
    link.heal()?;
    trio.until_only(0)?;
    until(&trio.nodes[0], "no rival any more", |seen| Ok(seen.get("rival_seconds", V4)? == 0.0))?;
    let yielded = ",to=\"backup\",reason=\"better\"";
    ensure!(Scrape::of(&trio.nodes[1])?.group("transitions_total", yielded)? >= 1.0);
    Ok(())
}

#[test]
fn faults_conditions_and_lateness_are_told_with_their_reasons() -> Result<()> {
    let trio = Trio::start(2, |_| {})?;
    let node = &trio.nodes[0];
    let link = Cut::Unplugged.apply(&trio.lab, &trio.lab.balancers[0])?;
    let cut = until(node, "the fault", |seen| Ok(seen.group("fault", ",reason=\"no_carrier\"")? == 1.0))?;
    assert_eq!((cut.role()?, cut.group("fault", ",reason=\"not_attached\"")?), ("backup", 0.0));
    assert_eq!(cut.group("transitions_total", ",to=\"backup\",reason=\"fault\"")?, 1.0);
    link.heal()?;
    trio.until_only(0)?;
    assert_eq!(Scrape::of(node)?.group("fault", ",reason=\"no_carrier\"")?, 0.0);

    node.ok(&["ha", "handover", "--all"])?;
    trio.until_only(1)?;
    let given = Scrape::of(node)?;
    assert_eq!(
        (given.group("condition", ",condition=\"handed_over\"")?, given.group("priority", "")?),
        (1.0, 1.0)
    );
    node.ok(&["ha", "resume", "--all"])?;
    trio.until_only(0)?;
    node.ok(&["ha", "pause", "--all"])?;
    assert_eq!(Scrape::of(node)?.group("condition", ",condition=\"paused\"")?, 1.0);
    node.ok(&["ha", "resume", "--all"])?;
    assert_eq!(Scrape::of(node)?.group("condition", ",condition=\"paused\"")?, 0.0);

    let slept = ADVERT * 8;
    node.signal(Signal::SIGSTOP)?;
    std::thread::sleep(slept);
    node.signal(Signal::SIGCONT)?;
    let woken = until(node, "the role was lost", |seen| {
        Ok(seen.group("transitions_total", ",to=\"backup\",reason=\"late\"")? == 1.0)
    })?;
    // It was due within an interval of falling asleep.
    let least = (slept - ADVERT * 2).as_secs_f64();
    for name in ["wakeup_lateness_max_seconds", "wakeup_lateness_recent_max_seconds"] {
        ensure!(woken.get(name, "")? >= least, "{name} is {}", woken.get(name, "")?);
    }
    ensure!(woken.get("late_wakeups_total", "")? >= 1.0);
    trio.until_only(0)
}

#[test]
fn external_decisions_are_counted_and_nothing_is_told_of_an_election() -> Result<()> {
    let mut trio = Trio::new(1, |cluster| {
        cluster.mode = "external".to_owned();
        // There is nobody to tell of flows.
        cluster.sync.clear();
    })?;
    trio.nodes[0].start()?;
    let node = &trio.nodes[0];
    node.ok(&["ha", "set", "active"])?;
    let told = Scrape::of(node)?;
    assert_eq!(
        (told.role()?, told.group("transitions_total", ",to=\"active\",reason=\"command\"")?),
        ("active", 1.0)
    );
    ensure!(told.group("lease_remaining_seconds", "")? > Duration::from_secs(8).as_secs_f64());
    ensure!(told.group("priority", "").is_err() && told.get("adverts_sent_total", V4).is_err(), "{told:?}");
    node.ok(&["ha", "set", "standby"])?;
    let told = Scrape::of(node)?;
    assert_eq!(told.group("transitions_total", ",to=\"backup\",reason=\"command\"")?, 1.0);
    assert_eq!((told.role()?, told.group("lease_remaining_seconds", "")?), ("backup", 0.0));
    Ok(())
}
