//! From the facts of a run to a verdict and the steps that led there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lb_common::SlotState;
use lb_common::counters::Event;
use lb_common::flow::FlowEntry;
use lb_common::hash::FlowHash;
use lb_common::reason::{DropReason, Outcome, Verdict};
use lb_common::service::ServiceWord;
use lb_common::trace::TraceRow;

use super::entry::in_words;
use super::frame::{describe, length_and_ttl, mac, macs, to_hex, tunnel};
use crate::api::types::{FrameTrace, TraceFlow, TraceVerdict};

/// A frame that went through the program.
#[derive(Clone, Copy, Debug)]
pub struct Run<'f> {
    /// The frame before.
    pub input: &'f [u8],
    /// The frame after.
    pub output: &'f [u8],
    /// What the program told the kernel.
    pub verdict: TraceVerdict,
    /// The facts of the dry run.
    pub facts: TraceRow,
    /// Whether the attached program ran it, too.
    pub committed: bool,
}

/// What the numbers of a run stand for.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Name of the interface that the frame came in by.
    pub interface: String,
    /// Its MAC.
    pub mac: [u8; 6],
    /// Name and MTU of the interface by egress row.
    pub interfaces: BTreeMap<u32, (String, u32)>,
    /// Present tick of the flow table.
    pub now: u16,
    /// Buckets of the flow table.
    pub buckets: u32,
    /// Name and key (`192.0.2.10:80/tcp`) of each service, by index.
    pub services: BTreeMap<u32, (String, String)>,
    /// Backends by slot.
    pub slots: BTreeMap<u16, SlotFacts>,
    /// Services of each VIP, as `web (tcp 80)`.
    pub vips: BTreeMap<IpAddr, Vec<String>>,
}

/// What a slot stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Address of the backend.
    pub backend: IpAddr,
    /// Whether it takes flows.
    pub state: SlotState,
    /// Egress row of the interface that leads to it.
    pub egress: u32,
    /// Index of its service.
    pub service: u32,
}

/// The outcome that is counted in this row.
#[must_use]
pub fn outcome_of(row: u32) -> Option<Outcome> {
    let verdicts = Verdict::ALL.iter().copied().map(Outcome::Verdict);
    verdicts.chain(DropReason::ALL.iter().copied().map(Outcome::Drop)).find(|outcome| outcome.row() == row)
}

/// A frame too short for the kernel to run: the program would find no Ethernet header, and leave it alone.
#[must_use]
pub fn too_short(frame: &[u8], interface: &str) -> FrameTrace {
    FrameTrace {
        verdict: TraceVerdict::Pass,
        reason: Verdict::PassNotIp.name().to_owned(),
        service: None,
        backend: None,
        flow: TraceFlow::None,
        table_index: None,
        backend_slot: None,
        output_hex: Some(to_hex(frame)),
        steps: vec![
            format!("in by {interface}: {}", describe(frame)),
            "the kernel runs no program on a frame this short; this is what the program would answer"
                .to_owned(),
            format!("passes to the kernel: {}", Verdict::PassNotIp.description().trim()),
        ],
    }
}

/// Explains a run.
#[must_use]
pub fn explain(run: &Run<'_>, around: &Surroundings) -> FrameTrace {
    let facts = &run.facts;
    let outcome = outcome_of(facts.outcome);
    let slot = facts.picked().and_then(|pick| pick.slot().ok());
    let tracked = ServiceWord(facts.word).has(ServiceWord::TRACK);
    let flow = match facts.picked() {
        Some(_) if !tracked => TraceFlow::None,
        // What an entry decides, the table is not asked for; the entry's backend may get a new flow by it, too.
        Some(_) if slot.is_some() && !facts.knows(TraceRow::BY_TABLE) => TraceFlow::Hit,
        Some(_) => TraceFlow::Miss,
        None => TraceFlow::None,
    };
    let service = facts.knows(TraceRow::SERVICE).then(|| around.services.get(&facts.service)).flatten();
    let mut steps = vec![arrival(run, around)];
    match service {
        Some((name, key)) => {
            steps.push(format!("{key} is service {name}"));
            // Some are dropped before a backend is looked for.
            if facts.picked().is_some() {
                steps.extend(steering(run, around, tracked, flow));
            }
        }
        None => steps.extend(no_service(run, around, outcome)),
    }
    steps.extend(departure(run, around, outcome));
    FrameTrace {
        verdict: run.verdict,
        reason: outcome.map_or("unknown", name_of).to_owned(),
        service: service.map(|(name, _)| name.clone()),
        backend: slot.and_then(|slot| around.slots.get(&slot)).map(|slot| slot.backend),
        flow,
        table_index: facts.knows(TraceRow::BY_TABLE).then_some(facts.table_index),
        backend_slot: slot,
        output_hex: (run.verdict != TraceVerdict::Drop).then(|| to_hex(run.output)),
        steps,
    }
}

const fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Verdict(verdict) => verdict.name(),
        Outcome::Drop(reason) => reason.name(),
    }
}

fn arrival(run: &Run<'_>, around: &Surroundings) -> String {
    let to = match macs(run.input) {
        Some((to, _)) if to == around.mac => "its own MAC".to_owned(),
        Some((to, _)) if to == [0xff; 6] => "all stations".to_owned(),
        Some((to, _)) if to[0] & 1 == 1 => format!("the group {}", mac(to)),
        Some((to, _)) => format!("{}, which is another station", mac(to)),
        None => "nobody".to_owned(),
    };
    format!("in by {}, to {to}: {}", around.interface, describe(run.input))
}

/// Which VIP it is for, if one, and what is there instead.
fn no_service(run: &Run<'_>, around: &Surroundings, outcome: Option<Outcome>) -> Option<String> {
    // Whom these are for was not looked at.
    let before = [Verdict::PassOtherMac, Verdict::PassUnknownInterface, Verdict::PassNotIp];
    if before.iter().any(|verdict| outcome == Some(Outcome::Verdict(*verdict))) {
        return None;
    }
    let to = super::frame::destination(run.input)?;
    Some(match around.vips.get(&to) {
        Some(services) => format!("{to} is a VIP; its services: {}", services.join(", ")),
        None => format!("{to} is no VIP"),
    })
}

/// How the backend was found.
fn steering(run: &Run<'_>, around: &Surroundings, tracked: bool, flow: TraceFlow) -> Vec<String> {
    let facts = &run.facts;
    let mut steps = Vec::new();
    let hash = FlowHash(facts.hash);
    let bucket = hash.bucket(around.buckets.wrapping_sub(1));
    if tracked {
        steps.push(format!(
            "flow hash {:016x}: bucket {bucket} of {} of the flow table, fingerprint {:08x}",
            hash.0,
            around.buckets,
            hash.fingerprint()
        ));
        steps.push(entry(facts, around, flow));
    } else {
        steps.push(format!("flow hash {:016x}; the service does not track its flows", hash.0));
    }
    if facts.knows(TraceRow::BY_TABLE) {
        let entries = ServiceWord(facts.word).class().entries();
        let choice = u16::try_from(facts.table_slot).ok().and_then(|slot| around.slots.get(&slot));
        let choice = choice.map_or("no backend".to_owned(), |slot| {
            format!("slot {}, backend {}", facts.table_slot, slot.backend)
        });
        steps.push(format!("Maglev table, index {} of {entries}: {choice}", facts.table_index));
    }
    steps.extend(storing(facts, run.committed));
    steps
}

fn entry(facts: &TraceRow, around: &Surroundings, flow: TraceFlow) -> String {
    if !facts.knows(TraceRow::FOUND) {
        return "no entry there: a new flow, or one that was forgotten".to_owned();
    }
    let entry = FlowEntry(facts.entry);
    let slot = around.slots.get(&entry.slot()).filter(|slot| slot.service == facts.service);
    let told = format!(
        "entry in way {}: {}",
        facts.way,
        in_words(entry, entry.is(FlowEntry::EXCEPTION), around.now)
    );
    match (slot, flow) {
        (None, _) => format!("{told}; it is another service's flow with the same hash, or a leftover"),
        (Some(slot), TraceFlow::Hit) => {
            format!("{told}; it keeps the flow at slot {}, backend {}", entry.slot(), slot.backend)
        }
        (Some(slot), _) if slot.state == SlotState::Draining => {
            format!("{told}; its backend {} drains and takes no new connection", slot.backend)
        }
        (Some(slot), _) => format!("{told}; its backend {} is out of service", slot.backend),
    }
}

/// What the packet does to the flow table.
fn storing(facts: &TraceRow, committed: bool) -> Option<String> {
    let what = if facts.has(Event::Guarded) {
        "not stored: more new flows than `new_flows_per_second` allows"
    } else if facts.has(Event::Unstored) {
        "not stored: its bucket is full of flows worth more, so the table alone decides"
    } else if facts.has(Event::Evicted) {
        "stored in the place of a flow worth less"
    } else if facts.has(Event::Repicked) {
        "stored over its old entry"
    } else if facts.has(Event::Stored) {
        "stored as a new flow"
    } else {
        return None;
    };
    let midstream = if facts.has(Event::MidStreamMiss) { "in the middle of a connection; " } else { "" };
    let trial = if committed { "" } else { " (by a real packet; this trial stored nothing)" };
    Some(format!("{midstream}{what}{trial}"))
}

/// What leaves, or why nothing does.
fn departure(run: &Run<'_>, around: &Surroundings, outcome: Option<Outcome>) -> Vec<String> {
    match outcome {
        None => vec![format!("counted in row {}, which this fairlead does not know", run.facts.outcome)],
        Some(Outcome::Drop(reason)) => {
            let mut steps = vec![format!("dropped: {}", reason.description().trim())];
            steps.extend(remedy(reason).map(|remedy| format!("remedy: {remedy}")));
            steps
        }
        Some(Outcome::Verdict(verdict)) if run.verdict == TraceVerdict::Pass => {
            vec![format!("passes to the kernel: {}", verdict.description().trim())]
        }
        Some(Outcome::Verdict(Verdict::AnswerTooBig)) => {
            vec![too_big(run, around), leaving(run, around, "answered")]
        }
        Some(Outcome::Verdict(verdict)) if rewritten(run) => {
            let mut steps = changes(run);
            let how = match verdict {
                Verdict::Forward => "forwarded",
                Verdict::Redirect => "redirected",
                _ => "sent",
            };
            steps.push(leaving(run, around, how));
            steps
        }
        Some(Outcome::Verdict(_)) => vec![leaving(run, around, "answered")],
    }
}

/// The interface that leads to the backend that was picked.
fn way_out<'a>(run: &Run<'_>, around: &'a Surroundings) -> Option<&'a (String, u32)> {
    let slot = run.facts.picked()?.slot().ok()?;
    around.interfaces.get(&around.slots.get(&slot)?.egress)
}

fn too_big(run: &Run<'_>, around: &Surroundings) -> String {
    let bytes = length_and_ttl(run.input).map_or(0, |(bytes, _)| bytes);
    let (name, mtu) = way_out(run, around).map_or(("its interface", 0), |(name, mtu)| (name.as_str(), *mtu));
    // Without an outer header only what is larger than the interface takes is too big.
    let header =
        if u32::try_from(bytes).is_ok_and(|bytes| bytes > mtu) { "" } else { " and the outer header" };
    format!("too big: {bytes} bytes{header} exceed the MTU of {mtu} of {name}")
}

/// Whether the packet goes on to a backend, and is no answer.
fn rewritten(run: &Run<'_>) -> bool {
    run.facts.picked().is_some()
}

/// TTL and encapsulation.
fn changes(run: &Run<'_>) -> Vec<String> {
    let mut steps = Vec::new();
    let before = length_and_ttl(run.input).map(|(_, ttl)| ttl);
    let outer = tunnel(run.output);
    // The inner packet's TTL: behind the outer header, or of the packet itself.
    let after = match outer {
        Some((.., inner)) if inner.first().is_some_and(|first| first >> 4 == 4) => inner.get(8).copied(),
        Some((.., inner)) => inner.get(7).copied(),
        None => length_and_ttl(run.output).map(|(_, ttl)| ttl),
    };
    if let (Some(before), Some(after)) = (before, after) {
        steps.push(format!("TTL {before} becomes {after}"));
    }
    if let (Some((name, from, to, inner)), Some((bytes, _))) = (outer, length_and_ttl(run.output)) {
        steps.push(format!("encapsulated, {name}: {from} -> {to}, {} bytes become {bytes}", inner.len()));
    }
    steps
}

fn leaving(run: &Run<'_>, around: &Surroundings, how: &str) -> String {
    let to = macs(run.output).map_or_else(String::new, |(to, _)| mac(to));
    let by = match run.verdict {
        TraceVerdict::Redirect => {
            way_out(run, around).map_or_else(|| "another interface".to_owned(), |(name, _)| name.clone())
        }
        _ => around.interface.clone(),
    };
    if how == "answered" {
        format!("answered: {}, out by {by} to {to}", describe(run.output))
    } else {
        format!("{how}: out by {by} to the next hop {to}")
    }
}

const fn remedy(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::UnknownPort => {
            Some("add a [[service]] with this port and protocol, or set `unknown_port = \"pass\"`")
        }
        DropReason::Fragment => {
            Some("let the sender fit its packets to the path (TCP: path MTU discovery, or a smaller MSS)")
        }
        DropReason::TtlExpired => Some("raise the sender's TTL, or look for a routing loop in front of here"),
        DropReason::NoBackend => Some(
            "`fairlead backend list SERVICE` shows which backends are down, drained or disabled, and why",
        ),
        DropReason::NoNeighbour => {
            Some("look whether the backend's next hop is up and in this segment (`ip neigh` shows its MAC)")
        }
        DropReason::NoEgress => Some(
            "add an [[interface]] for the interface that the route to the backend leaves by (role = \"egress\")",
        ),
        DropReason::OwnSource => Some("look for a loop in the segment, or a station that copied this MAC"),
        DropReason::Malformed => Some("look at the sender: no receiver would take this packet"),
        _ => None,
    }
}
