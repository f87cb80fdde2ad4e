//! After which idle time a flow is over, for each kind of flow, as one word.

use crate::flow::{FlowEntry, age};

const UNCONFIRMED: u32 = 0;
const ESTABLISHED: u32 = 16;
const CLOSING: u32 = 32;
const UDP: u32 = 48;

/// States that make the kind of a flow: UDP, confirmed, closing.
const KINDS: u64 = 8;

/// A byte for each of [`KINDS`]: where the word has its limit. A table instead of branches, since the verifier looks at
/// each branch for each way of a bucket.
const POSITIONS: u64 = {
    let (mut all, mut state) = (0, 0);
    while state < KINDS {
        let position = if state & FlowEntry::UDP as u64 != 0 {
            UDP
        } else if state & FlowEntry::CLOSING as u64 != 0 {
            CLOSING
        } else if state & FlowEntry::CONFIRMED as u64 != 0 {
            ESTABLISHED
        } else {
            UNCONFIRMED
        };
        all |= (position as u64) << (state * 8);
        state += 1;
    }
    all
};

/// For each kind of flow the age in ticks from which on it is over; 0: never. All-zero: nothing is known of idle times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IdleTicks(pub u64);

impl IdleTicks {
    /// Packs the word. A flow of each kind is over when its age is *greater* than these ticks, each below 65,535.
    #[must_use]
    pub const fn new(established: u16, closing: u16, udp: u16, unconfirmed: u16) -> Self {
        const fn from(longest: u16, position: u32) -> u64 {
            (longest.saturating_add(1) as u64) << position
        }
        Self(
            from(established, ESTABLISHED)
                | from(closing, CLOSING)
                | from(udp, UDP)
                | from(unconfirmed, UNCONFIRMED),
        )
    }

    /// The greater limit of the two for each kind.
    #[must_use]
    pub fn longest(self, other: Self) -> Self {
        let limit = |word: u64, position: u32| (word >> position) & u64::from(u16::MAX);
        let greater = |position| limit(self.0, position).max(limit(other.0, position)) << position;
        Self(greater(ESTABLISHED) | greater(CLOSING) | greater(UDP) | greater(UNCONFIRMED))
    }

    /// Whether an entry is past its time at tick `now`.
    #[inline(always)]
    #[must_use]
    pub const fn is_over(self, entry: FlowEntry, now: u16) -> bool {
        let kind = entry.state() as u32 & (KINDS as u32).wrapping_sub(1);
        let position = (POSITIONS >> kind.wrapping_mul(8)) as u32 & 0x3f;
        // No limit becomes the highest one.
        let longest = ((self.0 >> position) as u16).wrapping_sub(1);
        age(now, entry.tick()) > longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{TICKS, TICKS_AHEAD};

    const LIMITS: IdleTicks = IdleTicks::new(100, 3, 7, 8);

    #[test]
    fn each_kind_of_flow_has_its_own_limit() {
        let confirmed = FlowEntry::CONFIRMED;
        for (state, limit) in [
            (confirmed, 100),
            (confirmed | FlowEntry::CLOSING, 3),
            (FlowEntry::CLOSING, 3),
            (FlowEntry::UDP, 7),
            (FlowEntry::UDP | confirmed, 7),
            (FlowEntry::UDP | FlowEntry::CLOSING, 7),
            (0, 8),
            (confirmed | FlowEntry::EXCEPTION, 100),
            (confirmed | FlowEntry::REMOTE, 100),
        ] {
            let entry = FlowEntry::new(1, 1, 10, state);
            assert!(!LIMITS.is_over(entry, 10 + limit), "state {state:#b}: kept at {limit}");
            assert!(LIMITS.is_over(entry, 11 + limit), "state {state:#b}: over after {limit}");
        }
    }

    #[test]
    fn where_nothing_is_known_nothing_is_over() {
        const OLDEST: u16 = TICKS - TICKS_AHEAD - 1;
        assert_eq!((age(OLDEST, 0), age(OLDEST + 1, 0)), (OLDEST, 0), "the highest age that there is");
        for state in 0..32 {
            for now in [1_023, 1_024, OLDEST] {
                let entry = FlowEntry::new(1, 1, 0, state);
                assert!(!IdleTicks::default().is_over(entry, now), "state {state:#b}, age {now}");
            }
        }
    }

    #[test]
    fn of_two_the_longer_counts_for_each_kind() {
        let other = IdleTicks::new(90, 4, 0, 9);
        assert_eq!(LIMITS.longest(other), IdleTicks::new(100, 4, 7, 9));
        assert_eq!(IdleTicks::default().longest(other), other);
    }
}
