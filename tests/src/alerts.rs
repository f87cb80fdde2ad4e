//! The alert rules that come with the project, as text: which alerts there are and which metrics they rest on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One alert, as its lines of the file.
#[derive(Debug, Clone)]
pub struct Alert {
    /// Its name; several rules may have it.
    pub name: String,
    /// From the line with its name to the next one.
    pub text: String,
}

impl Alert {
    /// What stands on the line of this key.
    ///
    /// # Errors
    /// There is none.
    pub fn value(&self, key: &str) -> Result<&str> {
        let lines = self.text.lines().map(str::trim);
        let value = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(':')).next();
        let value = value.with_context(|| format!("{} has no {key}", self.name))?.trim();
        ensure!(!value.is_empty(), "{}: nothing stands behind {key}", self.name);
        Ok(value)
    }
}

/// The file of the rules.
#[must_use]
pub fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/prometheus/fairlead-alerts.yml")
}

/// The files that test them.
///
/// # Errors
/// The folder cannot be read.
pub fn tests() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// All alerts, in the order of the file.
///
/// # Errors
/// It cannot be read.
pub fn all() -> Result<Vec<Alert>> {
    let text = fs::read_to_string(file())?;
    let alerts = text.split("- alert: ").skip(1).map(|text| {
        let name = text.lines().next().unwrap_or_default().trim().to_owned();
        Alert { name, text: text.to_owned() }
    });
    Ok(alerts.collect())
}

/// Metrics that the rules name, in what they compute and in what they tell people.
///
/// # Errors
/// The file cannot be read.
pub fn metrics() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(file())?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    Ok(words.filter(|word| word.starts_with("fairlead_")).map(str::to_owned).collect())
}
