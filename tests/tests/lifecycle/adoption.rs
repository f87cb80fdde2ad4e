//! The daemon dies at any moment, and no packet notices.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Decap, Lab, wait_until};
use fairlead_tests::packets::Random;
use fairlead_tests::packets::random::seed;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{HEAD, LINES, PATIENCE, Stage, service};

/// Long-lived connections.
const LONG_LIVED: usize = 60;
/// Source addresses of the client, each with connections over both families.
const SOURCES: u8 = 10;
/// How often the daemon is killed.
const KILLS: usize = 10;
/// The latest moment of a kill after what it is to interrupt has begun.
const LATEST: Duration = Duration::from_millis(250);

/// What the daemon is doing when it is killed.
#[derive(Clone, Copy, Debug)]
enum During {
    Nothing,
    Start,
    Change,
    Reload,
}

/// A moment that chance chooses.
fn moment(random: &mut Random) -> Duration {
    LATEST.mul_f64((random.next() >> 11) as f64 / (1u64 << 53) as f64)
}

/// `lines` without check, which gets and loses the last backend; `lines6` with checks, which stays as it is.
fn stage() -> Result<(Stage, Vec<Decap>)> {
    let lab = Lab::builder().client_addresses(SOURCES).backends(4).build()?;
    let decaps = lab.backends.iter().map(|host| Decap::attach(&lab, host)).collect::<Result<Vec<_>>>()?;
    let (vip, vip6) = lab.vips[0];
    let v4: Vec<IpAddr> = lab.backends[..3].iter().map(|host| host.v4.into()).collect();
    let v6: Vec<IpAddr> = lab.backends[..3].iter().map(|host| host.v6.into()).collect();
    let mut text = format!("{HEAD}{}{}", service("lines", vip, &v4), service("lines6", vip6, &v6));
    let check = "\n[service.check]\nkind = \"tcp\"\ninterval = \"100ms\"\nfast = \"50ms\"\n";
    // Writing to a string does not fail.
    let _ = write!(text, "{check}");
    let mut stage = Stage::set(lab, &text.replace("mode = \"l2\"", "mode = \"ipip\""))?;
    stage.daemon.start()?;
    stage.daemon.until("all of lines6 serve", "/v1/services/lines6", PATIENCE, |answer| {
        let all = answer["backends"].as_array().into_iter().flatten();
        all.filter(|backend| backend["slot_state"] == "serving" && backend["health"]["verdict"] == "up")
            .count()
            == 3
    })?;
    Ok((stage, decaps))
}

fn open_lines(stage: &Stage) -> Result<()> {
    let (vip, vip6) = stage.lab.vips[0];
    let ends = (0..SOURCES).cycle().zip([false, true].into_iter().cycle()).map(|(index, v6)| {
        // Ten sources and two families have a common period: let each source use both.
        let index = (index + u8::from(v6)) % SOURCES;
        if v6 {
            (IpAddr::from(Row::Client.v6(index)), SocketAddr::from((vip6, LINES)))
        } else {
            (IpAddr::from(Row::Client.v4(index)), SocketAddr::from((vip, LINES)))
        }
    });
    stage.lines.open(&ends.take(LONG_LIVED).collect::<Vec<_>>())
}

/// The id of the link that holds the program on the only interface.
fn link(stage: &Stage) -> Result<u32> {
    let pins = fs::read_dir(stage.daemon.pins().join("main/links"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(pins.len() == 1, "there are {} links: {pins:?}", pins.len());
    Ok(FdLink::from(PinnedLink::from_pin(pins[0].path())?).info()?.id())
}

/// All counters by name, those of backends too.
fn counters(stage: &Stage) -> Result<Vec<(String, u64)>> {
    let answer = stage.daemon.get("/v1/counters")?;
    let name_and_count = |name: &Value, packets: &Value| Some((name.as_str()?.to_owned(), packets.as_u64()?));
    let mut all: Vec<_> = answer["counters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|counter| name_and_count(&counter["name"], &counter["packets"]))
        .collect();
    ensure!(all.len() > 10, "few counters: {answer}");
    for service in ["lines", "lines6"] {
        let answer = stage.daemon.get(&format!("/v1/services/{service}"))?;
        // The last backend comes and goes, and its slot with it.
        all.extend(
            answer["backends"]
                .as_array()
                .into_iter()
                .flatten()
                .take(3)
                .filter_map(|backend| name_and_count(&backend["address"], &backend["packets"])),
        );
    }
    Ok(all)
}

fn table(stage: &Stage, service: &str) -> Result<Value> {
    stage.daemon.get(&format!("/v1/services/{service}/table"))
}

#[test]
fn daemon_killed_at_ten_random_moments_is_adopted_each_time_and_nothing_breaks() -> Result<()> {
    let seed = seed();
    println!("FAIRLEAD_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut stage, _decaps) = stage()?;
    let spare = stage.backend(3).to_string();
    // What the tables are with and without the spare backend.
    let without = table(&stage, "lines")?;
    stage.daemon.ok(&["backend", "add", "lines", &spare])?;
    stage.daemon.until(
        "the spare backend is in the table",
        "/v1/services/lines/table",
        PATIENCE,
        |table| *table != without,
    )?;
    let with = table(&stage, "lines")?;
    // Its flows are to end with it: no connection of the test may be one of them.
    stage.daemon.ok(&["backend", "remove", "lines", &spare])?;
    let untouched = table(&stage, "lines6")?;
    open_lines(&stage)?;
    let (held, mut counted) = (link(&stage)?, counters(&stage)?);
    let moments = [During::Nothing, During::Start, During::Change, During::Reload].into_iter().cycle();
    for (number, during) in moments.take(KILLS).enumerate() {
        let moment = moment(&mut random);
        println!("kill {number}: {during:?}, after {moment:?}");
        disturb(&mut stage, during, &spare, moment).with_context(|| format!("kill {number}, {during:?}"))?;
        ensure!(stage.xdp()?.is_some(), "kill {number}: the program is gone");
        stage.daemon.start()?;
        let status = stage.daemon.get("/v1/status")?;
        assert_eq!((&status["adopted"], &status["warnings"]), (&true.into(), &Value::Array(Vec::new())));
        assert_eq!(link(&stage)?, held, "kill {number}: another link");
        let expected = if stage.daemon.read_config()?.contains(&spare) { &with } else { &without };
        // A next hop that is new is not known at once.
        let what = format!("kill {number}: lines has its table");
        stage.daemon.until(&what, "/v1/services/lines/table", PATIENCE, |table| table == expected)?;
        assert_eq!(table(&stage, "lines6")?, untouched, "kill {number}: another table of lines6");
        let now = counters(&stage)?;
        for ((name, before), (same, after)) in counted.iter().zip(&now) {
            ensure!(name == same && after >= before, "kill {number}: {name} went from {before} to {after}");
        }
        counted = now;
        stage.none_broke().with_context(|| format!("after kill {number}, {during:?}"))?;
    }
    assert_eq!(stage.lines.lines().len(), LONG_LIVED);
    Ok(())
}

/// Lets the daemon do something and kills it `moment` later.
fn disturb(stage: &mut Stage, during: During, spare: &str, moment: Duration) -> Result<()> {
    let text = stage.daemon.read_config()?;
    let word = if text.contains(spare) { "remove" } else { "add" };
    match during {
        During::Nothing => thread::sleep(moment),
        During::Start => {
            stage.daemon.kill();
            stage.daemon.begin()?;
            thread::sleep(moment);
        }
        During::Change => thread::scope(|scope| -> Result<()> {
            let daemon = &stage.daemon;
            // Whether it gets an answer depends on the moment.
            let change = scope.spawn(|| daemon.cli(&["backend", word, "lines", spare]));
            thread::sleep(moment);
            daemon.signal(Signal::SIGKILL)?;
            change.join().map(drop).map_err(|_| anyhow::anyhow!("the command's thread panicked"))
        })?,
        During::Reload => {
            stage.daemon.write_config(&toggled(&text, spare))?;
            stage.daemon.signal(Signal::SIGHUP)?;
            thread::sleep(moment);
        }
    }
    stage.daemon.kill();
    Ok(())
}

/// The file with the spare backend if it is not there, without it if it is.
fn toggled(text: &str, spare: &str) -> String {
    if !text.contains(spare) {
        let end = text.rfind("\n[[service]]").unwrap_or(text.len());
        let (before, after) = text.split_at(end);
        return format!("{before}\n[[service.backend]]\naddress = \"{spare}\"\n{after}");
    }
    let mut sections: Vec<String> = text.split("\n[[").map(str::to_owned).collect();
    sections.retain(|section| !section.contains(spare));
    sections.join("\n[[")
}

#[test]
fn interface_that_is_made_anew_under_a_running_daemon_is_attached_again() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.forwards()?;
    crate::interfaces::replace(&stage)?;
    wait_until("the program is attached again", PATIENCE, || Ok(stage.xdp()?.is_some()))?;
    wait_until("connections are forwarded again", PATIENCE, || Ok(stage.forwards().is_ok()))?;
    link(&stage).map(drop)
}
