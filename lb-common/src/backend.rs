//! A backend of a service as the data plane sees it: one immutable row and one word that may change at any moment.

use core::mem::{offset_of, size_of};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::AtomicU64;

use crate::packet::Family;

/// Whether a slot's backend takes flows. The numbers are part of the map layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SlotState {
    /// The slot names nothing; a flow entry that holds it is stale.
    Free = 0,
    /// Takes new flows and keeps its own.
    Serving = 1,
    /// Keeps its flows and takes no new ones.
    Draining = 2,
    /// Its flows are picked anew on their next packet.
    Dead = 3,
}

impl SlotState {
    /// The state behind its number; unknown numbers read as [`SlotState::Free`].
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Serving,
            2 => Self::Draining,
            3 => Self::Dead,
            _ => Self::Free,
        }
    }
}

const EGRESS_SHIFT: u32 = 48;
const STATE_SHIFT: u32 = 60;
const EGRESS_MASK: u64 = 0xfff;
const MAC_MASK: u64 = (1 << EGRESS_SHIFT) - 1;

/// What of a backend changes while it is published: next-hop MAC (48 bits, first octet lowest), egress row (12 bits)
/// and state (4 bits), in one aligned word, so that a reader never sees half of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackendWord(pub u64);

impl BackendWord {
    /// Packs the word. Only the low twelve bits of `egress` count; an all-zero MAC means "not resolved yet".
    #[must_use]
    pub const fn new(mac: [u8; 6], egress: u16, state: SlotState) -> Self {
        let [a, b, c, d, e, f] = mac;
        let mac = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        Self(mac | ((egress as u64 & EGRESS_MASK) << EGRESS_SHIFT) | ((state as u64) << STATE_SHIFT))
    }

    /// Next hop as the low 48 bits, first octet lowest.
    #[inline(always)]
    #[must_use]
    pub const fn mac_bits(self) -> u64 {
        self.0 & MAC_MASK
    }

    /// Next-hop MAC address.
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Row of the egress table.
    #[inline(always)]
    #[must_use]
    pub const fn egress(self) -> u16 {
        ((self.0 >> EGRESS_SHIFT) & EGRESS_MASK) as u16
    }

    /// State of the slot.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> SlotState {
        SlotState::from_bits((self.0 >> STATE_SHIFT) as u8)
    }
}

/// How packets reach the backend. The numbers are part of the map layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encapsulation {
    /// Only the MAC addresses change: the backend shares a segment with the balancer.
    L2 = 1,
    /// IP in IPv4: RFC 2003, or RFC 4213 if the packet is IPv6.
    Ipip4 = 2,
    /// IP of either version in IPv6 (RFC 2473).
    Ipip6 = 3,
}

impl Encapsulation {
    /// The kind behind its number.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Self::L2),
            2 => Some(Self::Ipip4),
            3 => Some(Self::Ipip6),
            _ => None,
        }
    }

    /// Bytes that the outer header adds.
    #[must_use]
    pub const fn overhead(self) -> usize {
        match self {
            Self::L2 => 0,
            Self::Ipip4 => 20,
            Self::Ipip6 => 40,
        }
    }
}

/// One row of the BACKENDS map: a cache line with everything needed to send. All but `word` is immutable while any
/// reader may know the slot; a backend whose address changes gets a new slot.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct BackendRow {
    /// A [`BackendWord`].
    pub word: AtomicU64,
    /// Index of the service that the slot belongs to. A flow entry counts only for packets of this service.
    pub service: u16,
    /// An [`Encapsulation`].
    pub encapsulation: u8,
    /// Zero.
    pub reserved: u8,
    /// IPv4: one's-complement sum of the template's words (its length and checksum being zero), not folded.
    pub partial_sum: u32,
    /// Outer header in network order; length (and IPv4 checksum) are filled in for each packet. IPv4 uses 20 bytes.
    pub template: [u64; 5],
    /// Zero.
    pub reserved_tail: u64,
}

/// A row in words: what it is made of, and what user space reads back from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowSpec {
    /// Index of the service.
    pub service: u16,
    /// `true`: only MAC addresses change; `false`: IP in IP.
    pub l2: bool,
    /// Family of the packets: the VIP's. That of `address` for `l2`, where it must be.
    pub inner: Family,
    /// The backend.
    pub address: IpAddr,
    /// Source of the outer header; the same family as `address`. Not kept for `l2`.
    pub source: IpAddr,
}

const IPV4_WORD0: u32 = u32::from_be_bytes([0x45, 0, 0, 0]);
const DONT_FRAGMENT: [u8; 4] = [0, 0, 0x40, 0];
const OUTER_TTL: u8 = 64;

impl RowSpec {
    /// The encapsulation that the row uses.
    #[must_use]
    pub const fn encapsulation(&self) -> Encapsulation {
        match (self.l2, self.address) {
            (true, _) => Encapsulation::L2,
            (false, IpAddr::V4(_)) => Encapsulation::Ipip4,
            (false, IpAddr::V6(_)) => Encapsulation::Ipip6,
        }
    }

    /// Builds the row with a word that says [`SlotState::Free`].
    ///
    /// The template is an outer header without length and checksum: RFC 2003 with DF set and identification 0 (an
    /// atomic datagram by RFC 6864), or RFC 2473; its protocol octet says what is inside. In `l2` rows it only
    /// remembers the address for user space.
    #[must_use]
    pub fn row(&self) -> BackendRow {
        let encapsulation = self.encapsulation();
        let inner = self.inner.as_payload();
        let mut bytes = [0u8; 40];
        match (encapsulation, self.address, self.source) {
            (Encapsulation::Ipip4, IpAddr::V4(to), IpAddr::V4(from)) => {
                put(&mut bytes, 0, &IPV4_WORD0.to_be_bytes());
                put(&mut bytes, 4, &DONT_FRAGMENT);
                put(&mut bytes, 8, &[OUTER_TTL, inner, 0, 0]);
                put(&mut bytes, 12, &from.octets());
                put(&mut bytes, 16, &to.octets());
            }
            (Encapsulation::Ipip6, IpAddr::V6(to), IpAddr::V6(from)) => {
                put(&mut bytes, 0, &[0x60, 0, 0, 0, 0, 0, inner, OUTER_TTL]);
                put(&mut bytes, 8, &from.octets());
                put(&mut bytes, 24, &to.octets());
            }
            (_, IpAddr::V4(to), _) => put(&mut bytes, 24, &to.to_ipv6_mapped().octets()),
            (_, IpAddr::V6(to), _) => put(&mut bytes, 24, &to.octets()),
        }
        let mut template = [0u64; 5];
        for (word, octets) in template.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(octets.try_into().unwrap_or_default());
        }
        let partial_sum = match encapsulation {
            Encapsulation::Ipip4 => bytes.chunks_exact(2).take(10).fold(0u32, |sum, octets| {
                sum.wrapping_add(u32::from(u16::from_ne_bytes(octets.try_into().unwrap_or_default())))
            }),
            _ => 0,
        };
        BackendRow {
            word: AtomicU64::new(0),
            service: self.service,
            encapsulation: encapsulation as u8,
            reserved: 0,
            partial_sum,
            template,
            reserved_tail: 0,
        }
    }
}

fn put(bytes: &mut [u8; 40], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

impl BackendRow {
    /// The word at this moment.
    #[inline(always)]
    #[must_use]
    pub fn load(&self) -> BackendWord {
        #[cfg(target_arch = "bpf")]
        {
            // The target has no atomic load, but every aligned load of a word is one.
            // SAFETY: the word is valid for reads as long as the row is.
            BackendWord(unsafe { self.word.as_ptr().read_volatile() })
        }
        #[cfg(not(target_arch = "bpf"))]
        BackendWord(self.word.load(core::sync::atomic::Ordering::Relaxed))
    }

    /// What the row was made of; `None` if it is unused or unknown.
    #[must_use]
    pub fn spec(&self) -> Option<RowSpec> {
        let encapsulation = Encapsulation::from_bits(self.encapsulation)?;
        let [a, b, c, d, e] = self.template.map(u64::to_ne_bytes);
        let tail = |high: [u8; 8], low: [u8; 8]| {
            Ipv6Addr::from((u128::from(u64::from_be_bytes(high)) << 64) | u128::from(u64::from_be_bytes(low)))
        };
        let (address, source, inner) = match encapsulation {
            Encapsulation::Ipip4 => {
                let [_, inner, _, _, s0, s1, s2, s3] = b;
                let [d0, d1, d2, d3, ..] = c;
                let address = IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3));
                let source = IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3));
                (address, source, Family::from_payload(inner)?)
            }
            Encapsulation::Ipip6 => {
                let [_, _, _, _, _, _, inner, _] = a;
                (IpAddr::V6(tail(d, e)), IpAddr::V6(tail(b, c)), Family::from_payload(inner)?)
            }
            Encapsulation::L2 => {
                let address = tail(d, e).to_canonical();
                let none = match address {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                (address, none, Family::of(address))
            }
        };
        Some(RowSpec {
            service: self.service,
            l2: encapsulation == Encapsulation::L2,
            inner,
            address,
            source,
        })
    }
}

const _: () = {
    assert!(size_of::<BackendRow>() == 64);
    assert!(offset_of!(BackendRow, word) == 0);
    assert!(offset_of!(BackendRow, service) == 8);
    assert!(offset_of!(BackendRow, partial_sum) == 12);
    assert!(offset_of!(BackendRow, template) == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_what_was_packed() {
        let mac = [0x02, 0x11, 0x22, 0x33, 0x44, 0xff];
        for state in [SlotState::Free, SlotState::Serving, SlotState::Draining, SlotState::Dead] {
            let word = BackendWord::new(mac, 0xabc, state);
            assert_eq!((word.mac(), word.egress(), word.state()), (mac, 0xabc, state));
        }
    }

    #[test]
    fn a_row_gives_back_what_it_was_made_of() {
        let none4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let (a4, b4): (IpAddr, IpAddr) = ("10.1.2.3".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let (a6, b6): (IpAddr, IpAddr) = ("2001:db8::7".parse().unwrap(), "fd00::1:2".parse().unwrap());
        for (l2, address, source) in [(false, a4, b4), (false, a6, b6), (true, a4, none4)] {
            for inner in [Family::V4, Family::V6] {
                let inner = if l2 { Family::of(address) } else { inner };
                let spec = RowSpec { service: 77, l2, inner, address, source };
                assert_eq!(spec.row().spec(), Some(spec));
            }
        }
    }
}
