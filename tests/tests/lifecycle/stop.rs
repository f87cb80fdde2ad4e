//! Stopping: by command, by signal, with and without the program, with and without a daemon.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::fixture::{Stage, check_cli};

#[test]
fn stopped_daemon_leaves_forwarding_and_the_next_one_adopts_it() -> Result<()> {
    let mut stage = Stage::running(2)?;
    assert_eq!(stage.daemon.get("/v1/status")?["adopted"], false);
    stage.forwards()?;
    stage.daemon.stop()?;
    ensure!(!stage.daemon.socket().exists(), "the socket is still there");
    stage.forwards()?;
    stage.none_broke()?;
    stage.daemon.start()?;
    assert_eq!(stage.daemon.get("/v1/status")?["adopted"], true);
    stage.forwards()?;
    stage.none_broke()
}

#[test]
fn detached_daemon_leaves_nothing_but_the_hash_seed_and_starts_afresh() -> Result<()> {
    let mut stage = Stage::running(2)?;
    let state = stage.daemon.socket().with_file_name("../state/main/hash-seed");
    let seed = fs::read_to_string(&state)?;
    let choice = |stage: &Stage| {
        let to = format!("{}:7000", stage.vip());
        stage.daemon.json(&["flow", "lookup", "--from", "198.51.100.7:4711", "--to", &to])
    };
    let chosen = choice(&stage)?;
    stage.daemon.detach()?;
    stage.nothing_left()?;
    ensure!(stage.forwards().is_err(), "somebody still forwards");
    stage.daemon.start()?;
    assert_eq!(stage.daemon.get("/v1/status")?["adopted"], false);
    assert_eq!(fs::read_to_string(&state)?, seed);
    assert_eq!(choice(&stage)?, chosen);
    stage.forwards()?;
    stage.daemon.stop()?;
    stage.daemon.start()?;
    assert_eq!(fs::read_to_string(&state)?, seed);
    Ok(())
}

#[test]
fn what_a_killed_daemon_left_is_detached_without_it() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.daemon.kill();
    ensure!(stage.xdp()?.is_some(), "killing the daemon detached the program");
    check_cli(&stage.daemon, "stop", 4, &["fairlead run"])?;
    let answer = check_cli(&stage.daemon, "stop --detach", 0, &[])?;
    ensure!(answer.stdout.contains("no daemon was running"), "{answer:?}");
    stage.nothing_left()?;
    check_cli(&stage.daemon, "stop --detach", 1, &["instance \"main\"", "nothing is attached", "--pin-dir"])?;
    stage.daemon.start()?;
    stage.forwards()
}

#[test]
fn pins_that_a_daemon_holds_are_not_removed_past_it() -> Result<()> {
    let stage = Stage::running(1)?;
    // A socket that leads nowhere makes the daemon seem gone; the lock of its pins tells otherwise.
    check_cli(&stage.daemon, "--socket /nonexistent/fairlead.sock stop --detach", 5, &["another daemon"])?;
    stage.forwards()
}

#[test]
fn termination_and_interrupt_end_the_daemon_and_forwarding_goes_on() -> Result<()> {
    let mut stage = Stage::running(1)?;
    stage.forwards()?;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        stage.daemon.signal(signal)?;
        assert_eq!(stage.daemon.ended()?, 0, "{signal}: {}", stage.daemon.log());
        ensure!(!stage.daemon.socket().exists(), "{signal}: the socket is still there");
        stage.forwards()?;
        stage.daemon.start()?;
        assert_eq!(stage.daemon.get("/v1/status")?["adopted"], true);
    }
    stage.none_broke()
}
