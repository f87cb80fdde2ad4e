//! What is wrong with a configuration, and the notebook in which a reading pass collects it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing wrong (or, as a warning, doubtful) in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Line in the file, counted from 1; `None` where a key is missing altogether.
    pub line: Option<usize>,
    /// Path of the key, such as `service[2].backend[0].address`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, with the offending value.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// Problems so far, and on which line each key stands.
pub(super) struct Notes {
    /// Byte offset at which each line starts.
    line_starts: Vec<usize>,
    lines: BTreeMap<String, usize>,
    bad: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Notes {
    pub(super) fn new(text: &str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1)).collect();
        Self { line_starts, lines: BTreeMap::new(), bad: BTreeSet::new(), problems: Vec::new() }
    }

    /// Line of a byte offset, counted from 1.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    /// Remembers where a key stands.
    pub(super) fn found(&mut self, key: &str, line: usize) {
        self.lines.insert(key.to_owned(), line);
    }

    /// Line of a key; of the nearest enclosing section if the key itself is not in the file.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind('.')?];
        }
    }

    /// Whether the key is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// Whether the value under this key could be used: a later check of a placeholder would only mislead.
    pub(super) fn is_good(&self, key: &str) -> bool {
        !self.bad.contains(key)
    }

    pub(super) fn problem(&mut self, key: &str, reason: impl Into<String>, remedy: impl Into<String>) {
        let problem = self.describe(key, reason, remedy);
        self.bad.insert(key.to_owned());
        self.problems.push(problem);
    }

    /// A problem with its line filled in, not yet counted against the file.
    pub(super) fn describe(
        &self,
        key: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Problem {
        Problem { line: self.line_of(key), key: key.to_owned(), reason: reason.into(), remedy: remedy.into() }
    }

    /// The same lines and the same unusable values, with nothing noted yet.
    pub(super) fn without_problems(self) -> Self {
        Self { problems: Vec::new(), ..self }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems in the order of the file.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(0));
        self.problems
    }
}
