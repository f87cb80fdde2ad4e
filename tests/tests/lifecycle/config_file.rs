//! The configuration file as a change by command finds it: behind a link, on a full disk, mounted, or no file at all.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fairlead_tests::lab::Lab;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::fixture::{Stage, check_cli, plain};

/// Something mounted, until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A file system of two pages.
    pub(crate) fn tiny(folder: PathBuf) -> Result<Self> {
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=8k"))?;
        Ok(Self(folder))
    }

    /// A file on itself.
    fn on_itself(file: PathBuf) -> Result<Self> {
        mount(Some(&file), &file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self(file))
    }

    /// Leaves no room; the file that takes it.
    pub(crate) fn fill(&self) -> Result<PathBuf> {
        use std::io::Write as _;
        let path = self.0.join("filler");
        let mut filler = fs::File::create(&path)?;
        while filler.write(&[0; 512]).is_ok_and(|written| written > 0) {}
        Ok(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A stage of two backends whose configuration is a link to a file in a folder of its own, not started yet.
fn linked() -> Result<(Stage, PathBuf)> {
    let lab = Lab::builder().backends(2).build()?;
    let text = plain(&lab);
    let stage = Stage::set(lab, &text)?;
    let folder = stage.daemon.config_path().with_file_name("elsewhere");
    fs::create_dir(&folder)?;
    Ok((stage, folder))
}

/// Moves the file there and leaves a link.
fn move_to(stage: &Stage, folder: &Path) -> Result<PathBuf> {
    let (link, file) = (stage.daemon.config_path(), folder.join("real.toml"));
    fs::copy(&link, &file)?;
    fs::remove_file(&link)?;
    symlink("elsewhere/real.toml", &link)?;
    Ok(file)
}

/// What is in force of the first backend, and which configuration that is.
fn in_force(stage: &Stage) -> Result<(String, u64)> {
    let backends = stage.daemon.get("/v1/backends")?;
    let address = stage.backend(0).to_string();
    let mut all = backends["backends"].as_array().into_iter().flatten();
    let found = all.find(|backend| backend["address"] == address.as_str());
    let state = found.and_then(|backend| backend["state"].as_str()).unwrap_or_default().to_owned();
    let generation = stage.daemon.get("/v1/config")?["generation"].as_u64().unwrap_or(0);
    Ok((state, generation))
}

fn drain(stage: &Stage) -> String {
    format!("backend drain lines {}", stage.backend(0))
}

#[test]
fn change_on_a_full_disk_is_refused_loses_nothing_and_works_once_there_is_room() -> Result<()> {
    let (mut stage, folder) = linked()?;
    let tiny = Mounted::tiny(folder.clone())?;
    let file = move_to(&stage, &folder)?;
    stage.daemon.start()?;
    stage.forwards()?;
    let (before, state) = (fs::read(&file)?, in_force(&stage)?);
    let filler = tiny.fill()?;
    for _ in 0..3 {
        let parts = ["real.toml", "No space left on device", "nothing was changed", "free space"];
        check_cli(&stage.daemon, &drain(&stage), 1, &parts)?;
        assert_eq!((fs::read(&file)?, in_force(&stage)?), (before.clone(), state.clone()));
        assert_eq!(fs::read_dir(&folder)?.count(), 2, "a draft is left");
    }
    stage.none_broke()?;
    stage.forwards()?;
    fs::remove_file(filler)?;
    check_cli(&stage.daemon, &drain(&stage), 0, &[])?;
    assert_eq!(in_force(&stage)?, ("drain".to_owned(), 2));
    ensure!(fs::read_to_string(&file)?.contains("drain"), "the change is not in the file");
    stage.none_broke()?;
    stage.daemon.kill();
    drop(tiny);
    Ok(())
}

#[test]
fn change_of_a_linked_file_goes_to_its_target_and_keeps_link_mode_and_owner() -> Result<()> {
    let (mut stage, folder) = linked()?;
    let file = move_to(&stage, &folder)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    chown(&file, Some(65_534), Some(65_533))?;
    stage.daemon.start()?;
    stage.forwards()?;
    check_cli(&stage.daemon, &drain(&stage), 0, &[])?;
    let link = stage.daemon.config_path();
    assert_eq!(fs::read_link(&link)?, Path::new("elsewhere/real.toml"), "the link was replaced");
    let found = fs::metadata(&file)?;
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o640, 65_534, 65_533));
    assert_eq!(stage.daemon.get("/v1/config")?["text"], fs::read_to_string(&file)?);
    assert_eq!(fs::read_dir(&folder)?.count(), 1, "a draft is left");
    ensure!(!stage.daemon.log().contains("somebody else"), "{}", stage.daemon.log());
    stage.none_broke()
}

#[test]
fn change_that_is_in_force_but_cannot_be_kept_is_undone() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let (file, before) = (stage.daemon.config_path(), in_force(&stage)?);
    let text = fs::read(&file)?;
    let mounted = Mounted::on_itself(file.clone())?;
    check_cli(&stage.daemon, &drain(&stage), 1, &["fairlead.toml", "mounted by itself", "was undone"])?;
    assert_eq!((fs::read(&file)?, in_force(&stage)?), (text, before));
    stage.none_broke()?;
    stage.forwards()?;
    drop(mounted);
    check_cli(&stage.daemon, &drain(&stage), 0, &[])?;
    assert_eq!(in_force(&stage)?, ("drain".to_owned(), 2));
    stage.none_broke()
}

#[test]
fn configuration_that_is_no_file_any_more_is_named_and_the_one_in_force_stays() -> Result<()> {
    let stage = Stage::running(2)?;
    stage.forwards()?;
    let path = stage.daemon.config_path();
    let (kept, before) = (path.with_file_name("kept"), in_force(&stage)?);
    fs::rename(&path, &kept)?;
    type Make = fn(&Path) -> Result<()>;
    let cases: [(&str, Make); 5] = [
        ("no such file", |_| Ok(())),
        ("a directory", |path| Ok(fs::create_dir(path)?)),
        ("a link to nothing", |path| Ok(symlink("gone", path)?)),
        ("a link to itself", |path| Ok(symlink("fairlead.toml", path)?)),
        ("no regular file", |path| Ok(mkfifo(path, Mode::S_IRWXU)?)),
    ];
    for (what, make) in cases {
        make(&path)?;
        check_cli(&stage.daemon, "config reload", 1, &["fairlead.toml", what])?;
        check_cli(&stage.daemon, &drain(&stage), 1, &["fairlead.toml", what, "nothing was changed"])?;
        assert_eq!(stage.daemon.get("/v1/status")?["config"]["changed_on_disk"], true, "{what}");
        assert_eq!(in_force(&stage)?, before, "{what}");
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
    fs::rename(&kept, &path)?;
    check_cli(&stage.daemon, &drain(&stage), 0, &[])?;
    stage.none_broke()
}
