//! `fairlead backend …`.

use std::net::IpAddr;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use hyper::Method;

use super::output::{Align, bytes, duration, or_dash, percent, table};
use super::session::Session;
use crate::api::client::encode;
use crate::api::types::{AddBackendRequest, Backend, BackendList, ChangeReply, MAX_WEIGHT, WeightRequest};

pub(super) const EXAMPLES: &str = "\
Changes are written to the configuration file, comments kept, and take effect at once.

Examples:
  fairlead backend list
  fairlead backend add web 10.0.0.14 --weight 2
  fairlead backend drain web 10.0.0.11";

const LIST_EXAMPLES: &str = "\
Examples:
  fairlead backend list
  fairlead backend list web
  fairlead -o json backend list | jq -r '.backends[] | select(.health.verdict == \"down\") | .address'";

const ADD_EXAMPLES: &str = "\
Examples:
  fairlead backend add web 10.0.0.14
  fairlead backend add web 2001:db8::14 --weight 2";

const REMOVE_EXAMPLES: &str = "\
Its flows move to other backends at once: drain it first to let them end.

Examples:
  fairlead backend drain web 10.0.0.11
  fairlead flow list --backend 10.0.0.11
  fairlead backend remove web 10.0.0.11";

const DRAIN_EXAMPLES: &str = "\
Examples:
  fairlead backend drain web 10.0.0.11
  fairlead backend list web      # FLOWS tells how many are left";

const ENABLE_EXAMPLES: &str = "\
Examples:
  fairlead backend enable web 10.0.0.11";

const DISABLE_EXAMPLES: &str = "\
Examples:
  fairlead backend disable web 10.0.0.11";

const WEIGHT_EXAMPLES: &str = "\
Flows that exist stay where they are; with weight 0 a backend takes no new ones.

Examples:
  fairlead backend weight web 10.0.0.11 3
  fairlead backend weight web 10.0.0.11 0";

/// Commands about backends.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// List backends with their health, share and traffic
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Of this service only
        service: Option<String>,
    },
    /// Add a backend to a service
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// Which one
        #[command(flatten)]
        which: Which,
        /// Its share of new flows
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = weight())]
        weight: u32,
    },
    /// Remove a backend from a service
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(Which),
    /// Let a backend keep its flows but take no new ones
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(Which),
    /// Let a backend take flows again
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(Which),
    /// Take a backend out of service: its flows move to others
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(Which),
    /// Set a backend's share of new flows
    #[command(after_help = WEIGHT_EXAMPLES)]
    Weight {
        /// Which one
        #[command(flatten)]
        which: Which,
        /// Its share of new flows, 0 to 1000
        #[arg(value_name = "N", value_parser = weight())]
        weight: u32,
    },
}

/// A backend of a service.
#[derive(Debug, Args)]
pub struct Which {
    /// The service
    service: String,
    /// The backend's own address
    address: IpAddr,
}

impl Which {
    fn path(&self, tail: &str) -> String {
        format!("/v1/services/{}/backends/{}{tail}", encode(&self.service), encode(&self.address.to_string()))
    }
}

fn weight() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(MAX_WEIGHT))
}

pub(super) fn execute(command: BackendCommand, session: &mut Session<'_>) -> anyhow::Result<()> {
    let nothing = None::<&()>;
    match command {
        BackendCommand::List { service: None } => {
            session.show("/v1/backends", |list: &BackendList| render(&list.backends, true))
        }
        BackendCommand::List { service: Some(name) } => {
            let path = format!("/v1/backends?service={}", encode(&name));
            session.show(&path, |list: &BackendList| render(&list.backends, true))
        }
        BackendCommand::Add { which, weight } => {
            let path = format!("/v1/services/{}/backends", encode(&which.service));
            session.send(
                Method::POST,
                &path,
                Some(&AddBackendRequest { address: which.address, weight }),
                changed,
            )
        }
        BackendCommand::Remove(which) => session.send(Method::DELETE, &which.path(""), nothing, changed),
        BackendCommand::Drain(which) => session.send(Method::POST, &which.path("/drain"), nothing, changed),
        BackendCommand::Enable(which) => session.send(Method::POST, &which.path("/enable"), nothing, changed),
        BackendCommand::Disable(which) => {
            session.send(Method::POST, &which.path("/disable"), nothing, changed)
        }
        BackendCommand::Weight { which, weight } => {
            session.send(Method::PUT, &which.path("/weight"), Some(&WeightRequest { weight }), changed)
        }
    }
}

/// What came of a change, and what its author should still know.
pub(super) fn changed(reply: &ChangeReply) -> String {
    let mut text = format!("{} (generation {})\n", reply.message, reply.generation);
    for warning in &reply.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

/// Table of backends; `with_service` for those of several services.
pub(super) fn render(backends: &[Backend], with_service: bool) -> String {
    let now = SystemTime::now();
    let columns = [
        ("ADDRESS", Align::Left),
        ("WEIGHT", Align::Right),
        ("STATE", Align::Left),
        ("HEALTH", Align::Left),
        ("DOES", Align::Left),
        ("SHARE", Align::Right),
        ("FLOWS", Align::Right),
        ("PACKETS", Align::Right),
        ("BYTES", Align::Right),
        ("CHECKED", Align::Right),
        ("SLOT", Align::Right),
        ("REASON", Align::Left),
    ];
    let cells = |backend: &Backend| {
        [
            backend.address.to_string(),
            backend.weight.to_string(),
            if backend.overridden { format!("{} (peer)", backend.state) } else { backend.state.to_string() },
            backend.health.verdict.to_string(),
            backend.slot_state.word().to_owned(),
            percent(backend.share_percent),
            backend.flows.to_string(),
            backend.packets.to_string(),
            bytes(backend.bytes),
            or_dash(backend.health.last_check.map(|moment| format!("{} ago", duration(moment.age(now))))),
            or_dash(backend.slot),
            backend.health.reason.clone().unwrap_or_default(),
        ]
    };
    if !with_service {
        return table(columns, backends.iter().map(cells));
    }
    let mut columns = columns.to_vec();
    columns.insert(0, ("SERVICE", Align::Left));
    let rows = backends.iter().map(|backend| {
        let mut row = cells(backend).to_vec();
        row.insert(0, backend.service.clone());
        row
    });
    super::output::table_of(&columns, rows)
}
