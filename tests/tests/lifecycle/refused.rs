//! Configurations that are refused: everything wrong at once, and nothing of it in force.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Answer, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{HEAD, LINES, PATIENCE, Stage, check, plain, service};

/// Everything that can be wrong with a file on this machine, at once. `{own}`: the balancer; `{near}`: a backend;
/// 198.51.100.9 is behind a gateway, 203.0.113.9 nowhere.
const ALL_WRONG: &str = r#"
[[interface]]
name = "eth0"

[[interface]]
name = "eth7"

[limits]
services = 4
backends = 8
table_slots = 65536

[[service]]
name = "first"
vip = "10.20.9.50"
port = 80
portt = 81

[[service.backend]]
address = "{near}"
weight = 0

[[service]]
name = "first"
vip = "10.20.9.50"
port = 80

[[service.backend]]
address = "10.20.9.50"

[[service]]
name = "own"
vip = "{own}"
port = 80
mode = "l2"

[[service.backend]]
address = "198.51.100.9"

[[service.backend]]
address = "203.0.113.9"

[[service.backend]]
address = "10.20.2"

[service.timeouts]
established = "15 parsecs"

[[service]]
name = "tight"
vip = "10.20.9.51"
port = 80
table_size = 4093

[[service.backend]]
address = "{near}"
weight = 1

[[service.backend]]
address = "10.20.2.101"
weight = 1000
[[service.backend]]
address = "10.20.2.102"
weight = 1000
[[service.backend]]
address = "10.20.2.103"
weight = 1000
[[service.backend]]
address = "10.20.2.104"
weight = 1000
[[service.backend]]
address = "10.20.2.105"
weight = 1000
[[service.backend]]
address = "10.20.2.106"
weight = 1000
[[service.backend]]
address = "10.20.2.107"
weight = 1000

[[service]]
name = "fifth"
vip = "10.20.9.52"
port = 80

[[service.backend]]
address = "{near}"
"#;

/// Of each problem: text on the line it is on, what is said, and a piece of the remedy.
const PROBLEMS: [[&str; 3]; 15] = [
    ["portt = 81", "unknown key", "did you mean `port`?"],
    ["name = \"eth7\"", "there is no interface eth7", "eth0"],
    ["services = 4", "5 services, but the limit is 4", "raise `services`"],
    ["backends = 8", "14 backends in all services, but the limit is 8", "raise `backends`"],
    ["table_slots = 65536", "but the limit is 65536", "raise `table_slots`"],
    ["[[service]]\nname = \"first\"\nvip = \"10.20.9.50\"\nport = 80\nportt", "weight 0", "at least 1"],
    [
        "name = \"first\"\nvip = \"10.20.9.50\"\nport = 80\n\n",
        "service \"first\" is there already",
        "name of its own",
    ],
    ["vip = \"10.20.9.50\"\nport = 80\n\n", "10.20.9.50 port 80 tcp is there already", "change address"],
    ["address = \"10.20.9.50\"", "is the VIP of service[0]", "own address"],
    ["vip = \"{own}\"", "is the balancer's own address, on eth0", "ip address del"],
    ["address = \"198.51.100.9\"", "is behind gateway", "use mode = \"ipip\""],
    ["address = \"203.0.113.9\"", "there is no route", "add a route"],
    ["address = \"10.20.2\"\n", "\"10.20.2\" is not an IP address", "write"],
    ["established = \"15 parsecs\"", "is not a duration", "write"],
    ["weight = 1\n\n", "would never be chosen", "raise the weight"],
];

fn all_wrong(stage: &Stage) -> String {
    let (own, near) = (stage.balancer().v4.to_string(), stage.backend(0).to_string());
    ALL_WRONG.replace("{own}", &own).replace("{near}", &near)
}

/// Fails unless every problem is named on its line, and nothing else.
fn names_all(stage: &Stage, what: &str, said: &str) -> Result<()> {
    let text = all_wrong(stage);
    for [place, reason, remedy] in PROBLEMS {
        let place = place.replace("{own}", &stage.balancer().v4.to_string());
        let at = text.find(&place).with_context(|| format!("{place:?} is not in the file"))?;
        let line = format!("line {}: ", text[..at].matches('\n').count() + 1);
        let named =
            said.lines().any(|one| one.contains(&line) && one.contains(reason) && one.contains(remedy));
        ensure!(named, "{what} does not say on {line}{reason:?} with {remedy:?}:\n{said}");
    }
    let named = said.lines().filter(|one| one.contains("line ")).count();
    ensure!(named == PROBLEMS.len(), "{what} names {named} problems instead of {}:\n{said}", PROBLEMS.len());
    Ok(())
}

fn check_all(stage: &Stage, what: &str, answer: &Answer) -> Result<()> {
    check(what, (answer.code, &answer.stderr), 3, &["15 problems"])?;
    names_all(stage, what, &answer.stderr)
}

fn stage() -> Result<Stage> {
    let lab = Lab::builder().backends(1).build()?;
    lab.balancers[0].ns.ip(&format!("route add 198.51.100.0/24 via {}", lab.backends[0].v4))?;
    let text = plain(&lab);
    Stage::set(lab, &text)
}

#[test]
fn everything_wrong_is_named_at_once_with_line_and_remedy_and_nothing_is_started() -> Result<()> {
    let mut stage = stage()?;
    stage.daemon.write_config(&all_wrong(&stage))?;
    let (code, said) = stage.daemon.refused()?;
    check("the daemon", (code, &said), 3, &["15 problems", "nothing was applied"])?;
    names_all(&stage, "the daemon", &said)?;
    stage.nothing_left()?;
    let path = stage.daemon.config_path();
    let arguments = ["config", "check", &path.to_string_lossy(), "--netns", stage.balancer().ns.name()];
    check_all(&stage, "config check", &stage.daemon.cli(&arguments)?)?;
    let json = stage.daemon.cli(&[&arguments[..], &["-o", "json"]].concat())?;
    let report: Value = serde_json::from_str(&json.stdout).with_context(|| format!("{json:?}"))?;
    assert_eq!((json.code, &report["ok"]), (3, &false.into()));
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(PROBLEMS.len()));
    Ok(())
}

#[test]
fn bad_file_at_a_reload_leaves_the_old_configuration_in_force() -> Result<()> {
    let mut stage = stage()?;
    stage.daemon.start()?;
    let good = stage.daemon.read_config()?;
    stage.forwards()?;
    let services = |stage: &Stage| stage.daemon.get("/v1/config").map(|config| config["config"].clone());
    let before = services(&stage)?;
    stage.daemon.write_config(&all_wrong(&stage))?;
    check_all(&stage, "config reload", &stage.daemon.cli(&["config", "reload"])?)?;

    let logged = stage.daemon.log().len();
    stage.daemon.signal(Signal::SIGHUP)?;
    fairlead_tests::lab::wait_until("the log says why", PATIENCE, || {
        Ok(stage.daemon.log()[logged..].contains("configuration in force stays"))
    })?;
    names_all(&stage, "the log", &stage.daemon.log()[logged..])?;

    assert_eq!(services(&stage)?, before);
    let status = stage.daemon.get("/v1/status")?;
    assert_eq!(
        (&status["config"]["generation"], &status["config"]["changed_on_disk"]),
        (&1.into(), &true.into())
    );
    ensure!(status["warnings"].to_string().contains("config reload"), "{status}");
    stage.forwards()?;
    // A file that is no TOML, and one that is gone, change nothing either.
    stage.daemon.write_config("[[service]\n")?;
    let answer = stage.daemon.cli(&["config", "reload"])?;
    check("config reload", (answer.code, &answer.stderr), 3, &["line 1: ", "not TOML"])?;
    std::fs::remove_file(stage.daemon.config_path())?;
    let answer = stage.daemon.cli(&["config", "reload"])?;
    check("config reload", (answer.code, &answer.stderr), 1, &["cannot read", "fairlead.toml"])?;
    stage.daemon.write_config(&good)?;
    let answer = stage.daemon.ok(&["config", "reload"])?;
    ensure!(answer.contains("has not changed"), "{answer}");
    stage.none_broke()
}

#[test]
fn each_problem_with_this_machine_is_refused_alone_too() -> Result<()> {
    let mut stage = stage()?;
    let vip = stage.vip();
    let own = stage.balancer().v4.into();
    let backend = stage.backend(0);
    let of = |vip, backend: &str| {
        Ok::<_, anyhow::Error>(format!("{HEAD}{}", service("lines", vip, &[backend.parse()?])))
    };
    for (text, parts) in [
        (of(own, &backend.to_string())?, ["service[0].vip", "own address"]),
        (of(vip, &own.to_string())?, ["service[0].backend[0].address", "own address"]),
        (of(vip, "198.51.100.9")?, ["behind gateway", "ipip"]),
        (of(vip, "203.0.113.9")?, ["no route to backend 203.0.113.9", "add a route"]),
        (plain(&stage.lab).replace("eth0", "eth7"), ["there is no interface eth7", "write one of: eth0, lo"]),
        (
            plain(&stage.lab).replace("eth0", "lo"),
            ["reached through eth0, which has no [[interface]]", "add"],
        ),
    ] {
        stage.daemon.write_config(&text)?;
        let (code, said) = stage.daemon.refused()?;
        check(&text, (code, &said), 3, &parts)?;
        ensure!(said.contains("line "), "no line: {said}");
        stage.nothing_left()?;
    }
    let missing = stage.lab.folder().join("nowhere.toml");
    stage.daemon.set_arguments(&["--config", &missing.to_string_lossy()]);
    let (code, said) = stage.daemon.refused()?;
    check("two files", (code, &said), 2, &["--config"])?;
    assert_eq!(LINES, 7000);
    Ok(())
}
