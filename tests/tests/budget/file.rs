//! The figures that are kept, and how new ones compare.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use toml_edit::Document;

/// Figures by name, and the kernel they are of.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Major and minor version: machine code and verifier differ between kernels.
    pub(crate) kernel: String,
    /// `PROGRAM.FIGURE`, or `PROGRAM.stack_bytes.FUNCTION`.
    pub(crate) values: BTreeMap<String, u64>,
}

/// How a figure compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// At most a tenth above.
    Fine,
    /// More than that.
    TooHigh,
    /// Not in the file.
    New,
    /// In the file, and not found any more.
    Gone,
}

/// One figure, found and kept.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    found: Option<u64>,
    kept: Option<u64>,
    pub(crate) verdict: Verdict,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("budget.toml")
}

impl Figures {
    /// None yet.
    ///
    /// # Errors
    /// The kernel's version cannot be read.
    pub(crate) fn of_this_kernel() -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's version")?;
        let kernel = release.trim().split('.').take(2).collect::<Vec<_>>().join(".");
        Ok(Self { kernel, ..Self::default() })
    }

    /// Those of the file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string(path()).context("tests/budget.toml; `cargo xtask verify --update`")?;
        let document = Document::parse(text).context("tests/budget.toml")?;
        let kernel =
            document.get("kernel").and_then(|kernel| kernel.as_str()).context("no kernel")?.to_owned();
        let figures = document.get("figures").and_then(|figures| figures.as_table_like());
        let figures = figures.context("no [figures]")?.iter();
        let value = |item: &toml_edit::Item| u64::try_from(item.as_integer()?).ok();
        let values = figures.map(|(name, item)| {
            Ok((name.to_owned(), value(item).with_context(|| format!("{name} is no number"))?))
        });
        Ok(Self { kernel, values: values.collect::<Result<_>>()? })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let mut text = format!(
            "# What the BPF programs cost. Written by `cargo xtask verify --update`; a figure more than a tenth above fails.\n\
             kernel = \"{}\"\n\n[figures]\n",
            self.kernel
        );
        for (name, value) in &self.values {
            writeln!(text, "\"{name}\" = {value}")?;
        }
        fs::write(path(), text).context("cannot write tests/budget.toml")
    }

    /// Every figure of both.
    pub(crate) fn compare(&self, kept: &Self) -> Vec<Row> {
        let mut names: Vec<&String> = self.values.keys().chain(kept.values.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let row = |name: &String| {
            let (found, kept) = (self.values.get(name).copied(), kept.values.get(name).copied());
            let verdict = match (found, kept) {
                (Some(found), Some(kept)) if found * 10 <= kept * 11 => Verdict::Fine,
                (Some(_), Some(_)) => Verdict::TooHigh,
                (_, None) => Verdict::New,
                (None, _) => Verdict::Gone,
            };
            Row { name: name.clone(), found, kept, verdict }
        };
        names.into_iter().map(row).collect()
    }
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::TooHigh => "TOO HIGH",
            Self::New => "NEW",
            Self::Gone => "GONE",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let (found, kept) = (shown(self.found), shown(self.kept));
        write!(f, "{:<9} {:<64} {found:>8}  (budget {kept})", self.verdict.word(), self.name)
    }
}

/// One object with everything; `ok` as the process says it, too.
pub(crate) fn json(found: &Figures, rows: &[Row], ok: bool) -> Value {
    let figures = rows.iter().map(
        |row| json!({"name": row.name, "value": row.found, "budget": row.kept, "verdict": row.verdict.word()}),
    );
    json!({"ok": ok, "kernel": found.kernel, "figures": figures.collect::<Vec<_>>()})
}
