//! The world: virtual time, what happens in it, and nodes that do what their machines say.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_core::vrrp::{Effect, Input, Machine, Role};

use crate::foreign::Phase;
use crate::judge::Judge;
use crate::network::{Cut, Network};
use crate::node::{Brain, Message, Node, Process};
use crate::plan::{CHANGES, Kind, Plan};
use crate::random::Random;
use crate::sync::FlowSync;

/// Events in one schedule, of which most have some thousands.
const MAX_EVENTS: u64 = 1_000_000;
/// Lines of a failed schedule that are shown.
const SHOWN: usize = 80;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    Timer {
        node: usize,
        timer: u64,
    },
    /// Flow sync of a node sends, and looks how far it is.
    Hello {
        node: usize,
    },
    Change,
    Boot {
        node: usize,
    },
    Wake {
        node: usize,
    },
    Heal(Cut),
    Repair {
        node: usize,
    },
    Resume {
        node: usize,
    },
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) judge: Judge,
    pub(crate) at: u64,
    /// When the last thing is put right that was done.
    pub(crate) restored_at: u64,
    events: BTreeMap<(u64, u64), Event>,
    numbered: u64,
    changes: u32,
    log: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, logs: bool) -> Self {
        let mut random = Random::seeded(seed);
        let plan = Plan::draw(&mut random);
        let nodes: Vec<Node> = (0..plan.nodes.len()).map(|index| Node::new(&plan, index)).collect();
        let mut world = Self {
            judge: Judge::default(),
            network: Network::default(),
            at: 0,
            restored_at: 0,
            events: BTreeMap::new(),
            numbered: 0,
            changes: 0,
            log: logs.then(Vec::new),
            random,
            nodes,
            plan,
        };
        for node in 0..world.nodes.len() {
            let boots_at = world.plan.nodes[node].boots_at;
            world.put(boots_at, Event::Boot { node });
            world.put(boots_at + 1, Event::Hello { node });
        }
        world.put(8 * world.plan.interval + world.plan.settled_after(), Event::Change);
        world
    }

    /// Until some time after everything has been put right. What was wrong, if something was.
    pub(crate) fn run(mut self) -> Result<Judge, String> {
        while let Some(((at, _), event)) = self.events.pop_first() {
            let end = self.restored_at + self.plan.settled_after() + 3 * self.plan.interval;
            if self.changes == CHANGES && at > end {
                break;
            }
            self.at = at;
            if self.numbered > MAX_EVENTS {
                return Err("a machine does not wait".to_owned());
            }
            self.look();
            self.happen(event);
            self.look();
            if let Some(fault) = self.judge.fault.take() {
                let log = self.log.unwrap_or_default();
                let plan = &self.plan;
                return Err(format!(
                    "{plan:?}\n{}\n{fault}",
                    log[log.len().saturating_sub(SHOWN)..].join("\n")
                ));
            }
        }
        Ok(self.judge)
    }

    pub(crate) fn put(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.events.insert((at, self.numbered), event);
    }

    /// In intervals since the beginning.
    pub(crate) fn log(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>9.4}  {}", self.at as f64 / self.plan.interval as f64, line()));
        }
    }

    fn happen(&mut self, event: Event) {
        if !matches!(
            event,
            Event::Timer { .. } | Event::Hello { .. } | Event::Deliver { message: Message::Hello, .. }
        ) {
            self.log(|| format!("{event:?}"));
        }
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Timer { node, timer } => {
                if self.nodes[node].timer == timer && self.nodes[node].runs() {
                    self.tick(node);
                }
            }
            Event::Hello { node } => self.hello(node),
            Event::Change => self.next_change(),
            Event::Boot { node } => self.boot(node),
            Event::Wake { node } => self.wake(node),
            Event::Heal(cut) => {
                let was_partition = self.is_partition();
                self.network.change(cut, true);
                self.judge.may_overlap(self.at + self.plan.healed_after());
                // One that hands over may take another active one for its peer, and that one yields to it.
                let hands_over = |node: &Node| {
                    node.ours().is_some_and(|ours| ours.machine.view(Duration::ZERO).handing_over)
                };
                // So may two of equal priority that hear each other in the second family first.
                let ties = self.plan.ties && self.plan.families == 2;
                if !was_partition || ties || self.nodes.iter().any(hands_over) {
                    self.judge.may_gap(self.at + self.plan.settled_after());
                }
            }
            Event::Repair { node } => {
                self.nodes[node].ours_mut().expect("only ours have faults").fault = false;
                self.comes_back(node);
                self.input(node, Input::Track { fault: None, penalty: 0 });
            }
            Event::Resume { node } => {
                self.nodes[node].ours_mut().expect("only ours are paused").paused = false;
                self.comes_back(node);
                self.input(node, Input::Resume);
            }
        }
    }

    fn next_change(&mut self) {
        self.changes += 1;
        self.change();
        self.restored_at = self.restored_at.max(self.at);
        let interval = self.plan.interval;
        let next = if self.plan.calm {
            self.restored_at + self.plan.settled_after() + self.random.hundredths(interval, 0, 400)
        } else {
            self.at + self.random.hundredths(interval, 0, 600)
        };
        if self.changes < CHANGES {
            self.put(next, Event::Change);
        }
    }

    /// Later, what is done now is put right.
    pub(crate) fn restore(&mut self, after: u64, event: Event) {
        let at = self.at + after;
        self.restored_at = self.restored_at.max(at);
        self.put(at, event);
    }

    pub(crate) fn now(&self, node: usize) -> Duration {
        self.nodes[node].clock.read(self.at)
    }

    pub(crate) fn is_partition(&self) -> bool {
        self.network.is_partition(self.nodes.len(), self.plan.families)
    }

    pub(crate) fn mutual(&self, one: usize, other: usize) -> bool {
        self.network.hear_each_other(one, other, self.plan.families)
    }

    fn boot(&mut self, node: usize) {
        let now = self.now(node);
        self.nodes[node].process = Process::Running;
        self.comes_back(node);
        match &mut self.nodes[node].brain {
            Brain::Foreign(foreign) => {
                foreign.startup(now);
                self.arm(node);
            }
            Brain::Ours(ours) => {
                ours.machine = Machine::new(ours.settings.clone());
                ours.sync.restart();
                (ours.gate_open, ours.paused) = (false, false);
                let lease_in_force = (ours.lease > now).then_some(ours.lease);
                let fault = ours.fault.then(|| "no carrier".to_owned());
                self.input(node, Input::Track { fault, penalty: 0 });
                self.input(node, Input::Start { lease_in_force });
            }
        }
    }

    /// What waits for it comes before its timer. If that is long overdue either may be first, for once.
    fn wake(&mut self, node: usize) {
        if self.nodes[node].process != Process::Stopped {
            return;
        }
        self.nodes[node].process = Process::Running;
        self.comes_back(node);
        let inbox = std::mem::take(&mut self.nodes[node].inbox);
        let tenths = |by: u64| self.plan.interval * by / 10;
        let overdue = |by| self.nodes[node].deadline().is_some_and(|due| due + tenths(by) < self.at);
        let (may_be_late, is_late) = (overdue(4), overdue(6));
        let timer_first = is_late && !self.nodes[node].was_late && self.random.once_in(2);
        self.nodes[node].was_late |= may_be_late;
        if timer_first {
            self.tick(node);
        }
        for (came_at, from, message) in inbox {
            // Flow sync does not pass on what the peer may not wait for any more.
            let is_stale = self.at - came_at > self.plan.interval / 2;
            if !(is_stale && matches!(message, Message::TakeOver)) {
                self.deliver(from, node, message);
            }
        }
        self.tick(node);
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let now = self.now(to);
        let plan = &self.plan;
        let node = &mut self.nodes[to];
        match node.process {
            Process::Dead => return,
            Process::Stopped => return node.inbox.push_back((self.at, from, message)),
            Process::Running => {}
        }
        let input = match (&mut node.brain, message) {
            (Brain::Foreign(foreign), Message::Advert { family, priority }) => {
                let interval = crate::node::interval(plan).duration();
                let sends = foreign.receive(now, crate::node::address(from, family), priority, interval);
                return self.foreign_sends(to, sends);
            }
            (Brain::Foreign(_), _) => return,
            (Brain::Ours(ours), Message::Advert { family, priority }) => {
                ours.advert(plan, from, family, priority)
            }
            (Brain::Ours(ours), Message::Hello) => {
                ours.peers[from] = Some(now);
                ours.sync.heard(now);
                Input::PeerHeard
            }
            (Brain::Ours(_), Message::TakeOver) => Input::TakeOver,
        };
        self.input(to, input);
    }

    fn tick(&mut self, node: usize) {
        let now = self.now(node);
        match &mut self.nodes[node].brain {
            Brain::Ours(_) => self.input(node, Input::Tick),
            Brain::Foreign(foreign) => {
                let was_backup = matches!(foreign.phase, Phase::Backup { .. });
                let sends = foreign.expire(now);
                if was_backup && sends.is_some() {
                    self.nodes[node].active_since = self.at;
                }
                self.foreign_sends(node, sends);
            }
        }
    }

    pub(crate) fn foreign_sends(&mut self, node: usize, sends: Option<u8>) {
        if let Some(priority) = sends {
            self.broadcast(node, Message::Advert { family: 0, priority });
        }
        self.arm(node);
    }

    fn hello(&mut self, node: usize) {
        let next = self.at + self.plan.interval;
        self.put(next, Event::Hello { node });
        let now = self.now(node);
        if !self.nodes[node].runs() {
            return;
        }
        let Some(ours) = self.nodes[node].ours_mut() else { return };
        let open = ours.sync.is_complete(now);
        let changed = std::mem::replace(&mut ours.gate_open, open) != open;
        if changed {
            self.input(node, Input::Gate { open });
        }
        self.broadcast(node, Message::Hello);
    }

    /// Something happens to one of our machines, and what comes of it is done.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let now = self.now(node);
        let Some(ours) = self.nodes[node].ours_mut() else { return };
        ours.machine.handle(now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| ours.machine.poll()).collect();
        for effect in effects {
            self.perform(node, now, effect);
        }
        self.arm(node);
    }

    fn perform(&mut self, node: usize, now: Duration, effect: Effect) {
        match effect {
            Effect::SetLease { until } => {
                if let Some(ours) = self.nodes[node].ours_mut() {
                    ours.lease = until;
                }
            }
            Effect::SendAdvert { router, priority, .. } => {
                self.broadcast(node, Message::Advert { family: router.0 as usize, priority });
            }
            Effect::AskPeerToTake => self.ask(node, now),
            Effect::Transition(transition) => {
                self.log(|| format!("{node}: {} ({})", transition.to, transition.reason));
                if transition.to == Role::Active {
                    self.nodes[node].active_since = self.at;
                    self.look_at_takeover(node, &transition.reason);
                }
            }
            Effect::Announce | Effect::Warning(_) => {}
        }
    }

    /// The best peer that was heard of late.
    fn ask(&mut self, node: usize, now: Duration) {
        let silence = 3 * crate::node::interval(&self.plan).duration();
        let Some(ours) = self.nodes[node].ours() else { return };
        let heard = |peer: &usize| ours.peers[*peer].is_some_and(|heard| now <= heard + silence);
        let best = (0..self.nodes.len()).filter(heard).max_by_key(|peer| self.nodes[*peer].priority());
        if let Some(best) = best {
            self.send(node, best, Message::TakeOver);
        }
    }

    fn broadcast(&mut self, from: usize, message: Message) {
        if matches!(message, Message::Advert { priority: 1.., .. }) {
            self.nodes[from].advertised_at = self.at;
        }
        (0..self.nodes.len()).filter(|to| *to != from).for_each(|to| self.send(from, to, message));
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let (family, is_advert) = match message {
            Message::Advert { family, .. } => (family, true),
            Message::Hello | Message::TakeOver => (0, false),
        };
        let ways = self.network.send(&mut self.random, &self.plan, (from, to), family, is_advert);
        for way in ways.into_iter().flatten() {
            self.put(self.at + way, Event::Deliver { from, to, message });
        }
    }

    pub(crate) fn arm(&mut self, node: usize) {
        self.nodes[node].timer += 1;
        let timer = self.nodes[node].timer;
        if let Some(due) = self.nodes[node].deadline().filter(|_| self.nodes[node].runs()) {
            let late = if due < self.at { 0 } else { self.random.below(self.plan.latency + 1) };
            self.put(due.max(self.at) + late, Event::Timer { node, timer });
        }
    }

    /// Whether nothing may be wrong now.
    pub(crate) fn is_settled(&self) -> bool {
        self.judge.is_settled(self.at) && self.is_partition()
    }

    pub(crate) const fn is_deaths(&self) -> bool {
        matches!(self.plan.kind, Kind::Deaths)
    }
}
