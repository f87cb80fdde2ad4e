//! The balancer's world on BPF maps.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns,
};
use lb_common::backend::BackendRow;
use lb_common::counters::{COUNTERS_PER_CPU, Event};
use lb_common::egress::EgressRow;
use lb_common::guard::{CLOCK_WORD, COUNT_WORD, ClockWord, GuardWord, IDLE_WORD, tick_of_window, window_of};
use lb_common::idle::IdleTicks;
use lb_common::limits::{TABLE_ENTRIES_PER_VALUE, WAYS};
use lb_common::packet::Tuple;
use lb_common::pick::{Pick, Service, Signals, pick};
use lb_common::reason::Outcome;
use lb_common::service::{LEASE_FOR_EVER, ServiceKey4, ServiceKey6, ServiceWord, VipRow};
use lb_common::settings::Settings;
use lb_common::world::{Steering, World};

use crate::atomic::{behind, compare_exchange};
use crate::frame::Frame;
use crate::maps;

/// Table entries of one map value, as a power of two.
const VALUE_SHIFT: u32 = TABLE_ENTRIES_PER_VALUE.trailing_zeros();

#[inline(always)]
fn cpu() -> u32 {
    // SAFETY: has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// Adds to a counter that only this CPU writes.
#[inline(always)]
fn add(place: *mut u64, amount: u64) {
    // SAFETY: the place is inside a map value of this CPU; user space only reads it.
    let now = unsafe { place.read() };
    // SAFETY: as above.
    unsafe { place.write(now.wrapping_add(amount)) };
}

#[inline(always)]
pub(crate) fn count_row(row: u32, amount: u64) {
    if let Some(place) = maps::COUNTERS.get_ptr_mut(cpu().wrapping_mul(COUNTERS_PER_CPU).wrapping_add(row)) {
        add(place, amount);
    }
}

/// This CPU's row of GUARD, as words.
#[inline(always)]
pub(crate) fn guard_row() -> Option<*mut u64> {
    Some(maps::GUARD.get_ptr_mut(cpu())?.cast())
}

/// The present window by the clock itself.
#[inline(always)]
pub(crate) fn present_window() -> u32 {
    // SAFETY: the helper has no preconditions.
    window_of(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The present window, or that of a jiffy ago. The coarse clock moves with the jiffies, which cost nothing to read: it
/// is asked once in each of them, by the first packet.
#[inline(always)]
fn window(row: *mut u64) -> u32 {
    // SAFETY: the helper has no preconditions.
    let jiffies = unsafe { bpf_jiffies64() };
    // SAFETY: the row has eight words.
    let word = unsafe { row.add(CLOCK_WORD) };
    // SAFETY: inside the map value of this CPU, which nobody else writes.
    let known = ClockWord(unsafe { word.read() });
    if let Some(window) = known.window_at(jiffies) {
        return window;
    }
    let window = present_window();
    // SAFETY: as for reading it.
    unsafe { word.write(ClockWord::new(jiffies, window).0) };
    window
}

/// The word of the flood guard in a CPU's row after one more new flow.
#[inline(always)]
pub(crate) fn guard_with_one_more(row: *mut u64, window: u32) -> GuardWord {
    // SAFETY: the row has eight words.
    let word = unsafe { row.add(COUNT_WORD) };
    // SAFETY: inside the map value of this CPU, which nobody else writes.
    GuardWord(unsafe { word.read() }).count(window)
}

/// The maps of steering.
pub struct Maps;

impl Steering for Maps {
    type Bucket = *mut [u64; WAYS];

    #[inline(always)]
    fn settings(&self) -> &Settings {
        // SAFETY: Global<T> is transparent over T, and the loader has put a value there.
        unsafe { &*(behind::<()>(&raw const maps::SETTINGS as usize) as *const Settings) }
    }

    #[inline(always)]
    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        let place = maps::SERVICES.get_ptr(index)?;
        // SAFETY: an aligned word inside the map; one load sees one published state.
        Some(ServiceWord(unsafe { place.read_volatile() }))
    }

    #[inline(always)]
    fn table_slot(&self, first_entry: u32, index: u32) -> u16 {
        let at = first_entry.wrapping_add(index);
        let Some(value) = maps::MAGLEV.get_ptr(at >> VALUE_SHIFT) else { return 0 };
        let within = at as usize & (TABLE_ENTRIES_PER_VALUE - 1);
        // SAFETY: `within` is below the number of entries of a value.
        let place = unsafe { value.cast::<u16>().add(within) };
        // SAFETY: inside the value.
        unsafe { place.read_volatile() }
    }

    #[inline(always)]
    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        maps::BACKENDS.get(u32::from(slot))
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<Self::Bucket> {
        maps::FLOWS.get_ptr_mut(index)
    }

    #[inline(always)]
    fn entry(&self, bucket: Self::Bucket, way: usize) -> u64 {
        // SAFETY: the way is masked to the ways of a bucket.
        let place = unsafe { bucket.cast::<u64>().add(way & (WAYS - 1)) };
        // SAFETY: an aligned word inside the bucket.
        unsafe { place.read_volatile() }
    }

    #[inline(always)]
    fn replace(&self, bucket: Self::Bucket, way: usize, old: u64, new: u64) -> bool {
        // SAFETY: the way is masked to the ways of a bucket.
        let place = unsafe { bucket.cast::<u64>().add(way & (WAYS - 1)) };
        // SAFETY: an aligned word inside the bucket.
        unsafe { compare_exchange(place, old, new) }
    }

    #[inline(always)]
    fn note_tuple(&self, bucket: u32, way: usize, tuple: &Tuple) {
        if self.settings().flow_tuples == 0 {
            return;
        }
        let at = bucket.wrapping_mul(WAYS as u32).wrapping_add(way as u32);
        if let Some(place) = maps::FLOW_TUPLES.get_ptr_mut(at) {
            // SAFETY: inside the map. Listings check each tuple against its entry, so a torn one is never shown.
            unsafe { place.write(*tuple) };
        }
    }

    #[inline(always)]
    fn tick(&self) -> u16 {
        guard_row().map_or(0, |row| tick_of_window(window(row)))
    }

    #[inline(always)]
    fn idle(&self) -> IdleTicks {
        let Some(row) = guard_row() else { return IdleTicks::default() };
        // SAFETY: the row has eight words.
        let word = unsafe { row.add(IDLE_WORD) };
        // SAFETY: an aligned word inside the map value, which user space alone writes, as a whole.
        IdleTicks(unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn admits_flow(&self) -> bool {
        let limit = self.settings().guard_per_window;
        if limit == 0 {
            return true;
        }
        let Some(row) = guard_row() else { return true };
        let now = guard_with_one_more(row, window(row));
        // SAFETY: the row has eight words.
        let word = unsafe { row.add(COUNT_WORD) };
        // SAFETY: inside the map value of this CPU, which nobody else writes.
        unsafe { word.write(now.0) };
        now.admits(limit)
    }

    #[inline(always)]
    fn note(&self, event: Event) {
        count_row(event.row(), 1);
    }
}

/// [`pick`] as a global function of the program: the verifier looks at it once, whatever the packet. The arguments are
/// what fits registers: service index and signals in `index`, and the service's word.
///
/// # Safety
/// `tuple` is null or points to a tuple.
#[unsafe(no_mangle)]
#[inline(never)]
pub unsafe extern "C" fn fairlead_pick(tuple: *const Tuple, index: u64, word: u64) -> u64 {
    // SAFETY: the caller passes the address of a tuple; the verifier checks its size, and wants to see the check for null.
    let Some(tuple) = (unsafe { tuple.as_ref() }) else { return 0 };
    let service = Service { index: index as u32, word: ServiceWord(word) };
    pick(&Maps, tuple, Signals((index >> 32) as u32), service).0
}

impl World for Frame<'_> {
    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.context().ingress_ifindex() as u32
    }

    #[inline(always)]
    fn egress(&self, position: u32) -> Option<&EgressRow> {
        maps::EGRESS.get(position)
    }

    #[inline(always)]
    fn service4(&self, key: &ServiceKey4) -> Option<u32> {
        // SAFETY: the value is a word that user space never changes while the key is there.
        unsafe { maps::SERVICES4.get(key) }.copied()
    }

    #[inline(always)]
    fn service6(&self, key: &ServiceKey6) -> Option<u32> {
        // SAFETY: as above.
        unsafe { maps::SERVICES6.get(key) }.copied()
    }

    #[inline(always)]
    fn service_word(&self, index: u32) -> Option<ServiceWord> {
        Maps.service_word(index)
    }

    #[inline(always)]
    fn vip4(&self, address: u32) -> Option<VipRow> {
        // SAFETY: eight aligned bytes; user space writes them once, before it inserts the key.
        unsafe { maps::VIPS4.get(address) }.copied()
    }

    #[inline(always)]
    fn vip6(&self, address: &[u32; 4]) -> Option<VipRow> {
        // SAFETY: as above.
        unsafe { maps::VIPS6.get(address) }.copied()
    }

    #[inline(always)]
    fn lease_holds(&self, lease: u32) -> bool {
        let Some(place) = maps::LEASES.get_ptr(lease) else { return false };
        // SAFETY: an aligned word inside the map.
        let until = unsafe { place.read_volatile() };
        // SAFETY: the helper has no preconditions.
        until == LEASE_FOR_EVER || unsafe { bpf_ktime_get_boot_ns() } < until
    }

    #[inline(always)]
    fn redirect(&self, position: u32) -> bool {
        // What the helper is to answer for a row without an interface: no action that the program ever ends with.
        maps::DEVICES.redirect(position, u64::from(xdp_action::XDP_ABORTED)).is_ok()
    }

    #[inline(always)]
    fn count(&self, outcome: Outcome) {
        count_row(outcome.row(), 1);
    }

    #[inline(always)]
    fn count_slot(&self, slot: u16, bytes: usize, new_flow: bool) {
        let at = cpu().wrapping_mul(Maps.settings().slots).wrapping_add(u32::from(slot));
        let Some(place) = maps::SLOT_COUNTERS.get_ptr_mut(at) else { return };
        let words = place.cast::<u64>();
        add(words, 1);
        // SAFETY: the row has four words.
        add(unsafe { words.add(1) }, bytes as u64);
        if new_flow {
            // SAFETY: as above.
            add(unsafe { words.add(2) }, 1);
        }
    }

    #[inline(always)]
    fn backend(&self, slot: u16) -> Option<&BackendRow> {
        maps::BACKENDS.get(u32::from(slot))
    }

    #[inline(always)]
    fn pick(&self, tuple: &Tuple, signals: Signals, service: Service) -> Pick {
        let index = u64::from(service.index) | (u64::from(signals.0) << 32);
        // SAFETY: a reference is the address of a tuple.
        Pick(unsafe { fairlead_pick(tuple, index, service.word.0) })
    }
}
