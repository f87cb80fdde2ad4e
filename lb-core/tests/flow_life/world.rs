//! The world that packets meet, and the interleaver: at any access to the flow table or a Maglev table others may come
//! in between, by chance: another packet's whole way, user space's next step, a slice of its pass.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::backend::{BackendRow, SlotState};
use lb_common::counters::Event;
use lb_common::flow::{FlowEntry, TICKS};
use lb_common::hash::HashKey;
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;
use lb_common::packet::Tuple;
use lb_common::service::ServiceWord;
use lb_common::settings::Settings;
use lb_common::world::Steering;
use lb_core::aging::idle_ticks;
use lb_core::sweep::FlowWord;

use crate::memory::{Rows, Tables};
use crate::oracle::{NONE, Oracle, Without};
use crate::random::Random;
use crate::user::{self, CLOSING, ESTABLISHED, SERVICES, SLOTS, UDP, UserSpace};

/// Actors inside of each other at most.
const DEEPEST: usize = 3;
/// Ticks after which a flow of which only the first packet was seen is given up: 64 s.
const UNCONFIRMED: u16 = 8;

/// Who changes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Packet,
    Sweeper,
    Clearing,
}

/// A packet on its way.
#[derive(Clone, Copy)]
pub(crate) struct Flight {
    pub(crate) flow: u32,
    /// When it began.
    pub(crate) began: u64,
    /// It opens a connection.
    pub(crate) opens: bool,
    /// The word of the service of whom it wanted to evict.
    pub(crate) asked: Option<ServiceWord>,
    /// It lost a race for an entry.
    pub(crate) lost: bool,
}

pub(crate) struct World {
    settings: Settings,
    idle: IdleTicks,
    flows: Vec<AtomicU64>,
    pub(crate) tables: Tables,
    pub(crate) rows: Rows,
    /// Present tick, counted on without end.
    pub(crate) time: Cell<u16>,
    clock: Cell<u64>,
    pub(crate) random: Random,
    pub(crate) oracle: RefCell<Oracle>,
    pub(crate) user: RefCell<UserSpace>,
    pub(crate) flights: RefCell<Vec<Flight>>,
    pub(crate) events: [Cell<u64>; Event::ALL.len()],
    pub(crate) interleaved: Cell<u64>,
    depth: Cell<usize>,
    /// One access in this many is interleaved; 0: none.
    pub(crate) rate: Cell<usize>,
    /// Flows that have been opened.
    pub(crate) opened: Cell<u32>,
}

impl World {
    pub(crate) fn new(flows: usize, entries: usize, seed: u64) -> Self {
        let buckets = u32::try_from(entries / WAYS).expect("few entries");
        Self {
            settings: Settings {
                key: HashKey::from_seed([seed, 2]),
                bucket_mask: buckets - 1,
                slots: SLOTS + 1,
                flow_tuples: 0,
                guard_per_window: 0,
            },
            idle: idle_ticks(&user::timeouts()),
            flows: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            tables: Tables::new(user::limits().table_slots as usize, SERVICES + 1),
            rows: Rows::new(SLOTS as usize + 1),
            // The clock of the entries wraps soon after.
            time: Cell::new(TICKS - 40),
            clock: Cell::new(1),
            random: Random::seeded(seed),
            oracle: RefCell::new(Oracle::new(flows, entries)),
            user: RefCell::new(UserSpace::new()),
            flights: RefCell::default(),
            events: Default::default(),
            interleaved: Cell::new(0),
            depth: Cell::new(0),
            rate: Cell::new(0),
            opened: Cell::new(0),
        }
    }

    pub(crate) const fn places(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn entry_at(&self, place: usize) -> FlowEntry {
        FlowEntry(self.flows[place].load(Ordering::Relaxed))
    }

    pub(crate) fn present_tick(&self) -> u16 {
        self.time.get() % TICKS
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.get()
    }

    /// The moment of something that happens now; no two are the same.
    pub(crate) fn step(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// When the oldest packet on its way began.
    pub(crate) fn oldest_packet(&self) -> Option<u64> {
        self.flights.borrow().first().map(|flight| flight.began)
    }

    pub(crate) fn event(&self, event: Event) -> u64 {
        self.events[event as usize].get()
    }

    /// Entries as user space sees them.
    pub(crate) fn words(&self, places: Range<usize>, who: Who) -> impl Iterator<Item = Word<'_>> {
        places.map(move |place| Word { world: self, place, who })
    }

    /// User space goes on, if it is not what waits for this.
    pub(crate) fn advance(&self) {
        if let Ok(mut user) = self.user.try_borrow_mut() {
            user.advance(self);
        }
    }

    /// Whoever is here is late: meanwhile user space goes on with its operations as far as it can.
    fn be_late(&self) {
        if let Ok(mut user) = self.user.try_borrow_mut() {
            while user.can_operate() {
                user.advance(self);
            }
        }
    }

    /// Others may come in between here, where somebody is at this bucket.
    fn pause(&self, bucket: usize) {
        let rate = self.rate.get();
        if rate == 0 || self.depth.get() >= DEEPEST || !self.random.once_in(rate) {
            return;
        }
        self.interleaved.set(self.interleaved.get() + 1);
        self.depth.set(self.depth.get() + 1);
        let places = bucket * WAYS..(bucket + 1) * WAYS;
        match self.random.below(8) {
            0 => {
                // A later packet of the same flow, on another CPU.
                let flow = self.flights.borrow().last().map(|flight| flight.flow);
                flow.into_iter().for_each(|flow| self.send(flow));
            }
            1 | 2 => {
                let owner = self.oracle.borrow().owner(places.start + self.random.below(WAYS));
                if owner != NONE {
                    self.send(owner);
                }
            }
            3 => self.send_any(),
            4 => {
                if let Ok(mut user) = self.user.try_borrow_mut() {
                    user.come_by(self, places);
                }
            }
            _ if self.random.once_in(8) => self.be_late(),
            _ => self.advance(),
        }
        self.depth.set(self.depth.get() - 1);
    }

    /// An entry was changed from what it was.
    fn changed(&self, place: usize, was: FlowEntry, now: FlowEntry, who: Who) {
        if was.fingerprint() == now.fingerprint() && was.slot() == now.slot() && !now.is_empty() {
            return;
        }
        let flight = self.flights.borrow().last().copied();
        let mut oracle = self.oracle.borrow_mut();
        if !was.is_empty() && !oracle.second_left(place) {
            self.leave(&mut oracle, place, was, now, who, flight);
        }
        match (flight, who) {
            _ if now.is_empty() => oracle.emptied(place),
            (Some(flight), Who::Packet) => {
                oracle.entered(flight.flow, place, self.rows.number(now.slot()), now.fingerprint());
            }
            _ => oracle.fault("user space made a flow", || format!("{was:?} to {now:?} at {place}")),
        }
    }

    /// The flow at this place loses its entry.
    fn leave(
        &self,
        oracle: &mut Oracle,
        place: usize,
        was: FlowEntry,
        now: FlowEntry,
        who: Who,
        flight: Option<Flight>,
    ) {
        let number = oracle.owner(place);
        if number == NONE || oracle.flows[number as usize].at as usize != place {
            oracle.fault("an entry of nobody", || format!("{was:?} at {place}"));
            return;
        }
        let flow = oracle.flows[number as usize];
        let told = || format!("flow {number} {flow:?} {was:?} at {place} by {who:?}, now {now:?}");
        let takes = |from, new| self.rows.takes_since(was.slot(), flow.home, new, from);
        let why = match (who, flight) {
            (Who::Clearing, _) => {
                if takes(self.now(), false) {
                    oracle.fault("live flow cleared", told);
                }
                Without::BackendGone
            }
            (Who::Sweeper, _) => {
                let idle = self.time.get() - flow.tick;
                if !takes(0, false) && self.rows.number(was.slot()) != flow.home {
                    oracle.fault("an entry outlived its slot", told);
                } else if idle <= longest(was) {
                    oracle.fault("live flow given up", told);
                }
                Without::Expired
            }
            (Who::Packet, Some(flight)) if flight.flow == number => {
                if takes(flight.began, flight.opens) {
                    oracle.fault("live flow picked anew", told);
                }
                Without::BackendGone
            }
            (Who::Packet, _) if was.fingerprint() == now.fingerprint() => {
                oracle.count("entry taken by a twin");
                Without::Twin
            }
            (Who::Packet, flight) => {
                let began = flight.map_or(0, |flight| flight.began);
                let asked = flight.and_then(|flight| flight.asked);
                if self.time.get() - flow.tick > longest(was) {
                    oracle.count("evicted when expired");
                    oracle.left(number, Without::Expired);
                    return;
                }
                if takes(began, false) && self.is_exception(&flow_service(number), was, asked) {
                    oracle.fault("live exception lost", told);
                }
                oracle.crowded.push(number);
                oracle.count("evicted");
                Without::Evicted
            }
        };
        oracle.left(number, why);
    }

    /// Whether the entry here says rightly that only it knows its backend, or that the table does too.
    pub(crate) fn is_marked_right(&self, place: usize) -> bool {
        let entry = self.entry_at(place);
        let Some(row) = self.rows.get(entry.slot()).filter(|_| !entry.is_empty()) else { return true };
        let word = ServiceWord(self.tables.words[usize::from(row.service)].get());
        let elsewhere = self.tables.choice(word, entry.fingerprint()) != entry.slot();
        let exception = elsewhere && row.load().state() != SlotState::Dead;
        entry.is(FlowEntry::EXCEPTION) == exception
    }

    /// Whether only the entry knows the flow's backend. A closing flow may go unless it is marked.
    fn is_exception(&self, service: &usize, entry: FlowEntry, asked: Option<ServiceWord>) -> bool {
        let word = asked.unwrap_or(ServiceWord(self.tables.words[*service].get()));
        entry.is(FlowEntry::EXCEPTION)
            || !entry.is(FlowEntry::CLOSING) && self.tables.choice(word, entry.fingerprint()) != entry.slot()
    }
}

/// Ticks after which an entry is given up.
fn longest(entry: FlowEntry) -> u16 {
    match () {
        () if entry.is(FlowEntry::UDP) => UDP,
        () if entry.is(FlowEntry::CLOSING) => CLOSING,
        () if entry.is(FlowEntry::CONFIRMED) => ESTABLISHED,
        () => UNCONFIRMED,
    }
}

/// The service of a flow: every eighth is of UDP.
pub(crate) const fn flow_service(flow: u32) -> usize {
    match flow % 8 {
        0 => SERVICES - 1,
        odd => odd as usize % 2,
    }
}

/// An entry as user space sees it.
pub(crate) struct Word<'w> {
    world: &'w World,
    place: usize,
    who: Who,
}

impl FlowWord for Word<'_> {
    fn load(&self) -> u64 {
        FlowWord::load(&self.world.flows[self.place])
    }

    fn replace(&self, old: u64, new: u64) -> bool {
        self.world.pause(self.place / WAYS);
        let word = &self.world.flows[self.place];
        let was = word.load(Ordering::Relaxed);
        let replaced = FlowWord::replace(word, old, new);
        if replaced {
            self.world.changed(self.place, FlowEntry(was), FlowEntry(new), self.who);
        }
        replaced
    }
}

impl Steering for World {
    type Bucket = usize;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        let word = ServiceWord(self.tables.words.get(index as usize)?.get());
        if let Some(flight) = self.flights.borrow_mut().last_mut() {
            flight.asked = Some(word);
        }
        Some(word)
    }

    fn table_slot(&self, first_entry: u32, index: u32) -> u16 {
        self.pause(index as usize);
        let slot = self.tables.entries[(first_entry + index) as usize].get();
        self.pause(index as usize);
        slot
    }

    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        self.rows.get(slot)
    }

    fn bucket(&self, index: u32) -> Option<usize> {
        Some(index as usize)
    }

    fn entry(&self, bucket: usize, way: usize) -> u64 {
        let entry = self.flows[bucket * WAYS + way % WAYS].load(Ordering::Relaxed);
        self.pause(bucket);
        entry
    }

    fn replace(&self, bucket: usize, way: usize, old: u64, new: u64) -> bool {
        self.pause(bucket);
        let place = bucket * WAYS + way % WAYS;
        let replaced =
            self.flows[place].compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if replaced {
            self.changed(place, FlowEntry(old), FlowEntry(new), Who::Packet);
        }
        replaced
    }

    fn note_tuple(&self, _bucket: u32, _way: usize, _tuple: &Tuple) {}

    fn tick(&self) -> u16 {
        self.present_tick()
    }

    fn idle(&self) -> IdleTicks {
        self.idle
    }

    fn admits_flow(&self) -> bool {
        true
    }

    fn note(&self, event: Event) {
        let count = &self.events[event as usize];
        count.set(count.get() + 1);
        let mut flights = self.flights.borrow_mut();
        let Some(flight) = flights.last_mut() else { return };
        match event {
            Event::LostRace => flight.lost = true,
            Event::Unstored => {
                let mut oracle = self.oracle.borrow_mut();
                let flow = &mut oracle.flows[flight.flow as usize];
                if flow.at == NONE {
                    flow.without = Without::Unstored;
                    oracle.crowded.push(flight.flow);
                }
            }
            _ => {}
        }
    }
}
