//! What is done to nodes and links, and for how long that excuses what the judge sees.

use std::time::Duration;

use lb_core::vrrp::{Heard, Input, Priority, Role, TAKEOVER_INTERVALS};

use crate::foreign::Phase;
use crate::network::Cut;
use crate::node::{Brain, Process, interval};
use crate::plan::Kind;
use crate::world::{Event, World};

#[derive(Clone, Copy, Debug)]
enum Change {
    Kill,
    Stop,
    Shutdown,
    PlannedRestart,
    Fault,
    Penalty,
    Priority,
    Handover,
    Pause,
    Partition,
    OneWay,
    OneFamily,
}

const DEATHS: &[Change] = &[Change::Kill, Change::Stop];
const COMMANDS: &[Change] = &[
    Change::Shutdown,
    Change::PlannedRestart,
    Change::Fault,
    Change::Penalty,
    Change::Priority,
    Change::Handover,
    Change::Handover,
    Change::Pause,
];
const CUTS: &[Change] = &[Change::Partition, Change::OneWay, Change::OneFamily];

/// How a node leaves its role.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Silently,
    WithGoodbye,
}

impl World {
    pub(crate) fn change(&mut self) {
        let choice = match self.plan.kind {
            Kind::Deaths => vec![DEATHS],
            Kind::Commands => vec![COMMANDS],
            Kind::Cuts => vec![CUTS],
            Kind::Everything | Kind::Foreign => vec![DEATHS, COMMANDS, CUTS],
        };
        let group = choice[self.random.index(choice.len())];
        let change = group[self.random.index(group.len())];
        let node = self.pick();
        self.log(|| format!("{change:?} {node}"));
        match change {
            Change::Kill => self.kill(node),
            Change::Stop => self.stop(node),
            Change::Shutdown => self.shut_down(node),
            Change::PlannedRestart => self.restart_planned(node),
            Change::Fault => self.fault(node),
            Change::Penalty => {
                self.may_yield_to_each_other();
                self.extend_gap();
                let penalty = u8::try_from(self.random.below(256)).expect("a byte");
                self.nodes[node].priority_before = Some((self.at, self.nodes[node].priority()));
                if self.is_running_ours(node) && !self.nodes[node].ours().is_some_and(|ours| ours.fault) {
                    self.input(node, Input::Track { fault: None, penalty });
                }
            }
            Change::Priority => {
                self.may_yield_to_each_other();
                self.extend_gap();
                self.reload(node);
            }
            Change::Handover => {
                if self.is_running_ours(node) {
                    self.may_yield_to_each_other();
                    if !self.is_settled() {
                        self.judge.may_overlap(self.at + self.plan.settled_after());
                    }
                    self.input(node, Input::Handover);
                }
            }
            Change::Pause => self.pause(node),
            Change::Partition => self.cut(true, false),
            Change::OneWay => self.cut(false, false),
            Change::OneFamily => self.cut(true, true),
        }
    }

    /// Mostly one that answers.
    fn pick(&mut self) -> usize {
        let any = self.random.index(self.nodes.len());
        if self.random.once_in(3) {
            return any;
        }
        (0..self.nodes.len()).find(|node| self.nodes[*node].answers(self.at)).unwrap_or(any)
    }

    fn is_running_ours(&self, node: usize) -> bool {
        self.nodes[node].runs() && self.nodes[node].ours().is_some()
    }

    fn kill(&mut self, node: usize) {
        if self.nodes[node].process == Process::Dead {
            return;
        }
        self.leaves(node, Leaves::Silently);
        self.die(node);
    }

    fn die(&mut self, node: usize) {
        self.nodes[node].process = Process::Dead;
        self.nodes[node].inbox.clear();
        if let Brain::Foreign(foreign) = &mut self.nodes[node].brain {
            foreign.phase = Phase::Initialize;
        }
        let after = self.random.hundredths(self.plan.interval, 5, 1_000);
        self.restore(after, Event::Boot { node });
    }

    fn stop(&mut self, node: usize) {
        if !self.is_running_ours(node) {
            return;
        }
        self.leaves(node, Leaves::Silently);
        self.nodes[node].process = Process::Stopped;
        let after = self.random.hundredths(self.plan.interval, 10, 700);
        self.restore(after, Event::Wake { node });
    }

    fn shut_down(&mut self, node: usize) {
        if !self.nodes[node].runs() {
            return;
        }
        self.leaves(node, Leaves::WithGoodbye);
        match &mut self.nodes[node].brain {
            Brain::Ours(_) => self.input(node, Input::Stop { hold: None }),
            Brain::Foreign(foreign) => {
                let sends = foreign.shutdown();
                self.foreign_sends(node, sends);
            }
        }
        self.die(node);
    }

    /// Peers are told first; nothing else happens meanwhile.
    fn restart_planned(&mut self, node: usize) {
        let is_active = self.nodes[node].ours().is_some_and(|ours| ours.machine.role() == Role::Active);
        let alone = self.nodes.iter().filter(|node| node.answers(self.at)).count() == 1;
        let quiet = alone && self.plan.kind != Kind::Foreign && self.plan.calm && self.is_settled();
        if !self.is_running_ours(node) || !is_active || !quiet {
            return;
        }
        let down = self.random.hundredths(self.plan.interval, 10, 500);
        let hold = Duration::from_nanos(down + 6 * self.plan.interval);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            if self.nodes[peer].runs() && self.mutual(node, peer) {
                let until = self.now(peer) + hold;
                self.input(peer, Input::Hold { until });
            }
        }
        self.input(node, Input::Stop { hold: Some(hold) });
        self.nodes[node].process = Process::Dead;
        self.judge.restarting = Some((node, self.at + down));
        self.restore(down, Event::Boot { node });
    }

    fn fault(&mut self, node: usize) {
        if !self.is_running_ours(node) || self.nodes[node].ours().is_some_and(|ours| ours.fault) {
            return;
        }
        self.leaves(node, Leaves::WithGoodbye);
        if let Some(ours) = self.nodes[node].ours_mut() {
            ours.fault = true;
        }
        self.input(node, Input::Track { fault: Some("no carrier".to_owned()), penalty: 0 });
        let after = self.random.hundredths(self.plan.interval, 10, 1_000);
        self.restore(after, Event::Repair { node });
    }

    fn reload(&mut self, node: usize) {
        let priority = u8::try_from(1 + self.random.below(200)).expect("1 to 200");
        if !self.is_running_ours(node) {
            return;
        }
        self.nodes[node].priority_before = Some((self.at, self.nodes[node].priority()));
        let Some(ours) = self.nodes[node].ours_mut() else { return };
        ours.settings.priority = Priority::new(priority).expect("1 to 200");
        let settings = ours.settings.clone();
        self.input(node, Input::Settings(settings));
    }

    fn pause(&mut self, node: usize) {
        if !self.is_running_ours(node) || self.nodes[node].ours().is_some_and(|ours| ours.paused) {
            return;
        }
        self.extend_gap();
        if let Some(ours) = self.nodes[node].ours_mut() {
            ours.paused = true;
        }
        self.input(node, Input::Pause);
        let after = self.random.hundredths(self.plan.interval, 10, 1_000);
        self.restore(after, Event::Resume { node });
    }

    fn cut(&mut self, both_ways: bool, one_family: bool) {
        let all = (1_u8 << self.nodes.len()) - 1;
        let one_side = 1 + u8::try_from(self.random.below(u64::from(all))).expect("a few bits");
        let cut = Cut {
            from: one_side & all,
            to: !one_side & all,
            families: if one_family { 1 << self.random.index(2) } else { 3 },
            both_ways,
        };
        let was_partition = self.is_partition();
        self.network.change(cut, false);
        let plan = &self.plan;
        let bound = 4 * plan.interval + plan.delay.1 + plan.slack();
        let calm = was_partition && self.judge.is_settled(self.at);
        self.judge.may_gap(self.at + if calm { bound } else { plan.settled_after() });
        let after = self.random.hundredths(self.plan.interval, 50, 1_500);
        self.restore(after, Event::Heal(cut));
    }

    /// A node may be about to leave nobody who answers: until when.
    fn leaves(&mut self, node: usize, how: Leaves) {
        let is_active = match &self.nodes[node].brain {
            Brain::Ours(ours) => ours.machine.role() == Role::Active,
            Brain::Foreign(_) => false,
        };
        if !is_active && !self.nodes[node].answers(self.at) {
            return self.extend_gap();
        }
        let others = (0..self.nodes.len()).filter(|other| *other != node && self.mutual(node, *other));
        let others: Vec<usize> = others.collect();
        // In a family in which it hears nobody it waits for a whole Active_Down first, whatever the other family says.
        let fresh =
            others.iter().any(|other| self.at - self.nodes[*other].came_back <= 4 * self.plan.interval);
        let skew = others
            .iter()
            .filter(|other| self.nodes[**other].is_eligible())
            .map(|other| self.plan.skew(self.lowest_priority(*other)))
            .min();
        let alone = self.nodes.iter().filter(|node| node.answers(self.at)).count() < 2;
        if !alone && how == Leaves::WithGoodbye {
            // Whoever hears both active ones may take this goodbye for that of the other one (RFC 9568, 6.4.2), and hears of
            // it with the next advert.
            self.judge.may_overlap(self.at + self.plan.healed_after());
        }
        let plan = &self.plan;
        let bound = match skew {
            Some(skew) if alone && self.is_settled() && !(fresh && plan.families == 2) => {
                // An advert that comes after the goodbye undoes it, and one of the node before makes it look like a
                // goodbye of somebody else.
                let node = &self.nodes[node];
                let overtaken = self.at - node.advertised_at <= plan.delay.1
                    || self.at - node.active_since <= plan.interval + plan.delay.1;
                let heard = how == Leaves::WithGoodbye && plan.loss == 0 && !overtaken;
                let silence = if heard { 0 } else { 3 * plan.interval };
                silence + skew + plan.delay.1 + plan.slack()
            }
            _ => plan.settled_after(),
        };
        self.judge.may_gap(self.at + bound);
    }

    /// What a timer of this node may go by: its priority, or one of just before. Timers are set when an advert comes, of
    /// which two may be lost.
    fn lowest_priority(&self, node: usize) -> u8 {
        let (node, plan) = (&self.nodes[node], &self.plan);
        let recent = 3 * plan.interval + plan.delay.1 + plan.slack();
        let before = node.priority_before.filter(|(at, _)| self.at - at <= recent);
        before.map_or(u8::MAX, |(_, priority)| priority).min(node.priority())
    }

    /// One of two active ones yields, or is about to. With other priorities just then the other may do so too, and one
    /// that hands over may take it for its peer.
    fn may_yield_to_each_other(&mut self) {
        // Until the next advert, whose predecessor's last one may have come after the first one.
        let unheard = self.plan.interval + self.plan.overlap();
        let just_active = self.nodes.iter().filter(|node| self.at - node.active_since <= unheard).count();
        if just_active > 0 || self.nodes.iter().filter(|node| node.answers(self.at)).count() > 1 {
            self.judge.may_gap(self.at + self.plan.settled_after());
            self.judge.may_overlap(self.at + self.plan.healed_after());
        }
    }

    /// Who took over on request does not yield to the last adverts of the giver, of which one comes with the request. If that
    /// was lost, or came before this node had started, or not in this family, the first one that it hears is the giver's for
    /// it, whose ever it is: it yields to none of that node for four intervals, and to the next one after them.
    pub(crate) fn may_mistake_the_giver(&mut self, node: usize) {
        let (now, plan) = (self.now(node), &self.plan);
        let Some(ours) = self.nodes[node].ours() else { return };
        let down = ours.machine.priority().active_down(interval(plan));
        let is_fresh = |heard: Heard| now.saturating_sub(heard.at) < down;
        let mut routers = ours.machine.view(now).routers.into_iter();
        let knows_all = routers.all(|router| router.heard.is_some_and(is_fresh));
        let was_there = self.at - self.nodes[node].came_back > plan.delay.1;
        if !knows_all && (plan.loss > 0 || plan.families == 2 || !was_there) {
            let mistaken = u64::from(TAKEOVER_INTERVALS + 1) * plan.interval;
            self.judge.may_overlap(self.at + mistaken + plan.overlap());
        }
    }

    /// Whoever was to take over may not be able to any more.
    fn extend_gap(&mut self) {
        if !self.judge.is_settled(self.at) {
            self.judge.may_gap(self.at + self.plan.settled_after());
        }
    }

    /// A node may take over again. If nobody answers it needs its time for that.
    pub(crate) fn comes_back(&mut self, node: usize) {
        self.nodes[node].came_back = self.at;
        let answers = |other: usize| self.nodes[other].runs() && self.nodes[other].answers(self.at);
        let nobody =
            !(0..self.nodes.len()).any(|other| answers(other) && (other == node || self.mutual(node, other)));
        let was_active = self.nodes[node].ours().is_some_and(|ours| ours.machine.role() == Role::Active);
        if nobody || was_active {
            self.judge.may_gap(self.at + self.plan.settled_after());
        }
    }
}
