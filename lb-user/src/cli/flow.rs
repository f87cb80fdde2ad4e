//! `fairlead flow …`.

use std::net::{IpAddr, SocketAddr};

use clap::Subcommand;
use lb_core::config::Protocol;

use super::output::{Align, table};
use super::session::Session;
use crate::api::client::encode;
use crate::api::types::{DEFAULT_FLOW_LIMIT, FlowList, FlowLookup, MAX_FLOW_LIMIT};

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead flow list --backend 10.0.0.11
  fairlead flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80";

const LIST_EXAMPLES: &str = "\
Examples:
  fairlead flow list
  fairlead flow list --service web --limit 20
  fairlead -o json flow list --backend 10.0.0.11 --limit 100000 | jq '.flows | length'";

const LOOKUP_EXAMPLES: &str = "\
The answer says where the next packet of this flow goes and why, and if that is elsewhere than where a new flow would \
go, since which change. Nothing is changed.

Examples:
  fairlead flow lookup --from 198.51.100.7:40000 --to 192.0.2.10:80
  fairlead flow lookup --from '[2001:db8::7]:5353' --to '[2001:db8:1::10]:53' --protocol udp";

/// Commands about flows.
#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List remembered flows
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Of this service only
        #[arg(long)]
        service: Option<String>,
        /// To this backend only
        #[arg(long, value_name = "ADDRESS")]
        backend: Option<IpAddr>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOW_LIMIT, value_parser = limit())]
        limit: u32,
    },
    /// Explain where a flow goes
    #[command(after_help = LOOKUP_EXAMPLES)]
    Lookup {
        /// The client
        #[arg(long, value_name = "IP:PORT")]
        from: SocketAddr,
        /// The virtual address
        #[arg(long, value_name = "VIP:PORT")]
        to: SocketAddr,
        /// tcp or udp
        #[arg(long, default_value = "tcp", value_parser = protocol)]
        protocol: Protocol,
    },
}

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_FLOW_LIMIT))
}

pub(super) fn protocol(word: &str) -> Result<Protocol, String> {
    Protocol::from_word(word).ok_or_else(|| "write tcp or udp".to_owned())
}

pub(super) fn execute(command: FlowCommand, session: &mut Session<'_>) -> anyhow::Result<()> {
    match command {
        FlowCommand::List { service, backend, limit } => {
            let mut path = format!("/v1/flows?limit={limit}");
            if let Some(service) = service {
                path.push_str(&format!("&service={}", encode(&service)));
            }
            if let Some(backend) = backend {
                path.push_str(&format!("&backend={}", encode(&backend.to_string())));
            }
            session.show(&path, list)
        }
        FlowCommand::Lookup { from, to, protocol } => {
            let (from, to) = (encode(&from.to_string()), encode(&to.to_string()));
            session.show(&format!("/v1/flows/lookup?from={from}&to={to}&protocol={protocol}"), lookup)
        }
    }
}

fn list(FlowList { flows, truncated }: &FlowList) -> String {
    let columns = [
        ("CLIENT", Align::Left),
        ("VIP", Align::Left),
        ("PROTOCOL", Align::Left),
        ("SERVICE", Align::Left),
        ("BACKEND", Align::Left),
        ("STATE", Align::Left),
        ("AGE", Align::Right),
        ("EXCEPTION", Align::Left),
    ];
    let rows = flows.iter().map(|flow| {
        [
            flow.client.to_string(),
            flow.vip.to_string(),
            flow.protocol.to_string(),
            flow.service.clone(),
            flow.backend.to_string(),
            flow.state.word().to_owned(),
            format!("{}s", flow.age_s),
            if flow.exception { "yes" } else { "" }.to_owned(),
        ]
    });
    let mut text = table(columns, rows);
    if *truncated {
        text.push_str("there are more: raise --limit\n");
    }
    text
}

fn lookup(answer: &FlowLookup) -> String {
    let mut text = match answer.backend {
        Some(backend) => format!("{} -> {backend}\n", answer.service),
        None => format!("{} -> dropped\n", answer.service),
    };
    for sentence in &answer.explanation {
        text.push_str(&format!("  {sentence}\n"));
    }
    text
}
