//! The Internet checksum (RFC 1071) in memory order: sums of words as they lie in the packet need no byte swapping.

/// Folds a sum of 16-bit words to 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    let sum = (sum & 0xffff).wrapping_add(sum >> 16);
    sum as u16
}

/// The checksum of a sum of words, as stored in a header.
#[inline(always)]
#[must_use]
pub const fn finish(sum: u32) -> u16 {
    !fold(sum)
}

/// The two halves of a 32-bit word, added.
#[inline(always)]
#[must_use]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff).wrapping_add(word >> 16)
}

/// Updates a stored checksum for one 16-bit word that changed (RFC 1624, equation 3). All in memory order.
#[inline(always)]
#[must_use]
pub const fn update(check: u16, old: u16, new: u16) -> u16 {
    finish((!check as u32).wrapping_add(!old as u32).wrapping_add(new as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(words: &[u16]) -> u16 {
        finish(words.iter().fold(0u32, |sum, word| sum.wrapping_add(u32::from(*word))))
    }

    #[test]
    fn rfc_1071_example_sums_up() {
        // RFC 1071 section 3: 0001 f203 f4f5 f6f7 sums to ddf2.
        assert_eq!(fold(0x0001 + 0xf203 + 0xf4f5 + 0xf6f7), 0xddf2);
    }

    #[test]
    fn carry_of_the_carry_is_folded_too() {
        assert_eq!(fold(0xffff_ffff), 0xffff);
        assert_eq!(fold(0x1_ffff), 1);
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(mut words in proptest::collection::vec(any::<u16>(), 10), at in 0usize..10, new: u16) {
            words[at] |= 1; // an all-zero header does not occur
            let check = full(&words);
            let updated = update(check, words[at], new);
            words[at] = new;
            // 0 and 0xffff are the same number in one's complement.
            let (a, b) = (updated, full(&words));
            prop_assert!(a == b || (a ^ b) == 0xffff && (a == 0 || b == 0));
        }
    }
}
