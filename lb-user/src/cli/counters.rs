//! `fairlead counters`.

use clap::Args;

use super::output::{Align, table};
use super::session::Session;
use crate::api::types::{Counter, CounterList};

const EXAMPLES: &str = "\
Every packet counts in exactly one verdict or drop; events count beside.

Examples:
  fairlead counters
  fairlead counters --all
  fairlead -o json counters | jq '.counters[] | select(.kind == \"drop\" and .packets > 0)'";

/// Arguments of `counters`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CountersArgs {
    /// Those at zero too
    #[arg(long)]
    all: bool,
}

pub(super) fn execute(args: CountersArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    session.show("/v1/counters", |CounterList { counters }: &CounterList| {
        render(counters.iter().filter(|counter| args.all || counter.packets > 0))
    })
}

/// Table of counters.
pub(super) fn render<'a>(counters: impl Iterator<Item = &'a Counter>) -> String {
    let columns =
        [("KIND", Align::Left), ("NAME", Align::Left), ("PACKETS", Align::Right), ("MEANING", Align::Left)];
    let rows = counters.map(|counter| {
        [
            counter.kind.word().to_owned(),
            counter.name.clone(),
            counter.packets.to_string(),
            counter.description.trim().to_owned(),
        ]
    });
    table(columns, rows)
}
