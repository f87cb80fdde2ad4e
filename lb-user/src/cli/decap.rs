//! `fairlead decap …`: the backend's side of mode `ipip`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use lb_core::config::AttachMode;
use serde::Serialize;

use tracing::level_filters::LevelFilter;

use super::counters;
use super::logging::{LogFormat, LogOptions};
use super::options::PinDir;
use super::session::Session;
use crate::api::types::{AttachedMode, Counter, Done};

pub(super) const EXAMPLES: &str = "\
Run it on the backends. The VIP must be on the backend too, on `lo`, without answering ARP for it.

Examples:
  fairlead decap attach --dev eth0 --vip 192.0.2.10 --from 10.0.0.0/29
  fairlead decap status
  fairlead decap detach --dev eth0";

const ATTACH_EXAMPLES: &str = "\
Only packets from these balancers to these VIPs are decapsulated. To change the lists, attach again.

Examples:
  fairlead decap attach --dev eth0 --vip 192.0.2.10 --from 10.0.0.2
  fairlead decap attach --dev eth0 --vip 192.0.2.10 2001:db8::10 --from 10.0.0.0/29 2001:db8:0:1::/64
  fairlead decap attach --dev eth0 --netns web1 --vip 192.0.2.10 --from 10.0.0.2 --mode generic";

const DETACH_EXAMPLES: &str = "\
Examples:
  fairlead decap detach --dev eth0
  fairlead decap detach --dev eth0 --netns web1";

const STATUS_EXAMPLES: &str = "\
Examples:
  fairlead decap status
  fairlead -o json decap status --netns web1 | jq '.decapsulators[].counters'";

/// Commands about the decapsulator.
#[derive(Debug, Subcommand)]
pub enum DecapCommand {
    /// Attach the decapsulator to an interface
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Remove the decapsulator from an interface
    #[command(after_help = DETACH_EXAMPLES)]
    Detach(DetachArgs),
    /// Show decapsulators with their counters
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Place),
}

impl DecapCommand {
    pub(super) fn netns(&self) -> Option<&str> {
        let place = match self {
            Self::Attach(args) => &args.place,
            Self::Detach(args) => &args.place,
            Self::Status(place) => place,
        };
        place.netns.as_deref()
    }
}

/// Where decapsulators are.
#[derive(Debug, Args)]
pub struct Place {
    /// Network namespace, by name or path
    #[arg(long, value_name = "NAME")]
    netns: Option<String>,
    #[command(flatten)]
    pins: PinDir,
}

/// Arguments of `decap attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Interface on which balancers' packets arrive
    #[arg(long, value_name = "DEVICE")]
    dev: String,
    /// Virtual addresses that this backend serves
    #[arg(long, value_name = "VIP", required = true, num_args = 1.., value_delimiter = ',')]
    vip: Vec<IpAddr>,
    /// Balancers, by address or prefix
    #[arg(long, value_name = "CIDR", required = true, num_args = 1.., value_delimiter = ',', value_parser = prefix)]
    from: Vec<IpNet>,
    /// auto, native or generic
    #[arg(long, default_value = "auto", value_parser = attach_mode)]
    mode: AttachMode,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `decap detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The interface
    #[arg(long, value_name = "DEVICE")]
    dev: String,
    #[command(flatten)]
    place: Place,
}

/// An address counts as a prefix of full length; bits behind the prefix are cleared.
fn prefix(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let net = address.or_else(|_| text.parse::<IpNet>());
    net.map(|net| net.trunc()).map_err(|_| "write an address or a prefix such as 10.0.0.0/29".to_owned())
}

fn attach_mode(word: &str) -> Result<AttachMode, String> {
    AttachMode::from_word(word).ok_or_else(|| "write auto, native or generic".to_owned())
}

/// What `decap attach` asks for. The namespace is entered already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachOptions {
    /// Interface in the present network namespace.
    pub device: String,
    /// Inner destinations that are decapsulated; at least one.
    pub vips: Vec<IpAddr>,
    /// Outer sources that are trusted; at least one. A balancer reaches the backend by either family, whatever the VIP's.
    pub from: Vec<IpNet>,
    /// How the program may be attached.
    pub mode: AttachMode,
    /// Directory for pins of all instances and namespaces.
    pub pin_dir: PathBuf,
}

/// What `decap detach` asks for. The namespace is entered already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachOptions {
    /// Interface in the present network namespace.
    pub device: String,
    /// Directory for pins of all instances and namespaces.
    pub pin_dir: PathBuf,
}

/// What `decap status` asks for: decapsulators of the present network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusOptions {
    /// Directory for pins of all instances and namespaces.
    pub pin_dir: PathBuf,
}

/// An attached decapsulator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decapsulator {
    /// Its interface.
    pub device: String,
    /// Index of the interface.
    pub index: u32,
    /// How it is attached.
    pub mode: AttachedMode,
    /// Kernel's id of the program.
    pub program_id: u32,
    /// Inner destinations that are decapsulated.
    pub vips: Vec<IpAddr>,
    /// Outer sources that are trusted.
    pub from: Vec<IpNet>,
    /// What became of the packets.
    pub counters: Vec<Counter>,
}

/// Answer of `decap status` as JSON.
#[derive(Debug, Serialize)]
struct Decapsulators {
    decapsulators: Vec<Decapsulator>,
}

pub(super) fn execute(command: DecapCommand, session: &mut Session<'_>) -> anyhow::Result<()> {
    LogOptions { log_level: "warn".to_owned(), log_format: LogFormat::Text }.init(LevelFilter::OFF);
    match command {
        DecapCommand::Attach(args) => {
            let attached = crate::decap::attach(&AttachOptions {
                device: args.dev,
                vips: args.vip,
                from: args.from,
                mode: args.mode,
                pin_dir: args.place.pins.pin_dir,
            })?;
            session.print_value(&attached, one)
        }
        DecapCommand::Detach(DetachArgs { dev, place }) => {
            crate::decap::detach(&DetachOptions { device: dev.clone(), pin_dir: place.pins.pin_dir })?;
            let done = Done { message: format!("detached the decapsulator from {dev}") };
            session.print_value(&done, |done| done.message.clone())
        }
        DecapCommand::Status(place) => {
            let decapsulators = crate::decap::status(&StatusOptions { pin_dir: place.pins.pin_dir })?;
            session.print_value(&Decapsulators { decapsulators }, |list| {
                match list.decapsulators.as_slice() {
                    [] => "no decapsulator is attached".to_owned(),
                    some => some.iter().map(full).collect::<Vec<_>>().join("\n"),
                }
            })
        }
    }
}

fn one(decapsulator: &Decapsulator) -> String {
    let Decapsulator { device, mode, program_id, .. } = decapsulator;
    let listed = |values: Vec<String>| values.join(", ");
    format!(
        "decapsulating on {device} ({}, program {program_id}): to {} from {}\n",
        mode.word(),
        listed(decapsulator.vips.iter().map(ToString::to_string).collect()),
        listed(decapsulator.from.iter().map(ToString::to_string).collect())
    )
}

fn full(decapsulator: &Decapsulator) -> String {
    format!("{}{}", one(decapsulator), counters::render(decapsulator.counters.iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_taken_with_and_without_length() {
        for (text, expected) in [
            ("10.0.0.2", Some("10.0.0.2/32")),
            ("10.0.0.2/29", Some("10.0.0.0/29")),
            ("2001:db8::2", Some("2001:db8::2/128")),
            ("10.0.0.2/33", None),
            ("balancer", None),
        ] {
            assert_eq!(prefix(text).ok().map(|net| net.to_string()).as_deref(), expected, "{text}");
        }
    }
}
