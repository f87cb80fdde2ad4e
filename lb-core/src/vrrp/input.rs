//! What a machine is told.

use std::net::IpAddr;
use std::time::Duration;

use super::{Advert, AdvertError, RouterId, Settings};

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Begin (RFC 9568, 6.4.1). Always as Backup, since who was active before may not be any more.
    Start {
        /// Lease that an earlier process left and that has not run out. It stays, so that VIPs are answered while this
        /// one finds out whether it is alone, and is cleared once an active peer is heard.
        lease_in_force: Option<Duration>,
    },
    /// An advert came that [`Advert::decode`] found right.
    Advert {
        /// For which virtual router.
        router: RouterId,
        /// Source address.
        from: IpAddr,
        /// What it says.
        advert: Advert,
        /// Whether the sender is a Fairlead peer, that is the gate applies to it. A foreign router is preempted by the
        /// rules of the RFC alone: there are no flows to get from it.
        fairlead: bool,
    },
    /// A packet came that is no advert; only counted.
    Discarded {
        /// For which virtual router; that of its VRID.
        router: RouterId,
        /// Which check it failed.
        why: AdvertError,
    },
    /// A Fairlead peer is there: its sync channel is alive. Backups send no adverts, so nothing else tells of them.
    PeerHeard,
    /// What is tracked. Replaces what was said before.
    Track {
        /// Why this node cannot be active (no carrier, program not attached), if so.
        fault: Option<String>,
        /// By how much its priority is lowered.
        penalty: u8,
    },
    /// Whether this node has what it needs to preempt a live Fairlead peer: its flows, and digests that agree. Closed
    /// before the first one.
    Gate {
        /// May preempt.
        open: bool,
    },
    /// Give the role to a peer now.
    Handover,
    /// A peer wants to give its role to this node now. Whoever passes it on drops a request that has waited (in the socket
    /// of a stopped process) for longer than half an interval: the peer waits for [`super::HANDOVER_INTERVALS`], in which it
    /// has to hear this node, of whose adverts two may be lost.
    TakeOver,
    /// A Fairlead peer that is active will restart: do not take over before.
    Hold {
        /// Until then; [`super::MAX_HOLD`] from now at most.
        until: Duration,
    },
    /// Neither take over nor preempt from now on. An active one stays so.
    Pause,
    /// As usual again; also forgets a handover.
    Resume,
    /// Time has passed. Comes at [`super::Machine::next_deadline`], at other times it does no harm.
    Tick,
    /// End (RFC 9568, 6.4.2 and 6.4.3: Shutdown).
    Stop {
        /// For a planned restart: the lease goes on for so long, and nobody is told to take over. [`super::MAX_HOLD`] at
        /// most.
        hold: Option<Duration>,
    },
    /// Other settings. They move nothing by themselves.
    Settings(Settings),
}
