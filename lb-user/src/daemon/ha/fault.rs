//! What stands against being active, and what does not get through: in words for people and by reason for metrics.

use std::fmt;

use lb_core::vrrp::Family;

use super::link::Links;
use super::spec::{UnitSpec, of_family, source_for};

/// Why a unit can't be active here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Of which kind.
    pub(crate) reason: FaultReason,
    /// In words.
    pub(crate) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultReason {
    /// There is no such interface.
    NoInterface,
    /// It is switched off.
    InterfaceDown,
    /// It has no carrier.
    NoCarrier,
    /// The program is not attached to it.
    NotAttached,
    /// It has no address to send adverts from.
    NoAddress,
    /// Adverts can't be heard on it.
    Deaf,
}

impl FaultReason {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::NoInterface,
        Self::InterfaceDown,
        Self::NoCarrier,
        Self::NotAttached,
        Self::NoAddress,
        Self::Deaf,
    ];

    /// A word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::NoInterface => "no_interface",
            Self::InterfaceDown => "interface_down",
            Self::NoCarrier => "no_carrier",
            Self::NotAttached => "not_attached",
            Self::NoAddress => "no_address",
            Self::Deaf => "deaf",
        }
    }

    /// With the words that tell of it.
    pub(crate) const fn because(self, text: String) -> Fault {
        Fault { reason: self, text }
    }
}

/// Something that does not get through. To be active goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// Adverts are not sent.
    Adverts,
    /// VIPs are not announced to the link.
    Announcements,
}

impl Trouble {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Adverts, Self::Announcements];

    /// A word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Adverts => "adverts_not_sent",
            Self::Announcements => "vips_not_announced",
        }
    }
}

/// Why adverts of a unit can't be sent or heard, if so.
pub(super) fn obstacle(spec: &UnitSpec, links: &Links) -> Option<Fault> {
    if spec.external {
        return None;
    }
    for group in &spec.groups {
        // That there is no interface is tracked.
        let Some(interface) = &group.interface else { continue };
        let name = &group.config.interface;
        for family in [Family::V4, Family::V6] {
            if of_family(&group.config.vips, family).next().is_none() {
                continue;
            }
            if source_for(interface, family).is_none() {
                let what = match family {
                    Family::V4 => "IPv4 address",
                    Family::V6 => "link-local IPv6 address",
                };
                let text = format!("interface {name} has no {what} to send adverts from");
                return Some(FaultReason::NoAddress.because(text));
            }
            if let Some(why) = links.refusal(interface.index, family) {
                let text = format!("adverts over {family} can't be heard on {name}: {why}");
                return Some(FaultReason::Deaf.because(text));
            }
        }
    }
    None
}
