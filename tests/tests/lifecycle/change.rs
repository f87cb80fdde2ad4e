//! Changes by command: in the file with its comments, in the maps, or in neither.

use std::fs;
use std::thread;

use anyhow::{Result, ensure};
use fairlead_tests::lab::Lab;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{HEAD, PATIENCE, Stage, check, check_cli, service};

/// Three backends of which the service has two.
fn stage() -> Result<Stage> {
    let lab = Lab::builder().backends(3).build()?;
    let two = [lab.backends[0].v4.into(), lab.backends[1].v4.into()];
    let text = format!("{HEAD}{}\n# The end.\n", service("lines", lab.vips[0].0, &two));
    let mut stage = Stage::set(lab, &text)?;
    stage.daemon.start()?;
    Ok(stage)
}

/// What is in force: the backends of `lines` as the daemon shows them, and its table.
fn in_force(stage: &Stage) -> Result<(Value, Value)> {
    let mut service = stage.daemon.get("/v1/services/lines")?;
    for backend in service["backends"].as_array_mut().into_iter().flatten() {
        // Traffic may go on.
        *backend = [&backend["address"], &backend["weight"], &backend["state"], &backend["slot"]]
            .map(Value::clone)
            .to_vec()
            .into();
    }
    Ok((service["backends"].clone(), stage.daemon.get("/v1/services/lines/table")?))
}

/// The file without what a comment in it says nothing about.
fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once('#').map(|(_, comment)| comment.trim())).collect()
}

#[test]
fn changes_are_in_the_file_with_its_comments_and_in_force() -> Result<()> {
    let stage = stage()?;
    let [first, second, third] = [0, 1, 2].map(|index| stage.backend(index).to_string());
    let said = comments(&stage.daemon.read_config()?).iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    ensure!(said.len() >= 6, "{said:?}");
    for (line, in_file) in [
        (format!("backend add lines {third} --weight 7"), "weight = 7"),
        (format!("backend weight lines {first} 1000"), "weight = 1000"),
        (format!("backend drain lines {second}"), "state = \"drain\""),
        (format!("backend disable lines {second}"), "state = \"disabled\""),
    ] {
        check_cli(&stage.daemon, &line, 0, &[])?;
        ensure!(stage.daemon.read_config()?.contains(in_file), "{line}: {}", stage.daemon.read_config()?);
    }
    let (backends, _) = in_force(&stage)?;
    let states: Vec<_> =
        backends.as_array().into_iter().flatten().map(|b| (b[1].clone(), b[2].clone())).collect();
    let expected = [(1000, "enabled"), (1, "disabled"), (7, "enabled")];
    assert_eq!(states, expected.map(|(weight, state)| (Value::from(weight), Value::from(state))));
    check_cli(&stage.daemon, &format!("backend enable lines {second}"), 0, &[])?;
    check_cli(&stage.daemon, &format!("backend remove lines {third}"), 0, &[])?;
    let text = stage.daemon.read_config()?;
    assert_eq!(comments(&text), said, "{text}");
    ensure!(!text.contains(&third), "{text}");
    assert_eq!(stage.daemon.get("/v1/config")?["text"], text);
    stage.forwards()
}

#[test]
fn change_after_an_external_edit_waits_for_the_reload() -> Result<()> {
    let stage = stage()?;
    let (first, third) = (stage.backend(0).to_string(), stage.backend(2).to_string());
    let edited = stage.daemon.read_config()? + "# Edited by hand.\n";
    stage.daemon.write_config(&edited)?;
    let before = in_force(&stage)?;
    let line = format!("backend add lines {third}");
    check_cli(&stage.daemon, &line, 5, &["fairlead.toml was edited", "fairlead config reload"])?;
    check_cli(&stage.daemon, &format!("backend drain lines {first}"), 5, &["config reload"])?;
    assert_eq!((stage.daemon.read_config()?, in_force(&stage)?), (edited, before));
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    check_cli(&stage.daemon, &line, 0, &[])?;
    let text = stage.daemon.read_config()?;
    ensure!(text.contains("# Edited by hand.") && text.contains(&third), "{text}");
    Ok(())
}

#[test]
fn hangup_puts_the_file_in_force() -> Result<()> {
    let stage = stage()?;
    let third = stage.backend(2).to_string();
    let text = stage.daemon.read_config()?;
    stage.daemon.write_config(&format!("{text}\n[[service.backend]]\naddress = \"{third}\"\n"))?;
    stage.daemon.signal(Signal::SIGHUP)?;
    stage.daemon.until("the third backend serves", "/v1/services/lines", PATIENCE, |service| {
        let backend = &service["backends"][2];
        backend["address"] == third && backend["slot_state"] == "serving"
    })?;
    assert_eq!(stage.daemon.get("/v1/status")?["config"]["generation"], 2);
    stage.forwards()
}

#[test]
fn invalid_and_unknown_changes_change_neither_file_nor_maps() -> Result<()> {
    let stage = stage()?;
    let [first, second, third] = [0, 1, 2].map(|index| stage.backend(index).to_string());
    check_cli(&stage.daemon, &format!("backend weight lines {second} 0"), 0, &[])?;
    let before = (stage.daemon.read_config()?, in_force(&stage)?);
    let own = stage.balancer().v4.to_string();
    let known = format!("{first}, {second}");
    for (line, code, parts) in [
        (format!("backend weight lines {first} 0"), 3, vec!["weight 0"]),
        (format!("backend add lines {own}"), 3, vec!["balancer's own address"]),
        (format!("backend add lines {}", stage.vip()), 3, vec!["is the VIP of"]),
        ("backend add lines 203.0.113.9".to_owned(), 3, vec!["no route"]),
        ("backend add lines fd20::22:1".to_owned(), 3, vec!["IPv4 VIP to an IPv6 address", "\"ipip\""]),
        (format!("backend add lines {first}"), 5, vec![first.as_str(), "already"]),
        (format!("backend add line {third}"), 1, vec!["no service \"line\"", "lines"]),
        (format!("backend remove lines {third}"), 1, vec![third.as_str(), &known]),
        (format!("backend drain lines {third}"), 1, vec![&known]),
        (format!("backend weight lines {third} 2"), 1, vec![&known]),
        ("service show line".to_owned(), 1, vec!["no service \"line\"", "lines"]),
        ("backend list line".to_owned(), 1, vec!["no service \"line\"", "lines"]),
        ("backend add lines 10.20.2".to_owned(), 2, vec!["10.20.2"]),
        (format!("backend weight lines {first} 1001"), 2, vec!["1001"]),
        (format!("backend weight lines {first}"), 2, vec!["<N>"]),
        ("backend frob lines".to_owned(), 2, vec!["frob"]),
        ("frobnicate".to_owned(), 2, vec!["frobnicate"]),
        ("flow lookup --from 1.2.3.4 --to 1.2.3.4:5".to_owned(), 2, vec!["1.2.3.4"]),
    ] {
        check_cli(&stage.daemon, &line, code, &parts)?;
        assert_eq!((stage.daemon.read_config()?, in_force(&stage)?), before, "{line}");
    }
    stage.forwards()
}

#[test]
fn commands_without_a_daemon_are_exit_code_4_and_say_how_to_start_one() -> Result<()> {
    let mut stage = stage()?;
    stage.daemon.kill();
    for line in
        ["status", "backend drain lines 10.20.2.1", "config reload", "flow list", "counters", "confirm"]
    {
        let socket = stage.daemon.socket().display().to_string();
        check_cli(&stage.daemon, line, 4, &[&socket, "fairlead run --config", "--instance"])?;
    }
    Ok(())
}

#[test]
fn changes_of_eight_clients_at_once_all_land() -> Result<()> {
    let stage = stage()?;
    let daemon = &stage.daemon;
    // Only addresses: nobody has to be there for them to be backends.
    let address = |client: usize| format!("10.20.3.{}", client + 1);
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..8)
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    let address = address(client);
                    daemon.ok(&["backend", "add", "lines", &address])?;
                    for round in 1..=3 {
                        daemon.ok(&[
                            "backend",
                            "weight",
                            "lines",
                            &address,
                            &(10 * client + round).to_string(),
                        ])?;
                    }
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    let (backends, _) = in_force(&stage)?;
    for client in 0..8 {
        let found = backends.as_array().into_iter().flatten().find(|backend| backend[0] == address(client));
        assert_eq!(found.map(|backend| &backend[1]), Some(&Value::from(10 * client + 3)), "{backends}");
    }
    assert_eq!(daemon.get("/v1/config")?["text"], daemon.read_config()?);
    assert_eq!(daemon.get("/v1/status")?["config"]["generation"], 33);
    let others = fs::read_dir(stage.lab.folder().join("fairlead-balancer1"))?.flatten();
    let drafts = others.filter(|entry| entry.file_name().to_string_lossy().contains("new")).count();
    assert_eq!(drafts, 0);
    Ok(())
}

#[test]
fn change_that_cannot_be_written_changes_nothing() -> Result<()> {
    let stage = stage()?;
    let third = stage.backend(2).to_string();
    let before = (stage.daemon.read_config()?, in_force(&stage)?);
    // Root may write everywhere; but not into a folder where the new file should be.
    let path = stage.daemon.config_path();
    let in_the_way = path.with_file_name("fairlead.toml.fairlead-new");
    fs::create_dir(&in_the_way)?;
    let line = format!("backend add lines {third}");
    let answer = check_cli(&stage.daemon, &line, 1, &["cannot write", "fairlead.toml", "permissions"])?;
    check(&line, (answer.code, &answer.stdout), 1, &[])?;
    assert_eq!((stage.daemon.read_config()?, in_force(&stage)?), before);
    fs::remove_dir(&in_the_way)?;
    check_cli(&stage.daemon, &line, 0, &[]).map(drop)
}
