//! Sizes are fixed, and nothing leaks inside them.

use anyhow::{Result, ensure};
use fairlead_tests::lab::plan::Row;

use crate::fixture::{HEAD, Stage, check_cli};

#[test]
fn reload_that_changes_limits_is_refused_by_both_values() -> Result<()> {
    let stage = Stage::running(1)?;
    let text = stage.daemon.read_config()?;
    for (from, to, parts) in [
        ("flows = 65536", "flows = 131072", ["limits.flows", "65536", "131072"]),
        ("services = 8", "services = 9", ["limits.services", "is 8", "9"]),
        ("backends = 16", "backends = 15", ["limits.backends", "is 16", "15"]),
        ("flows = 65536", "flows = 65536\nflow_tuples = false", ["limits.flow_tuples", "true", "false"]),
    ] {
        stage.daemon.write_config(&text.replace(from, to))?;
        check_cli(&stage.daemon, "config reload", 3, &[&parts[..], &["stop --detach", "line "]].concat())?;
        assert_eq!(stage.daemon.get("/v1/status")?["config"]["generation"], 1);
    }
    stage.forwards()
}

#[test]
fn more_backends_than_fit_are_refused_one_by_one_and_all_at_once() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.know_farm(150)?;
    for index in 0..15 {
        stage.daemon.ok(&["backend", "add", "lines", &Row::Farm.v4(index).to_string()])?;
    }
    let text = stage.daemon.read_config()?;
    let one_more = Row::Farm.v4(15).to_string();
    let parts = ["17 backends", "the limit is 16", "raise `backends` to 17"];
    check_cli(&stage.daemon, &format!("backend add lines {one_more}"), 3, &parts)?;
    assert_eq!(stage.daemon.read_config()?, text);
    let more = format!("{text}\n[[service.backend]]\naddress = \"{one_more}\"\n");
    stage.daemon.write_config(&more)?;
    check_cli(&stage.daemon, "config reload", 3, &parts)?;
    assert_eq!(stage.daemon.get("/v1/status")?["limits"]["backends_used"], 16);
    // All others at once, in the places of those that go.
    let mut others = format!("{HEAD}{}", crate::fixture::service("lines", stage.vip(), &[stage.backend(0)]));
    for index in 100..115 {
        others += &format!("\n[[service.backend]]\naddress = \"{}\"\n", Row::Farm.v4(index));
    }
    stage.daemon.write_config(&others)?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    assert_eq!(stage.daemon.get("/v1/status")?["limits"]["backends_used"], 16);
    Ok(())
}

#[test]
fn two_hundred_backends_coming_and_going_leak_nothing() -> Result<()> {
    let mut stage = Stage::running(2)?;
    let rounds = if fairlead_tests::lab::quick() { 50 } else { 200 };
    stage.know_farm(100)?;
    stage.forwards()?;
    let before = stage.daemon.get("/v1/status")?["limits"].clone();
    let table = stage.daemon.get("/v1/services/lines/table")?;
    for round in 0..rounds {
        let address = Row::Farm.v4(u8::try_from(round % 100)?);
        let path = "/v1/services/lines/backends";
        let added =
            stage.daemon.call("POST", path, &format!("{{\"address\": \"{address}\", \"weight\": 1}}"))?;
        ensure!(added.status == 200, "round {round}: {}", added.body);
        let used = &stage.daemon.get("/v1/status")?["limits"]["backends_used"];
        ensure!(*used == 3, "round {round}: {used} backends while one was added");
        let removed = stage.daemon.call("DELETE", &format!("{path}/{address}"), "")?;
        ensure!(removed.status == 200, "round {round}: {}", removed.body);
    }
    let after = |stage: &Stage| -> Result<_> {
        Ok((stage.daemon.get("/v1/status")?["limits"].clone(), stage.daemon.get("/v1/services/lines/table")?))
    };
    assert_eq!(after(&stage)?, (before.clone(), table.clone()));
    // What the next daemon finds in the maps is no more than that either.
    stage.daemon.kill();
    stage.daemon.start()?;
    assert_eq!(after(&stage)?, (before, table));
    stage.none_broke()
}
