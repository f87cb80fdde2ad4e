//! `fairlead metrics`.

use super::session::Session;

/// Examples of `metrics`.
pub const EXAMPLES: &str = "\
The text is the same with `-o json`, and the same as on the listener of `[metrics]`.

Examples:
  fairlead metrics | grep dropped
  fairlead metrics | promtool check metrics";

pub(super) fn execute(session: &mut Session<'_>) -> anyhow::Result<()> {
    session.show_text("/metrics")
}
