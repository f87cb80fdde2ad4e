//! What a machine shows of itself.

use std::net::IpAddr;
use std::time::Duration;

use super::{AdvertInterval, Priority, Role, RouterId, Statistics, Transition, Transitions};

/// A machine as it is, for people and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineView {
    /// What it is.
    pub role: Role,
    /// The last change of the role, with when and why; `None` before the start.
    pub last: Option<Transition>,
    /// Its changes.
    pub transitions: Transitions,
    /// Priority after what is tracked lowered it.
    pub priority: Priority,
    /// Until when it answers for the VIPs, if it does.
    pub lease: Option<Duration>,
    /// Active without a peer: its lease is the lone one.
    pub lone: bool,
    /// Paused by a command.
    pub paused: bool,
    /// It has handed over and does not preempt.
    pub held_back: bool,
    /// It waits for a peer to take over.
    pub handing_over: bool,
    /// It may preempt a live peer.
    pub gate_open: bool,
    /// A peer restarts: it does not take over before.
    pub hold_until: Option<Duration>,
    /// Why it cannot be active.
    pub fault: Option<String>,
    /// Its virtual routers.
    pub routers: Vec<RouterView>,
}

impl MachineView {
    /// Since when it is what it is.
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.last.as_ref().map(|last| last.at)
    }
}

/// A virtual router as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterView {
    /// Which one.
    pub id: RouterId,
    /// Its number on its link.
    pub vrid: u8,
    /// Who else was heard to be active, last; seen from an active node a rival.
    pub heard: Option<Heard>,
    /// For how long another one has been heard to be active while this one is, if so: two are active.
    pub rival_for: Option<Duration>,
    /// Counters.
    pub statistics: Statistics,
}

/// An active node that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its address.
    pub from: IpAddr,
    /// Its priority in its last advert that was not 0.
    pub priority: u8,
    /// Time between its adverts.
    pub interval: AdvertInterval,
    /// Whether it is a Fairlead peer.
    pub fairlead: bool,
    /// When it was heard last.
    pub at: Duration,
    /// Whether it said goodbye then.
    pub resigned: bool,
}
