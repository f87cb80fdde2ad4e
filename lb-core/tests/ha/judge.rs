//! What must hold at every event.
//!
//! 1. Of two nodes that run and hear each other both ways not both answer for longer than the first one's advert takes
//!    to the other (`Plan::overlap`), and for `Plan::healed_after` after a partition has healed.
//! 2. In a group of nodes that hear each other, of which one may be active, somebody answers: at every time, but for the
//!    bound of the last death, goodbye or cut. Commands, reloads, gates, preemption and healing are no excuse.
//! 3. Beside the lease of a node that was killed or stopped nobody begins to answer (in schedules without other changes,
//!    lost packets and lone leases).
//! 4. During a planned restart nobody else answers.
//! 5. Nobody takes over from a live node that it hears, but by preemption with its gate open, or on request.

use lb_core::vrrp::{Reason, Role};

use crate::node::address;
use crate::plan::MAX_NODES;
use crate::world::World;

#[derive(Default)]
pub(crate) struct Judge {
    gap_until: u64,
    overlap_until: u64,
    /// Since when both answer.
    both: [[Option<u64>; MAX_NODES]; MAX_NODES],
    /// Since when both answer, run and hear each other.
    rivals: [[Option<u64>; MAX_NODES]; MAX_NODES],
    /// A planned restart: of whom, and until when.
    pub(crate) restarting: Option<(usize, u64)>,
    pub(crate) fault: Option<String>,
    pub(crate) seen: Seen,
}

/// What happened, so that a simulation in which nothing does is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) takeovers: u64,
    pub(crate) preemptions: u64,
    pub(crate) handovers: u64,
    pub(crate) resigned: u64,
    pub(crate) overlaps: u64,
    pub(crate) gaps: u64,
    pub(crate) looks: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.takeovers += other.takeovers;
        self.preemptions += other.preemptions;
        self.handovers += other.handovers;
        self.resigned += other.resigned;
        self.overlaps += other.overlaps;
        self.gaps += other.gaps;
        self.looks += other.looks;
    }

    pub(crate) const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("takeovers", self.takeovers),
            ("preemptions", self.preemptions),
            ("handovers", self.handovers),
            ("after a goodbye", self.resigned),
            ("overlaps", self.overlaps),
            ("gaps", self.gaps),
        ]
    }
}

impl Judge {
    pub(crate) fn may_gap(&mut self, until: u64) {
        self.gap_until = self.gap_until.max(until);
    }

    pub(crate) fn may_overlap(&mut self, until: u64) {
        self.overlap_until = self.overlap_until.max(until);
    }

    pub(crate) const fn is_settled(&self, at: u64) -> bool {
        at > self.gap_until && at > self.overlap_until
    }

    fn wrong(&mut self, fault: String) {
        self.fault.get_or_insert(fault);
    }
}

impl World {
    pub(crate) fn look(&mut self) {
        self.judge.seen.looks += 1;
        let count = self.nodes.len();
        let mut answers = [false; MAX_NODES];
        for (answers, node) in answers.iter_mut().zip(&self.nodes) {
            *answers = node.answers(self.at);
        }
        for (one, other) in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
            self.look_at_pair(one, other, answers[one] && answers[other]);
        }
        if let Some((node, until)) = self.judge.restarting.filter(|(_, until)| self.at < *until)
            && let Some(other) =
                (0..count).find(|other| *other != node && answers[*other] && self.mutual(node, *other))
        {
            self.judge.wrong(format!("{other} answers before {node} is back at {until}"));
        }
        let nobody = |world: &Self, node: usize| {
            !(0..count).any(|other| answers[other] && (other == node || world.mutual(node, other)))
        };
        for node in 0..count {
            if self.nodes[node].is_eligible() && nobody(self, node) {
                self.judge.seen.gaps += 1;
                if self.at > self.judge.gap_until && self.is_partition() {
                    self.judge.wrong(format!("nobody answers where node {node} could"));
                }
            }
        }
    }

    fn look_at_pair(&mut self, one: usize, other: usize, both: bool) {
        let (at, alive) = (self.at, self.nodes[one].runs() && self.nodes[other].runs());
        if !both {
            self.judge.both[one][other] = None;
            self.judge.rivals[one][other] = None;
            return;
        }
        if self.judge.both[one][other].replace(at).is_none() {
            self.judge.seen.overlaps += 1;
            // It may have died before anybody heard that it had taken over.
            let unheard = [one, other].iter().any(|node| {
                let node = &self.nodes[*node];
                !node.runs() && at - node.active_since <= self.plan.delay.1 + self.plan.slack()
            });
            if !alive && !unheard && self.is_deaths() {
                self.judge.wrong(format!("{one} and {other} answer, of which one does not run"));
            }
        }
        if !alive || !self.mutual(one, other) {
            self.judge.rivals[one][other] = None;
            return;
        }
        let since = *self.judge.rivals[one][other].get_or_insert(at);
        let tied = self.plan.families == 2 && self.nodes[one].priority() == self.nodes[other].priority();
        let longest = if tied { self.plan.tied_overlap() } else { self.plan.overlap() };
        // A lease that was in force at its start is cleared with the first advert that is heard.
        let from_before =
            |node: usize| self.nodes[node].ours().is_some_and(|ours| ours.machine.role() != Role::Active);
        let first = if from_before(one) || from_before(other) { self.plan.interval } else { 0 };
        if at > self.judge.overlap_until && at - since > longest + first {
            self.judge.wrong(format!("{one} and {other} answer and hear each other"));
        }
    }

    /// A machine of ours has become active.
    pub(crate) fn look_at_takeover(&mut self, node: usize, reason: &Reason) {
        let live = (0..self.nodes.len()).find(|other| {
            // Its adverts must have had the time to be heard.
            let known = self.nodes[*other].active_since + self.plan.overlap() < self.at;
            *other != node && known && self.mutual(node, *other) && self.is_live_active(*other)
        });
        let Some(ours) = self.nodes[node].ours() else { return };
        let (gate_open, preempts) = (ours.gate_open, ours.settings.preempt);
        let seen = &mut self.judge.seen;
        match reason {
            Reason::Preempted { worse, .. } => {
                seen.preemptions += 1;
                let nodes = self.plan.nodes.iter().enumerate();
                let ours = nodes
                    .filter(|(_, node)| !node.foreign)
                    .flat_map(|(index, _)| [0, 1].map(|family| address(index, family)));
                if !preempts || !gate_open && ours.into_iter().any(|address| address == *worse) {
                    self.judge.wrong(format!("{node} preempts and must not"));
                }
            }
            Reason::TakenOver => {
                seen.handovers += 1;
                self.may_mistake_the_giver(node);
            }
            reason => {
                seen.takeovers += 1;
                seen.resigned += u64::from(matches!(reason, Reason::Resigned { .. }));
                if let Some(live) = live.filter(|_| self.is_settled()) {
                    self.judge.wrong(format!("{node} takes over from {live}, which is well"));
                }
            }
        }
    }

    fn is_live_active(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        node.runs()
            && node.answers(self.at)
            && node.ours().is_none_or(|ours| ours.machine.role() == Role::Active)
    }
}
