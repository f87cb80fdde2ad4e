//! The packet's journey in plain memory.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use lb_common::backend::BackendRow;
use lb_common::counters::{COUNTERS_PER_CPU, Event};
use lb_common::egress::EgressRow;
use lb_common::guard::{GuardWord, per_window};
use lb_common::hash::HashKey;
use lb_common::idle::IdleTicks;
use lb_common::limits::{REGION_UNIT, WAYS};
use lb_common::packet::{Tuple, words};
use lb_common::pick::{Pick, Service, Signals, pick};
use lb_common::reason::{Action, DropReason, Outcome, Verdict};
use lb_common::service::{LEASE_FOR_EVER, ServiceKey4, ServiceKey6, ServiceWord, VipRow};
use lb_common::settings::Settings;
use lb_common::world::{Steering, World};
use lb_common::{BackendWord, journey};

use super::memory::{Memory, frame_access};
use super::seen::{Probe, Seen};
use super::setup::{BACKENDS, INGRESS, SERVICES, Setup, UNITS};

/// The maps of a balancer, and the frame that is on its way.
pub struct HostWorld {
    frame: Memory,
    /// The interface that frames come in by.
    pub ingress: Cell<u32>,
    /// The present tick of the flow table's clock.
    pub tick: Cell<u16>,
    /// The present window of the flood guard.
    pub window: Cell<u32>,
    guard: Cell<GuardWord>,
    /// The clock of leases.
    pub boot_ns: Cell<u64>,
    /// Room in front of frames, if not the usual.
    pub headroom: Cell<Option<usize>>,
    settings: Settings,
    idle: IdleTicks,
    egress: Vec<EgressRow>,
    gone: Vec<u32>,
    services4: HashMap<ServiceKey4, u32>,
    services6: HashMap<ServiceKey6, u32>,
    services: Vec<AtomicU64>,
    vips4: HashMap<u32, VipRow>,
    vips6: HashMap<[u32; 4], VipRow>,
    leases: Vec<u64>,
    backends: Vec<BackendRow>,
    maglev: Vec<AtomicU16>,
    flows: Vec<[AtomicU64; WAYS]>,
    tuples: Vec<[AtomicU64; 5]>,
    counters: Vec<AtomicU64>,
    slots: Vec<[AtomicU64; 3]>,
}

/// An IPv4 address, or an IPv6 address, as maps have them.
pub fn key_of(address: IpAddr) -> Result<u32, [u32; 4]> {
    match address {
        IpAddr::V4(address) => Ok(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => Err(words(address.octets())),
    }
}

impl HostWorld {
    /// The world with these maps.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        let slots = BACKENDS + 1;
        let zeroes = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let mut world = Self {
            frame: Memory::new(&[]),
            ingress: Cell::new(INGRESS),
            tick: Cell::new(1_000),
            window: Cell::new(1),
            guard: Cell::default(),
            boot_ns: Cell::new(1_000_000_000),
            headroom: Cell::new(None),
            settings: Settings {
                key: HashKey::from_seed(super::setup::SEED),
                bucket_mask: setup.buckets - 1,
                slots,
                flow_tuples: 1,
                guard_per_window: per_window(setup.new_flows_per_second),
            },
            idle: setup.idle,
            egress: vec![EgressRow::default(); lb_common::limits::MAX_EGRESS as usize],
            gone: setup.gone.clone(),
            services4: HashMap::new(),
            services6: HashMap::new(),
            services: zeroes(SERVICES as usize),
            vips4: HashMap::new(),
            vips6: HashMap::new(),
            leases: setup.leases.clone(),
            backends: (0..slots).map(|_| unused_row()).collect(),
            maglev: (0..UNITS * REGION_UNIT).map(|_| AtomicU16::new(0)).collect(),
            flows: (0..setup.buckets).map(|_| Default::default()).collect(),
            tuples: (0..setup.buckets * WAYS as u32).map(|_| Default::default()).collect(),
            counters: zeroes(COUNTERS_PER_CPU as usize),
            slots: (0..slots).map(|_| Default::default()).collect(),
        };
        world.fill(setup);
        world
    }

    fn fill(&mut self, setup: &Setup) {
        for row in &setup.egress {
            self.egress[EgressRow::position(row.ifindex) as usize] = *row;
        }
        for service in &setup.services {
            let (port, protocol, index) = (service.port.to_be(), service.protocol, u32::from(service.index));
            match key_of(service.vip) {
                Ok(address) => {
                    self.services4.insert(ServiceKey4 { address, port, protocol, reserved: 0 }, index);
                }
                Err(address) => {
                    self.services6.insert(ServiceKey6 { address, port, protocol, reserved: 0 }, index);
                }
            }
            self.put_table(service.word.first_entry(), &service.full_table());
            self.put_service(index, service.word.0);
        }
        for (vip, row) in &setup.vips {
            match key_of(*vip) {
                Ok(address) => self.vips4.insert(address, *row),
                Err(address) => self.vips6.insert(address, *row),
            };
        }
        for backend in &setup.backends {
            let row = backend.spec.row();
            row.word.store(backend.word.0, Ordering::Relaxed);
            self.backends[usize::from(backend.slot)] = row;
        }
    }

    /// Puts a frame through and counts nothing beside: for very many of them.
    pub fn step(&mut self, frame: &[u8]) -> Action {
        self.frame = Memory::new(frame);
        journey(self).action()
    }

    /// The frame after its journey.
    #[must_use]
    pub fn left(&self) -> Vec<u8> {
        self.frame.frame()
    }

    /// All that a frame may change but for tuples: counters, slot counters (three words each), flow entries.
    pub fn words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.counters.iter().chain(self.slots.iter().flatten()).chain(self.flows.iter().flatten())
    }

    fn totals(&self) -> (Vec<u64>, Vec<[u64; 3]>) {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let slots = self.slots.iter().map(|row| [load(&row[0]), load(&row[1]), load(&row[2])]).collect();
        (self.counters.iter().map(load).collect(), slots)
    }
}

fn unused_row() -> BackendRow {
    BackendRow {
        word: AtomicU64::new(BackendWord::default().0),
        service: 0,
        encapsulation: 0,
        reserved: 0,
        partial_sum: 0,
        template: [0; 5],
        reserved_tail: 0,
    }
}

/// What was counted between two readings of the counters.
#[must_use]
pub fn difference(
    before: &(Vec<u64>, Vec<[u64; 3]>),
    after: &(Vec<u64>, Vec<[u64; 3]>),
    action: Action,
    frame: Vec<u8>,
) -> Seen {
    let times = |row: u32| after.0[row as usize] - before.0[row as usize];
    let repeat = |name: &'static str, row: u32| std::iter::repeat_n(name, times(row) as usize);
    let verdicts = Verdict::ALL.iter().map(|verdict| (verdict.name(), Outcome::Verdict(*verdict).row()));
    let drops = DropReason::ALL.iter().map(|reason| (reason.name(), Outcome::Drop(*reason).row()));
    let outcomes = verdicts.chain(drops).flat_map(|(name, row)| repeat(name, row)).collect();
    let events = Event::ALL.iter().flat_map(|event| repeat(event.name(), event.row())).collect();
    let slots: BTreeMap<usize, [u64; 3]> = (before.1.iter().zip(&after.1).enumerate())
        .filter(|(_, (before, after))| before != after)
        .map(|(slot, (before, after))| (slot, std::array::from_fn(|at| after[at] - before[at])))
        .collect();
    let frame = if action == Action::Drop { Vec::new() } else { frame };
    Seen { action, outcomes, events, slots, frame }
}

impl Probe for HostWorld {
    fn run(&mut self, frame: &[u8]) -> Seen {
        self.frame = match self.headroom.get() {
            Some(headroom) => Memory::with_headroom(frame, headroom),
            None => Memory::new(frame),
        };
        let before = self.totals();
        let action = journey(self).action();
        difference(&before, &self.totals(), action, self.frame.frame())
    }

    fn bucket(&self, index: u32) -> [u64; 8] {
        std::array::from_fn(|way| self.flows[index as usize][way].load(Ordering::Relaxed))
    }

    fn put_entry(&mut self, bucket: u32, way: usize, entry: u64) {
        self.flows[bucket as usize][way].store(entry, Ordering::Relaxed);
    }

    fn tuple(&self, bucket: u32, way: usize) -> [u64; 5] {
        let row = &self.tuples[bucket as usize * WAYS + way];
        std::array::from_fn(|word| row[word].load(Ordering::Relaxed))
    }

    fn put_backend(&mut self, slot: u16, word: u64) {
        self.backends[usize::from(slot)].word.store(word, Ordering::Relaxed);
    }

    fn put_service(&mut self, index: u32, word: u64) {
        self.services[index as usize].store(word, Ordering::Relaxed);
    }

    fn put_table(&mut self, first_entry: u32, slots: &[u16]) {
        for (entry, slot) in self.maglev[first_entry as usize..].iter().zip(slots) {
            entry.store(*slot, Ordering::Relaxed);
        }
    }
}

frame_access!(HostWorld);

impl Steering for HostWorld {
    type Bucket = u32;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        self.services.get(index as usize).map(|word| ServiceWord(word.load(Ordering::Relaxed)))
    }

    fn table_slot(&self, first_entry: u32, index: u32) -> u16 {
        self.maglev.get((first_entry + index) as usize).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        self.backends.get(usize::from(slot))
    }

    fn bucket(&self, index: u32) -> Option<u32> {
        ((index as usize) < self.flows.len()).then_some(index)
    }

    fn entry(&self, bucket: u32, way: usize) -> u64 {
        self.flows[bucket as usize][way % WAYS].load(Ordering::Relaxed)
    }

    fn replace(&self, bucket: u32, way: usize, old: u64, new: u64) -> bool {
        let word = &self.flows[bucket as usize][way % WAYS];
        word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn note_tuple(&self, bucket: u32, way: usize, tuple: &Tuple) {
        let row = &self.tuples[bucket as usize * WAYS + way];
        for (word, value) in row.iter().zip(words_of(tuple)) {
            word.store(value, Ordering::Relaxed);
        }
    }

    fn tick(&self) -> u16 {
        self.tick.get()
    }

    fn idle(&self) -> IdleTicks {
        self.idle
    }

    fn admits_flow(&self) -> bool {
        let limit = self.settings.guard_per_window;
        self.guard.set(self.guard.get().count(self.window.get()));
        limit == 0 || self.guard.get().admits(limit)
    }

    fn note(&self, event: Event) {
        self.counters[event.row() as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A tuple as it lies in the kernel's map.
#[must_use]
pub fn words_of(tuple: &Tuple) -> [u64; 5] {
    let mut octets = [0u8; 40];
    let words = tuple.source.iter().chain(&tuple.destination).chain([&tuple.ports]);
    for (place, word) in octets.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    octets[36] = tuple.protocol;
    octets[37] = tuple.family as u8;
    std::array::from_fn(|at| u64::from_ne_bytes(std::array::from_fn(|octet| octets[at * 8 + octet])))
}

impl World for HostWorld {
    fn ingress_ifindex(&self) -> u32 {
        self.ingress.get()
    }

    fn egress(&self, position: u32) -> Option<&EgressRow> {
        self.egress.get(position as usize)
    }

    fn service4(&self, key: &ServiceKey4) -> Option<u32> {
        self.services4.get(key).copied()
    }

    fn service6(&self, key: &ServiceKey6) -> Option<u32> {
        self.services6.get(key).copied()
    }

    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        Steering::service_word(self, index)
    }

    fn vip4(&self, address: u32) -> Option<VipRow> {
        self.vips4.get(&address).copied()
    }

    fn vip6(&self, address: &[u32; 4]) -> Option<VipRow> {
        self.vips6.get(address).copied()
    }

    fn lease_holds(&self, lease: u32) -> bool {
        let until = self.leases.get(lease as usize).copied().unwrap_or(0);
        until == LEASE_FOR_EVER || self.boot_ns.get() < until
    }

    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        Steering::backend(self, slot)
    }

    fn pick(&self, tuple: &Tuple, signals: Signals, service: Service) -> Pick {
        pick(self, tuple, signals, service)
    }

    fn redirect(&self, position: u32) -> bool {
        self.egress
            .get(position as usize)
            .is_some_and(|row| row.ifindex != 0 && !self.gone.contains(&row.ifindex))
    }

    fn count(&self, outcome: Outcome) {
        self.counters[outcome.row() as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count_slot(&self, slot: u16, bytes: usize, new_flow: bool) {
        let row = &self.slots[usize::from(slot)];
        for (counter, amount) in row.iter().zip([1, bytes as u64, u64::from(new_flow)]) {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }
}
