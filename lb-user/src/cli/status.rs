//! `fairlead status`.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::output::{Align, bytes, counted, duration, or_dash, percent, table};
use super::session::Session;
use crate::api::types::{ServicesSummary, Status};

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead status
  fairlead status --instance edge
  fairlead -o json status | jq .flow_table.used_percent";

pub(super) fn execute(session: &mut Session<'_>) -> anyhow::Result<()> {
    session.show("/v1/status", |status: &Status| render(status, SystemTime::now()))
}

fn render(status: &Status, now: SystemTime) -> String {
    let Status { config, limits, flow_table, .. } = status;
    let adopted = if status.adopted { ", took over from an earlier daemon" } else { "" };
    let stale = if config.changed_on_disk { ", changed on disk since: `fairlead config reload`" } else { "" };
    let lines = [
        (
            "daemon",
            format!(
                "fairlead {}, instance {}, process {}, up {}{adopted}",
                status.version,
                status.instance,
                status.pid,
                duration(Duration::from_secs(status.uptime_s))
            ),
        ),
        (
            "config",
            format!(
                "{}, generation {}, loaded {} ago{stale}",
                config.file,
                config.generation,
                duration(config.loaded.age(now))
            ),
        ),
        ("services", summary(&status.services)),
        (
            "flows",
            format!(
                "{} of {} entries ({}), {} unconfirmed, {} exceptions; so far {} evicted, {} without a place, {} guarded",
                flow_table.used,
                flow_table.capacity,
                percent(flow_table.used_percent),
                flow_table.unconfirmed,
                flow_table.exceptions,
                flow_table.evicted,
                flow_table.unstored,
                flow_table.guarded
            ),
        ),
        (
            "maps",
            format!(
                "{}: services {}/{}, backends {}/{}, table entries {}/{}",
                bytes(limits.memory_bytes),
                limits.services_used,
                limits.services,
                limits.backends_used,
                limits.backends,
                limits.table_slots_used,
                limits.table_slots
            ),
        ),
    ];
    let mut text = String::new();
    for (title, line) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title:<9} {line}");
    }
    if let Some(deadline) = status.confirm_deadline {
        let left = duration(deadline.until(now));
        let _ = writeln!(text, "trial     {left} left: run `fairlead confirm`, or the program is detached");
    }
    text.push('\n');
    text.push_str(&interfaces(status));
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn interfaces(status: &Status) -> String {
    let columns = [
        ("INTERFACE", Align::Left),
        ("INDEX", Align::Right),
        ("ROLE", Align::Left),
        ("MODE", Align::Left),
        ("CONFIGURED", Align::Left),
        ("PROGRAM", Align::Right),
        ("LOST", Align::Right),
        ("NOTE", Align::Left),
    ];
    let rows = status.interfaces.iter().map(|interface| {
        [
            interface.name.clone(),
            interface.index.to_string(),
            interface.role.word().to_owned(),
            interface.mode.word().to_owned(),
            interface.configured.to_string(),
            or_dash((interface.program_id != 0).then_some(interface.program_id)),
            (interface.redirect_refused + interface.redirect_lost).to_string(),
            interface.note.clone().unwrap_or_default(),
        ]
    });
    table(columns, rows)
}

/// `2 services, 5 backends: 4 up, 1 draining`.
fn summary(services: &ServicesSummary) -> String {
    let states = [
        (services.up, "up"),
        (services.down, "down"),
        (services.unknown, "unknown"),
        (services.unchecked, "unchecked"),
        (services.draining, "draining"),
        (services.disabled, "disabled"),
    ];
    let states: Vec<_> = states
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let colon = if states.is_empty() { "" } else { ": " };
    let count = |count: u32, noun| counted(count as usize, noun);
    format!(
        "{}, {}{colon}{}",
        count(services.services, "service"),
        count(services.backends, "backend"),
        states.join(", ")
    )
}
