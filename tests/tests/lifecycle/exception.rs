//! Flows that stay elsewhere than where the table sends new ones, and the change since which they do.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Fairlead, Lab};
use serde_json::Value;

use crate::fixture::{LINES, PATIENCE, Stage, plain};

/// Connections: so many that each change of the table concerns one of them for sure.
const CONNECTIONS: usize = 60;

impl Stage {
    fn open_connections(&self) -> Result<()> {
        let ends = (IpAddr::from(self.lab.client.v4), SocketAddr::new(self.vip(), LINES));
        self.lines.open(&[ends; CONNECTIONS])
    }

    /// What `flow lookup` says of every connection.
    fn lookups(&self) -> Result<Vec<Value>> {
        let lookup = |from: SocketAddr, to: SocketAddr| {
            self.daemon.json(&["flow", "lookup", "--from", &from.to_string(), "--to", &to.to_string()])
        };
        self.lines.lines().into_iter().map(|line| lookup(line.from, line.to)).collect()
    }

    /// Checks all connections: those whose backend is not the table's are exceptions, and `since` is true of them; the
    /// others are none, and nothing is said. How many exceptions there are.
    fn check_exceptions(&self, since: impl Fn(&Value) -> Result<()>) -> Result<usize> {
        let mut exceptions = 0;
        for lookup in self.lookups()? {
            let (entry, table) = (&lookup["entry"], &lookup["table_backend"]);
            let exception = entry["backend"] != *table;
            ensure!(entry["exception"] == exception && lookup["backend"] == entry["backend"], "{lookup}");
            if exception {
                since(&lookup).with_context(|| lookup.to_string())?;
                exceptions += 1;
            } else {
                ensure!(lookup["exception_since"].is_null(), "{lookup}");
                ensure!(elsewhere(&lookup).is_none(), "{lookup}");
            }
        }
        Ok(exceptions)
    }
}

/// The sentence that says since when a flow is elsewhere than the table.
fn elsewhere(lookup: &Value) -> Option<&str> {
    let mut sentences = lookup["explanation"].as_array().into_iter().flatten().filter_map(Value::as_str);
    sentences.find(|sentence| sentence.starts_with("elsewhere"))
}

fn generation(daemon: &Fairlead) -> Result<Value> {
    Ok(daemon.get("/v1/services/lines")?["table_generation"].clone())
}

/// That a flow is an exception since `cause`, which led to `generation`, in the fields and in words.
fn since(lookup: &Value, cause: &str, generation: &Value) -> Result<()> {
    let since = &lookup["exception_since"];
    ensure!(since["cause"] == cause && since["generation"] == *generation, "not since {cause}");
    let at = since["at"].as_str().context("no moment")?;
    let expected = format!("elsewhere than the table since {at}: {cause} (generation {generation})");
    ensure!(elsewhere(lookup) == Some(expected.as_str()), "not in these words: {expected}");
    Ok(())
}

#[test]
fn lookup_names_the_change_since_which_a_flow_is_elsewhere_than_the_table() -> Result<()> {
    let mut stage = Stage::running(2)?;
    let [first, second] = [0, 1].map(|index| stage.backend(index).to_string());
    stage.open_connections()?;
    let none = |_: &Value| -> Result<()> { anyhow::bail!("nothing changed yet") };
    ensure!(stage.check_exceptions(none)? == 0, "exceptions without a change");

    let weight = format!("backend weight lines {first} 9");
    stage.daemon.ok(&weight.split(' ').collect::<Vec<_>>())?;
    let weighed = generation(&stage.daemon)?;
    let exceptions = stage.check_exceptions(|lookup| since(lookup, &weight, &weighed))?;
    ensure!(exceptions > 0, "no flow of {second} lost its place");

    // The flows of the second have their places again, those of the first lose them all.
    let text = stage.daemon.read_config()?;
    stage.daemon.write_config(&text.replace("weight = 9", "weight = 0"))?;
    stage.daemon.ok(&["config", "reload"])?;
    let reloaded = generation(&stage.daemon)?;
    let exceptions = stage.check_exceptions(|lookup| {
        ensure!(lookup["backend"] == first, "a flow of {second}");
        since(lookup, "reload", &reloaded)
    })?;
    ensure!(exceptions > 0, "no flow of {first} stayed");
    let answer = stage.daemon.ok(&["flow", "lookup", "--from", "198.51.100.7:1", "--to", &vip(&stage)])?;
    ensure!(!answer.contains("elsewhere"), "no entry, no exception: {answer}");

    // The next daemon has the same tables and none of those before.
    stage.daemon.stop()?;
    stage.daemon.start()?;
    let longer = |lookup: &Value| {
        let said = elsewhere(lookup).context("nothing is said")?;
        ensure!(lookup["exception_since"].is_null(), "it knows more than it can");
        ensure!(said.starts_with("elsewhere than the table since this daemon started ("), "{said}");
        ensure!(said.ends_with("), or longer: earlier tables are not known"), "{said}");
        Ok(())
    };
    ensure!(stage.check_exceptions(longer)? == exceptions, "the restart made or ended exceptions");

    // What it does itself it knows, beside what it does not.
    stage.daemon.ok(&["backend", "weight", "lines", &first, "1"])?;
    let drain = format!("backend drain lines {second}");
    stage.daemon.ok(&drain.split(' ').collect::<Vec<_>>())?;
    let drained = generation(&stage.daemon)?;
    let exceptions = stage.check_exceptions(|lookup| since(lookup, &drain, &drained))?;
    ensure!(exceptions > 0, "no flow of {second} stayed");
    stage.none_broke()
}

fn vip(stage: &Stage) -> String {
    SocketAddr::new(stage.vip(), LINES).to_string()
}

#[test]
fn backend_that_comes_back_to_health_is_why_its_flows_stay_elsewhere() -> Result<()> {
    let lab = Lab::builder().backends(2).build()?;
    let check = "\n[service.check]\nkind = \"tcp\"\ninterval = \"100ms\"\nfast = \"50ms\"\n";
    let text = format!("{}{check}", plain(&lab));
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.start()?;
    let served = |count: usize| {
        move |service: &Value| {
            let all = service["backends"].as_array().into_iter().flatten();
            all.filter(|backend| backend["slot_state"] == "serving").count() == count
        }
    };
    let until =
        |stage: &Stage, count| stage.daemon.until("it serves", "/v1/services/lines", PATIENCE, served(count));
    until(&stage, 2)?;
    let away = stage.backend(1).to_string();
    let backend = stage.lab.backends[1].ns.clone();
    backend.ip("link set eth0 down\n")?;
    until(&stage, 1)?;
    stage.open_connections()?;
    backend.ip("link set eth0 up\n")?;
    until(&stage, 2)?;
    let exceptions = stage.check_exceptions(|lookup| {
        let cause = lookup["exception_since"]["cause"].as_str().context("no cause")?;
        ensure!(cause.starts_with(&format!("health of {away}: down -> up (")), "{cause}");
        Ok(())
    })?;
    ensure!(exceptions > 0, "all flows are where the table sends them");
    stage.none_broke()
}
