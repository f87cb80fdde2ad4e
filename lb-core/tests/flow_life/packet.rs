//! One packet: sent through the code that the program runs, and judged by the oracle.

use lb_common::flow::FlowEntry;
use lb_common::hash::flow_hash;
use lb_common::limits::WAYS;
use lb_common::packet::{Tuple, protocol};
use lb_common::pick::{Pick, Service, Signals, pick};
use lb_common::service::ServiceWord;
use lb_common::world::Steering;

use crate::oracle::{Flow, NONE, Without};
use crate::user::SERVICES;
use crate::world::{Flight, World, flow_service};

/// The tuple of a flow.
fn tuple(flow: u32) -> Tuple {
    let [_, b, c, d] = (flow >> 3).to_be_bytes();
    let service = flow_service(flow);
    let protocol = if service == SERVICES - 1 { protocol::UDP } else { protocol::TCP };
    let port = 1_024 + u16::try_from(flow % 8).expect("below eight");
    Tuple::v4([10, b, c, d], [192, 0, 2, 1], port, 80 + u16::try_from(service).expect("few"), protocol)
}

/// What was true when a packet began.
struct Before {
    flow: Flow,
    /// What its entry names, if it has one.
    entry: FlowEntry,
    /// The row that the table chooses.
    chosen: u32,
    began: u64,
    opens: bool,
}

impl World {
    /// A packet of any flow there is; those that found no place are sent often.
    pub(crate) fn send_any(&self) {
        let crowded = {
            let oracle = self.oracle.borrow();
            let crowded = &oracle.crowded;
            (self.random.once_in(4) && !crowded.is_empty()).then(|| crowded[self.random.below(crowded.len())])
        };
        self.send(crowded.unwrap_or_else(|| {
            u32::try_from(self.random.below(self.opened.get().max(1) as usize)).expect("few flows")
        }));
    }

    /// The next packet of a flow.
    pub(crate) fn send(&self, flow: u32) {
        let is_new = self.oracle.borrow().flows[flow as usize].without == Without::New;
        let signals = if flow_service(flow) == SERVICES - 1 {
            Signals::DATAGRAM
        } else {
            match self.random.below(256) {
                // Some are first seen in the middle.
                0..=240 if is_new => Signals(Signals::OPENS),
                0..=2 => Signals(Signals::OPENS),
                3 | 4 => Signals(Signals::CLOSES),
                5..=60 => Signals(0),
                _ => Signals(Signals::DATA),
            }
        };
        self.packet(flow, signals);
    }

    /// Sends a packet and judges where it went.
    pub(crate) fn packet(&self, flow: u32, signals: Signals) {
        let (tuple, index) = (tuple(flow), flow_service(flow));
        let hash = flow_hash(&self.settings().key, &tuple);
        let word = ServiceWord(self.tables.words[index].get());
        let known = self.oracle.borrow().flows[flow as usize];
        let before = Before {
            flow: known,
            entry: if known.at == NONE { FlowEntry::EMPTY } else { self.entry_at(known.at as usize) },
            chosen: self.rows.number(self.tables.choice(word, hash.fingerprint())),
            began: self.step(),
            opens: signals.0 & Signals::OPENS != 0,
        };
        let flight = Flight { flow, began: before.began, opens: before.opens, asked: None, lost: false };
        self.flights.borrow_mut().push(flight);
        let index = u32::try_from(index).expect("few services");
        let picked = pick(self, &tuple, signals, Service { index, word });
        let flight = self.flights.borrow_mut().pop().expect("the packet is on its way");
        self.judge(flow, &before, picked, flight.lost, hash.fingerprint());
    }

    fn judge(&self, number: u32, before: &Before, picked: Pick, lost: bool, fingerprint: u32) {
        let mut oracle = self.oracle.borrow_mut();
        let after = oracle.flows[number as usize];
        let told = |row: u32| {
            format!(
                "flow {number} to row {row}, chosen {}; before {:?}, after {after:?}",
                before.chosen, before.flow
            )
        };
        let row = picked.slot().map_or(0, |slot| self.rows.number(slot));
        if row == 0 || usize::from(self.rows.written(row).service) != flow_service(number) {
            oracle.fault("sent to nobody", || told(row));
            return;
        }
        if picked.slot().is_ok_and(|slot| self.rows.gone_since(slot, before.began)) {
            oracle.fault("sent to a dead backend", || told(row));
        }
        let has = before.flow.at != NONE;
        let kept = has
            && after.changes == before.flow.changes
            && self.rows.takes_since(before.entry.slot(), before.flow.home, before.opens, before.began);
        let right = match () {
            () if kept => row == before.flow.home,
            // Its backend may have gone, or its entry come or gone, while it was on its way.
            () => row == before.chosen || row == after.home || (has && row == before.flow.home),
        };
        if !right && self.has_twin(&oracle, number, fingerprint) {
            oracle.count("steered by a twin's entry");
        } else if !right {
            oracle.fault("wrong backend", || told(row));
        }
        if before.flow.last != NONE && before.flow.last != row {
            oracle.count(match before.flow.without {
                _ if has => "moved: its backend went or was drained",
                Without::BackendGone => "moved: its backend was removed",
                Without::Evicted => "moved: evicted before",
                Without::Unstored | Without::New => "moved: never stored",
                Without::Expired => "moved: expired before",
                Without::Twin => "moved: a twin has its entry",
            });
        }
        let flow = &mut oracle.flows[number as usize];
        flow.last = row;
        if !lost {
            flow.tick = self.time.get();
        }
        if flow.at == NONE && flow.without == Without::New {
            flow.without = Without::Unstored;
        }
    }

    /// Whether another flow has the same bucket and fingerprint: 54 bits, so that this hardly happens.
    fn has_twin(&self, oracle: &crate::oracle::Oracle, flow: u32, fingerprint: u32) -> bool {
        let bucket =
            flow_hash(&self.settings().key, &tuple(flow)).bucket(self.settings().bucket_mask) as usize;
        (bucket * WAYS..(bucket + 1) * WAYS).any(|place| {
            let entry = self.entry_at(place);
            !entry.is_empty() && entry.fingerprint() == fingerprint && oracle.owner(place) != flow
        })
    }
}
