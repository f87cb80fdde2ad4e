//! The machine xtask runs on: where the workspace is, which programs exist, how to run one as root.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the workspace's Cargo.toml.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The folder cargo builds into (`CARGO_TARGET_DIR`, else `target` in the workspace).
pub(crate) fn target_dir() -> PathBuf {
    let dir = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    if dir.is_absolute() { dir } else { workspace().join(dir) }
}

/// A cargo command that runs in the workspace, the same cargo that started xtask.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).stdin(Stdio::null());
    command
}

/// The path of `program` on PATH, or in the folders of system tools that a user's PATH often lacks.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    Some(home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?.join("bin"))
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs as root: as it is when xtask is root, else by sudo.
///
/// # Errors
/// Neither root nor sudo: the message says what to do.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = find_program("sudo") else {
        bail!("`{program}` must run as root and there is no sudo here; run this command as root");
    };
    let mut command = Command::new(sudo);
    command.arg(program);
    Ok(command)
}

/// Runs a command to its end with its output on stderr, so that stdout stays ours.
///
/// # Errors
/// It could not be started, or ended with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = shell_line(command);
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{line}`; is it installed?"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// The command as one would type it, for messages.
pub(crate) fn shell_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
