//! The alert rules: what Prometheus's own tool says of them and of their tests, that every alert is tried both ways, and
//! that what they rest on and what OPERATIONS.md says of them is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fairlead_tests::alerts;
use lb_user::metrics::{FAMILIES, Family};

fn promtool(what: &str, files: &[impl AsRef<Path>]) -> Result<()> {
    let said = Command::new("promtool")
        .args([what, "rules"])
        .args(files.iter().map(AsRef::as_ref))
        .output()
        .context("promtool is missing: run `cargo xtask setup`")?;
    let words = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(said.status.success(), "promtool {what} rules: {}\n{words}", said.status);
    Ok(())
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() -> Result<()> {
    promtool("check", &[alerts::file()])?;
    let tests = alerts::tests()?;
    ensure!(tests.len() >= 3, "tests/alerts has lost its files");
    promtool("test", &tests)
}

/// Alerts that are to fire in one of the tests, and those that are not to.
fn tried() -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut firing, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for file in alerts::tests()? {
        // What is asked about, since the last answer: names in an expression or in the comment above it.
        let mut asked: Vec<String> = Vec::new();
        for line in fs::read_to_string(file)?.lines() {
            let line = line.trim();
            let names =
                line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with("Fairlead"));
            match line {
                "exp_samples: []" | "exp_alerts: []" => quiet.extend(asked.drain(..)),
                "exp_samples:" | "exp_alerts:" => firing.extend(asked.drain(..)),
                _ if line.starts_with('#') || line.starts_with("- ") => {
                    asked.extend(names.map(str::to_owned));
                }
                _ => {}
            }
        }
    }
    Ok((firing, quiet))
}

#[test]
fn every_alert_is_tried_both_ways() -> Result<()> {
    let (firing, quiet) = tried()?;
    for alert in alerts::all()? {
        let name = &alert.name;
        ensure!(firing.contains(name), "no test in tests/alerts makes {name} fire");
        ensure!(quiet.contains(name), "no test in tests/alerts says when {name} does not fire");
    }
    Ok(())
}

#[test]
fn every_alert_says_how_bad_it_is_what_it_is_and_what_to_do() -> Result<()> {
    let all = alerts::all()?;
    ensure!(all.len() >= 9, "{} alerts", all.len());
    for alert in all {
        let severity = alert.value("severity")?;
        ensure!(["warning", "critical"].contains(&severity), "{}: severity {severity}", alert.name);
        alert.value("summary")?;
        ensure!(
            alert.value("description")? == ">-",
            "{}: the description is no text of several lines",
            alert.name
        );
    }
    Ok(())
}

#[test]
fn every_metric_of_the_rules_is_one_of_the_daemon() -> Result<()> {
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| Family::name(*family)).collect();
    let named = alerts::metrics()?;
    ensure!(named.iter().any(|name| name.starts_with("fairlead_sync_")), "the rules name {named:?}");
    let unknown: Vec<&String> = named.iter().filter(|name| !known.contains(name.as_str())).collect();
    ensure!(unknown.is_empty(), "the daemon has none of {unknown:?}");
    Ok(())
}

#[test]
fn every_alert_stands_in_operations_with_its_severities_and_no_other_does() -> Result<()> {
    let operations = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md"))?;
    let (_, section) = operations.split_once("\n### Alerts\n").context("no heading Alerts")?;
    let section = section.split("\n#").next().unwrap_or(section);
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    });
    let mut expected: Vec<(String, String)> = Vec::new();
    for alert in alerts::all()? {
        let severity = alert.value("severity")?;
        match expected.iter_mut().find(|(name, _)| *name == alert.name) {
            Some((_, severities)) if severities.contains(severity) => {}
            Some((_, severities)) => *severities = format!("{severities}, {severity}"),
            None => expected.push((alert.name.clone(), severity.to_owned())),
        }
    }
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    Ok(())
}
