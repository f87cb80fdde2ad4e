//! What a schedule is made of, all of it drawn from its seed.

use crate::random::Random;

/// Nodes at most.
pub(crate) const MAX_NODES: usize = 5;
/// Changes in one schedule.
pub(crate) const CHANGES: u32 = 8;

/// What may happen in a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nodes are killed or stopped and come back, nothing else: no node may answer beside the lease of such a one.
    Deaths,
    /// What people and tracking want.
    Commands,
    /// Links are cut, in one direction or in one family too.
    Cuts,
    /// All of it.
    Everything,
    /// All of it, with routers that know nothing but the RFC.
    Foreign,
}

/// A node as it is made.
#[derive(Debug)]
pub(crate) struct NodePlan {
    pub(crate) foreign: bool,
    pub(crate) priority: u8,
    /// Parts per million that its clock is fast.
    pub(crate) ppm: i64,
    /// What its clock showed at the beginning.
    pub(crate) origin: u64,
    pub(crate) boots_at: u64,
    pub(crate) preempt: bool,
    /// How long its flow sync takes; `None`: it never comes to its end.
    pub(crate) sync_takes: Option<u64>,
}

/// A schedule.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    /// Nothing happens before the last change has been dealt with.
    pub(crate) calm: bool,
    /// Hundredths of a second.
    pub(crate) centis: u16,
    /// The same in nanoseconds.
    pub(crate) interval: u64,
    pub(crate) families: usize,
    /// Many nodes of equal priority.
    pub(crate) ties: bool,
    /// Shortest and longest way of a packet.
    pub(crate) delay: (u64, u64),
    /// One packet in so many is lost; 0: none. No three adverts in a row.
    pub(crate) loss: u64,
    /// One packet in so many comes twice.
    pub(crate) duplication: u64,
    /// Timers come late by so much at most.
    pub(crate) latency: u64,
    pub(crate) lone_lease: u64,
    pub(crate) nodes: Vec<NodePlan>,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let kinds = [Kind::Deaths, Kind::Commands, Kind::Cuts, Kind::Everything, Kind::Foreign];
        let kind = kinds[random.index(kinds.len())];
        let centis = [1, 5, 10, 100, 500][random.index(5)];
        let interval = u64::from(centis) * 10_000_000;
        let shortest = random.hundredths(interval, 0, 3);
        let lossy = kind != Kind::Deaths && random.once_in(2);
        let mut plan = Self {
            kind,
            calm: random.once_in(2),
            centis,
            interval,
            families: if kind == Kind::Foreign { 1 } else { 1 + random.index(2) },
            delay: (shortest, shortest + random.hundredths(interval, 0, 7)),
            loss: if lossy { 2 + random.below(10) } else { 0 },
            duplication: 2 + random.below(10),
            latency: random.hundredths(interval, 0, 2),
            ties: random.once_in(4),
            lone_lease: 0,
            nodes: Vec::new(),
        };
        if !matches!(kind, Kind::Deaths | Kind::Foreign) && random.once_in(3) {
            plan.lone_lease = random.hundredths(interval, 500, 3_000);
        }
        let count = 2 + random.index(MAX_NODES - 1);
        for index in 0..count {
            let node = plan.draw_node(random, index);
            plan.nodes.push(node);
        }
        plan
    }

    fn draw_node(&self, random: &mut Random, index: usize) -> NodePlan {
        let range = if self.ties { 2 } else { 200 };
        let sync_takes = random.hundredths(self.interval, 50, 1_000);
        NodePlan {
            // One of ours is always there.
            foreign: self.kind == Kind::Foreign && index > 0 && random.once_in(2),
            // No higher, so that the skew is longer than what delays differ by: two lost adverts are then made up for.
            priority: 1 + u8::try_from(random.below(range)).expect("below 200"),
            ppm: i64::try_from(random.below(401)).expect("small") - 200,
            origin: random.below(1_000_000_000_000),
            boots_at: random.hundredths(self.interval, 0, 300),
            preempt: !random.once_in(4),
            sync_takes: (self.kind != Kind::Deaths).then_some(sync_takes),
        }
    }

    /// Skew of a priority, in nanoseconds.
    pub(crate) const fn skew(&self, priority: u8) -> u64 {
        self.interval * (256 - priority as u64) / 256
    }

    /// What clocks and timers add to a time of a few intervals.
    pub(crate) const fn slack(&self) -> u64 {
        self.latency + self.interval / 200
    }

    /// Longest time for which both may answer when one takes over from another that is well: until its advert is heard,
    /// of which two may be lost.
    pub(crate) const fn overlap(&self) -> u64 {
        let lost = if self.loss == 0 { 0 } else { 2 * (self.interval + self.slack()) };
        self.delay.1 + lost + self.slack()
    }

    /// The same where two of equal priority hear each other in one family alone: the other one is waited for, and it may
    /// have been heard just before. A third node in the other family makes them wait for as long again.
    pub(crate) fn tied_overlap(&self) -> u64 {
        let intervals = if self.nodes.len() > 2 { 10 } else { 7 };
        intervals * self.interval + self.overlap()
    }

    /// After the last change exactly one answers among those that hear each other. A backup that was late waits for two
    /// intervals, a node that starts for four; and two of the same priority may have yielded to each other before.
    pub(crate) const fn settled_after(&self) -> u64 {
        6 * self.interval + 200_000_000
    }

    /// After a partition has healed one answers. Of three adverts two may be lost, and the third takes its time.
    pub(crate) fn healed_after(&self) -> u64 {
        3 * self.interval + 200_000_000.max(self.delay.1 + self.slack())
    }
}
