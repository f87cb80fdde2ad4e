//! Tables and quantities for people.

use std::fmt::Display;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// Where a column's values stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table without rules, so that `grep`, `awk` and eyes take it alike. Without rows only the header.
#[must_use]
pub fn table<const N: usize>(
    columns: [(&str, Align); N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    table_of(&columns, rows)
}

/// As [`table`], for columns whose number depends on the occasion.
#[must_use]
pub fn table_of(
    columns: &[(&str, Align)],
    rows: impl IntoIterator<Item = impl Into<comfy_table::Row>>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(columns.iter().map(|(title, _)| title));
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, align)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *align == Align::Right {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// `1.5 GiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `33.3 %`.
#[must_use]
pub fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

/// `2h 3m 4s`: whole seconds, the two largest units.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// The value, or a dash.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `1 backend`, `2 backends`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let columns = [("NAME", Align::Left), ("FLOWS", Align::Right)];
        let rows = [["a".to_owned(), "12345".to_owned()], ["longer".to_owned(), "7".to_owned()]];
        assert_eq!(table(columns, rows), "NAME    FLOWS\na       12345\nlonger      7\n");
        assert_eq!(table(columns, []), "NAME  FLOWS\n");
    }

    #[test]
    fn quantities_read_well() {
        for (count, expected) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16.0 EiB")] {
            assert_eq!(bytes(count), expected);
        }
        for (millis, expected) in [(0, "0s"), (61_900, "1m 1s"), (90_061_000, "1day 1h")] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(
            (counted(1, "backend"), counted(0, "backend")),
            ("1 backend".to_owned(), "0 backends".to_owned())
        );
    }
}
