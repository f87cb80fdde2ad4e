//! `fairlead trace`.

use std::net::SocketAddr;

use clap::Args;
use hyper::Method;
use lb_core::config::{Protocol, Role};

use super::failure::UsageError;
use super::flow::protocol;
use super::frames::{Made, TcpFlags, from_pcap, from_text, make};
use super::options::Format;
use super::session::Session;
use crate::api::types::{
    AttachedMode, FrameTrace, InterfaceStatus, MAX_TRACE_FRAMES, Status, TraceReply, TraceRequest,
};
use crate::trace::{from_hex, to_hex};

pub(super) const LONG_ABOUT: &str = "\
Says what the program does with a frame and why, step by step, on the maps as they are now. The program that is asked is \
the one that forwards, but for its writes: nothing is counted, no flow is stored, and no frame is sent. With --commit the \
attached program runs the frame for real: it is counted and its flow is stored, but still no frame is sent.";

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead trace --from 198.51.100.7:40000 --to 192.0.2.10:80
  fairlead trace --from '[2001:db8::7]:5353' --to '[2001:db8:1::10]:53' --proto udp --payload 100
  fairlead trace --from 198.51.100.7:40000 --to 192.0.2.10:80 --flags A
  fairlead trace --pcap capture.pcap --interface eth0
  tcpdump -i eth0 -c 1 -xx host 192.0.2.10 | fairlead trace --hex -
  fairlead -o json trace --hex frame.txt | jq -r '.verdict, .reason'

FLAGS are letters as in tcpdump: S (SYN), A (ACK), F (FIN), R (RST), P (PSH).";

/// Arguments of `trace`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("frame").required(true).args(["hex", "pcap", "from"])))]
pub struct TraceArgs {
    /// A frame as hexadecimal digits: a file, `-` for stdin, or the digits; an empty line separates frames,
    /// or offsets do, as tcpdump -xx, xxd, Wireshark and hexdump -Cv write them
    #[arg(long, value_name = "F")]
    hex: Option<String>,
    /// All frames of a capture, pcap or pcapng
    #[arg(long, value_name = "FILE")]
    pcap: Option<std::path::PathBuf>,
    /// Make a frame: from this client
    #[arg(long, value_name = "IP:PORT", requires = "to")]
    from: Option<SocketAddr>,
    /// Make a frame: to this virtual address
    #[arg(long, value_name = "VIP:PORT", requires = "from")]
    to: Option<SocketAddr>,
    /// Make a frame: tcp or udp
    #[arg(long, visible_alias = "protocol", default_value = "tcp", value_parser = protocol, requires = "from")]
    proto: Protocol,
    /// Make a frame: flags of the TCP header [default: S]
    #[arg(long, requires = "from")]
    flags: Option<TcpFlags>,
    /// Make a frame: TTL or hop limit
    #[arg(long, value_name = "N", default_value_t = 64, requires = "from")]
    ttl: u8,
    /// Make a frame: bytes of data
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=9000), requires = "from")]
    payload: u16,
    /// The interface that the frame comes in by [default: the first attached one of role steer]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Run the attached program for real: the frame is counted and its flow stored
    #[arg(long)]
    commit: bool,
}

pub(super) fn execute(args: TraceArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let frames = match (&args.hex, &args.pcap) {
        (Some(hex), _) => from_text(hex)?,
        (_, Some(path)) => from_pcap(path)?,
        _ => vec![made(&args, session)?],
    };
    for (round, batch) in frames.chunks(MAX_TRACE_FRAMES).enumerate() {
        let request = TraceRequest {
            frames: batch.iter().map(|frame| to_hex(frame)).collect(),
            interface: args.interface.clone(),
            commit: args.commit,
        };
        let reply: TraceReply = session.ask(Method::POST, "/v1/trace", Some(&request))?;
        for (at, trace) in reply.frames.iter().enumerate() {
            match session.format() {
                Format::Json => session.print_value(trace, |_| String::new())?,
                Format::Table => {
                    let number = (frames.len() > 1).then_some(round * MAX_TRACE_FRAMES + at + 1);
                    session.print_value(trace, |trace| render(trace, number))?;
                }
            }
        }
    }
    Ok(())
}

/// The frame that --from and --to describe, addressed to the interface.
fn made(args: &TraceArgs, session: &mut Session<'_>) -> anyhow::Result<Vec<u8>> {
    let (Some(from), Some(to)) = (args.from, args.to) else {
        return Err(UsageError("--from needs --to".to_owned()).into());
    };
    if args.proto == Protocol::Udp && args.flags.is_some() {
        let message = "--flags are of a TCP header, and --proto is udp: leave one of them out";
        return Err(UsageError(message.to_owned()).into());
    }
    let status: Status = session.ask(Method::GET, "/v1/status", None::<&()>)?;
    let meant = |interface: &&InterfaceStatus| match &args.interface {
        Some(name) => *name == interface.name,
        None => interface.mode != AttachedMode::Detached && interface.role == Role::Steer,
    };
    // One that is not there is for the daemon to refuse.
    let mac =
        status.interfaces.iter().find(meant).and_then(|interface| mac_of(&interface.mac)).unwrap_or_default();
    make(&Made {
        from,
        to,
        protocol: args.proto,
        flags: args.flags.unwrap_or(TcpFlags::SYN),
        ttl: args.ttl,
        payload: usize::from(args.payload),
        mac,
    })
}

fn mac_of(text: &str) -> Option<[u8; 6]> {
    from_hex(&text.replace(':', "")).ok()?.try_into().ok()
}

fn render(trace: &FrameTrace, number: Option<usize>) -> String {
    let mut text = number.map(|number| format!("frame {number}: ")).unwrap_or_default();
    text.push_str(&format!("{}, {}", trace.verdict.word(), trace.reason));
    if let Some(service) = &trace.service {
        text.push_str(&format!(": service {service}"));
    }
    if let Some(backend) = trace.backend {
        text.push_str(&format!(", backend {backend}"));
    }
    text.push('\n');
    for (at, step) in trace.steps.iter().enumerate() {
        text.push_str(&format!("{:3}. {step}\n", at + 1));
    }
    text
}
