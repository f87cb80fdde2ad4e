//! The configuration file: the one truth, read whole, replaced whole.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use lb_core::config::{self, Checked, Config, Problem};

use crate::api::ApiError;
use crate::net;

/// A configuration and the text that it came from.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) text: String,
    pub(super) config: Config,
    pub(super) warnings: Vec<Problem>,
    /// Counts configurations put in force, from 1.
    pub(super) generation: u64,
    pub(super) at: SystemTime,
}

/// Understands a text as the configuration of generation `generation`, for this machine as it is now.
///
/// # Errors
/// All problems of the text, on this machine.
pub(super) async fn understand(path: &Path, text: String, generation: u64) -> Result<Loaded, ApiError> {
    let checked = net::check_here(&text).await;
    match checked.map_err(|error| ApiError::internal(format!("{error:#}"), ""))? {
        Ok(Checked { config, warnings }) => {
            Ok(Loaded { text, config, warnings, generation, at: SystemTime::now() })
        }
        Err(problems) => Err(ApiError::invalid_config(&path.display().to_string(), problems)),
    }
}

/// [`understand`] for a change to the text `before`, which is in force. What was wrong with that already (a route that
/// has gone since) does not keep anything else from being changed.
///
/// # Errors
/// All problems that the change brings.
pub(super) async fn understand_change(
    path: &Path,
    text: String,
    generation: u64,
    before: &str,
) -> Result<Loaded, ApiError> {
    let mut error = match understand(path, text.clone(), generation).await {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let known = understand(path, before.to_owned(), generation).await.err().map(|error| error.problems);
    let known = known.unwrap_or_default();
    error.problems.retain(|problem| !known.iter().any(|known| same(known, problem)));
    match config::parse(&text) {
        Ok(Checked { config, warnings }) if error.problems.is_empty() => {
            Ok(Loaded { text, config, warnings, generation, at: SystemTime::now() })
        }
        _ => Err(error),
    }
}

/// Whether two problems are one, maybe on different lines of two texts.
fn same(known: &Problem, problem: &Problem) -> bool {
    known.reason == problem.reason && known.remedy == problem.remedy
}

/// Reads the file.
///
/// # Errors
/// If it can't be read.
pub(super) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))
}

/// A new text of the file that is written, but not in force yet. Dropped without [`Draft::publish`] it leaves nothing.
pub(super) struct Draft {
    temporary: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Writes `text` beside the file, with the file's permissions, safely on disk.
    ///
    /// # Errors
    /// If the directory can't be written to, or the disk is full.
    pub(super) fn write(path: &Path, text: &str) -> Result<Self> {
        // A link is followed: it is the file behind it that changes.
        let path = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".fairlead-new");
        let draft = Self { temporary: path.with_file_name(name), path };
        let written = || -> std::io::Result<()> {
            let mut file = File::create(&draft.temporary)?;
            let mode = fs::metadata(&draft.path)?.permissions().mode();
            file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        written().with_context(|| format!("cannot write {}", draft.temporary.display()))?;
        Ok(draft)
    }

    /// Puts the text in the file's place.
    ///
    /// # Errors
    /// If the rename fails; the file is as it was then.
    pub(super) fn publish(self) -> Result<()> {
        fs::rename(&self.temporary, &self.path)
            .with_context(|| format!("cannot replace {}", self.path.display()))?;
        if let Some(directory) = self.path.parent() {
            File::open(directory).and_then(|directory| directory.sync_all()).ok();
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it was published.
        let _ = fs::remove_file(&self.temporary);
    }
}
