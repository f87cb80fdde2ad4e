//! `fairlead ha …`.

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;

use super::output::{Align, or_dash, table};
use super::session::Session;
use crate::api::types::{Done, HaCommand as Request, HaDeed, HaGroupStatus, HaStatus, HaSyncStatus};

pub(super) const EXAMPLES: &str = "\
Examples:
  fairlead ha status
  fairlead ha handover --all            # before maintenance of this node
  fairlead ha resume --all              # after it
  fairlead ha set active --group web    # ha.mode = \"external\": a script of keepalived or Pacemaker";

const STATUS_EXAMPLES: &str = "\
Examples:
  fairlead ha status
  fairlead -o json ha status | jq -r '.groups[] | select(.role == \"active\") | .name'";

const HANDOVER_EXAMPLES: &str = "\
The node keeps the lowest priority until `fairlead ha resume`.

Examples:
  fairlead ha handover --all
  fairlead ha handover --group web";

const PAUSE_EXAMPLES: &str = "\
Examples:
  fairlead ha pause --group web
  fairlead ha pause --all";

const RESUME_EXAMPLES: &str = "\
Examples:
  fairlead ha resume --all
  fairlead ha resume --group web";

const SET_EXAMPLES: &str = "\
A decision holds for ten seconds without the daemon, which renews it.

Examples:
  fairlead ha set active --group web
  fairlead ha set standby";

/// Commands about groups of VIPs.
#[derive(Debug, Subcommand)]
pub enum HaCommand {
    /// Show who answers for which VIPs, since when and why
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Give groups to a peer; this node answers until the peer does
    #[command(after_help = HANDOVER_EXAMPLES)]
    Handover(Which),
    /// Take no group over from now on; what is active here stays
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(Which),
    /// Take groups over as usual again, also after a handover
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(Which),
    /// Say what this node is, if others decide (ha.mode = "external")
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// What it is
        state: State,
        /// A group; without it all groups
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
}

/// One group, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// A group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// All groups
    #[arg(long)]
    all: bool,
}

/// What others decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Answer for the VIPs
    Active,
    /// Do not
    Standby,
}

pub(super) fn execute(command: HaCommand, session: &mut Session<'_>) -> anyhow::Result<()> {
    let (deed, group) = match command {
        HaCommand::Status => return session.show("/v1/ha", render),
        HaCommand::Handover(which) => (HaDeed::Handover, which.group),
        HaCommand::Pause(which) => (HaDeed::Pause, which.group),
        HaCommand::Resume(which) => (HaDeed::Resume, which.group),
        HaCommand::Set { state: State::Active, group } => (HaDeed::Active, group),
        HaCommand::Set { state: State::Standby, group } => (HaDeed::Standby, group),
    };
    let request = Request { deed, group };
    session.send(Method::POST, "/v1/ha", Some(&request), |done: &Done| done.message.clone())
}

fn render(status: &HaStatus) -> String {
    if status.groups.is_empty() {
        return "There is no group of VIPs: every VIP is answered for here, always.\n".to_owned();
    }
    let mut text = format!("Decided by: {}", status.mode);
    if let (Some(cluster), Some(node)) = (&status.cluster, &status.node) {
        text.push_str(&format!("   Cluster: {cluster}   Node: {node}"));
    }
    text.push_str("\n\n");
    let headers = [
        ("GROUP", Align::Left),
        ("ROLE", Align::Left),
        ("PRIO", Align::Right),
        ("VIPS", Align::Left),
        ("SINCE", Align::Left),
        ("WHY", Align::Left),
    ];
    let rows = status.groups.iter().map(|group| {
        [
            group.name.clone(),
            group.role.clone(),
            or_dash(group.priority),
            group.vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            or_dash(group.since),
            or_dash(group.reason.clone()),
        ]
    });
    text.push_str(&table(headers, rows));
    for group in &status.groups {
        notes(group, &mut text);
    }
    if let Some(sync) = &status.sync {
        text.push('\n');
        text.push_str(&peers(sync));
    }
    if let Some(thread) = &status.thread {
        text.push_str(&format!(
            "\nTimekeeping: {}, memory {}, at most {} us late, {} wake-ups more than 5 ms late\n",
            if thread.real_time { "real-time" } else { "not real-time" },
            if thread.locked_memory { "locked" } else { "not locked" },
            thread.lateness_max_us,
            thread.late_wakeups
        ));
        for note in &thread.notes {
            text.push_str(&format!("  {note}\n"));
        }
    }
    text
}

/// The other nodes, as flow sync knows them.
fn peers(sync: &HaSyncStatus) -> String {
    let headers = [
        ("PEER", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("ACTIVE FOR", Align::Left),
        ("HAS OURS", Align::Left),
        ("HAVE THEIRS", Align::Left),
        ("LAG", Align::Right),
        ("DIFFERS IN", Align::Left),
    ];
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let rows = sync.peers.iter().map(|peer| {
        [
            or_dash(peer.node.clone()),
            peer.address.to_string(),
            if peer.up { "up" } else { "down" }.to_owned(),
            or_dash(Some(peer.active.join(" ")).filter(|names| !names.is_empty())),
            yes(peer.has_ours),
            yes(peer.have_theirs),
            format!("{} ms", peer.lag_ms),
            or_dash(Some(peer.differing.join(" ")).filter(|names| !names.is_empty())),
        ]
    });
    let mut text = table(headers, rows);
    if let Some(fault) = &sync.fault {
        text.push_str(&format!("flow sync does not work: {fault}\n"));
    }
    for peer in &sync.peers {
        let name = peer.node.clone().unwrap_or_else(|| peer.address.to_string());
        if !peer.rejected.is_empty() {
            let reasons: Vec<String> =
                peer.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            text.push_str(&format!("{name}: datagrams not taken: {}\n", reasons.join(", ")));
        }
        if peer.unplaced > 0 {
            text.push_str(&format!("{name}: {} flows found no place or backend here\n", peer.unplaced));
        }
    }
    text
}

/// What of a group wants attention, and whom it hears.
fn notes(group: &HaGroupStatus, text: &mut String) {
    let mut line = |what: String| text.push_str(&format!("\n{}: {what}", group.name));
    for router in &group.routers {
        if let Some(active) = &router.active {
            line(format!(
                "VRID {} {}: {} was active with priority {}, heard last at {}{}",
                router.vrid,
                router.family,
                active.address,
                active.priority,
                active.at,
                if active.resigned { " (said goodbye)" } else { "" }
            ));
        }
    }
    if let Some(fault) = &group.fault {
        line(format!("can't be active here: {fault}"));
    }
    if let Some(why) = &group.not_ready {
        line(format!("does not take over from a live node: {why}"));
    }
    if group.lone {
        line("no other node is there: the VIPs outlive the daemon for as long as ha.lone_lease".to_owned());
    }
    if group.paused {
        line("paused: takes no role over; `fairlead ha resume` ends that".to_owned());
    }
    if group.handed_over {
        line(
            "handed over: takes it back only from a node that falls silent, until `fairlead ha resume`"
                .to_owned(),
        );
    }
    group.problems.iter().for_each(|problem| line(problem.clone()));
    if !text.ends_with('\n') {
        text.push('\n');
    }
}
