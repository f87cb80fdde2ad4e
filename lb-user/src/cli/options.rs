//! Options that several commands share, and the places they default to.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Not a name for an instance: its pin directory belongs to `fairlead decap`.
const DECAPSULATORS: &str = "decap";

/// Longest name of an instance: it is part of socket and pin paths.
const MAX_INSTANCE_NAME: usize = 32;

/// Heading of the options that every command takes.
const HEADING: &str = "Options of every command";

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// The answer of the API, unchanged; errors as JSON on stderr.
    Json,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Which daemon: instances have socket, pins and state of their own
    #[arg(
        long,
        global = true,
        value_name = "NAME", default_value = "main", value_parser = instance_name,
        help_heading = HEADING
    )]
    pub instance: String,
    /// Unix socket of the daemon [default: RUN_DIR/INSTANCE.sock]
    #[arg(long, global = true, value_name = "PATH", env = "FAIRLEAD_SOCKET", help_heading = HEADING)]
    pub socket: Option<PathBuf>,
    /// Directory of the sockets
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "FAIRLEAD_RUN_DIR",
        default_value = "/run/fairlead",
        hide_short_help = true,
        help_heading = HEADING
    )]
    pub run_dir: PathBuf,
    /// How to write answers: json prints those of the API unchanged, but for `trace` (one object a line) and `metrics`
    /// (text)
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table", help_heading = HEADING)]
    pub output: Format,
}

impl Global {
    /// The socket that these options mean.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run_dir.join(format!("{}.sock", self.instance)))
    }
}

/// Where BPF objects are pinned.
#[derive(Clone, Debug, Args)]
pub struct PinDir {
    /// Directory below a BPF file system for pinned maps and links
    #[arg(long, value_name = "DIR", env = "FAIRLEAD_PIN_DIR", default_value = "/sys/fs/bpf/fairlead")]
    pub pin_dir: PathBuf,
}

/// Dots are left out because the BPF file system does not take them.
fn instance_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text == DECAPSULATORS {
        return Err(format!("\"{DECAPSULATORS}\" is where the decapsulators' pins are; choose another name"));
    }
    if (1..=MAX_INSTANCE_NAME).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    Err(format!("write up to {MAX_INSTANCE_NAME} letters, digits, `-` and `_`, not starting with `-`"))
}
