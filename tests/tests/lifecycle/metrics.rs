//! Metrics: what Prometheus's own tools say of them, that they are what the commands show, and that no counter ever goes
//! backwards.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Lab, Prometheus, http, wait_until};
use serde_json::Value;

use crate::fixture::{HEAD, PATIENCE, Stage, check, check_cli, plain, service};

/// Where the listener is in these tests.
const LISTEN: &str = "0.0.0.0:9273";

/// Series with their values, as the text has them.
fn series(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

fn now(stage: &Stage) -> Result<BTreeMap<String, f64>> {
    series(&stage.daemon.ok(&["metrics"])?)
}

/// Fails if a counter is less than it was, or missing. Only of what has the label `gone`, which the configuration does
/// not name at the moment, there is none.
fn never_less(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    gone: Option<&str>,
) -> Result<()> {
    for (name, old) in before.iter().filter(|(name, _)| name.contains("_total")) {
        let is_gone = gone.is_some_and(|label| name.contains(label));
        match after.get(name) {
            Some(new) => ensure!(!is_gone && new >= old, "{name} was {old} and is {new}"),
            None => ensure!(is_gone, "{name} was {old} and is missing"),
        }
    }
    Ok(())
}

/// Three backends with traffic, and the listener.
fn stage() -> Result<Stage> {
    let lab = Lab::builder().backends(3).vips(2).build()?;
    let text = plain(&lab).replacen("[limits]", &format!("[metrics]\nlisten = \"{LISTEN}\"\n\n[limits]"), 1);
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.start()?;
    for _ in 0..12 {
        stage.forwards()?;
    }
    stage.none_broke()?;
    Ok(stage)
}

fn fetch(stage: &Stage, path: &str) -> Result<http::Response> {
    let target = SocketAddr::new(stage.balancer().v4.into(), 9273);
    Ok(stage.lab.client.ns.enter(|| http::get(None, target, path, http::PATIENCE))?)
}

/// What the listener says to these octets until it hangs up.
fn told(stage: &Stage, request: &str) -> Result<String> {
    let target = SocketAddr::new(stage.balancer().v4.into(), 9273);
    let mut stream = stage.lab.client.ns.enter(|| http::connect(None, target, http::PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // It may hang up on what it did not want to read: what it said before counts.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn the_listener_keeps_a_text_for_a_second_and_the_socket_none() -> Result<()> {
    const FORWARDED: &str = "fairlead_packets_total{verdict=\"forwarded\"}";
    let stage = stage()?;
    let forwarded = |text: &str| Ok::<_, anyhow::Error>(series(text)?[FORWARDED]);
    // A second may pass between the two.
    wait_until("two scrapes get one text", PATIENCE, || {
        let first = fetch(&stage, "/metrics")?.body;
        stage.forwards()?;
        Ok(fetch(&stage, "/metrics")?.body == first)
    })?;
    let (before, now) = (forwarded(&fetch(&stage, "/metrics")?.body)?, now(&stage)?[FORWARDED]);
    stage.forwards()?;
    let later = forwarded(&stage.daemon.ok(&["metrics"])?)?;
    ensure!(now >= before && later > now, "{before}, {now}, {later}: not of this moment");
    wait_until("the listener gives another text", PATIENCE, || {
        Ok(forwarded(&fetch(&stage, "/metrics")?.body)? >= later)
    })
}

#[test]
fn promtool_finds_nothing_wrong_and_nothing_else_is_served() -> Result<()> {
    let stage = stage()?;
    let text = stage.daemon.ok(&["metrics"])?;
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

    let names = |text: &str| Ok::<_, anyhow::Error>(series(text)?.into_keys().collect::<Vec<_>>());
    assert_eq!(names(&fetch(&stage, "/metrics")?.body)?, names(&text)?);
    ensure!(fetch(&stage, "/")?.body.contains("/metrics"), "the page at / leads nowhere");
    for path in ["/v1/status", "/v1/config", "/metrics/x"] {
        let answer = fetch(&stage, path)?;
        ensure!(answer.status == 404 && answer.body.contains(path), "{path}: {}", answer.body);
    }
    for (request, status, part) in [
        ("POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), 405, "`Allow`"),
        (format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(17_000)), 431, "too large"),
        ("what is this\r\n\r\n".to_owned(), 400, "no HTTP/1.1 request"),
    ] {
        let answer = told(&stage, &request)?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{answer}");
    }
    let answer = told(&stage, "GET /metrics HTTP/1.0\r\n\r\n")?;
    ensure!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    Ok(())
}

#[test]
fn a_real_prometheus_scrapes_the_listener() -> Result<()> {
    let stage = stage()?;
    let target = SocketAddr::new(stage.balancer().v4.into(), 9273);
    let prometheus = Prometheus::start(&stage.lab, &stage.lab.client, target)?;
    wait_until("prometheus has scraped", PATIENCE, || Ok(prometheus.query("up")? == [1.0]))?;
    assert_eq!(prometheus.query("fairlead_service_up")?, [1.0]);
    assert_eq!(prometheus.query("count(fairlead_backend_packets_total)")?, [3.0]);
    let sum = prometheus.query("sum(fairlead_backend_packets_total)")?;
    ensure!(sum[0] > 0.0, "{sum:?}");
    Ok(())
}

/// Every number that a command shows as well, once with the traffic at rest.
fn equal_to_commands(stage: &Stage) -> Result<()> {
    let before = now(stage)?;
    let counters = stage.daemon.json(&["counters"])?;
    let backends = stage.daemon.json(&["backend", "list"])?;
    let after = now(stage)?;
    let within = |name: String, shown: &Value| -> Result<()> {
        let shown = shown.as_f64().with_context(|| name.clone())?;
        let (low, high) = (before.get(&name), after.get(&name));
        let (low, high) = low.zip(high).with_context(|| format!("there is no {name}"))?;
        ensure!((*low..=*high).contains(&shown), "{name}: {low} to {high}, and the command shows {shown}");
        Ok(())
    };
    for counter in counters["counters"].as_array().context("counters")? {
        let (family, label) = match counter["kind"].as_str() {
            Some("verdict") => ("packets", "verdict"),
            Some("drop") => ("dropped_packets", "reason"),
            _ => ("flow_events", "event"),
        };
        let name = counter["name"].as_str().context("a name")?;
        within(format!("fairlead_{family}_total{{{label}=\"{name}\"}}"), &counter["packets"])?;
    }
    for backend in backends["backends"].as_array().context("backends")? {
        let address = backend["address"].as_str().context("an address")?;
        let labels = format!("{{service=\"lines\",backend=\"{address}\"}}");
        for unit in ["packets", "bytes"] {
            within(format!("fairlead_backend_{unit}_total{labels}"), &backend[unit])?;
        }
        ensure!(
            after[&format!("fairlead_backend_new_flows_total{labels}")] >= 1.0,
            "no flow went to {address}"
        );
    }
    Ok(())
}

#[test]
fn metrics_are_what_the_commands_show() -> Result<()> {
    let stage = stage()?;
    equal_to_commands(&stage)?;
    let shown = now(&stage)?;
    for (name, value) in [
        ("fairlead_interface_attached{interface=\"eth0\",mode=\"native\"}", 1.0),
        ("fairlead_interface_attached{interface=\"eth0\",mode=\"none\"}", 0.0),
        ("fairlead_interface_up{interface=\"eth0\"}", 1.0),
        ("fairlead_service_healthy_backends{service=\"lines\"}", 3.0),
        ("fairlead_config_generation", 1.0),
        ("fairlead_config_changed_on_disk", 0.0),
        ("fairlead_config_last_reload_successful", 1.0),
        ("fairlead_flow_table_capacity", 65_536.0),
    ] {
        assert_eq!(shown.get(name), Some(&value), "{name}");
    }
    stage.daemon.write_config("[[interface]]\n")?;
    check_cli(&stage.daemon, "config reload", 3, &[])?;
    let shown = now(&stage)?;
    assert_eq!(shown["fairlead_config_changed_on_disk"], 1.0);
    assert_eq!(shown["fairlead_config_last_reload_successful"], 0.0);
    Ok(())
}

#[test]
fn counters_never_go_backwards_whatever_becomes_of_slots_and_daemons() -> Result<()> {
    let mut stage = stage()?;
    let first = stage.backend(0).to_string();
    let mut last = now(&stage)?;
    let counted = format!("fairlead_backend_packets_total{{service=\"lines\",backend=\"{first}\"}}");
    ensure!(last[&counted] > 0.0, "nothing was counted that could go backwards: {last:?}");
    let mut look = |stage: &Stage, what: &str, gone: Option<&str>| -> Result<()> {
        let next = now(stage)?;
        never_less(&last, &next, gone).context(what.to_owned())?;
        // Series that are gone for a while must not come back with less.
        last.extend(next);
        Ok(())
    };
    for round in 0..2 {
        check_cli(&stage.daemon, &format!("backend remove lines {first}"), 0, &[])?;
        look(&stage, "removed", Some(&format!("backend=\"{first}\"")))?;
        check_cli(&stage.daemon, &format!("backend add lines {first}"), 0, &[])?;
        look(&stage, "added again", None)?;
        if round == 0 {
            stage.daemon.kill();
        } else {
            stage.daemon.stop()?;
        }
        stage.daemon.start()?;
        look(&stage, "restarted", None)?;
        stage.forwards()?;
        look(&stage, "with traffic again", None)?;
    }
    // The same name before another address: every slot is a new one.
    let backends: Vec<_> = (0..3).map(|index| stage.backend(index)).collect();
    let moved = format!("{HEAD}{}", service("lines", stage.lab.vips[1].0, &backends));
    stage.daemon.write_config(&moved)?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    look(&stage, "at another address", None)?;
    stage.daemon.write_config(&moved.replace("name = \"lines\"", "name = \"other\""))?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    look(&stage, "with another name", Some("service=\"lines\""))?;
    stage.daemon.write_config(&moved)?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    look(&stage, "with its name again", Some("service=\"other\""))
}

#[test]
fn a_reload_moves_the_listener_or_is_refused() -> Result<()> {
    let mut stage = stage()?;
    let text = stage.daemon.read_config()?;
    let elsewhere = text.replace("9273", "9274");
    // 192.0.2.77 is no address of the balancer.
    stage.daemon.write_config(&text.replace(LISTEN, "192.0.2.77:9273"))?;
    check_cli(&stage.daemon, "config reload", 5, &["192.0.2.77:9273", "[metrics]"])?;
    assert_eq!(fetch(&stage, "/metrics")?.status, 200);
    assert_eq!(stage.daemon.get("/v1/status")?["config"]["generation"], 1);
    stage.daemon.write_config(&elsewhere)?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    wait_until("the old place is silent", PATIENCE, || Ok(fetch(&stage, "/metrics").is_err()))?;
    let target = SocketAddr::new(stage.balancer().v4.into(), 9274);
    let answer = stage.lab.client.ns.enter(|| http::get(None, target, "/metrics", http::PATIENCE))?;
    assert_eq!(answer.status, 200);
    stage.daemon.stop()?;
    stage.daemon.write_config(&text.replace(LISTEN, "192.0.2.77:9273"))?;
    let (code, said) = stage.daemon.refused()?;
    check("a start", (code, &said), 5, &["cannot listen on 192.0.2.77:9273"])?;
    stage.forwards()
}
