//! What the documentation says of names, meanings and configuration must be what the code says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lb_common::counters::Event;
use lb_common::decap::DecapOutcome;
use lb_common::{DropReason, Verdict};
use lb_core::config;
use lb_user::metrics::FAMILIES;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> Result<String> {
    fs::read_to_string(workspace().join(name)).with_context(|| format!("cannot read {name}"))
}

/// First column (without backquotes) and second one of the table below the heading `title`.
fn table(text: &str, title: &str) -> Result<BTreeMap<String, String>> {
    let (_, below) =
        text.split_once(&format!("\n### {title}\n")).with_context(|| format!("no heading {title}"))?;
    let section = below.split("\n#").next().unwrap_or(below);
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, meaning, ..] = cells[..] else { bail!("{title}: too few columns: {line}") };
        let name = name.trim_matches('`').to_owned();
        ensure!(
            rows.insert(name.clone(), meaning.to_owned()).is_none(),
            "{title}: {name} stands there twice"
        );
    }
    Ok(rows)
}

fn check(title: &str, expected: impl IntoIterator<Item = (&'static str, &'static str)>) -> Result<()> {
    let mut rows = table(&document("docs/OPERATIONS.md")?, title)?;
    for (name, meaning) in expected {
        let meaning = meaning.trim();
        match rows.remove(name) {
            Some(written) => {
                ensure!(written == meaning, "{title}: {name} says \"{written}\", the code says \"{meaning}\"")
            }
            None => bail!("{title}: this row is missing: | `{name}` | {meaning} | |"),
        }
    }
    ensure!(rows.is_empty(), "{title}: the code knows none of these: {:?}", rows.keys());
    Ok(())
}

#[test]
fn every_counter_is_explained_in_operations_in_the_words_of_the_code() -> Result<()> {
    check("Verdicts", Verdict::ALL.iter().map(|one| (one.name(), one.description())))?;
    check("Drop reasons", DropReason::ALL.iter().map(|one| (one.name(), one.description())))?;
    check("Events", Event::ALL.iter().map(|one| (one.name(), one.description())))?;
    check("On a backend", DecapOutcome::ALL.iter().map(|one| (one.name(), one.description())))
}

#[test]
fn every_metric_stands_in_operations_with_kind_and_labels() -> Result<()> {
    check("All metrics", FAMILIES.iter().map(|family| (family.name(), family.help())))?;
    let operations = document("docs/OPERATIONS.md")?;
    for family in FAMILIES {
        let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, help, kind) = (family.name(), family.help(), family.kind().word());
        let row = format!("| `{name}` | {help} | {kind} | {} |\n", labels.join(", ")).replace("|  |", "| |");
        ensure!(operations.contains(&row), "docs/OPERATIONS.md has no row {row}");
    }
    Ok(())
}

/// What is between ```` ```toml ```` and its end.
fn toml_blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

#[test]
fn every_configuration_that_is_shown_is_accepted() -> Result<()> {
    let mut shown = Vec::new();
    for entry in fs::read_dir(workspace().join("config"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            shown.push((path.display().to_string(), fs::read_to_string(&path)?));
        }
    }
    ensure!(shown.len() >= 2, "config/ has lost its files");
    for name in ["README.md", "docs/OPERATIONS.md"] {
        shown.extend(toml_blocks(&document(name)?).map(|block| (name.to_owned(), block.to_owned())));
    }
    for (name, text) in shown {
        if let Err(problems) = config::parse(&text) {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bail!("{name}:\n{}\n---\n{text}", problems.join("\n"));
        }
    }
    Ok(())
}

#[test]
fn first_configuration_of_the_readme_is_the_minimal_one() -> Result<()> {
    let readme = document("README.md")?;
    let shown = toml_blocks(&readme).next().context("the README shows no configuration")?;
    let parsed = |text: &str| config::parse(text).map_err(|problems| anyhow::anyhow!("{problems:?}"));
    ensure!(parsed(shown)?.config == parsed(&document("config/minimal.toml")?)?.config, "they differ");
    Ok(())
}

#[test]
fn every_key_of_the_reference_stands_in_the_table_of_operations() -> Result<()> {
    let operations = document("docs/OPERATIONS.md")?;
    let mut section = String::new();
    for line in document("config/reference.toml")?.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let row = format!("| `{section}.{key}` |");
            ensure!(operations.contains(&row), "docs/OPERATIONS.md has no row {row}");
        }
    }
    Ok(())
}

/// All Rust sources below a folder, one after the other.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            text += &sources(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path)?;
        }
    }
    Ok(text)
}

#[test]
fn every_test_that_the_ledger_of_the_rfc_names_exists() -> Result<()> {
    let code = sources(&workspace().join("lb-core"))? + &sources(&workspace().join("tests"))?;
    let ledger = document("docs/RFC9568.md")?;
    // Names of tests are sentences; other names have fewer words.
    let is_test = |word: &&str| {
        word.split('_').count() > 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named: Vec<&str> = ledger.split('`').skip(1).step_by(2).filter(is_test).collect();
    ensure!(named.len() > 50, "docs/RFC9568.md has lost its tests");
    for name in named {
        ensure!(code.contains(&format!("fn {name}(")), "docs/RFC9568.md names {name}, which does not exist");
    }
    Ok(())
}

#[test]
fn links_between_documents_lead_somewhere() -> Result<()> {
    let mut documents = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    for folder in ["docs", "docs/adr"] {
        for entry in fs::read_dir(workspace().join(folder))? {
            documents.push(Path::new(folder).join(entry?.file_name()));
        }
    }
    for name in documents.iter().filter(|name| name.extension().is_some_and(|extension| extension == "md")) {
        let text = document(&name.to_string_lossy())?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or(target);
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let folder = name.parent().unwrap_or(Path::new(""));
            let there = workspace().join(folder).join(path);
            ensure!(there.exists(), "{}: {target} leads nowhere", name.display());
        }
    }
    Ok(())
}
