//! Files of the state directory: replaced whole, and set aside when they cannot be understood.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// What a file has to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// The daemon: as much as the maps do.
    Daemon,
    /// A power cut.
    Machine,
}

/// Replaces a file whole, mode 0600: by a temporary file beside it and a rename, so that nobody ever reads half of it.
/// Makes the directory if it is missing.
///
/// # Errors
/// If the directory can't be made or written to, or something that is no file has the name; the old file is as it was.
pub(super) fn replace(path: &Path, content: &[u8], survives: Survives) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| {
            format!("cannot create {}; name another with --state-dir", directory.display())
        })?;
    }
    let temporary = path.with_extension("new");
    let written = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        if survives == Survives::Machine {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    written().with_context(|| {
        // Half a file is of no use to anybody.
        let _ = fs::remove_file(&temporary);
        format!("cannot write {}; free space, or name another directory with --state-dir", path.display())
    })
}

/// Renames what is there, be it a directory, to `NAME.corrupt-SECONDS`, or to the next such name that is free: nothing
/// that was set aside before is lost.
///
/// # Errors
/// If the directory can't be written to.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let names = (now..).map(|stamp| path.with_extension(format!("corrupt-{stamp}")));
    let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
    let aside = free.next().context("no name is free")?;
    fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
    Ok(aside)
}
