//! The nodes, the network between them, and what happens to both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use lb_common::flow::FlowEntry;
use lb_common::hash::SplitMix64;
use lb_core::sync::Effect;

use crate::node::{BACKENDS, GROUPS, Node, SERVICES, address, backend, service};

const STEP: Duration = Duration::from_millis(5);
/// Steps in which things happen: ten seconds.
const BUSY: u32 = 2_000;
/// Steps after which all must be told, on a network that is still bad: a second for silence, the rest for losses.
const QUIET: u32 = 1_200;

pub(crate) struct World {
    random: SplitMix64,
    now: Duration,
    nodes: Vec<Node>,
    /// By group: who is active; two during a split.
    active: Vec<BTreeSet<usize>>,
    cut: bool,
    wire: BTreeMap<(Duration, u64), (usize, SocketAddr, Vec<u8>)>,
    sent: u64,
    /// Verdicts that came, by node.
    verdicts: Vec<u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = SplitMix64(seed);
        let count = if random.draw().is_multiple_of(3) { 3 } else { 2 };
        let now = Duration::from_secs(5);
        let nodes = (0..count).map(|node| Node::new(node, count, random.draw() | 1, now)).collect();
        let mut world = Self {
            random,
            now,
            nodes,
            active: vec![BTreeSet::new(); usize::from(GROUPS)],
            cut: false,
            wire: BTreeMap::new(),
            sent: 0,
            verdicts: vec![0; count],
        };
        (0..GROUPS).for_each(|group| world.move_to(group, usize::from(group) % count));
        world
    }

    /// How many flows were compared at the end, or what was wrong.
    pub(crate) fn run(mut self) -> Result<u64, String> {
        for _ in 0..BUSY {
            self.traffic();
            if self.below(200) == 0 {
                self.change();
            }
            self.step();
        }
        self.heal();
        for _ in 0..QUIET {
            self.step();
        }
        self.compare()
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.draw() >> 1).expect("64 bits") % end
    }

    fn any_of(&mut self, count: u8) -> u8 {
        u8::try_from(self.below(usize::from(count))).expect("a byte")
    }

    /// Packets at whoever is active: flows come, are confirmed, move, close, and are given up.
    fn traffic(&mut self) {
        for _ in 0..self.below(4) {
            let number = self.any_of(SERVICES);
            let to = (service(number), backend(self.any_of(BACKENDS)));
            // A flow is of one service for ever.
            let flow = self.below(60) as u64 * u64::from(SERVICES) + u64::from(number);
            let hash = SplitMix64(flow).draw();
            let state = [0, 2, 2, 2, 2, 2 | FlowEntry::CLOSING][self.below(6)];
            let index = self.below(1 << 20);
            for node in self.active[usize::from(number % GROUPS)].clone() {
                self.nodes[node].store(hash, to, state, self.now);
                (0..40).for_each(|step| self.nodes[node].give_up(index + step));
            }
        }
    }

    fn change(&mut self) {
        let (group, node) = (self.any_of(GROUPS), self.below(self.nodes.len()));
        match self.below(5) {
            0 => self.move_to(group, node),
            1 => self.cut = !self.cut,
            // A split: another one takes over beside the first.
            2 => {
                self.active[usize::from(group)].insert(node);
                self.set_role(node, group, true);
            }
            3 => self.heal(),
            _ => {
                let session = self.random.draw() | 1;
                let count = self.nodes.len();
                self.nodes[node].restart(node, count, session, self.now);
            }
        }
    }

    fn set_role(&mut self, node: usize, group: u8, active: bool) {
        self.nodes[node].set_role(group, active, self.now);
        let (context, sync) = self.nodes[node].parts(self.now);
        sync.tick(self.now, &context);
        self.drain(node);
    }

    fn move_to(&mut self, group: u8, node: usize) {
        self.active[usize::from(group)] = [node].into();
        self.set_role(node, group, true);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.set_role(other, group, false);
        }
    }

    /// The network is whole, and of two active nodes the one with the higher number yields.
    fn heal(&mut self) {
        self.cut = false;
        for group in 0..GROUPS {
            let winner = *self.active[usize::from(group)].first().expect("somebody is active");
            self.active[usize::from(group)] = [winner].into();
            for other in (0..self.nodes.len()).filter(|other| *other != winner) {
                self.set_role(other, group, false);
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while let Some(((at, _), _)) = self.wire.first_key_value()
            && *at <= self.now
        {
            let Some((_, (to, from, datagram))) = self.wire.pop_first() else { break };
            let (context, sync) = self.nodes[to].parts(self.now);
            sync.handle(self.now, from, &datagram, &context);
            self.drain(to);
        }
        for node in 0..self.nodes.len() {
            let (context, sync) = self.nodes[node].parts(self.now);
            if sync.next_deadline() <= self.now {
                sync.tick(self.now, &context);
            }
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].sync.poll() {
            match effect {
                Effect::Send { to, datagram } => self.transmit(node, to, &datagram),
                Effect::Verdicts { .. } => self.verdicts[node] += 1,
                Effect::Warning(warning) => panic!("{warning}"),
                _ => {}
            }
        }
    }

    fn transmit(&mut self, from: usize, to: SocketAddr, datagram: &[u8]) {
        let to = (0..self.nodes.len()).find(|node| address(*node) == to).expect("a node");
        let copies = match self.below(20) {
            0..3 => 0,
            3 => 2,
            _ => 1,
        };
        for _ in 0..if self.cut { 0 } else { copies } {
            let late = if self.below(10) == 0 { 60 } else { 8 };
            let delay = Duration::from_millis(self.below(late) as u64);
            self.sent += 1;
            self.wire.insert((self.now + delay, self.sent), (to, address(from), datagram.to_vec()));
        }
    }

    fn compare(&self) -> Result<u64, String> {
        let mut compared = 0;
        for group in 0..GROUPS {
            let active = *self.active[usize::from(group)].first().expect("somebody is active");
            let right = self.nodes[active].flows(group, true);
            for (number, node) in self.nodes.iter().enumerate().filter(|(number, _)| *number != active) {
                let found = node.flows(group, false);
                let lacks: Vec<_> =
                    right.iter().filter(|(key, value)| found.get(key) != Some(value)).collect();
                let extra: Vec<_> = found.iter().filter(|(key, _)| !right.contains_key(key)).collect();
                let name = format!("group {group}");
                if !lacks.is_empty()
                    || !extra.is_empty()
                    || !node.sync.gate(&name)
                    || self.verdicts[number] == 0
                {
                    return Err(format!(
                        "{name}, active {active}: node {number} lacks {lacks:?}\nhas beyond {extra:?}\ngate {}\n\
                         it sees {:#?}\nthe active sees {:#?}",
                        node.sync.gate(&name),
                        node.sync.status(),
                        self.nodes[active].sync.status()
                    ));
                }
                compared += right.len() as u64;
            }
        }
        Ok(compared)
    }
}
