//! `fairlead config …`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use hyper::Method;
use lb_core::config::{self, Checked, Config, Problem};
use serde::Serialize;

use super::backend::changed;
use super::failure::{EXIT_INVALID_CONFIG, EXIT_OK};
use super::options::Format;
use super::output::counted;
use super::session::Session;
use crate::api::ApiError;
use crate::api::types::ConfigReply;

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead config check /etc/fairlead/fairlead.toml
  fairlead config reload
  fairlead config show";

const CHECK_ABOUT: &str = "\
Check a configuration file and report everything wrong with it at once. No daemon is needed and nothing is changed. \
The file is compared with this machine too: interfaces, addresses and the routes to the backends.";

const CHECK_EXAMPLES: &str = "\
Exit code 3 if there are problems; warnings alone are no problem.

Examples:
  fairlead config check /etc/fairlead/fairlead.toml
  fairlead config check new.toml --netns balancer
  fairlead config check new.toml --offline      # on another machine than the balancer";

const SHOW_EXAMPLES: &str = "\
Examples:
  fairlead config show
  fairlead -o json config show | jq .config.services     # with every default filled in";

const RELOAD_EXAMPLES: &str = "\
A file with problems changes nothing: the configuration in force stays.

Examples:
  fairlead config check /etc/fairlead/fairlead.toml && fairlead config reload";

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration file
    #[command(long_about = CHECK_ABOUT, after_help = CHECK_EXAMPLES)]
    Check {
        /// The file
        file: PathBuf,
        /// Network namespace to compare with, by name or path
        #[arg(long, value_name = "NAME", conflicts_with = "offline")]
        netns: Option<String>,
        /// Do not compare with this machine
        #[arg(long)]
        offline: bool,
    },
    /// Show the configuration that is in force
    #[command(after_help = SHOW_EXAMPLES)]
    Show,
    /// Put the file in force as it is on disk now
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,
}

impl ConfigCommand {
    pub(super) fn netns(&self) -> Option<&str> {
        match self {
            Self::Check { netns, .. } => netns.as_deref(),
            _ => None,
        }
    }
}

pub(super) fn execute(command: ConfigCommand, session: &mut Session<'_>) -> anyhow::Result<u8> {
    match command {
        ConfigCommand::Check { file, offline, .. } => return check(&file, offline, session),
        ConfigCommand::Show => session.show("/v1/config", show)?,
        ConfigCommand::Reload => session.send(Method::POST, "/v1/config/reload", None::<&()>, changed)?,
    }
    Ok(EXIT_OK)
}

/// Result of `config check` as JSON.
#[derive(Debug, Serialize)]
struct CheckReport {
    ok: bool,
    file: String,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

fn check(file: &Path, offline: bool, session: &mut Session<'_>) -> anyhow::Result<u8> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.display().to_string();
    let checked = if offline { config::parse(&text) } else { check_here(&text)? };
    let (problems, warnings, counted) = match checked {
        Err(problems) => (problems, Vec::new(), String::new()),
        Ok(Checked { config, warnings }) => (Vec::new(), warnings, contents(&config)),
    };
    if problems.is_empty() || session.format() == Format::Json {
        let report = CheckReport { ok: problems.is_empty(), file: name, problems, warnings };
        session.print_value(&report, |report| good(report, &counted))?;
        return Ok(if report.ok { EXIT_OK } else { EXIT_INVALID_CONFIG });
    }
    Err(ApiError {
        message: format!("{name} has {}", problem_count(&problems)),
        ..ApiError::invalid_config(&name, problems)
    }
    .into())
}

fn check_here(text: &str) -> anyhow::Result<Result<Checked, Vec<Problem>>> {
    crate::net::check_here_blocking(text).context("--offline checks the file alone")
}

fn problem_count(problems: &[Problem]) -> String {
    counted(problems.len(), "problem")
}

fn contents(config: &Config) -> String {
    let backends = config.services.iter().map(|service| service.backends.len()).sum();
    format!("{}, {}", counted(config.services.len(), "service"), counted(backends, "backend"))
}

fn good(report: &CheckReport, contents: &str) -> String {
    let mut text = format!("{} is good: {contents}\n", report.file);
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

fn show(reply: &ConfigReply) -> String {
    let stale = if reply.changed_on_disk { "; the file on disk says something else by now" } else { "" };
    format!(
        "# {}, generation {}, loaded {}{stale}\n{}",
        reply.file, reply.generation, reply.loaded, reply.text
    )
}
