//! Scene: a fourth backend joins, and every flow that exists stays where it is.

use super::config::SERVED;
use super::stage::Stage;
use super::watch::Watch;
use anyhow::{Context, Result, ensure};
use fairlead_tests::report::Report;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// The spare backend.
const NEWCOMER: usize = 3;
/// As many flows as the API lists at once.
const FLOWS: &str = "limit=100000";

pub(super) fn play(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let name = stage.lab.backends[NEWCOMER].role.clone();
    let before = established(stage)?;
    let watch = Watch::begin(stage);
    stage.each_service("add", NEWCOMER, &["--weight", "2"])?;
    stage.wait_up(4)?;
    let in_force = Instant::now();
    let seen = watch.end(stage)?;
    seen.charge(stage);
    let (answered, of) = seen.answered_by(&name, in_force);
    eprintln!("   {name} (2 of 8 parts) answered {answered} of {of} new connections");
    ensure!(answered > 0, "{name} was added but answers no new connection");
    report.counted("broken_by_backend_add", seen.broken.len())?;
    report.counted("established_flows_moved_by_add", moved(&before, &established(stage)?))
}

/// Where the flow table sends each long-lived connection.
fn established(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let mut flows = BTreeMap::new();
    for service in SERVED.iter().filter(|service| service.starts_with("lines")) {
        let answer = stage.daemon.get(&format!("/v1/flows?service={service}&{FLOWS}"))?;
        let list = answer["flows"].as_array().with_context(|| format!("flows of {service}: {answer}"))?;
        let text = |flow: &Value, key: &str| flow[key].as_str().unwrap_or_default().to_owned();
        flows.extend(list.iter().map(|flow| (text(flow, "client"), text(flow, "backend"))));
    }
    let open = stage.lines.lines().into_iter().filter(|line| line.broken.is_none());
    let wanted: Vec<String> = open.map(|line| line.from.to_string()).collect();
    ensure!(
        wanted.iter().all(|from| flows.contains_key(from)),
        "the flow table lists {} flows of the line services, but not all {} open connections",
        flows.len(),
        wanted.len()
    );
    flows.retain(|client, _| wanted.contains(client));
    Ok(flows)
}

fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> usize {
    before.iter().filter(|(client, backend)| after.get(*client) != Some(backend)).count()
}
