//! Tables of the file: finding keys, sub-tables and lists of tables, and complaining about what does not belong.

use std::ops::Range;

use toml_edit::{Item, TableLike, Value};

use super::problem::Notes;

/// Why a value cannot be used.
pub(super) struct Complaint {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Complaint {
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// One table of the file with its path.
pub(super) struct Section<'t> {
    table: &'t dyn TableLike,
    path: String,
}

impl<'t> Section<'t> {
    /// Opens a table: notes where it and its keys stand and reports those it should not have.
    pub(super) fn open(
        table: &'t dyn TableLike,
        path: String,
        span: Option<Range<usize>>,
        known: &[&str],
        notes: &mut Notes,
    ) -> Self {
        let section = Self { table, path };
        if let Some(span) = span {
            notes.found(&section.path, notes.line_at(span.start));
        }
        for (name, item) in table.iter() {
            let at = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
            let path = section.path_of(name);
            if let Some(at) = at {
                notes.found(&path, notes.line_at(at.start));
            }
            if !known.contains(&name) {
                notes.problem(&path, "unknown key", suggestion(name, known));
            }
        }
        section
    }

    /// Path of a key of this table.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key; `default` if it is missing, or cannot be used (which is reported).
    pub(super) fn optional<T>(
        &self,
        key: &str,
        default: T,
        notes: &mut Notes,
        read: impl FnOnce(&Item) -> Result<T, Complaint>,
    ) -> T {
        match self.table.get(key).map(read) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(complaint)) => {
                notes.problem(&self.path_of(key), complaint.reason, complaint.remedy);
                default
            }
        }
    }

    /// The value of a key that must be there; `placeholder` if it is not, or cannot be used (which is reported).
    pub(super) fn required<T>(
        &self,
        key: &str,
        placeholder: T,
        remedy: &str,
        notes: &mut Notes,
        read: impl FnOnce(&Item) -> Result<T, Complaint>,
    ) -> T {
        if !self.has(key) {
            notes.problem(&self.path_of(key), format!("`{key}` is missing"), remedy);
        }
        self.optional(key, placeholder, notes, read)
    }

    /// The sub-table of this name, opened.
    pub(super) fn table(&self, key: &str, known: &[&str], notes: &mut Notes) -> Option<Self> {
        let item = self.table.get(key)?;
        let path = self.path_of(key);
        let Some(table) = item.as_table_like() else {
            notes.problem(
                &path,
                format!("expected a table, found {}", item.type_name()),
                "write it as a table of its own",
            );
            return None;
        };
        Some(Self::open(table, path, item.span(), known, notes))
    }

    /// The list of tables of this name, opened; a list that is not there is empty.
    pub(super) fn tables(&self, key: &str, known: &[&str], notes: &mut Notes) -> Vec<Self> {
        let path = self.path_of(key);
        let mut found: Vec<(&'t dyn TableLike, Option<Range<usize>>)> = Vec::new();
        match self.table.get(key) {
            None => {}
            Some(Item::ArrayOfTables(list)) => {
                found.extend(list.iter().map(|table| (table as &dyn TableLike, table.span())));
            }
            Some(Item::Value(Value::Array(list))) => {
                for value in list {
                    let Value::InlineTable(table) = value else {
                        let reason = format!("expected a list of tables, found {} in it", value.type_name());
                        notes.problem(&path, reason, format!("write each one as [[{}]]", plain(&path)));
                        continue;
                    };
                    found.push((table, table.span()));
                }
            }
            Some(other) => {
                let reason = format!("expected a list of tables, found {}", other.type_name());
                notes.problem(&path, reason, format!("write [[{}]] in double brackets", plain(&path)));
            }
        }
        let open = |(index, (table, span))| Self::open(table, format!("{path}[{index}]"), span, known, notes);
        found.into_iter().enumerate().map(open).collect()
    }
}

/// A path without list positions: the header to write in the file.
fn plain(path: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        inside = (inside || *c == '[') && *c != ']';
        !inside && *c != ']'
    };
    path.chars().filter(keep).collect()
}

/// The remedy for a word that is none of the known ones.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let limit = 1 + word.len() / 3;
    let nearest = known.iter().map(|known| (distance(word, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= limit => format!("did you mean `{nearest}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// Edits (insert, delete, replace) between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_lists_what_is_known() {
        let known = ["address", "weight", "state"];
        for (word, remedy) in [
            ("adress", "did you mean `address`?"),
            ("wieght", "did you mean `weight`?"),
            ("banana", "known here: address, weight, state"),
        ] {
            assert_eq!(suggestion(word, &known), remedy);
        }
    }

    #[test]
    fn a_header_has_no_positions() {
        assert_eq!(plain("service[12].backend"), "service.backend");
    }
}
