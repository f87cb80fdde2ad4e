//! What the fuzz targets run. They are here so that ordinary tests replay the corpus and every regression.
//!
//! A target takes any bytes and panics when something that must hold does not.

pub mod config;
pub mod journey;

use std::path::{Path, PathBuf};

/// Inputs of a target that are kept in the repository, corpus and regressions, in the order of their names.
///
/// # Panics
/// If a folder cannot be read, or there is none: a replay of nothing would show nothing.
#[must_use]
pub fn kept_inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let mut files = Vec::new();
    for folder in [root.join("corpus").join(target), root.join("regressions").join(target)] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        files.extend(entries.map(|entry| entry.expect("a readable folder").path()));
    }
    files.sort();
    assert!(!files.is_empty(), "there is no input of target {target} below {}", root.display());
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, bytes)
    };
    files.into_iter().map(read).collect()
}
