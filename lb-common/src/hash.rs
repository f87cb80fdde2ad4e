//! The flow hash: one keyed 64-bit value for each 5-tuple, the same on every balancer that holds the key.
//!
//! Multilinear hashing (Lemire and Kaser, "Strongly universal string hashing is fast", 2013): two independent sums of
//! 32-bit words times secret 64-bit multipliers, of each the upper half. No collision is independent of the key, which
//! a plain chain of multiplications over IPv6 addresses would have. A finaliser spreads what stays linear.

use crate::packet::{Family, Tuple};

/// Words hashed at most: source, destination, ports, protocol and family.
pub const WORDS: usize = 10;

/// Multipliers for the words and one offset, for each of the two sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct HashKey {
    /// Offset, then a multiplier for each word.
    pub first: [u64; WORDS + 1],
    /// The same, independent.
    pub second: [u64; WORDS + 1],
}

impl HashKey {
    /// Expands a secret seed to a key with [`SplitMix64`]. The same seed gives the same key on all
    /// nodes of a cluster.
    #[must_use]
    pub fn from_seed(seed: [u64; 2]) -> Self {
        let [first, second] = seed;
        Self { first: expand(first), second: expand(second ^ 0x6a09_e667_f3bc_c908) }
    }
}

fn expand(seed: u64) -> [u64; WORDS + 1] {
    let mut numbers = SplitMix64(seed);
    core::array::from_fn(|_| numbers.draw())
}

/// The numbers that follow from a seed: splitmix64 (Steele, Lea, Flood 2014). Keys are expanded by it, and tests draw
/// their chances from it; it keeps no secret.
#[derive(Clone, Copy, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

/// The hash of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHash(pub u64);

impl FlowHash {
    /// Upper half: kept in the flow entry, and what Maglev picks by. Zero is as good as any other.
    #[inline(always)]
    #[must_use]
    pub const fn fingerprint(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Bucket of the flow table.
    #[inline(always)]
    #[must_use]
    pub const fn bucket(self, mask: u32) -> u32 {
        self.0 as u32 & mask
    }
}

/// Hashes a 5-tuple. Words enter as they lie in memory of a little-endian machine.
#[inline(always)]
#[must_use]
pub fn flow_hash(key: &HashKey, tuple: &Tuple) -> FlowHash {
    let [a0, a, b, c, d, e, f, g, h, p, t] = key.first;
    let [z0, z, y, x, w, v, u, s, r, q, o] = key.second;
    let [s0, s1, s2, s3] = tuple.source;
    let [d0, d1, d2, d3] = tuple.destination;
    let ports = tuple.ports;
    let kind = u32::from(tuple.protocol) | ((tuple.family as u32) << 8);
    let mut first = a0
        .wrapping_add(mul(s0, a))
        .wrapping_add(mul(d0, e))
        .wrapping_add(mul(ports, p))
        .wrapping_add(mul(kind, t));
    let mut second = z0
        .wrapping_add(mul(s0, z))
        .wrapping_add(mul(d0, v))
        .wrapping_add(mul(ports, q))
        .wrapping_add(mul(kind, o));
    if matches!(tuple.family, Family::V6) {
        first = first.wrapping_add(mul(s1, b)).wrapping_add(mul(s2, c)).wrapping_add(mul(s3, d));
        first = first.wrapping_add(mul(d1, f)).wrapping_add(mul(d2, g)).wrapping_add(mul(d3, h));
        second = second.wrapping_add(mul(s1, y)).wrapping_add(mul(s2, x)).wrapping_add(mul(s3, w));
        second = second.wrapping_add(mul(d1, u)).wrapping_add(mul(d2, s)).wrapping_add(mul(d3, r));
    }
    FlowHash(finalise((first & 0xffff_ffff_0000_0000) | (second >> 32)))
}

#[inline(always)]
const fn mul(word: u32, multiplier: u64) -> u64 {
    (word as u64).wrapping_mul(multiplier)
}

/// The 64-bit finaliser of MurmurHash3 (Appleby, public domain): a bijection.
#[inline(always)]
const fn finalise(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn key() -> HashKey {
        HashKey::from_seed([1, 2])
    }

    fn v4(source: [u8; 4], port: u16) -> Tuple {
        Tuple::v4(source, [192, 0, 2, 1], port, 80, 6)
    }

    #[test]
    fn golden_vectors_are_frozen() {
        // Changing these moves every flow of every running cluster.
        let v6 = Tuple::v6([0xfd; 16], [0x20; 16], 40_000, 443, 17);
        let hashes: Vec<u64> = [v4([10, 0, 0, 1], 1024), v4([10, 0, 0, 2], 1024), v6]
            .iter()
            .map(|t| flow_hash(&key(), t).0)
            .collect();
        assert_eq!(hashes, GOLDEN);
    }

    const GOLDEN: [u64; 3] =
        [1_733_925_454_623_945_645, 16_599_600_723_833_307_240, 12_409_468_506_684_192_149];

    #[test]
    fn every_field_of_the_tuple_counts() {
        let base = Tuple::v6([1; 16], [2; 16], 3, 4, 6);
        let hash = flow_hash(&key(), &base);
        for octet in 0..16 {
            let mut source = [1; 16];
            source[octet] ^= 0x80;
            let mut destination = [2; 16];
            destination[octet] ^= 0x01;
            assert_ne!(hash, flow_hash(&key(), &Tuple::v6(source, [2; 16], 3, 4, 6)));
            assert_ne!(hash, flow_hash(&key(), &Tuple::v6([1; 16], destination, 3, 4, 6)));
        }
        assert_ne!(hash, flow_hash(&key(), &Tuple::v6([1; 16], [2; 16], 5, 4, 6)));
        assert_ne!(hash, flow_hash(&key(), &Tuple::v6([1; 16], [2; 16], 3, 5, 6)));
        assert_ne!(hash, flow_hash(&key(), &Tuple::v6([1; 16], [2; 16], 3, 4, 17)));
        assert_ne!(hash, flow_hash(&HashKey::from_seed([1, 3]), &base));
    }

    #[test]
    fn neighbouring_flows_spread_over_fingerprints_and_buckets() {
        let mut upper = [0u32; 16];
        let mut lower = [0u32; 16];
        for host in 0..16u8 {
            for port in 0..4096u16 {
                let hash = flow_hash(&key(), &v4([10, 0, 0, host], 1024 + port));
                upper[(hash.fingerprint() >> 28) as usize] += 1;
                lower[hash.bucket(15) as usize] += 1;
            }
        }
        for count in upper.into_iter().chain(lower) {
            assert!((3_800..4_400).contains(&count), "{count} of 4096 expected");
        }
    }
}
