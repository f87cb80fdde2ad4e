//! Where cargo put the programs that the lab starts.

use anyhow::{Context, Result, bail};
use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Takes the programs from this folder from now on; the first call wins.
pub fn use_folder(folder: PathBuf) {
    // Set by the demo before anything starts; a second call would mean two builds in one run.
    let _ = FOLDER.set(folder);
}

/// The path of `fairlead` or `lab-peer`: in [`use_folder`]'s folder, else beside the running program (tests run from
/// `deps`, one level below).
///
/// # Errors
/// It has not been built; the message says how.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = match FOLDER.get() {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let path = folder.join(name);
    if !path.is_file() {
        bail!("{} is not there; build it: cargo build -p lb-user -p fairlead-tests --bins", path.display());
    }
    Ok(path)
}

fn own_folder() -> Result<PathBuf> {
    let own = env::current_exe().context("the path of the running program")?;
    let folder = own.parent().context("the running program is in no folder")?;
    let below = folder.ends_with("deps") || folder.ends_with("examples");
    let folder = if below { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}
