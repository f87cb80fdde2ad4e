//! Why a machine's role changed, in words for people.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::Role;

/// A change of the role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Role,
    /// After.
    pub to: Role,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Duration,
}

/// Why the role changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// [`super::Input::Start`].
    Started,
    /// [`super::Input::Stop`].
    Stopped,
    /// Nothing was heard of an active one for Active_Down_Interval.
    NoneHeard {
        /// Who was heard last.
        last: Option<IpAddr>,
    },
    /// The active one said goodbye with priority 0.
    Resigned {
        /// Who.
        from: IpAddr,
    },
    /// A worse one was active.
    Preempted {
        /// Who.
        worse: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A peer handed its role over.
    TakenOver,
    /// A better one is active too.
    Better {
        /// Who.
        from: IpAddr,
        /// Its priority; if equal, its address is greater.
        priority: u8,
    },
    /// The role was handed over.
    HandedOver {
        /// To whom.
        to: IpAddr,
    },
    /// This node was not there when its next advert was due; another one may have taken over meanwhile.
    Late {
        /// By how much.
        by: Duration,
    },
    /// It cannot be active.
    Fault(String),
}

/// Why a role changed, without the particulars: what changes are counted by. Each leads to one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// [`Reason::Started`].
    Started,
    /// [`Reason::Stopped`].
    Stopped,
    /// [`Reason::NoneHeard`].
    NoneHeard,
    /// [`Reason::Resigned`].
    Resigned,
    /// [`Reason::Preempted`].
    Preempted,
    /// [`Reason::TakenOver`].
    TakenOver,
    /// [`Reason::Better`].
    Better,
    /// [`Reason::HandedOver`].
    HandedOver,
    /// [`Reason::Late`]; of external decisions one whose lease ran out before it was renewed.
    Late,
    /// [`Reason::Fault`].
    Fault,
    /// An external decision: answer.
    ToldActive,
    /// An external decision: do not.
    ToldStandby,
}

impl Cause {
    /// All of them, in their order.
    pub const ALL: &[Self] = &[
        Self::Started,
        Self::Stopped,
        Self::NoneHeard,
        Self::Resigned,
        Self::Preempted,
        Self::TakenOver,
        Self::Better,
        Self::HandedOver,
        Self::Late,
        Self::Fault,
        Self::ToldActive,
        Self::ToldStandby,
    ];

    /// Whether a machine has it, or who carries out external decisions.
    #[must_use]
    pub const fn is_of(self, external: bool) -> bool {
        match self {
            Self::Late | Self::Fault => true,
            Self::ToldActive | Self::ToldStandby => external,
            _ => !external,
        }
    }

    /// The role that it leads to.
    #[must_use]
    pub const fn to(self) -> Role {
        match self {
            Self::Stopped => Role::Init,
            Self::NoneHeard | Self::Resigned | Self::Preempted | Self::TakenOver | Self::ToldActive => {
                Role::Active
            }
            Self::Started
            | Self::Better
            | Self::HandedOver
            | Self::Late
            | Self::Fault
            | Self::ToldStandby => Role::Backup,
        }
    }

    /// A word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::NoneHeard => "none_heard",
            Self::Resigned => "resigned",
            Self::Preempted => "preempted",
            Self::TakenOver => "taken_over",
            Self::Better => "better",
            Self::HandedOver => "handed_over",
            Self::Late => "late",
            Self::Fault => "fault",
            Self::ToldActive | Self::ToldStandby => "command",
        }
    }
}

impl Reason {
    /// Without the particulars.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Started => Cause::Started,
            Self::Stopped => Cause::Stopped,
            Self::NoneHeard { .. } => Cause::NoneHeard,
            Self::Resigned { .. } => Cause::Resigned,
            Self::Preempted { .. } => Cause::Preempted,
            Self::TakenOver => Cause::TakenOver,
            Self::Better { .. } => Cause::Better,
            Self::HandedOver { .. } => Cause::HandedOver,
            Self::Late { .. } => Cause::Late,
            Self::Fault(_) => Cause::Fault,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::NoneHeard { last: Some(last) } => write!(f, "{last} is not heard any more"),
            Self::NoneHeard { last: None } => f.write_str("no active node is heard"),
            Self::Resigned { from } => write!(f, "{from} resigned"),
            Self::Preempted { worse, priority } => write!(f, "{worse} was active with priority {priority}"),
            Self::TakenOver => f.write_str("taken over from a peer that asked for it"),
            Self::Better { from, priority } => write!(f, "{from} is active with priority {priority}"),
            Self::HandedOver { to } => write!(f, "handed over to {to}"),
            Self::Late { by } => {
                let millis = Duration::from_millis(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
                write!(f, "late by {}", humantime::format_duration(millis))
            }
            Self::Fault(fault) => f.write_str(fault),
        }
    }
}
