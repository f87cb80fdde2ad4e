//! User space: one actor that changes the pool, operation by operation, and sweeps the flow table, slice by slice.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lb_common::BackendWord;
use lb_common::flow::TICK_SHIFT;
use lb_core::config::{
    AdminState, AttachMode, Backend, Check, CheckKind, Config, Interface, Limits, Metrics, Mode, Protocol,
    Role, Service, TableSize, Timeouts, UnknownPort, WhenAllDown,
};
use lb_core::health::Verdict;
use lb_core::plan::{Actual, MapOp, NextHop, VerdictMap, diff, plan};
use lb_core::sweep::{self, Census, MARKING_PASSES, SlotSet};

use crate::world::{Who, World};

/// Services: two of TCP and one of UDP.
pub(crate) const SERVICES: usize = 3;
/// Slots, few enough that freed ones are soon used again.
pub(crate) const SLOTS: u32 = 26;
/// Most backends of a service.
const MOST: usize = 6;
/// Idle times in ticks: nothing is given up before, and TCP flows not within the time of the test.
pub(crate) const ESTABLISHED: u16 = 400;
pub(crate) const CLOSING: u16 = 3;
pub(crate) const UDP: u16 = 90;

/// What user space is at.
enum Task {
    Idle,
    Operations { ops: Vec<MapOp>, at: usize, done: usize, waits_for: Option<u64> },
    Pass { at: usize, now: u16 },
}

pub(crate) struct UserSpace {
    config: Config,
    verdicts: VerdictMap,
    actual: Actual,
    task: Task,
    marking_passes: u8,
    /// What the last whole pass found, and the one under way.
    pub(crate) census: Census,
    counting: Census,
    next_address: u32,
    /// By slot: how often a row was written there.
    pub(crate) uses: Vec<u32>,
    pub(crate) switches: u32,
    pub(crate) kinds: BTreeMap<&'static str, u32>,
}

pub(crate) fn limits() -> Limits {
    Limits { services: 4, backends: SLOTS, table_slots: 8 * 4_096, ..Limits::default() }
}

const fn ticks(ticks: u16) -> Duration {
    Duration::from_nanos((ticks as u64) << TICK_SHIFT)
}

pub(crate) const fn timeouts() -> Timeouts {
    Timeouts { established: ticks(ESTABLISHED), closing: ticks(CLOSING), udp: ticks(UDP) }
}

fn service(number: usize) -> Service {
    Service {
        name: format!("s{number}"),
        vip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        port: 80 + u16::try_from(number).expect("few services"),
        protocol: if number == SERVICES - 1 { Protocol::Udp } else { Protocol::Tcp },
        mode: Mode::Ipip,
        table_size: TableSize::Small,
        when_all_down: WhenAllDown::ServeAll,
        unknown_port: UnknownPort::Drop,
        track: true,
        timeouts: timeouts(),
        check: Some(Check::new(CheckKind::Tcp)),
        backends: Vec::new(),
    }
}

impl UserSpace {
    pub(crate) fn new() -> Self {
        let interfaces =
            vec![Interface { name: "eth0".to_owned(), role: Role::Steer, mode: AttachMode::Auto }];
        let services = (0..SERVICES).map(service).collect();
        let mut user = Self {
            config: Config {
                interfaces,
                cluster: None,
                sync: None,
                ha: Default::default(),
                limits: limits(),
                metrics: Metrics::default(),
                services,
            },
            verdicts: VerdictMap::new(),
            actual: Actual::new(limits()),
            task: Task::Idle,
            marking_passes: 0,
            census: Census::default(),
            counting: Census::default(),
            next_address: u32::from(Ipv4Addr::new(10, 0, 0, 1)),
            uses: vec![0; SLOTS as usize + 1],
            switches: 0,
            kinds: BTreeMap::new(),
        };
        for service in 0..SERVICES {
            (0..4).for_each(|_| user.add(service));
        }
        user.start_operations();
        user
    }

    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.task, Task::Idle)
    }

    /// Whether it is at operations that need not wait for a packet.
    pub(crate) const fn can_operate(&self) -> bool {
        matches!(self.task, Task::Operations { waits_for: None, .. })
    }

    fn add(&mut self, service: usize) {
        let address = IpAddr::V4(Ipv4Addr::from(self.next_address));
        self.next_address += 1;
        let service = &mut self.config.services[service];
        service.backends.push(Backend { address, weight: 100, state: AdminState::Enabled });
        self.verdicts.insert((service.name.clone(), address), Verdict::Up);
    }

    fn remove(&mut self, service: usize, at: usize) {
        let service = &mut self.config.services[service];
        let backend = service.backends.remove(at);
        self.verdicts.remove(&(service.name.clone(), backend.address));
    }

    fn key(&self, service: usize, at: usize) -> (String, IpAddr) {
        let service = &self.config.services[service];
        (service.name.clone(), service.backends[at].address)
    }

    /// Backends of a service that take new flows.
    fn serving(&self, service: usize) -> usize {
        let serves = |at: &usize| {
            let backend = &self.config.services[service].backends[*at];
            backend.state == AdminState::Enabled
                && backend.weight > 0
                && self.verdicts[&self.key(service, *at)] == Verdict::Up
        };
        (0..self.config.services[service].backends.len()).filter(serves).count()
    }

    /// Service and place of a backend that only keeps its flows.
    fn drained(&self) -> Option<(usize, usize)> {
        let all = self.config.services.iter().enumerate();
        let mut all = all.flat_map(|(service, one)| (0..one.backends.len()).map(move |at| (service, at)));
        all.find(|&(service, at)| {
            self.config.services[service].backends[at].state == AdminState::Drain
                && self.verdicts[&self.key(service, at)] == Verdict::Up
        })
    }

    /// Begins a change of the pool that chance chooses.
    pub(crate) fn begin_change(&mut self, world: &World) {
        assert!(self.is_idle(), "user space does one thing at a time");
        let chance = &world.random;
        if let Some((service, at)) = self.drained().filter(|_| chance.once_in(4)) {
            // All its flows are exceptions, and its death switches no table.
            *self.kinds.entry("die when drained").or_default() += 1;
            let key = self.key(service, at);
            self.verdicts.insert(key, Verdict::Down);
            self.start_operations();
            return;
        }
        let service = chance.below(SERVICES);
        let count = self.config.services[service].backends.len();
        let at = chance.below(count);
        let spare = self.serving(service) > 2;
        let kind = match chance.below(11) {
            0 if count < MOST => "add",
            1 if count > 3 && spare => "remove",
            2 if spare => "drain",
            3 if spare => "disable",
            4 if spare => "die",
            5 => "weight",
            6 | 7 => "recover",
            _ => "replace",
        };
        *self.kinds.entry(kind).or_default() += 1;
        match kind {
            "add" => self.add(service),
            "remove" => self.remove(service, at),
            "drain" => self.config.services[service].backends[at].state = AdminState::Drain,
            "disable" => self.config.services[service].backends[at].state = AdminState::Disabled,
            "die" => {
                let key = self.key(service, at);
                self.verdicts.insert(key, Verdict::Down);
            }
            "weight" => {
                let weight = 50 + u32::try_from(chance.below(200)).expect("small");
                self.config.services[service].backends[at].weight = weight;
            }
            "recover" => (0..SERVICES).for_each(|service| {
                (0..self.config.services[service].backends.len()).for_each(|at| {
                    let key = self.key(service, at);
                    self.verdicts.insert(key, Verdict::Up);
                    self.config.services[service].backends[at].state = AdminState::Enabled;
                });
            }),
            _ => (0..3).for_each(|_| {
                self.remove(service, chance.below(count));
                self.add(service);
            }),
        }
        self.start_operations();
    }

    fn start_operations(&mut self) {
        let hop = |address: IpAddr| {
            let source = IpAddr::V4(Ipv4Addr::new(10, 255, 0, 1));
            (address, NextHop { mac: Some([2, 0, 0, 0, 0, 1]), egress: 1, source })
        };
        let addresses = self.config.services.iter().flat_map(|service| &service.backends);
        let hops = addresses.map(|backend| hop(backend.address)).collect();
        let desired = plan(&self.config, &self.verdicts, &hops);
        let ops = diff(&self.actual, &desired).expect("room for the change");
        if sweep::calls_for_marks(&self.actual, &ops) {
            self.marking_passes = MARKING_PASSES;
        }
        self.task = Task::Operations { ops, at: 0, done: 0, waits_for: None };
    }

    /// Begins a pass over the flow table, as the timer does.
    pub(crate) fn begin_pass(&mut self, world: &World) {
        if self.is_idle() {
            self.task = Task::Pass { at: 0, now: world.present_tick() };
            self.counting = Census { by_slot: vec![0; world.rows.slots()], ..Census::default() };
        }
    }

    /// Goes on by one step or slice.
    pub(crate) fn advance(&mut self, world: &World) {
        let slice = 1 + world.random.below(world.places() / if world.random.once_in(256) { 1 } else { 512 });
        match std::mem::replace(&mut self.task, Task::Idle) {
            Task::Idle => {}
            Task::Pass { at, now } => {
                let end = (at + slice).min(world.places());
                self.visit(world, at..end, now);
                self.task = Task::Pass { at: end, now };
                if end == world.places() {
                    self.marking_passes = self.marking_passes.saturating_sub(1);
                    self.census = std::mem::take(&mut self.counting);
                    self.task = Task::Idle;
                }
            }
            Task::Operations { ops, at, .. } if at == ops.len() => {}
            Task::Operations { ops, at, done, waits_for } => {
                self.task = self.operate(world, ops, at, done, waits_for, slice);
            }
        }
    }

    fn visit(&mut self, world: &World, places: std::ops::Range<usize>, now: u16) {
        let facts =
            sweep::slot_facts(&self.actual, &self.config, world.rows.slots(), self.marking_passes > 0);
        let found = sweep::pass(world.words(places, Who::Sweeper), now, &facts);
        self.counting.used += found.used;
        self.counting.exceptions += found.exceptions;
        self.counting.unconfirmed += found.unconfirmed;
    }

    /// The pass under way comes to these places just now.
    pub(crate) fn come_by(&mut self, world: &World, places: std::ops::Range<usize>) {
        match &self.task {
            Task::Pass { now, .. } => {
                let now = *now;
                self.visit(world, places, now);
            }
            Task::Operations { ops, at, .. } => {
                let gone = swept(&ops[*at..]);
                if !gone.is_empty() {
                    sweep::clear_slots(world.words(places, Who::Clearing), &SlotSet::from_iter(gone));
                }
            }
            Task::Idle => {}
        }
    }

    fn operate(
        &mut self,
        world: &World,
        ops: Vec<MapOp>,
        at: usize,
        done: usize,
        waits_for: Option<u64>,
        slice: usize,
    ) -> Task {
        let (mut next, mut progress, mut waiting) = (at + 1, 0, None);
        match &ops[at] {
            MapOp::WriteTable { region, table, .. } => {
                let end = (done + 64).min(table.len());
                let first = region.first_entry() as usize;
                (done..end).for_each(|entry| world.tables.entries[first + entry].set(table[entry]));
                if end < table.len() {
                    (next, progress) = (at, end);
                }
            }
            MapOp::Grace => {
                // Whoever began before this operation did must have come to an end.
                let since = waits_for.unwrap_or_else(|| world.now());
                if world.oldest_packet().is_some_and(|began| began <= since) {
                    (next, waiting) = (at, Some(since));
                }
            }
            MapOp::SweepSlot { .. } => {
                let end = (done + slice).min(world.places());
                let gone = swept(&ops[at..]);
                let run = gone.len();
                sweep::clear_slots(world.words(done..end, Who::Clearing), &SlotSet::from_iter(gone));
                (next, progress) = if end == world.places() { (at + run, 0) } else { (at, end) };
            }
            op => self.perform(world, op),
        }
        ops[at..next].iter().for_each(|op| self.actual.apply(op));
        Task::Operations { ops, at: next, done: progress, waits_for: waiting }
    }

    fn perform(&mut self, world: &World, op: &MapOp) {
        match op {
            MapOp::WriteRow { slot, row } => {
                self.uses[usize::from(*slot)] += 1;
                world.rows.write(*slot, row, world.step());
            }
            MapOp::SetWord { slot, mac, egress, state } => {
                world.rows.set_word(*slot, BackendWord::new(*mac, *egress, *state), world.step());
            }
            MapOp::StoreService { index, word } => {
                self.switches += 1;
                world.tables.words[*index as usize].set(word.0);
            }
            MapOp::FreeSlot { slot } => world.rows.free(*slot, world.step()),
            MapOp::FreeService { index } => world.tables.words[*index as usize].set(0),
            // Packets of the model know their service already.
            _ => {}
        }
    }
}

/// The slots that are swept together from here on.
fn swept(ops: &[MapOp]) -> Vec<u16> {
    let slot = |op: &MapOp| match op {
        MapOp::SweepSlot { slot } => Some(*slot),
        _ => None,
    };
    ops.iter().map_while(slot).collect()
}
