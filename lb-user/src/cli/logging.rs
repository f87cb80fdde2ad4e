//! The log on stderr.

use std::io::IsTerminal;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Target of log lines from the BPF program. They have a level of their own: whoever asked for them wants to see them.
pub(crate) const BPF_TARGET: &str = "bpf";

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, Args)]
pub struct LogOptions {
    /// off, error, warn, info, debug or trace; or directives such as `info,lb_user::probe=debug`
    #[arg(long, value_name = "LEVEL", env = "FAIRLEAD_LOG", default_value = "info", value_parser = directives)]
    pub log_level: String,
    /// How to write log lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

impl LogOptions {
    /// Starts logging to stderr, lines of the BPF program from level `bpf` on. A second call has no effect.
    pub fn init(&self, bpf: LevelFilter) {
        // The directives were checked when the arguments were read.
        let filter = EnvFilter::new(format!("{BPF_TARGET}={bpf},{}", expanded(&self.log_level)));
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let _ = match self.log_format {
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
    }
}

/// A plain level means Fairlead's own lines; libraries then keep to warnings.
fn expanded(level: &str) -> String {
    match LevelFilter::from_str(level) {
        Ok(level) if level > LevelFilter::WARN => {
            format!("warn,lb_user={level},lb_core={level},fairlead={level}")
        }
        Ok(level) => level.to_string(),
        Err(_) => level.to_owned(),
    }
}

/// A word without `=` must be a level: the filter would take `inof` for the name of a module.
fn directives(text: &str) -> Result<String, String> {
    let is_level = |word: &str| !word.is_empty() && LevelFilter::from_str(word).is_ok();
    let plausible = text.split(',').all(|part| part.contains('=') || is_level(part));
    if plausible && EnvFilter::builder().parse(expanded(text)).is_ok() {
        return Ok(text.to_owned());
    }
    Err("write off, error, warn, info, debug or trace, or directives such as `info,lb_user=debug`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_level_leaves_libraries_at_warnings() {
        for (level, expected) in [
            ("debug", "warn,lb_user=debug,lb_core=debug,fairlead=debug"),
            ("error", "error"),
            ("OFF", "off"),
            ("info,hyper=trace", "info,hyper=trace"),
        ] {
            assert_eq!(expanded(level), expected);
        }
    }

    #[test]
    fn nonsense_is_refused_when_arguments_are_read() {
        for (text, good) in [
            ("info", true),
            ("lb_user::probe=debug", true),
            ("", false),
            ("loud", false),
            ("lb_user=loud", false),
        ] {
            assert_eq!(directives(text).is_ok(), good, "{text}");
        }
    }
}
