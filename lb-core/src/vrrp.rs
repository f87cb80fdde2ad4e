//! VRRP version 3 (RFC 9568): who of several balancers answers for a set of VIPs.
//!
//! [`Advert`] is the packet; [`Machine`] decides. A machine stands for all virtual routers that move together: the RFC
//! treats IPv4 and IPv6 as two of them, and several groups may be tied together. Its role is common to them: a Backup
//! takes over when *none* of its routers hears an active one any more, an Active yields when *any* of them hears a
//! better one.
//!
//! Beyond the RFC an Active answers for its VIPs only until a *lease* that it renews with each advert. What answers is
//! a program in the kernel that outlives this one, and neither a killed nor a stopped daemon could tell it to be quiet.
//!
//! # Bounds
//!
//! `i` is the advert interval (the same on all nodes), `skew` that of the node in question, `d` the longest delay of the
//! network. They hold among nodes that hear each other both ways, in one family at least, of whose adverts no three in a
//! row are lost, whose delays differ by less than the skew, and whose clocks run at the same speed within 1 part in 500.
//! `lb-core/tests/ha` looks at all of them at every event.
//!
//! - *Death*: another one answers within `3 i + skew + d`, `skew` that of the best backup. The lease of the dead one ended
//!   before, unless the last adverts it sent were lost: `skew` lies between.
//! - *Goodbye* (stop, fault): within `skew + d`, and not both, as the lease is cleared first. If the goodbye is lost, or
//!   overtaken by an advert, as after a death; likewise if the backup was started, woken, mended or resumed less than `4 i`
//!   before and hears one family only. If two were active, who hears both may take over beside the other for an interval.
//! - *Change while both are well* (preemption, handover, takeover by two at once): both answer until the first advert of
//!   the better one is heard, `d`, or `2 i + d` if two are lost. Somebody answers at every time. A node that took over on
//!   request may not know the giver, if the advert that comes with the request was lost, went in the other family, or came
//!   before it had started: the first one that it hears is the giver's for it, and it yields to its sender only after
//!   `5 i + d`, or `7 i + d` if two are lost.
//! - *Partition*: one on each side within `4 i + d`; at most one again `3 i` and 200 ms, or `d` if that is longer, after it has
//!   healed.
//! - *Anything else*, any number of changes at once: exactly one `6 i + 200 ms` after the last. Where equal priorities meet
//!   in two families, of which only the second is heard, both may answer for `7 i` first, or both yield and wait; `10 i` if a
//!   third node of that priority is heard in the first one.
//! - *A stopped node* that wakes does not answer if it slept longer than 2.5 `i`; whoever slept less was not missed.
//! - *Lone lease*: only a node that heard no peer for ten intervals has one. If its daemon dies, and then a peer comes that
//!   was not there before, both answer until that lease ends: the price of surviving the daemon's restart alone.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

mod advert;
mod announce;
mod effect;
mod input;
mod lateness;
mod lowering;
mod machine;
mod reason;
mod settings;
mod statistics;
mod view;

pub use advert::{Advert, AdvertError, ChecksumForm, Decoded, EncodeError, MAX_ADDRESSES, Received, vrid_of};
pub use effect::{Effect, Warning};
pub use input::Input;
pub use lateness::{LATE, LATENESS_BOUNDS, LATENESS_WINDOW, Lateness};
pub use lowering::Lowering;
pub use machine::{
    GIVER_SILENT_INTERVALS, HANDOVER_INTERVALS, LEASE_INTERVALS, LONE_INTERVALS, MAX_HOLD, MAX_TIES,
    MIN_REPLY_GAP, Machine, RIVAL_SILENT_INTERVALS, TAKEOVER_INTERVALS, TIE_INTERVALS,
};
pub use reason::{Cause, Reason, Transition};
pub use settings::{RouterSettings, Settings};
pub use statistics::{Discards, Statistics, Transitions};
pub use view::{Heard, MachineView, RouterView};

/// IP protocol number of VRRP (RFC 9568, 5.1.1.4 and 5.1.2.4).
pub const PROTOCOL: u8 = 112;
/// Group to which IPv4 adverts go (5.1.1.2).
pub const GROUP_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(224, 0, 0, 18);
/// Group to which IPv6 adverts go (5.1.2.2).
pub const GROUP_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL and hop limit of every advert; with another one it came from elsewhere than this link (5.1.1.3, 5.1.2.3).
pub const HOP_LIMIT: u8 = 255;

/// IP version of a virtual router (RFC 9568, 1: both with one VRID are two virtual routers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Where adverts go if no peers are named (5.1.1.2, 5.1.2.2).
    #[must_use]
    pub const fn group(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(GROUP_V4),
            Self::V6 => IpAddr::V6(GROUP_V6),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Names a virtual router within its machine. The caller numbers them; the same router keeps its number over reloads,
/// and peers number in the same order (ties are settled on the first one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RouterId(pub u32);

/// What a machine is (RFC 9568, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Not started, or stopped (6.4.1).
    Init,
    /// Watches over an active one (6.4.2).
    Backup,
    /// Answers for the VIPs (6.4.3).
    Active,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Active => "active",
        })
    }
}

/// A priority that a router may be given, 1 to 254. 255 is for the owner of the addresses, which a balancer never is:
/// its VIPs are no addresses of its host; 0 says goodbye (RFC 9568, 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Priority(u8);

impl Priority {
    /// 100 (RFC 9568, 6.1).
    pub const DEFAULT: Self = Self(100);

    /// `None` for 0 and 255.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        match value {
            0 | 255 => None,
            value => Some(Self(value)),
        }
    }

    /// The number that adverts carry.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Less by a penalty, but still one that takes part.
    #[must_use]
    pub const fn lowered_by(self, penalty: u8) -> Self {
        match self.0.saturating_sub(penalty) {
            0 => Self(1),
            left => Self(left),
        }
    }

    /// How much longer than three intervals this one waits, so that the best of several backups is first: Skew_Time,
    /// `(256 - Priority) * Active_Adver_Interval / 256` (RFC 9568, 6.1).
    #[must_use]
    pub fn skew(self, interval: AdvertInterval) -> Duration {
        interval.duration() * (256 - u32::from(self.0)) / 256
    }

    /// How long nothing must have been heard of an active one with this interval until it counts as gone:
    /// Active_Down_Interval, `3 * Active_Adver_Interval + Skew_Time` (RFC 9568, 6.1).
    #[must_use]
    pub fn active_down(self, interval: AdvertInterval) -> Duration {
        interval.times(3) + self.skew(interval)
    }
}

/// Time between two adverts: 1 to 4,095 hundredths of a second, as they carry it in 12 bits (RFC 9568, 5.2.7 and
/// erratum 8301, which rules out 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AdvertInterval(u16);

impl AdvertInterval {
    /// 1 s (RFC 9568, 6.1).
    pub const DEFAULT: Self = Self(100);
    /// 10 ms.
    pub const MIN: Self = Self(1);
    /// 40.95 s.
    pub const MAX: Self = Self(4_095);

    /// `None` for 0 and for more than 4,095.
    #[must_use]
    pub const fn from_centis(centis: u16) -> Option<Self> {
        match centis {
            1..=4_095 => Some(Self(centis)),
            _ => None,
        }
    }

    /// `None` unless it is a whole number of hundredths of a second from 1 to 4,095.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Option<Self> {
        /// Nanoseconds in a hundredth of a second.
        const CENTI: u128 = 10_000_000;
        let nanos = duration.as_nanos();
        let centis = u16::try_from(nanos / CENTI).ok()?;
        nanos.is_multiple_of(CENTI).then_some(centis).and_then(Self::from_centis)
    }

    /// Hundredths of a second.
    #[must_use]
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// As a time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// By how much the renewal of a usual lease may be late before the role is given up: it is half an interval then from
    /// its end.
    #[must_use]
    pub fn lateness_limit(self) -> Duration {
        self.times(LEASE_INTERVALS - 1) - self.duration() / 2
    }

    /// So many of them.
    #[must_use]
    pub fn times(self, count: u32) -> Duration {
        self.duration() * count
    }
}

impl fmt::Display for AdvertInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.duration()).fmt(f)
    }
}

#[cfg(test)]
mod tests;
