//! A node: its process, which may be killed or stopped, and the leases in its kernel, which survive that.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use lb_core::vrrp::{Advert, AdvertInterval, Input, Machine, Priority, RouterId, RouterSettings, Settings};

use crate::clock::Clock;
use crate::foreign::{Foreign, Phase};
use crate::plan::Plan;
use crate::sync::SyncModel;

/// What travels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    Advert {
        family: usize,
        priority: u8,
    },
    /// Of flow sync.
    Hello,
    TakeOver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Dead,
    Stopped,
    Running,
}

pub(crate) struct Node {
    pub(crate) clock: Clock,
    pub(crate) process: Process,
    /// What came while it was stopped: when, from whom, and what.
    pub(crate) inbox: VecDeque<(u64, usize, Message)>,
    /// It has found itself late, and has heard nothing since.
    pub(crate) was_late: bool,
    /// When it sent an advert last that was no goodbye.
    pub(crate) advertised_at: u64,
    /// When it became active last.
    pub(crate) active_since: u64,
    /// Its priority before the last change, and when that was: timers that run go by it.
    pub(crate) priority_before: Option<(u64, u8)>,
    /// When it could be active again, last.
    pub(crate) came_back: u64,
    /// Timers of before are void.
    pub(crate) timer: u64,
    pub(crate) brain: Brain,
}

pub(crate) enum Brain {
    Ours(Box<Ours>),
    Foreign(Foreign),
}

pub(crate) struct Ours {
    pub(crate) machine: Machine,
    pub(crate) settings: Settings,
    /// In the kernel.
    pub(crate) lease: Duration,
    pub(crate) sync: SyncModel,
    pub(crate) gate_open: bool,
    pub(crate) paused: bool,
    pub(crate) fault: bool,
    /// When each peer's sync was heard last.
    pub(crate) peers: Vec<Option<Duration>>,
}

/// Addresses stand in another order in the other family.
pub(crate) fn address(node: usize, family: usize) -> IpAddr {
    let number = u8::try_from(node).expect("few nodes") + 1;
    match family {
        0 => IpAddr::from([10, 0, 0, number]),
        _ => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(100 - number)]),
    }
}

pub(crate) fn vip(family: usize) -> IpAddr {
    match family {
        0 => IpAddr::from([203, 0, 113, 1]),
        _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    }
}

pub(crate) fn interval(plan: &Plan) -> AdvertInterval {
    AdvertInterval::from_centis(plan.centis).expect("within its bounds")
}

impl Node {
    pub(crate) fn new(plan: &Plan, index: usize) -> Self {
        let node = &plan.nodes[index];
        let clock = Clock { origin: node.origin, ppm: node.ppm };
        let brain = if node.foreign {
            Brain::Foreign(Foreign {
                address: address(index, 0),
                priority: node.priority,
                preempt: node.preempt,
                interval: interval(plan).duration(),
                phase: Phase::Initialize,
            })
        } else {
            Brain::Ours(Box::new(Ours::new(plan, index)))
        };
        Self {
            clock,
            process: Process::Dead,
            inbox: VecDeque::new(),
            active_since: 0,
            priority_before: None,
            came_back: 0,
            advertised_at: 0,
            was_late: false,
            timer: 0,
            brain,
        }
    }

    /// As who looks from outside sees it.
    pub(crate) fn answers(&self, at: u64) -> bool {
        match &self.brain {
            Brain::Ours(ours) => self.clock.read(at) < ours.lease,
            Brain::Foreign(foreign) => {
                self.process == Process::Running && matches!(foreign.phase, Phase::Active { .. })
            }
        }
    }

    pub(crate) fn ours(&self) -> Option<&Ours> {
        match &self.brain {
            Brain::Ours(ours) => Some(ours),
            Brain::Foreign(_) => None,
        }
    }

    pub(crate) fn ours_mut(&mut self) -> Option<&mut Ours> {
        match &mut self.brain {
            Brain::Ours(ours) => Some(ours),
            Brain::Foreign(_) => None,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.process == Process::Running
    }

    /// Would take over if nobody were there.
    pub(crate) fn is_eligible(&self) -> bool {
        self.runs() && self.ours().is_none_or(|ours| !ours.paused && !ours.fault)
    }

    pub(crate) fn priority(&self) -> u8 {
        match &self.brain {
            Brain::Ours(ours) => ours.machine.priority().get(),
            Brain::Foreign(foreign) => foreign.priority,
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        let shown = match &self.brain {
            Brain::Ours(ours) => ours.machine.next_deadline(),
            Brain::Foreign(foreign) => foreign.timer(),
        };
        shown.map(|shown| self.clock.when(shown))
    }
}

impl Ours {
    fn new(plan: &Plan, index: usize) -> Self {
        let node = &plan.nodes[index];
        let router = |family: usize| RouterSettings {
            vrid: 7,
            source: address(index, family),
            addresses: vec![vip(family)],
        };
        let settings = Settings {
            priority: Priority::new(node.priority).expect("1 to 200"),
            interval: interval(plan),
            preempt: node.preempt,
            preempt_delay: Duration::ZERO,
            lone_lease: Duration::from_nanos(plan.lone_lease),
            routers: (0..plan.families).map(|family| (router_id(family), router(family))).collect(),
        };
        Self {
            machine: Machine::new(settings.clone()),
            settings,
            lease: Duration::ZERO,
            sync: SyncModel::new(node.sync_takes.map(Duration::from_nanos), 3 * interval(plan).duration()),
            gate_open: false,
            paused: false,
            fault: false,
            peers: vec![None; plan.nodes.len()],
        }
    }

    /// What an advert of a node is to the machine.
    pub(crate) fn advert(&self, plan: &Plan, from: usize, family: usize, priority: u8) -> Input {
        Input::Advert {
            router: router_id(family),
            from: address(from, family),
            advert: Advert { vrid: 7, priority, interval: interval(plan), addresses: vec![vip(family)] },
            fairlead: !plan.nodes[from].foreign,
        }
    }
}

fn router_id(family: usize) -> RouterId {
    RouterId(u32::try_from(family).expect("two families"))
}
