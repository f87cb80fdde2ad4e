//! The configuration file: what it says, read and checked with every problem reported at once.
//!
//! [`parse`] needs only the text; [`check_host`] compares the result with what the caller found on the machine.

mod check;
mod convert;
mod host;
mod model;
mod problem;
mod status;
mod tables;
mod walk;

pub use host::{HostFacts, HostInterface, RouteFact, check_host};
pub use model::{
    AdminState, AttachMode, Backend, Check, CheckKind, CheckTarget, Cluster, Config, FlowSync, HaGroup,
    HaMode, HighAvailability, Interface, Limits, Metrics, Mode, Protocol, Role, Service, SyncMode, TableSize,
    Timeouts, UnknownPort, VrrpChecksum, WhenAllDown,
};
pub use problem::Problem;
pub use status::{BadStatusRanges, StatusRanges};

/// A configuration that may be put in force, with what its author should still know.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The configuration with all defaults filled in.
    pub config: Config,
    /// Things that work but are probably not meant.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file, without looking at the host it is for.
///
/// # Errors
/// Every problem found, in the order of the file: syntax, types, unknown keys, values out of range, and services that
/// contradict each other or do not fit the limits.
pub fn parse(text: &str) -> Result<Checked, Vec<Problem>> {
    let mut notes = problem::Notes::new(text);
    let Some(config) = walk::walk(text, &mut notes) else { return Err(notes.into_problems()) };
    let warnings = check::check(&config, &mut notes);
    if notes.is_clean() { Ok(Checked { config, warnings }) } else { Err(notes.into_problems()) }
}

/// What can be read of a file that [`parse`] refuses, with placeholders for the rest; `None` if it is not TOML.
///
/// Good for nothing but [`check_host`], which passes over placeholders: so that whoever corrects the file hears of
/// everything at once.
#[must_use]
pub fn readable_part(text: &str) -> Option<Config> {
    walk::walk(text, &mut problem::Notes::new(text))
}

/// The line of a key such as `limits.flows`, counted from 1; that of its section if the key itself is not in the file.
#[must_use]
pub fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut notes = problem::Notes::new(text);
    let _ = walk::walk(text, &mut notes);
    notes.line_of(key)
}

#[cfg(test)]
mod tests;
