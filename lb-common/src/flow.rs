//! One entry of the flow table: eight bytes, all-zero when empty, written by compare-exchange only.

use crate::idle::IdleTicks;

/// Nanoseconds of one tick as a power of two: 2^33 ns, about 8.6 s.
pub const TICK_SHIFT: u32 = 33;

/// Ticks wrap here.
pub const TICKS: u16 = 1 << 11;

/// Ticks that an entry may be ahead of a reader, who is late by one at most: the rest of the circle, 4 h 16 min, are
/// ages.
pub const TICKS_AHEAD: u16 = TICKS / 8;

/// The tick of a moment of CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
#[must_use]
pub const fn tick_of(monotonic_ns: u64) -> u16 {
    (monotonic_ns >> TICK_SHIFT) as u16 & (TICKS - 1)
}

/// Ticks from `then` to `now`; a moment up to [`TICKS_AHEAD`] ahead of `now` counts as now.
#[inline(always)]
#[must_use]
pub const fn age(now: u16, then: u16) -> u16 {
    let age = now.wrapping_sub(then) & (TICKS - 1);
    if age < TICKS.wrapping_sub(TICKS_AHEAD) { age } else { 0 }
}

const FINGERPRINT_SHIFT: u32 = 32;
const SLOT_SHIFT: u32 = 16;
const TICK_POSITION: u32 = 5;
const STATE_MASK: u64 = 0x1f;

/// A flow: fingerprint (32 bits), slot (16), tick of its last packet (11), state (5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowEntry(pub u64);

impl FlowEntry {
    /// No flow.
    pub const EMPTY: Self = Self(0);
    /// State: UDP; otherwise TCP.
    pub const UDP: u8 = 1;
    /// State: a packet after the first one was seen.
    pub const CONFIRMED: u8 = 2;
    /// State: FIN or RST was seen, and no data since.
    pub const CLOSING: u8 = 4;
    /// State: the current table would pick another backend; never evicted while alive.
    pub const EXCEPTION: u8 = 8;
    /// State: received from a peer balancer.
    pub const REMOTE: u8 = 16;

    /// Packs an entry. A slot other than 0 keeps it from being all-zero.
    #[inline(always)]
    #[must_use]
    pub const fn new(fingerprint: u32, slot: u16, tick: u16, state: u8) -> Self {
        Self(
            ((fingerprint as u64) << FINGERPRINT_SHIFT)
                | ((slot as u64) << SLOT_SHIFT)
                | (((tick & (TICKS - 1)) as u64) << TICK_POSITION)
                | (state as u64 & STATE_MASK),
        )
    }

    /// Whether there is no flow.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Upper half of the flow hash.
    #[inline(always)]
    #[must_use]
    pub const fn fingerprint(self) -> u32 {
        (self.0 >> FINGERPRINT_SHIFT) as u32
    }

    /// The flow's backend.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self) -> u16 {
        (self.0 >> SLOT_SHIFT) as u16
    }

    /// Tick of the last packet, to the tick.
    #[inline(always)]
    #[must_use]
    pub const fn tick(self) -> u16 {
        (self.0 >> TICK_POSITION) as u16 & (TICKS - 1)
    }

    /// A union of the state constants.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> u8 {
        (self.0 & STATE_MASK) as u8
    }

    /// Whether all bits of `state` are set.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, state: u8) -> bool {
        self.state() & state == state
    }

    /// The same flow with another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: u8) -> Self {
        Self((self.0 & !STATE_MASK) | (state as u64 & STATE_MASK))
    }

    /// The same flow, seen now.
    #[inline(always)]
    #[must_use]
    pub const fn with_tick(self, tick: u16) -> Self {
        Self::new(self.fingerprint(), self.slot(), tick, self.state())
    }
}

/// Scores have the age below this bit, and the class of the entry from it on.
const CLASS_SHIFT: u32 = TICKS.trailing_zeros();

/// From this score on an entry is expired: nobody misses it.
pub const EXPIRED: u16 = 3 << CLASS_SHIFT;

/// States that make the class of an entry: confirmed, closing, exception.
const CLASSED: u64 = 8;

/// A nibble for each of [`CLASSED`]: the class in two bits, and above it whether the entry may go. A table instead of
/// branches, since the verifier looks at each branch for each way of a bucket.
const CLASSES: u64 = {
    const MAY_GO: u64 = 4;
    let (mut all, mut at) = (0, 0);
    while at < CLASSED {
        let state = (at as u8) << 1;
        let nibble = if state & FlowEntry::EXCEPTION != 0 {
            0
        } else if state & FlowEntry::CLOSING != 0 {
            MAY_GO | 2
        } else if state & FlowEntry::CONFIRMED == 0 {
            MAY_GO | 1
        } else {
            MAY_GO
        };
        all |= nibble << (at * 4);
        at += 1;
    }
    all
};

/// How much an entry may be evicted for a newcomer: higher goes first, 0 never. `now` is the present tick.
///
/// Order: expired, closing, unconfirmed, then the oldest. Exceptions stay until they are expired, since nothing but the
/// entry knows their backend.
#[inline(always)]
#[must_use]
pub const fn evictability(entry: FlowEntry, now: u16, idle: IdleTicks) -> u16 {
    let score = age(now, entry.tick()).wrapping_add(1);
    if idle.is_over(entry, now) {
        return score | EXPIRED;
    }
    let kind = (entry.state() as u32 >> 1) & (CLASSED as u32).wrapping_sub(1);
    let nibble = (CLASSES >> kind.wrapping_mul(4)) as u16 & 0xf;
    let may_go = 0u16.wrapping_sub(nibble >> 2);
    (score | ((nibble & 3) << CLASS_SHIFT)) & may_go
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_gives_back_what_was_packed(fingerprint: u32, slot: u16, tick in 0..TICKS, state in 0u8..32) {
            let entry = FlowEntry::new(fingerprint, slot, tick, state);
            let parts = |entry: FlowEntry| (entry.fingerprint(), entry.slot(), entry.tick(), entry.state());
            prop_assert_eq!(parts(entry), (fingerprint, slot, tick, state));
            let later = entry.with_tick(tick ^ 5).with_state(state ^ 3);
            prop_assert_eq!(parts(later), (fingerprint, slot, tick ^ 5, state ^ 3));
        }
    }

    #[test]
    fn age_wraps_and_the_future_counts_as_now() {
        for (now, then, expected) in [
            (5, 3, 2),
            (1, 2_047, 2),
            (3, 4, 0),
            (0, 1_023, 1_025),
            (0, 257, 1_791),
            (0, 256, 0),
            (2_047, 255, 0),
        ] {
            assert_eq!(age(now, then), expected, "now {now} then {then}");
        }
    }

    const IDLE: IdleTicks = IdleTicks::new(100, 30, 50, 60);

    #[test]
    fn eviction_prefers_closing_then_unconfirmed_then_old_and_spares_exceptions() {
        let entry = |tick, state| evictability(FlowEntry::new(1, 1, tick, state), 100, IDLE);
        let closing = entry(100, FlowEntry::CONFIRMED | FlowEntry::CLOSING);
        let unconfirmed = entry(100, 0);
        let (old, young) = (entry(10, FlowEntry::CONFIRMED), entry(99, FlowEntry::CONFIRMED));
        assert!(closing > unconfirmed && unconfirmed > old && old > young && young > 0);
        assert_eq!(entry(0, FlowEntry::EXCEPTION | FlowEntry::CONFIRMED), 0);
    }

    #[test]
    fn the_expired_go_before_all_others_even_exceptions() {
        let entry = |age: u16, state| evictability(FlowEntry::new(1, 1, 200 - age, state), 200, IDLE);
        let closing = entry(30, FlowEntry::CONFIRMED | FlowEntry::CLOSING);
        for (age, state) in [
            (51, FlowEntry::UDP | FlowEntry::CONFIRMED),
            (51, FlowEntry::UDP | FlowEntry::CONFIRMED | FlowEntry::EXCEPTION),
            (31, FlowEntry::CLOSING | FlowEntry::EXCEPTION),
            (61, FlowEntry::EXCEPTION),
            (101, FlowEntry::CONFIRMED | FlowEntry::EXCEPTION),
        ] {
            assert!(entry(age, state) >= EXPIRED, "age {age} state {state:#b}");
            assert!(entry(age, state) > closing && closing < EXPIRED, "age {age} state {state:#b}");
        }
        assert_eq!(entry(50, FlowEntry::UDP | FlowEntry::EXCEPTION), 0);
    }

    #[test]
    fn a_tick_of_age_counts_in_each_class() {
        let states = [FlowEntry::CONFIRMED, 0, FlowEntry::CONFIRMED | FlowEntry::CLOSING];
        for (state, idle) in states.iter().flat_map(|state| [(*state, IDLE), (*state, IdleTicks::default())])
        {
            let score = |age: u16| evictability(FlowEntry::new(1, 1, 0, state), age, idle);
            assert!((0..TICKS - TICKS_AHEAD - 1).all(|age| score(age) < score(age + 1)), "state {state:#b}");
        }
    }
}
