//! Which backend a packet goes to: the flow table's entry if there is one, else the Maglev table's choice.

use crate::backend::{BackendRow, SlotState};
use crate::counters::Event;
use crate::flow::{EXPIRED, FlowEntry, evictability};
use crate::hash::{FlowHash, flow_hash};
use crate::limits::WAYS;
use crate::packet::{Tuple, protocol};
use crate::reason::DropReason;
use crate::service::ServiceWord;
use crate::trace::Fact;
use crate::world::{Steering, table_index};

/// What the transport header says about the life of the flow, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals(pub u32);

impl Signals {
    /// TCP SYN without ACK.
    pub const OPENS: u32 = 1;
    /// TCP FIN or RST.
    pub const CLOSES: u32 = 2;
    /// The packet carries data.
    pub const DATA: u32 = 4;
    /// UDP: every datagram is data.
    pub const DATAGRAM: Self = Self(Self::DATA);

    /// The signals of a TCP header's flags (its fourteenth octet).
    #[inline(always)]
    #[must_use]
    pub const fn of_tcp(flags: u8, data: bool) -> Self {
        let opens = if flags & 0x12 == 0x02 { Self::OPENS } else { 0 };
        let closes = if flags & 0x05 != 0 { Self::CLOSES } else { 0 };
        Self(opens | closes | if data { Self::DATA } else { 0 })
    }

    #[inline(always)]
    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// The service that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Index of the service.
    pub index: u32,
    /// Its word, read once for the packet.
    pub word: ServiceWord,
}

/// A picked slot in one word, as a BPF function may return it: slot (16 bits), whether it counts as a new flow (1), 20
/// bits of the hash for flow labels. Slot 0: none, and the reason why in the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick(pub u64);

impl Pick {
    const NEW: u64 = 1 << 16;

    #[inline(always)]
    const fn new(slot: u16, hash: FlowHash) -> Self {
        Self(slot as u64 | ((hash.0 & 0x000f_ffff) << 32))
    }

    /// The same pick of a packet that counts as a new flow, or not.
    #[inline(always)]
    const fn counting(self, new_flow: bool) -> Self {
        Self(self.0 | if new_flow { Self::NEW } else { 0 })
    }

    #[inline(always)]
    const fn none(reason: DropReason) -> Self {
        Self((reason as u64) << 32)
    }

    /// Slot of the backend, or why there is none.
    ///
    /// # Errors
    /// [`DropReason::NoBackend`] if the service has no table or an empty place in it; [`DropReason::Internal`] if maps
    /// contradict each other.
    #[inline(always)]
    pub const fn slot(self) -> Result<u16, DropReason> {
        match self.0 as u16 {
            0 if self.0 >> 32 == DropReason::NoBackend as u64 => Err(DropReason::NoBackend),
            0 => Err(DropReason::Internal),
            slot => Ok(slot),
        }
    }

    /// Whether this packet counts as a new flow: its flow was stored, or picked anew in its entry, or opened again in
    /// the entry of a connection that closed. Of flows that are not stored nothing is known but that a SYN opens one.
    #[inline(always)]
    #[must_use]
    pub const fn is_new_flow(self) -> bool {
        self.0 & Self::NEW != 0
    }

    /// Twenty bits of the flow's hash that neither choose the slot nor the way.
    #[inline(always)]
    #[must_use]
    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32 & 0x000f_ffff
    }
}

/// Picks the backend and keeps the flow table up to date.
#[inline(always)]
pub fn pick<W: Steering>(world: &W, tuple: &Tuple, signals: Signals, service: Service) -> Pick {
    let hash = flow_hash(&world.settings().key, tuple);
    world.observe(Fact::Hash(hash));
    if !service.word.has(ServiceWord::TRACK) {
        return by_table(world, hash, service).counting(signals.has(Signals::OPENS));
    }
    let index = hash.bucket(world.settings().bucket_mask);
    let Some(bucket) = world.bucket(index) else { return Pick::none(DropReason::Internal) };
    let place = Place { bucket, index, way: 0 };
    let known = find(world, bucket, hash.fingerprint());
    if let Some((way, entry)) = known {
        world.observe(Fact::Entry { way, entry });
    }
    let mut repick = false;
    if let Some((way, entry)) = known
        && let Some(row) = row_of_service(world, entry.slot(), service.index)
    {
        let keeps = match row.load().state() {
            SlotState::Serving => true,
            SlotState::Draining => !signals.has(Signals::OPENS),
            SlotState::Dead | SlotState::Free => false,
        };
        if keeps {
            refresh(world, Place { way, ..place }, entry, signals);
            return Pick::new(entry.slot(), hash).counting(is_used_again(entry, signals));
        }
        repick = true;
    }
    let choice = by_table(world, hash, service);
    let Ok(slot) = choice.slot() else { return choice };
    let fresh = fresh(world, hash, slot, signals, tuple);
    let stored = match known {
        // Its backend is gone; or a leftover of a freed slot, or another service's flow with the same hash: the
        // entry names one flow only.
        Some((way, entry)) => {
            if repick {
                world.note(Event::Repicked);
            }
            overwrite(world, Place { way, ..place }, entry, fresh, tuple)
        }
        None => store(world, place, fresh, signals, tuple),
    };
    choice.counting(stored || signals.has(Signals::OPENS))
}

#[derive(Clone, Copy)]
struct Place<B> {
    bucket: B,
    index: u32,
    way: usize,
}

#[inline(always)]
fn row_of_service<W: Steering>(world: &W, slot: u16, service: u32) -> Option<&BackendRow> {
    world.backend(slot).filter(|row| u32::from(row.service) == service)
}

/// The Maglev table's choice. A row that is not of this service can only be seen if the table is inconsistent.
#[inline(always)]
fn by_table<W: Steering>(world: &W, hash: FlowHash, service: Service) -> Pick {
    if !service.word.has(ServiceWord::SERVE) {
        return Pick::none(DropReason::NoBackend);
    }
    let index = table_index(service.word.class(), hash.fingerprint());
    let slot = world.table_slot(service.word.first_entry(), index);
    world.observe(Fact::Table { index, slot });
    match slot {
        0 => Pick::none(DropReason::NoBackend),
        slot if row_of_service(world, slot, service.index).is_none() => Pick::none(DropReason::Internal),
        slot => Pick::new(slot, hash),
    }
}

/// The entry with this fingerprint. The fingerprint picks the way to look at first.
#[inline(always)]
fn find<W: Steering>(world: &W, bucket: W::Bucket, fingerprint: u32) -> Option<(usize, FlowEntry)> {
    for step in 0..WAYS {
        let way = (fingerprint as usize).wrapping_add(step) & (WAYS - 1);
        let entry = FlowEntry(world.entry(bucket, way));
        if entry.fingerprint() == fingerprint && !entry.is_empty() {
            return Some((way, entry));
        }
    }
    None
}

/// Whether the tuple is used again after the connection closed: a new flow at the same backend.
#[inline(always)]
const fn is_used_again(entry: FlowEntry, signals: Signals) -> bool {
    signals.has(Signals::OPENS) && entry.is(FlowEntry::CLOSING)
}

/// Brings a live entry up to date; writes only if something changed, which for most packets is nothing.
#[inline(always)]
fn refresh<W: Steering>(world: &W, place: Place<W::Bucket>, entry: FlowEntry, signals: Signals) {
    let mut state = entry.state();
    if is_used_again(entry, signals) {
        state &= !(FlowEntry::CLOSING | FlowEntry::CONFIRMED);
    } else if !signals.has(Signals::OPENS) {
        state |= FlowEntry::CONFIRMED;
        if signals.has(Signals::CLOSES) {
            state |= FlowEntry::CLOSING;
        } else if signals.has(Signals::DATA) {
            state &= !FlowEntry::CLOSING;
        }
    }
    let now = entry.with_state(state).with_tick(world.tick());
    if now != entry && !world.replace(place.bucket, place.way, entry.0, now.0) {
        world.note(Event::LostRace);
    }
}

#[inline(always)]
fn fresh<W: Steering>(world: &W, hash: FlowHash, slot: u16, signals: Signals, tuple: &Tuple) -> FlowEntry {
    let udp = if tuple.protocol == protocol::UDP { FlowEntry::UDP } else { 0 };
    let closing = if signals.has(Signals::CLOSES) { FlowEntry::CLOSING } else { 0 };
    FlowEntry::new(hash.fingerprint(), slot, world.tick(), udp | closing)
}

#[inline(always)]
fn overwrite<W: Steering>(
    world: &W,
    place: Place<W::Bucket>,
    old: FlowEntry,
    new: FlowEntry,
    tuple: &Tuple,
) -> bool {
    let stored = world.replace(place.bucket, place.way, old.0, new.0);
    if stored {
        world.note_tuple(place.index, place.way, tuple);
        world.note(Event::Stored);
    } else {
        world.note(Event::LostRace);
    }
    stored
}

/// Stores a new flow in the place that is worth least; `false` if it goes unstored, by a flood or a bucket full of
/// exceptions, or if it was not this packet that stored it.
#[inline(always)]
fn store<W: Steering>(
    world: &W,
    place: Place<W::Bucket>,
    new: FlowEntry,
    signals: Signals,
    tuple: &Tuple,
) -> bool {
    if !signals.has(Signals::OPENS) && tuple.protocol == protocol::TCP {
        world.note(Event::MidStreamMiss);
    }
    if !world.admits_flow() {
        world.note(Event::Guarded);
        return false;
    }
    let idle = world.idle();
    let mut victim = FlowEntry::EMPTY;
    let mut worth = 0u16;
    let mut way = usize::MAX;
    for step in 0..WAYS {
        let at = (new.fingerprint() as usize).wrapping_add(step) & (WAYS - 1);
        let found = FlowEntry(world.entry(place.bucket, at));
        if found.is_empty() {
            (way, victim) = (at, found);
            break;
        }
        if found.fingerprint() == new.fingerprint() {
            // Another CPU has stored the flow since this one looked for it.
            world.note(Event::LostRace);
            return false;
        }
        let score = evictability(found, new.tick(), idle);
        if score > worth {
            (way, victim, worth) = (at, found, score);
        }
    }
    if way == usize::MAX {
        world.note(Event::Unstored);
        return false;
    }
    let place = Place { way, ..place };
    if worth < EXPIRED && is_unmarked_exception(world, victim) {
        keep(world, place, victim);
        world.note(Event::Unstored);
        return false;
    }
    let stored = overwrite(world, place, victim, new, tuple);
    if stored && !victim.is_empty() {
        world.note(Event::Evicted);
    }
    stored
}

/// Whether the table of a live flow's own service would send it elsewhere. User space marks such flows after each table
/// switch, but until it has, only the entry knows.
#[inline(always)]
fn is_unmarked_exception<W: Steering>(world: &W, victim: FlowEntry) -> bool {
    if victim.is_empty() || victim.is(FlowEntry::CLOSING) {
        return false;
    }
    let Some(row) = world.backend(victim.slot()) else { return false };
    if matches!(row.load().state(), SlotState::Dead | SlotState::Free) {
        return false;
    }
    let Some(word) = world.service_word(u32::from(row.service)) else { return false };
    if !word.has(ServiceWord::TRACK) {
        return false;
    }
    let index = table_index(word.class(), victim.fingerprint());
    !word.has(ServiceWord::SERVE) || world.table_slot(word.first_entry(), index) != victim.slot()
}

/// Marks a flow as the exception that it is. If the entry has changed meanwhile, its flow is alive, and the next
/// newcomer looks again.
#[inline(always)]
fn keep<W: Steering>(world: &W, place: Place<W::Bucket>, entry: FlowEntry) {
    let marked = entry.with_state(entry.state() | FlowEntry::EXCEPTION);
    let kept = world.replace(place.bucket, place.way, entry.0, marked.0);
    world.note(if kept { Event::ExceptionKept } else { Event::LostRace });
}
