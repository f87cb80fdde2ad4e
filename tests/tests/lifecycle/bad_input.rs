//! Bad requests and corrupt files: named, set aside, and no packet notices.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Lab, binary};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::config_file::Mounted;
use crate::fixture::{PATIENCE, Stage, check, check_cli, plain};

/// Sends octets and hangs up without reading the answer, or with its first octets read.
fn attack(stage: &Stage, octets: &[u8], read: bool) -> Result<Option<UnixStream>> {
    let mut stream = UnixStream::connect(stage.daemon.socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The daemon may refuse before it has everything.
    let _ = stream.write_all(octets);
    if !read {
        return Ok(Some(stream));
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 4") && answer.contains("remedy"), "{answer:?}");
    Ok(None)
}

#[test]
fn bad_requests_are_refused_with_reasons_and_harm_neither_daemon_nor_flows() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let post = "POST /v1/services/lines/backends HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let large = format!("{post}content-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let header = format!("GET /v1/status HTTP/1.1\r\nx: {}", "y".repeat(16 << 10));
    let garbage: Vec<u8> = (1..=251u8).cycle().take(4_096).chain(*b"\r\n\r\n").collect();
    for octets in
        [large.as_bytes(), header.as_bytes(), &garbage, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"]
    {
        attack(&stage, octets, true)?;
        check_cli(&stage.daemon, "status", 0, &[])?;
    }
    // All at once: idle, half a header, half a body, gone before the answer.
    let half = format!("{post}content-length: 100\r\n\r\n{{");
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(attack(&stage, b"", false)?);
        open.push(attack(&stage, b"GET /v1/st", false)?);
        open.push(attack(&stage, half.as_bytes(), false)?);
        drop(attack(&stage, b"GET /v1/services/lines/table HTTP/1.1\r\nhost: x\r\n\r\n", false)?);
    }
    check_cli(&stage.daemon, "status", 0, &[])?;
    stage.none_broke()?;
    stage.forwards()?;
    drop(open);
    ensure!(stage.daemon.get("/v1/config")?["generation"] == 1, "something was changed");
    check_cli(&stage.daemon, "status", 0, &[])?;
    Ok(())
}

fn seed(stage: &Stage) -> PathBuf {
    stage.daemon.socket().with_file_name("../state/main/hash-seed")
}

/// What was set aside of a file.
fn aside(path: &Path) -> Result<usize> {
    let folder = path.parent().context("a folder")?;
    let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
    let prefix = format!("{name}.corrupt-");
    let entries = fs::read_dir(folder)?.flatten();
    Ok(entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count())
}

type Make = fn(&Path) -> Result<()>;

/// What there may be instead of a file, none of which may be waited for.
const NO_FILES: [Make; 4] = [
    |path| Ok(fs::create_dir(path)?),
    |path| Ok(symlink("gone", path)?),
    |path| Ok(symlink(path, path)?),
    |path| Ok(mkfifo(path, Mode::S_IRWXU)?),
];

#[test]
fn corrupt_seed_is_set_aside_and_that_of_the_running_maps_kept_anew() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    let path = seed(&stage);
    let before = fs::read(&path)?;
    let mut flipped = before.clone();
    flipped[5] ^= 1;
    let contents: [&[u8]; 4] = [b"", b"\xff\x00 no seed", &before[..20], &flipped];
    for content in contents {
        stage.daemon.kill();
        fs::write(&path, content)?;
        stage.daemon.start()?;
        assert_eq!(fs::read(&path)?, before, "another seed is kept than is in force");
        stage.none_broke()?;
    }
    for make in NO_FILES {
        stage.daemon.kill();
        fs::remove_file(&path)?;
        make(&path)?;
        stage.daemon.start()?;
        assert_eq!(fs::read(&path)?, before, "another seed is kept than is in force");
        stage.none_broke()?;
    }
    assert_eq!(aside(&path)?, 8, "what was corrupt is lost");
    ensure!(stage.daemon.log().contains("hash-seed.corrupt-"), "not in the log");
    Ok(())
}

#[test]
fn corrupt_sums_are_set_aside_each_under_a_name_of_its_own() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    let path = seed(&stage).with_file_name("totals.json");
    let before = fs::read(&path)?;
    let mut flipped = before.clone();
    let digit = before.iter().rposition(u8::is_ascii_digit).context("a number")?;
    flipped[digit] ^= 1;
    let contents: [&[u8]; 4] = [b"", b"\xff\x00 no sums", &before[..20], &flipped];
    for content in contents {
        stage.daemon.kill();
        fs::write(&path, content)?;
        stage.daemon.start()?;
        stage.none_broke()?;
    }
    for make in NO_FILES {
        stage.daemon.kill();
        let _ = fs::remove_file(&path);
        make(&path)?;
        stage.daemon.start()?;
        stage.none_broke()?;
    }
    assert_eq!(aside(&path)?, 8, "what was corrupt is lost");
    ensure!(stage.daemon.log().contains("totals.json.corrupt-"), "not in the log");
    Ok(())
}

#[test]
fn seed_that_others_can_change_is_used_and_named() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    let path = seed(&stage);
    let before = fs::read(&path)?;
    for (owner, mode, said) in
        [(65_534, 0o600, "belongs to somebody else"), (0, 0o666, "can be changed by others")]
    {
        stage.daemon.kill();
        chown(&path, Some(owner), None)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        stage.daemon.start()?;
        assert_eq!((fs::read(&path)?, aside(&path)?), (before.clone(), 0));
        ensure!(stage.daemon.log().contains(said), "not in the log: {said}");
        stage.none_broke()?;
    }
    Ok(())
}

#[test]
fn seed_that_cannot_be_read_refuses_a_first_start_and_stays() -> Result<()> {
    let lab = Lab::builder().backends(1).build()?;
    let text = plain(&lab);
    let stage = Stage::set(lab, &text)?;
    let folder = stage.daemon.socket().with_file_name("../state/main");
    fs::create_dir_all(&folder)?;
    let path = folder.join("hash-seed");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n")?;
    chown(&path, Some(65_534), None)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(binary("fairlead")?);
    command.envs(stage.daemon.environment()).args(["run", "--netns", stage.balancer().ns.name()]);
    let output = command.arg("--config").arg(stage.daemon.config_path()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code().unwrap_or(-1);
    check("the daemon", (code, &said), 1, &["hash-seed", "Permission denied", "move it away"])?;
    assert_eq!(fs::read(&path)?, b"0123456789abcdef0123456789abcdef\n");
    stage.nothing_left()
}

#[test]
fn full_disk_keeps_no_daemon_from_taking_over_and_is_named() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    stage.daemon.kill();
    let path = seed(&stage);
    let folder = path.parent().context("a folder")?.canonicalize()?;
    let full = Mounted::tiny(folder)?;
    full.fill()?;
    stage.daemon.start()?;
    stage.none_broke()?;
    ensure!(
        stage.daemon.log().contains("the hash seed of the running maps is not kept"),
        "{}",
        stage.daemon.log()
    );
    stage.daemon.kill();
    drop(full);
    Ok(())
}

#[test]
fn configuration_that_is_cut_short_or_no_text_is_refused_and_the_one_in_force_stays() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let path = stage.daemon.config_path();
    let text = fs::read(&path)?;
    let contents: [&[u8]; 3] = [b"", &text[..text.len() - 3], b"\xff\xfe\x00"];
    for content in contents {
        fs::write(&path, content)?;
        let answer = stage.daemon.cli(&["config", "reload"])?;
        ensure!(answer.code != 0 && answer.stderr.contains("fairlead.toml"), "{answer:?}");
        ensure!(stage.daemon.get("/v1/config")?["generation"] == 1, "it was put in force");
        assert_eq!(fs::read(&path)?, content, "the file was touched");
        stage.none_broke()?;
    }
    fs::write(&path, &text)?;
    check_cli(&stage.daemon, "config reload", 0, &[])?;
    Ok(())
}
