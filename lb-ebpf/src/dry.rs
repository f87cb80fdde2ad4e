//! The balancer's world for a dry run: it reads the same maps and writes to none but TRACE.
//!
//! A world of its own instead of a switch in the other one: the program that forwards stays as it is to the instruction,
//! and what would write is not left out but missing here.

use lb_common::backend::BackendRow;
use lb_common::counters::Event;
use lb_common::egress::EgressRow;
use lb_common::frame::{PacketEdit, PacketView, Plain};
use lb_common::guard::tick_of_window;
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;
use lb_common::packet::{Tuple, Walk};
use lb_common::pick::{Pick, Service, Signals, pick};
use lb_common::reason::Outcome;
use lb_common::service::{ServiceKey4, ServiceKey6, ServiceWord, VipRow};
use lb_common::settings::Settings;
use lb_common::trace::{Fact, TraceRow};
use lb_common::world::{Steering, World};

use crate::balancer::{Maps, guard_row, guard_with_one_more, present_window};
use crate::frame::Frame;
use crate::maps;

#[inline(always)]
fn tell(change: impl FnOnce(&mut TraceRow)) {
    let Some(place) = maps::TRACE.get_ptr_mut(0) else { return };
    // SAFETY: inside the map. User space runs one frame at a time, and looks at the row before and after the run only.
    if let Some(row) = unsafe { place.as_mut() } {
        change(row);
    }
}

/// The frame of a dry run.
pub struct DryFrame<'c>(Frame<'c>);

impl<'c> DryFrame<'c> {
    /// Nothing that becomes of this frame leaves a trace, but in TRACE.
    #[inline(always)]
    #[must_use]
    pub const fn new(frame: Frame<'c>) -> Self {
        Self(frame)
    }
}

/// The maps of steering, for looking only.
struct DryMaps;

impl Steering for DryMaps {
    type Bucket = <Maps as Steering>::Bucket;

    #[inline(always)]
    fn settings(&self) -> &Settings {
        Maps.settings()
    }

    #[inline(always)]
    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        Maps.service_word(index)
    }

    #[inline(always)]
    fn table_slot(&self, first_entry: u32, index: u32) -> u16 {
        Maps.table_slot(first_entry, index)
    }

    #[inline(always)]
    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        maps::BACKENDS.get(u32::from(slot))
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<Self::Bucket> {
        Maps.bucket(index)
    }

    #[inline(always)]
    fn entry(&self, bucket: Self::Bucket, way: usize) -> u64 {
        Maps.entry(bucket, way)
    }

    #[inline(always)]
    fn replace(&self, _bucket: *mut [u64; WAYS], _way: usize, _old: u64, _new: u64) -> bool {
        true
    }

    #[inline(always)]
    fn note_tuple(&self, _bucket: u32, _way: usize, _tuple: &Tuple) {}

    #[inline(always)]
    fn tick(&self) -> u16 {
        tick_of_window(present_window())
    }

    #[inline(always)]
    fn idle(&self) -> IdleTicks {
        Maps.idle()
    }

    #[inline(always)]
    fn admits_flow(&self) -> bool {
        let limit = self.settings().guard_per_window;
        limit == 0 || guard_row().is_none_or(|row| guard_with_one_more(row, present_window()).admits(limit))
    }

    #[inline(always)]
    fn note(&self, event: Event) {
        tell(|row| row.note(event));
    }

    #[inline(always)]
    fn observe(&self, fact: Fact) {
        tell(|row| row.learn(fact));
    }
}

/// [`pick`] of a dry run as a global function, as in the other world.
///
/// # Safety
/// `tuple` is null or points to a tuple.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn fairlead_dry_pick(tuple: *const Tuple, index: u64, word: u64) -> u64 {
    // SAFETY: the caller passes the address of a tuple; the verifier checks its size, and wants to see the check for null.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
    let service = Service { index: index as u32, word: ServiceWord(word) };
    let picked = pick(&DryMaps, tuple, Signals((index >> 32) as u32), service);
    tell(|row| {
        row.pick = picked.0;
        row.known |= TraceRow::PICKED;
    });
    picked.0
}

impl PacketView for DryFrame<'_> {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: usize) -> Option<T> {
        self.0.load(offset)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.0.length()
    }

    #[inline(always)]
    fn holds(&self, bytes: usize) -> bool {
        self.0.holds(bytes)
    }

    #[inline(always)]
    fn walk(&self, offset: usize, protocol: u8) -> Walk {
        self.0.walk(offset, protocol)
    }

    #[inline(always)]
    fn solicits(&self, network: usize, bytes: usize) -> bool {
        self.0.solicits(network, bytes)
    }
}

impl PacketEdit for DryFrame<'_> {
    #[inline(always)]
    fn store<T: Plain>(&self, offset: usize, value: T) -> bool {
        self.0.store(offset, value)
    }

    #[inline(always)]
    fn grow_head(&self, bytes: usize) -> bool {
        self.0.grow_head(bytes)
    }

    #[inline(always)]
    fn shrink_head(&self, bytes: usize) -> bool {
        self.0.shrink_head(bytes)
    }

    #[inline(always)]
    fn set_length(&self, length: usize) -> bool {
        self.0.set_length(length)
    }
}

impl World for DryFrame<'_> {
    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        let Some(place) = maps::TRACE.get_ptr(0) else { return 0 };
        // SAFETY: inside the map, and written by user space before the run.
        unsafe { place.as_ref() }.map_or(0, |row| row.ingress)
    }

    #[inline(always)]
    fn egress(&self, position: u32) -> Option<&EgressRow> {
        World::egress(&self.0, position)
    }

    #[inline(always)]
    fn service4(&self, key: &ServiceKey4) -> Option<u32> {
        self.0.service4(key)
    }

    #[inline(always)]
    fn service6(&self, key: &ServiceKey6) -> Option<u32> {
        self.0.service6(key)
    }

    #[inline(always)]
    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        World::service_word(&self.0, index)
    }

    #[inline(always)]
    fn vip4(&self, address: u32) -> Option<VipRow> {
        self.0.vip4(address)
    }

    #[inline(always)]
    fn vip6(&self, address: &[u32; 4]) -> Option<VipRow> {
        self.0.vip6(address)
    }

    #[inline(always)]
    fn lease_holds(&self, lease: u32) -> bool {
        self.0.lease_holds(lease)
    }

    #[inline(always)]
    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        World::backend(&self.0, slot)
    }

    #[inline(always)]
    fn pick(&self, tuple: &Tuple, signals: Signals, service: Service) -> Pick {
        let index = u64::from(service.index) | (u64::from(signals.0) << 32);
        // SAFETY: a reference is the address of a tuple.
        Pick(unsafe { fairlead_dry_pick(tuple, index, service.word.0) })
    }

    #[inline(always)]
    fn redirect(&self, position: u32) -> bool {
        // Nothing happens before the kernel acts on the program's answer, which for a dry run it does not.
        self.0.redirect(position)
    }

    #[inline(always)]
    fn count(&self, outcome: Outcome) {
        tell(|row| row.outcome = outcome.row());
    }

    #[inline(always)]
    fn count_slot(&self, _slot: u16, _bytes: usize, _new_flow: bool) {}

    #[inline(always)]
    fn observe(&self, fact: Fact) {
        tell(|row| row.learn(fact));
    }
}
