//! What a machine wants done.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{AdvertInterval, Role, RouterId, Transition};

/// Something to do, in the order in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer for all VIPs of the machine while the time is before this; [`Duration::ZERO`]: not any more. It comes
    /// before the adverts that it rests on and is counted from a time before they are sent: whoever is stopped in between
    /// has a lease that ends early, not late.
    SetLease {
        /// Until then.
        until: Duration,
    },
    /// Send an advert (RFC 9568, 7.2).
    SendAdvert {
        /// Of which virtual router. One that a reload has just removed says goodbye.
        router: RouterId,
        /// Its priority: the effective one, or 0.
        priority: u8,
        /// Its interval.
        interval: AdvertInterval,
    },
    /// Tell the link who answers for the VIPs: gratuitous ARP, unsolicited NA (6.4.1, 6.4.2).
    Announce,
    /// Ask a Fairlead peer to take over: a [`super::Input::TakeOver`] there.
    AskPeerToTake,
    /// The role has changed.
    Transition(Transition),
    /// Somebody should know.
    Warning(Warning),
}

/// What somebody should know. Each comes once until something about it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A rival of equal priority: who is active depends on addresses.
    EqualPriority {
        /// Where.
        router: RouterId,
        /// The rival.
        from: IpAddr,
        /// Of both.
        priority: u8,
    },
    /// Another interval than ours (RFC 9568, 7.1): its backups wait for it longer or shorter than for us.
    OtherInterval {
        /// Where.
        router: RouterId,
        /// Whose.
        from: IpAddr,
        /// Theirs.
        theirs: AdvertInterval,
        /// Ours.
        ours: AdvertInterval,
    },
    /// Other addresses than ours (7.1).
    OtherAddresses {
        /// Where.
        router: RouterId,
        /// Whose.
        from: IpAddr,
        /// Ours that they have not.
        missing: Vec<IpAddr>,
        /// Theirs that we have not.
        extra: Vec<IpAddr>,
    },
    /// No peer took over: this node stays active.
    HandoverFailed,
    /// It is not active, so it has nothing to give.
    NothingToHandOver {
        /// What it is.
        role: Role,
    },
    /// It was asked to take over and does not.
    TakeOverRefused {
        /// Its fault; `None`: it is paused or not started.
        fault: Option<String>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[IpAddr]| {
            let named: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            if named.is_empty() { "none".to_owned() } else { named.join(", ") }
        };
        match self {
            Self::EqualPriority { from, priority, .. } => write!(
                f,
                "{from} has the same priority {priority}: the greater address wins; give one of them another priority"
            ),
            Self::OtherInterval { from, theirs, ours, .. } => {
                write!(f, "{from} sends adverts every {theirs}, this node every {ours}: they should be equal")
            }
            Self::OtherAddresses { from, missing, extra, .. } => write!(
                f,
                "{from} has other VIPs (missing there: {}; missing here: {})",
                list(missing),
                list(extra)
            ),
            Self::HandoverFailed => f.write_str("no peer took over: this node stays active"),
            Self::NothingToHandOver { role } => {
                write!(f, "nothing to hand over: this node is {role}, not active")
            }
            Self::TakeOverRefused { fault: Some(fault) } => write!(f, "asked to take over, but {fault}"),
            Self::TakeOverRefused { fault: None } => {
                f.write_str("asked to take over, but paused or not started")
            }
        }
    }
}
