//! `fairlead metrics`.

use super::session::Session;

/// Examples of `metrics`.
pub const EXAMPLES: &str = "\
The text is the same with `-o json`. The listener of `[metrics]` gives one that is up to a second old.

Examples:
  fairlead metrics | grep dropped
  fairlead metrics | promtool check metrics";

pub(super) fn execute(session: &mut Session<'_>) -> anyhow::Result<()> {
    session.show_text("/metrics")
}
