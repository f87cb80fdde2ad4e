//! One entry of the flow table: eight bytes, all-zero when empty, written by compare-exchange only.

/// Nanoseconds of one tick as a power of two: 2^33 ns, about 8.6 s.
pub const TICK_SHIFT: u32 = 33;

/// Ticks wrap here; ages are signed, so that half of it is the longest idle time.
pub const TICKS: u16 = 1 << 11;

/// The tick of a moment of CLOCK_MONOTONIC in nanoseconds.
#[inline(always)]
#[must_use]
pub const fn tick_of(monotonic_ns: u64) -> u16 {
    (monotonic_ns >> TICK_SHIFT) as u16 & (TICKS - 1)
}

/// Ticks from `then` to `now`; a moment ahead of `now` (a reader late by a tick) counts as now.
#[inline(always)]
#[must_use]
pub const fn age(now: u16, then: u16) -> u16 {
    let age = now.wrapping_sub(then) & (TICKS - 1);
    if age < TICKS / 2 { age } else { 0 }
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

/// How much an entry may be evicted for a newcomer: higher goes first, 0 never. `now` is the present tick.
///
/// Order: closing, unconfirmed, then the oldest. Exceptions stay, since nothing but the entry knows their backend.
#[inline(always)]
#[must_use]
pub const fn evictability(entry: FlowEntry, now: u16) -> u16 {
    if entry.is(FlowEntry::EXCEPTION) {
        return 0;
    }
    let age = age(now, entry.tick()) | 1;
    if entry.is(FlowEntry::CLOSING) {
        age | (2 << 11)
    } else if !entry.is(FlowEntry::CONFIRMED) {
        age | (1 << 11)
    } else {
        age
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_entry_gives_back_what_was_packed(fingerprint: u32, slot: u16, tick in 0..TICKS, state in 0u8..32) {
            let entry = FlowEntry::new(fingerprint, slot, tick, state);
            prop_assert_eq!((entry.fingerprint(), entry.slot(), entry.tick(), entry.state()), (fingerprint, slot, tick, state));
            let later = entry.with_tick(tick ^ 5).with_state(state ^ 3);
            prop_assert_eq!((later.fingerprint(), later.slot(), later.tick(), later.state()), (fingerprint, slot, tick ^ 5, state ^ 3));
        }
    }

    #[test]
    fn age_wraps_and_the_future_counts_as_now() {
        for (now, then, expected) in [(5, 3, 2), (1, 2_047, 2), (3, 4, 0), (0, 1_025, 1_023), (0, 1_023, 0)] {
            assert_eq!(age(now, then), expected, "now {now} then {then}");
        }
    }

    #[test]
    fn eviction_prefers_closing_then_unconfirmed_then_old_and_spares_exceptions() {
        let entry = |tick, state| evictability(FlowEntry::new(1, 1, tick, state), 100);
        let closing = entry(100, FlowEntry::CONFIRMED | FlowEntry::CLOSING);
        let unconfirmed = entry(100, 0);
        let (old, young) = (entry(10, FlowEntry::CONFIRMED), entry(99, FlowEntry::CONFIRMED));
        assert!(closing > unconfirmed && unconfirmed > old && old > young && young > 0);
        assert_eq!(entry(0, FlowEntry::EXCEPTION | FlowEntry::CONFIRMED), 0);
    }
}
