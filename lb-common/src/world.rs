//! What the packet's journey asks of the world around it.

use crate::backend::BackendRow;
use crate::counters::Event;
use crate::egress::EgressRow;
use crate::frame::PacketEdit;
use crate::idle::IdleTicks;
use crate::packet::Tuple;
use crate::pick::{Pick, Service, Signals};
use crate::reason::Outcome;
use crate::service::{ServiceKey4, ServiceKey6, ServiceWord, TableClass, VipRow};
use crate::settings::Settings;
use crate::trace::Fact;

/// The maps that steering needs. Everything takes `&self`: all state behind it is shared with other CPUs and with user
/// space anyway.
pub trait Steering {
    /// One bucket of the flow table.
    type Bucket: Copy;

    /// Load-time settings.
    fn settings(&self) -> &Settings;
    /// The published word of a service.
    fn service_word(&self, index: u32) -> Option<ServiceWord>;

    /// The slot at a place of a Maglev table; 0 is "none".
    fn table_slot(&self, first_entry: u32, index: u32) -> u16;
    /// A row of BACKENDS.
    fn backend(&self, slot: u16) -> Option<&BackendRow>;
    /// A bucket of the flow table.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// An entry of a bucket; `way` counts modulo the ways.
    fn entry(&self, bucket: Self::Bucket, way: usize) -> u64;
    /// Replaces an entry if it still is `old`.
    fn replace(&self, bucket: Self::Bucket, way: usize, old: u64, new: u64) -> bool;
    /// Remembers the 5-tuple of the flow stored at this place, for listings.
    fn note_tuple(&self, bucket: u32, way: usize, tuple: &Tuple);
    /// Coarse time for flow entries: see [`crate::flow::tick_of`].
    fn tick(&self) -> u16;
    /// After which idle time a flow of any service is over: the longest for each kind of flow.
    fn idle(&self) -> IdleTicks;
    /// Counts a new flow for the flood guard, and says whether it may be stored: see [`crate::guard`].
    fn admits_flow(&self) -> bool;

    /// Adds one to an event.
    fn note(&self, event: Event);

    /// Shows what was found out, to whom it may concern: by default nobody.
    #[inline(always)]
    fn observe(&self, _fact: Fact) {}
}

/// The packet and everything else on its way.
pub trait World: PacketEdit {
    /// Index of the interface that the frame came in by.
    fn ingress_ifindex(&self) -> u32;
    /// A row of the egress table.
    fn egress(&self, position: u32) -> Option<&EgressRow>;
    /// Index of the service with this key.
    fn service4(&self, key: &ServiceKey4) -> Option<u32>;
    /// Index of the service with this key.
    fn service6(&self, key: &ServiceKey6) -> Option<u32>;
    /// The published word of a service.
    fn service_word(&self, index: u32) -> Option<ServiceWord>;
    /// The VIP with this address.
    fn vip4(&self, address: u32) -> Option<VipRow>;
    /// The VIP with this address.
    fn vip6(&self, address: &[u32; 4]) -> Option<VipRow>;
    /// Whether this node answers for the VIPs of a lease now.
    fn lease_holds(&self, lease: u32) -> bool;
    /// A row of BACKENDS.
    fn backend(&self, slot: u16) -> Option<&BackendRow>;
    /// Picks the backend: [`crate::pick::pick`], which the BPF program calls as a function of its own, since the verifier
    /// then looks at it once and not for each shape of packet.
    fn pick(&self, tuple: &Tuple, signals: Signals, service: Service) -> Pick;
    /// Has the frame leave by the interface of this egress row, if the program ends with
    /// [`Action::Redirect`](crate::reason::Action::Redirect); `false` if there is no such interface.
    fn redirect(&self, position: u32) -> bool;
    /// Adds one packet to an outcome.
    fn count(&self, outcome: Outcome);
    /// Adds a packet to a slot, and a flow if it counts as one: [`Pick::is_new_flow`].
    fn count_slot(&self, slot: u16, bytes: usize, new_flow: bool);

    /// Shows what was found out, to whom it may concern: by default nobody.
    #[inline(always)]
    fn observe(&self, _fact: Fact) {}
}

/// Index into a table of this class by multiply-shift: as even as a division, and a third of its price.
#[inline(always)]
#[must_use]
pub const fn table_index(class: TableClass, fingerprint: u32) -> u32 {
    ((fingerprint as u64).wrapping_mul(class.entries() as u64) >> 32) as u32
}
