//! What the model knows of each flow from its whole tuple: where its entry is, where it must go, and why it may not.

use std::collections::HashMap;

use lb_common::limits::WAYS;

/// No entry, or no backend yet.
pub(crate) const NONE: u32 = u32::MAX;

/// Why a flow has no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Without {
    /// Its first packet is still to come.
    New,
    /// All others in its bucket had to stay.
    Unstored,
    /// It made room for another one, when the table named its backend or it was closing.
    Evicted,
    /// It was idle for too long.
    Expired,
    /// Its backend is gone.
    BackendGone,
    /// Another flow with the same bucket and fingerprint has its entry.
    Twin,
}

/// One flow, which is one tuple.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Place of its entry.
    pub(crate) at: u32,
    /// What its entry names: a row that was written once, whatever its slot is called.
    pub(crate) home: u32,
    /// The row that its last packet went to.
    pub(crate) last: u32,
    /// Changes of its entry so far.
    pub(crate) changes: u32,
    /// Tick of its last packet that is sure to be in its entry.
    pub(crate) tick: u16,
    pub(crate) without: Without,
}

impl Flow {
    pub(crate) const NEW: Self =
        Self { at: NONE, home: NONE, last: NONE, changes: 0, tick: 0, without: Without::New };
}

/// All flows by number, and whose entry is at each place.
pub(crate) struct Oracle {
    pub(crate) flows: Vec<Flow>,
    owners: Vec<u32>,
    /// Second entries, by place, with what they name: two packets of a flow without an entry may store it at once, if the
    /// bucket changes in between. Packets find the first.
    seconds: HashMap<u32, u32>,
    /// What was counted, by category.
    pub(crate) seen: HashMap<&'static str, u64>,
    /// What must not be.
    pub(crate) faults: Vec<String>,
    /// How many of each kind of fault.
    pub(crate) faulty: HashMap<&'static str, u64>,
    /// Flows that found no place or lost it; they trouble their buckets again and again.
    pub(crate) crowded: Vec<u32>,
}

const WAYS_U32: u32 = 8;
const _: () = assert!(WAYS_U32 as usize == WAYS);

/// Faults that are told in full.
const TOLD: usize = 12;

impl Oracle {
    pub(crate) fn new(flows: usize, entries: usize) -> Self {
        Self {
            flows: vec![Flow::NEW; flows],
            owners: vec![NONE; entries],
            seconds: HashMap::new(),
            seen: HashMap::new(),
            faults: Vec::new(),
            faulty: HashMap::new(),
            crowded: Vec::new(),
        }
    }

    pub(crate) fn count(&mut self, category: &'static str) {
        *self.seen.entry(category).or_default() += 1;
    }

    pub(crate) fn seen(&self, category: &str) -> u64 {
        self.seen.get(category).copied().unwrap_or(0)
    }

    pub(crate) fn fault(&mut self, kind: &'static str, details: impl FnOnce() -> String) {
        *self.faulty.entry(kind).or_default() += 1;
        if self.faults.len() < TOLD {
            self.faults.push(format!("{kind}: {}", details()));
        }
    }

    pub(crate) fn owner(&self, place: usize) -> u32 {
        self.owners[place]
    }

    /// The entry of a flow is gone; if there is a second one, packets find that now.
    pub(crate) fn left(&mut self, number: u32, why: Without) {
        let second = self.seconds.keys().find(|place| self.owners[**place as usize] == number).copied();
        let flow = &mut self.flows[number as usize];
        (flow.at, flow.home, flow.without) = (NONE, NONE, why);
        flow.changes += 1;
        if let Some(place) = second {
            // It was last refreshed at nobody knows what time.
            (flow.at, flow.home, flow.tick) = (place, self.seconds[&place], 0);
            self.seconds.remove(&place);
        }
    }

    /// A flow has an entry at a place.
    pub(crate) fn entered(&mut self, number: u32, place: usize, home: u32, fingerprint: u32) {
        self.owners[place] = number;
        let place = u32::try_from(place).expect("few entries");
        let steps = |place: u32| place.wrapping_sub(fingerprint) % WAYS_U32;
        let flow = &mut self.flows[number as usize];
        flow.changes += 1;
        if flow.at != NONE {
            let is_first = steps(place) < steps(flow.at);
            let second = if is_first { (flow.at, flow.home) } else { (place, home) };
            self.seconds.insert(second.0, second.1);
            self.count("stored twice at once");
            if !is_first {
                return;
            }
        }
        let flow = &mut self.flows[number as usize];
        (flow.at, flow.home) = (place, home);
    }

    /// How many second entries there are.
    pub(crate) fn seconds(&self) -> usize {
        self.seconds.len()
    }

    /// What a second entry names.
    pub(crate) fn second(&self, place: usize) -> Option<u32> {
        self.seconds.get(&u32::try_from(place).ok()?).copied()
    }

    /// A second entry is gone. `false` if there was none at this place.
    pub(crate) fn second_left(&mut self, place: usize) -> bool {
        u32::try_from(place).is_ok_and(|place| self.seconds.remove(&place).is_some())
    }

    /// A place is empty.
    pub(crate) fn emptied(&mut self, place: usize) {
        self.owners[place] = NONE;
    }

    /// Flows that were opened and have no entry although their backend is there.
    pub(crate) fn placeless(&self) -> usize {
        let without =
            |flow: &&Flow| flow.at == NONE && matches!(flow.without, Without::Unstored | Without::Evicted);
        self.flows.iter().filter(without).count()
    }
}
