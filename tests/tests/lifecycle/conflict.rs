//! Somebody else is there already.

use std::fs;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Lab, attach_pass};

use crate::fixture::{Stage, check, check_cli, plain, xdp};

#[test]
fn second_daemon_of_an_instance_is_refused_by_name_and_disturbs_nothing() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    let (code, said) = stage.daemon.refused()?;
    check("a second daemon", (code, &said), 5, &["instance \"main\"", "fairlead stop", "--instance"])?;
    stage.daemon.ok(&["status"])?;
    stage.forwards()?;
    stage.none_broke()
}

#[test]
fn second_instance_on_an_interface_is_refused_with_the_programs_id_and_leaves_nothing() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    let id = stage.xdp()?.context("no program")?.to_string();
    stage.daemon.set_arguments(&["--instance", "other"]);
    let (code, said) = stage.daemon.refused()?;
    check("another instance", (code, &said), 5, &["eth0", &id, "bpftool", "stop --detach"])?;
    let instances: Vec<_> = fs::read_dir(stage.daemon.pins())?.flatten().map(|e| e.file_name()).collect();
    assert_eq!(instances, ["main"]);
    ensure!(!stage.daemon.socket().with_file_name("other.sock").exists(), "its socket is still there");
    assert_eq!(stage.xdp()?.map(|id| id.to_string()), Some(id));
    stage.forwards()?;
    stage.none_broke()
}

#[test]
fn foreign_program_is_left_alone_and_the_remedy_works() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let text = plain(&lab);
    let scratch = lab.pin_folder("foreign")?;
    attach_pass(&lab.balancers[0].ns, "eth0", &scratch)?;
    let mut stage = Stage::set(lab, &text)?;
    let foreign = stage.xdp()?.context("the foreign program is not attached")?;
    let (code, said) = stage.daemon.refused()?;
    let id = format!("id {foreign}");
    check("the daemon", (code, &said), 5, &["eth0", &id, "not ours", "ip link set dev eth0 xdp off"])?;
    assert_eq!(stage.xdp()?, Some(foreign));
    ensure!(!stage.daemon.pins().exists() && !stage.daemon.socket().exists(), "something was left behind");
    stage.balancer().ns.ip("link set dev eth0 xdp off")?;
    stage.daemon.start()?;
    stage.forwards()
}

#[test]
fn device_without_native_mode_is_refused_if_it_is_demanded_and_else_runs_generic_with_a_note() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    // A bridge has no driver to run programs in.
    lab.balancers[0].ns.ip("link add br9 type bridge\nlink set br9 up")?;
    let interface = |mode: &str| format!("[[interface]]\nname = \"br9\"\nmode = \"{mode}\"\n\n");
    let rest = plain(&lab);
    let mut stage = Stage::set(lab, &rest)?;
    // In either order: what was attached already is detached again.
    for text in [interface("native") + &rest, format!("{rest}\n{}", interface("native"))] {
        stage.daemon.write_config(&text)?;
        let (code, said) = stage.daemon.refused()?;
        check("the daemon", (code, &said), 1, &["br9", "native", "driver does not support it", "auto"])?;
        ensure!(xdp(stage.balancer(), "br9")?.is_none(), "something is attached to br9");
        stage.nothing_left()?;
    }
    stage.daemon.write_config(&(interface("auto") + &rest))?;
    stage.daemon.start()?;
    let status = stage.daemon.get("/v1/status")?;
    let of = |name: &str| {
        let interfaces = status["interfaces"].as_array().into_iter().flatten();
        interfaces.into_iter().find(|interface| interface["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!((&of("eth0")["mode"], &of("br9")["mode"]), (&"native".into(), &"generic".into()), "{status}");
    ensure!(of("br9")["note"].as_str().is_some_and(|note| note.contains("does not support it")), "{status}");
    ensure!(status["warnings"].to_string().contains("br9"), "{status}");
    stage.forwards()
}

#[test]
fn interface_that_leaves_the_file_is_detached_by_reload_or_restart() -> Result<()> {
    let stage_with_two = || -> Result<(Stage, String)> {
        let lab = Lab::builder().backends(1).build()?;
        lab.balancers[0].ns.ip("link add br9 type bridge\nlink set br9 up")?;
        let one = plain(&lab);
        let mut stage = Stage::set(lab, &format!("{one}\n[[interface]]\nname = \"br9\"\n"))?;
        stage.daemon.start()?;
        ensure!(xdp(stage.balancer(), "br9")?.is_some(), "nothing is attached to br9");
        stage.forwards()?;
        Ok((stage, one))
    };
    let gone = |stage: &Stage| -> Result<()> {
        ensure!(xdp(stage.balancer(), "br9")?.is_none(), "br9 still has a program");
        assert_eq!(fs::read_dir(stage.daemon.pins().join("main/links"))?.count(), 1);
        stage.none_broke()
    };
    // By a reload, under the daemon that attached it and under one that took it over.
    for adopted in [false, true] {
        let (mut stage, one) = stage_with_two()?;
        if adopted {
            stage.daemon.kill();
            stage.daemon.start()?;
        }
        stage.daemon.write_config(&one)?;
        stage.daemon.ok(&["config", "reload"])?;
        gone(&stage).with_context(|| format!("reload, adopted: {adopted}"))?;
    }
    let (mut stage, one) = stage_with_two()?;
    stage.daemon.kill();
    stage.daemon.write_config(&one)?;
    stage.daemon.start()?;
    gone(&stage).context("restart")
}

#[test]
fn reload_that_names_an_interface_it_cannot_have_changes_nothing() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.balancer().ns.ip("link add uplink type veth peer name far\nlink set uplink up\nlink set far up")?;
    attach_pass(&stage.balancer().ns, "uplink", &stage.lab.pin_folder("foreign")?)?;
    let foreign = xdp(stage.balancer(), "uplink")?.context("the foreign program is not attached")?;
    stage.forwards()?;
    let fewer =
        plain(&stage.lab).replace(&format!("address = \"{}\"", stage.backend(1)), "address = \"10.20.2.99\"");
    let text = format!("{fewer}\n[[interface]]\nname = \"uplink\"\n");
    stage.daemon.write_config(&text)?;
    let generation = stage.daemon.get("/v1/status")?["config"]["generation"].clone();
    check_cli(&stage.daemon, "config reload", 5, &["uplink", &format!("id {foreign}"), "not ours"])?;
    let status = stage.daemon.get("/v1/status")?;
    ensure!(generation.is_u64() && status["config"]["generation"] == generation, "{status}");
    ensure!(stage.daemon.get("/v1/services/lines")?.to_string().contains(&stage.backend(1).to_string()));
    stage.none_broke()?;
    // Nor does a daemon that takes over begin with the file that it then refuses.
    stage.daemon.kill();
    let (code, said) = stage.daemon.refused()?;
    check("the daemon", (code, &said), 5, &["uplink", "not ours"])?;
    assert_eq!(xdp(stage.balancer(), "uplink")?, Some(foreign));
    stage.forwards()?;
    stage.none_broke()?;
    stage.daemon.write_config(&plain(&stage.lab))?;
    stage.daemon.start()?;
    let service = stage.daemon.get("/v1/services/lines")?;
    ensure!(service.to_string().contains(&stage.backend(1).to_string()), "{service}");
    stage.none_broke()
}

#[test]
fn mode_of_an_attached_interface_is_not_changed_by_a_reload() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.forwards()?;
    let id = stage.xdp()?;
    let mode = |mode: &str| plain(&stage.lab).replace("# the only one", &format!("\nmode = \"{mode}\""));
    stage.daemon.write_config(&mode("generic"))?;
    check_cli(&stage.daemon, "config reload", 5, &["eth0", "native mode", "\"generic\"", "stop --detach"])?;
    stage.daemon.write_config(&mode("native"))?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    assert_eq!(stage.xdp()?, id);
    stage.none_broke()
}

#[test]
fn commands_at_the_same_time_are_all_done_and_all_written() -> Result<()> {
    let stage = Stage::running(1)?;
    stage.know_farm(8)?;
    let added: Vec<_> = (0..8).map(|index| Row::Farm.v4(index)).collect();
    std::thread::scope(|scope| {
        let commands: Vec<_> = added
            .iter()
            .map(|address| {
                scope.spawn(|| stage.daemon.ok(&["backend", "add", "lines", &address.to_string()]))
            })
            .collect();
        commands.into_iter().try_for_each(|command| command.join().expect("no panic").map(drop))
    })?;
    let (file, listed) = (stage.daemon.read_config()?, stage.daemon.get("/v1/services/lines")?.to_string());
    for address in added {
        let quoted = format!("\"{address}\"");
        ensure!(
            file.contains(&quoted) && listed.contains(&quoted),
            "{address} is missing:\n{file}\n{listed}"
        );
    }
    ensure!(
        stage.daemon.ok(&["config", "reload"])?.contains("has not changed"),
        "the file is not what is in force"
    );
    Ok(())
}
