//! Counters: plain adds into rows of the CPU's own, summed by user space.

use core::mem::size_of;

use crate::counted::counted;

/// Rows of the packet and event counters for each CPU: outcomes first, events behind.
pub const COUNTERS_PER_CPU: u32 = 128;

/// Row of the first [`Event`].
pub const FIRST_EVENT: u32 = 64;

/// Traffic of one slot on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SlotCounter {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of these packets from the IP header on, without the outer header.
    pub bytes: u64,
    /// Flows that were stored for the backend, or picked anew; of TCP flows that are not stored their SYNs, and nothing of
    /// such UDP flows.
    pub flows: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<SlotCounter>() == 32);

counted! {
    /// Something that happened to a flow or frame beside the packet's outcome. The numbers are part of the map layout.
    Event {
        /// A flow was stored in the flow table.
        Stored = 0, "flow_stored";
        /// A packet of a flow that found no place in its bucket: such a flow goes by the Maglev table alone.
        Unstored = 1, "flow_unstored";
        /// A stored flow made room for a new one.
        Evicted = 2, "flow_evicted";
        /// A flow whose backend is gone got another one.
        Repicked = 3, "flow_repicked";
        /// A packet in the middle of a TCP connection found no entry and was picked by the Maglev table.
        MidStreamMiss = 4, "flow_midstream_miss";
        /// Two CPUs wrote the same entry at once; one write was left out.
        LostRace = 5, "flow_lost_race";
        /// A packet of a flow that was not stored, since too many new ones came at once: it goes by the Maglev table alone.
        Guarded = 6, "flow_guarded";
        /// A flow that would have made room for a new one is known to its entry alone, and kept; the new one went unstored.
        ExceptionKept = 7, "flow_exception_kept";
        /// A redirected frame was refused by the kernel: its interface is down, too small for it, or unable to send such.
        RedirectRefused = 8, "redirect_refused";
        /// A redirected frame was not taken by the driver of its interface: the queue is full, or the far end takes less.
        RedirectLost = 9, "redirect_lost";
    }
}

impl Event {
    /// Row among a CPU's counters.
    #[inline(always)]
    #[must_use]
    pub const fn row(self) -> u32 {
        FIRST_EVENT.wrapping_add(self as u32)
    }
}

const _: () = assert!(crate::reason::Outcome::LAST < FIRST_EVENT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fit_behind_the_outcomes() {
        for event in Event::ALL {
            assert!(event.row() < COUNTERS_PER_CPU);
        }
    }
}
