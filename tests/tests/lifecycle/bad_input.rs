//! Bad requests and corrupt files: named, set aside, and no packet notices.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::fixture::{PATIENCE, Stage, check_cli};

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

#[test]
fn corrupt_seed_is_set_aside_and_that_of_the_running_maps_kept_anew() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    let path = seed(&stage);
    let before = fs::read(&path)?;
    let contents: [&[u8]; 3] = [b"", b"\xff\x00 no seed", &before[..20]];
    for content in contents {
        stage.daemon.kill();
        fs::write(&path, content)?;
        stage.daemon.start()?;
        assert_eq!(fs::read(&path)?, before, "another seed is kept than is in force");
        stage.none_broke()?;
    }
    stage.daemon.kill();
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    stage.daemon.start()?;
    assert_eq!(fs::read(&path)?, before, "another seed is kept than is in force");
    stage.none_broke()?;
    let folder = path.parent().context("a folder")?;
    let aside = fs::read_dir(folder)?.filter(|entry| {
        entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("hash-seed.corrupt-"))
    });
    assert_eq!(aside.count(), 4, "what was corrupt is lost");
    ensure!(stage.daemon.log().contains("hash-seed.corrupt-"), "not in the log");
    Ok(())
}

/// A file system that is full, until it is dropped.
struct Full(PathBuf);

impl Full {
    fn over(folder: PathBuf) -> Result<Self> {
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=4k"))?;
        let full = Self(folder);
        let mut filler = fs::File::create(full.0.join("filler"))?;
        while filler.write(&[0; 512]).is_ok_and(|written| written > 0) {}
        Ok(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn full_disk_keeps_no_daemon_from_taking_over_and_is_named() -> Result<()> {
    let mut stage = Stage::running(2)?;
    stage.forwards()?;
    stage.daemon.kill();
    let path = seed(&stage);
    let folder = path.parent().context("a folder")?.canonicalize()?;
    let full = Full::over(folder)?;
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
