//! `fairlead service …`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use clap::Subcommand;
use lb_core::config::AdminState;
use lb_core::health::Verdict;

use super::backend;
use super::output::{Align, bytes, table};
use super::session::Session;
use crate::api::client::encode;
use crate::api::types::{Service, ServiceList, SlotState};

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead service list
  fairlead service show web";

const LIST_EXAMPLES: &str = "\
Examples:
  fairlead service list
  fairlead -o json service list | jq '.services[] | select(.all_down) | .name'";

const SHOW_EXAMPLES: &str = "\
Examples:
  fairlead service show web
  fairlead -o json service show web | jq '.backends[] | {address, share_percent}'";

/// Commands about services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List all services
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show one service with its backends
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The service
        #[arg(value_name = "SERVICE")]
        name: String,
    },
}

pub(super) fn execute(command: ServiceCommand, session: &mut Session<'_>) -> anyhow::Result<()> {
    match command {
        ServiceCommand::List => session.show("/v1/services", list),
        ServiceCommand::Show { name } => session.show(&format!("/v1/services/{}", encode(&name)), show),
    }
}

fn list(ServiceList { services }: &ServiceList) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("VIP", Align::Left),
        ("PROTOCOL", Align::Left),
        ("MODE", Align::Left),
        ("SERVING", Align::Right),
        ("FLOWS", Align::Right),
        ("PACKETS", Align::Right),
        ("BYTES", Align::Right),
        ("NOTE", Align::Left),
    ];
    table(
        columns,
        services.iter().map(|service| {
            let serving = service.backends.iter().filter(|one| one.slot_state == SlotState::Serving).count();
            [
                service.name.clone(),
                SocketAddr::new(service.vip, service.port).to_string(),
                service.protocol.to_string(),
                service.mode.to_string(),
                format!("{serving}/{}", service.backends.len()),
                service.flows.to_string(),
                service.packets.to_string(),
                bytes(service.bytes),
                note(service),
            ]
        }),
    )
}

/// What is wrong with a service, or nothing.
fn note(service: &Service) -> String {
    if service.all_down {
        return format!("all checked backends are down: {}", service.when_all_down);
    }
    let down = |one: &&crate::api::types::Backend| {
        one.state == AdminState::Enabled && one.health.verdict == Verdict::Down
    };
    let addresses: Vec<IpAddr> = service.backends.iter().filter(down).map(|one| one.address).collect();
    match addresses.as_slice() {
        _ if !service.serving => "no backend serves".to_owned(),
        [] => String::new(),
        [address] => format!("{address} is down"),
        addresses => format!("{} backends are down", addresses.len()),
    }
}

fn show(service: &Service) -> String {
    let mut text = String::new();
    let address = SocketAddr::new(service.vip, service.port);
    let track = if service.track { "flows are remembered" } else { "flows are not remembered" };
    let lines = [
        ("service", service.name.clone()),
        ("address", format!("{address} {}", service.protocol)),
        ("mode", format!("{}, {track}", service.mode)),
        ("check", service.check.clone().unwrap_or_else(|| "none: backends always serve".to_owned())),
        ("all down", format!("{}{}", service.when_all_down, if service.all_down { " (now)" } else { "" })),
        ("table", format!("{} entries, switch {}", service.table_size, service.table_generation)),
        (
            "traffic",
            format!("{} flows, {} packets, {}", service.flows, service.packets, bytes(service.bytes)),
        ),
    ];
    for (title, line) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title:<9} {line}");
    }
    text.push('\n');
    text.push_str(&backend::render(&service.backends, false));
    text
}
