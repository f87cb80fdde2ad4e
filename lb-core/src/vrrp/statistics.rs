//! What a virtual router counts: the objects of the VRRPv3 MIB (RFC 6527) and YANG module (RFC 8347) that make sense here.

use serde::Serialize;

use super::{AdvertError, Cause};

/// Counters of one virtual router, since its machine was made or the router added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Adverts to send, those with priority 0 too.
    pub sent: u64,
    /// Of these with priority 0.
    pub sent_zero: u64,
    /// Adverts that came and were right.
    pub received: u64,
    /// Of these with priority 0.
    pub received_zero: u64,
    /// Of these heard while active of another one that was so too, and this node did not yield to it at once: it was worse,
    /// or a tie was not settled yet. A few are usual when the role moves.
    pub rivals: u64,
    /// Of these with another interval than ours.
    pub other_interval: u64,
    /// Of these with other addresses than ours.
    pub other_addresses: u64,
    /// How often it became active.
    pub became_active: u64,
    /// Packets that were no adverts.
    pub discarded: Discards,
}

/// Packets that were discarded, by the check they failed (RFC 9568, 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Discards {
    /// TTL or hop limit other than 255.
    pub hop_limit: u64,
    /// Addresses of different families.
    pub family: u64,
    /// Too short.
    pub length: u64,
    /// Other versions.
    pub version: u64,
    /// Other types.
    pub packet_type: u64,
    /// Wrong sums.
    pub checksum: u64,
    /// Other virtual routers.
    pub vrid: u64,
    /// Without addresses.
    pub no_address: u64,
    /// An interval of zero.
    pub interval: u64,
    /// Right, but from our own address: our own advert came back, or the address is used twice.
    pub own_address: u64,
}

impl Discards {
    pub(super) const fn count(&mut self, why: AdvertError) {
        let counter = match why {
            AdvertError::HopLimit(_) => &mut self.hop_limit,
            AdvertError::Family => &mut self.family,
            AdvertError::Length { .. } => &mut self.length,
            AdvertError::Version(_) => &mut self.version,
            AdvertError::Type(_) => &mut self.packet_type,
            AdvertError::Checksum => &mut self.checksum,
            AdvertError::Vrid(_) => &mut self.vrid,
            AdvertError::NoAddress => &mut self.no_address,
            AdvertError::Interval => &mut self.interval,
        };
        *counter += 1;
    }

    /// Each with a word for it.
    #[must_use]
    pub const fn by_reason(&self) -> [(&'static str, u64); 10] {
        [
            ("hop_limit", self.hop_limit),
            ("family", self.family),
            ("length", self.length),
            ("version", self.version),
            ("type", self.packet_type),
            ("checksum", self.checksum),
            ("vrid", self.vrid),
            ("no_address", self.no_address),
            ("interval", self.interval),
            ("own_address", self.own_address),
        ]
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.hop_limit
            + self.family
            + self.length
            + self.version
            + self.packet_type
            + self.checksum
            + self.vrid
            + self.no_address
            + self.interval
            + self.own_address
    }
}

/// Changes of a role, by cause, since it is decided about here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transitions([u64; Cause::ALL.len()]);

impl Transitions {
    /// One more.
    pub fn count(&mut self, cause: Cause) {
        if let Some(counter) = self.0.get_mut(cause as usize) {
            *counter += 1;
        }
    }

    /// How many had this cause.
    #[must_use]
    pub fn of(&self, cause: Cause) -> u64 {
        self.0.get(cause as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_counter_of_its_own() {
        let mut transitions = Transitions::default();
        for (index, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, index);
            (0..index).for_each(|_| transitions.count(*cause));
        }
        for (count, cause) in (0..).zip(Cause::ALL) {
            assert_eq!(transitions.of(*cause), count);
        }
    }

    #[test]
    fn every_discarded_packet_has_a_reason() {
        let mut discards = Discards::default();
        discards.count(AdvertError::Checksum);
        discards.count(AdvertError::Type(3));
        let sum: u64 = discards.by_reason().iter().map(|(_, count)| count).sum();
        assert_eq!((sum, discards.total()), (2, 2));
    }
}
