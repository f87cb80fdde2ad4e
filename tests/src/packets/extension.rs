//! IPv6 extension headers (RFC 8200, RFC 4302).

/// One extension header; lengths in the unit of its length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options: 8 octets, and as often again.
    HopByHop(u8),
    /// Routing: 8 octets, and as often again.
    Routing(u8),
    /// Destination options: 8 octets, and as often again.
    Destination(u8),
    /// Authentication: 8 octets and this many times 4.
    Authentication(u8),
    /// Fragment: offset and flags as one word.
    Fragment(u16),
}

impl Extension {
    /// Its protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing(_) => 43,
            Self::Fragment(_) => 44,
            Self::Authentication(_) => 51,
            Self::Destination(_) => 60,
        }
    }

    fn octets(self, next: u8) -> Vec<u8> {
        let (length, more, bytes) = match self {
            Self::HopByHop(units) | Self::Routing(units) | Self::Destination(units) => {
                (units, [1, 4], 8 + 8 * usize::from(units))
            }
            Self::Authentication(words) => (words, [0, 0], 8 + 4 * usize::from(words)),
            Self::Fragment(word) => (0, word.to_be_bytes(), 8),
        };
        let mut octets = vec![next, length, more[0], more[1]];
        octets.resize(bytes, 0);
        octets
    }
}

/// The chain in front of `payload`, and the protocol number that the IPv6 header must name.
#[must_use]
pub fn chain(extensions: &[Extension], protocol: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    let mut next = protocol;
    let mut octets = payload.to_vec();
    for extension in extensions.iter().rev() {
        octets = [extension.octets(next), octets].concat();
        next = extension.number();
    }
    (next, octets)
}
