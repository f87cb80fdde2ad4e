//! What the maps hold, described once for both worlds.

use std::net::IpAddr;

use lb_common::backend::{BackendWord, RowSpec, SlotState};
use lb_common::egress::EgressRow;
use lb_common::idle::IdleTicks;
use lb_common::packet::Family;
use lb_common::service::{LEASE_FOR_EVER, ServiceWord, TableClass, VipRow};

use super::client::Route;
use super::wire::{self, Mac};

/// Seed of the flow hash in all packet tests.
pub const SEED: [u64; 2] = [0x5eed, 0xfa1e];
/// Services that the maps hold.
pub const SERVICES: u32 = 16;
/// Backends that the maps hold; slots from 1 to this one are there in any case.
pub const BACKENDS: u32 = 64;
/// Units of Maglev tables.
pub const UNITS: u32 = 24;
/// The interface that frames come in by: in the kernel's test runs the loopback, which always is the first.
pub const INGRESS: u32 = 1;
/// Another interface, by which backends are reached where a setup has it ([`Setup::with_elsewhere`]).
pub const ELSEWHERE: u32 = 2;
/// Row of a lease that never ends.
pub const LEASE_HELD: u32 = 0;
/// Row of a lease that ended long ago.
pub const LEASE_OVER: u32 = 1;
/// Row of a lease that ends long after this machine is scrap.
pub const LEASE_FAR: u32 = 2;

/// The maps of a balancer.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Interfaces, each in the row of its index. Frames come in by the first.
    pub egress: Vec<EgressRow>,
    /// Indexes of interfaces that have a row still, but are gone.
    pub gone: Vec<u32>,
    /// Services.
    pub services: Vec<ServiceSetup>,
    /// VIPs by address alone.
    pub vips: Vec<(IpAddr, VipRow)>,
    /// Lease deadlines by row.
    pub leases: Vec<u64>,
    /// Slots.
    pub backends: Vec<Backend>,
    /// Buckets of the flow table, a power of two.
    pub buckets: u32,
    /// New flows stored in a second on a CPU at most; 0: any number.
    pub new_flows_per_second: u32,
    /// After which idle time flows are over.
    pub idle: IdleTicks,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceSetup {
    /// VIP.
    pub vip: IpAddr,
    /// Port.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Its index.
    pub index: u16,
    /// The published word.
    pub word: ServiceWord,
    /// Its table; shorter than the class says: repeated to its end.
    pub table: Vec<u16>,
}

/// One slot.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// Its number.
    pub slot: u16,
    /// Its row.
    pub spec: RowSpec,
    /// Its word.
    pub word: BackendWord,
}

/// Flags of an ordinary service.
pub const ORDINARY: u8 = ServiceWord::PUBLISHED | ServiceWord::SERVE | ServiceWord::TRACK;

/// The next hop's MAC of a slot.
#[must_use]
pub const fn next_hop(slot: u16) -> Mac {
    let [high, low] = slot.to_be_bytes();
    [0x02, 0xbe, 0x00, 0x00, high, low]
}

impl Setup {
    /// One interface with this MTU and nothing else.
    #[must_use]
    pub fn new(mtu: u32) -> Self {
        let own = EgressRow { ifindex: INGRESS, mtu, mac_bits: mac_bits(wire::OWN) };
        Self {
            egress: vec![own],
            gone: Vec::new(),
            services: Vec::new(),
            vips: Vec::new(),
            leases: vec![LEASE_FOR_EVER, 1, u64::MAX - 1],
            backends: Vec::new(),
            buckets: 64,
            new_flows_per_second: 0,
            idle: IdleTicks::default(),
        }
    }

    /// Adds another interface with this MTU.
    #[must_use]
    pub fn with_elsewhere(mut self, mtu: u32) -> Self {
        self.egress.push(EgressRow { ifindex: ELSEWHERE, mtu, mac_bits: mac_bits(wire::ELSEWHERE) });
        self
    }

    /// Has the packets of a slot leave by this interface.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn by(mut self, slot: u16, ifindex: u32) -> Self {
        let backend =
            self.backends.iter_mut().find(|backend| backend.slot == slot).expect("a slot of the setup");
        let word = backend.word;
        backend.word = BackendWord::new(word.mac(), ifindex as u16, word.state());
        self
    }

    /// The row of the interface that the packets of a slot leave by, if that is another one than they came in by, is
    /// known and there.
    #[must_use]
    pub fn elsewhere(&self, backend: &Backend) -> Option<&EgressRow> {
        let position = u32::from(backend.word.egress());
        let other = self.egress.iter().find(|row| EgressRow::position(row.ifindex) == position);
        other.filter(|row| row.ifindex != INGRESS && !self.gone.contains(&row.ifindex))
    }

    /// Adds a service at a small table of its own, with a VIP row. `table` is repeated over the whole table.
    #[must_use]
    pub fn service(mut self, vip: IpAddr, port: u16, protocol: u8, flags: u8, table: &[u16]) -> Self {
        let index = u16::try_from(self.services.len()).expect("few services");
        let word = ServiceWord::new(u32::from(index), TableClass::Small, flags, 0);
        self.services.push(ServiceSetup { vip, port, protocol, index, word, table: table.to_vec() });
        if self.vips.iter().all(|(address, _)| *address != vip) {
            self.vips.push((vip, VipRow { lease: LEASE_HELD, flags: 0 }));
        }
        self
    }

    /// Adds a backend of the service that was added last. `source` makes it `ipip`.
    #[must_use]
    pub fn backend(mut self, slot: u16, address: IpAddr, source: Option<IpAddr>) -> Self {
        let service = u16::try_from(self.services.len() - 1).expect("few services");
        let vip = self.services.last().expect("a service").vip;
        let spec = RowSpec {
            service,
            l2: source.is_none(),
            inner: Family::of(vip),
            address,
            source: source.unwrap_or(address),
        };
        self.backends.push(Backend { slot, spec, word: word(slot, SlotState::Serving) });
        self
    }

    /// Adds an address without a service.
    #[must_use]
    pub fn vip(mut self, vip: IpAddr, lease: u32, flags: u32) -> Self {
        self.vips.retain(|(address, _)| *address != vip);
        self.vips.push((vip, VipRow { lease, flags }));
        self
    }

    /// How packets go to a slot.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn route(&self, slot: u16, label: u32) -> Route {
        let backend = self.backends.iter().find(|backend| backend.slot == slot).expect("a slot of the setup");
        let RowSpec { l2, source, address, .. } = backend.spec;
        let redirected = self.elsewhere(backend).is_some();
        Route { mac: backend.word.mac(), outer: (!l2).then_some((source, address)), label, redirected }
    }
}

/// The word of a slot with its usual next hop in this state.
#[must_use]
pub const fn word(slot: u16, state: SlotState) -> BackendWord {
    BackendWord::new(next_hop(slot), INGRESS as u16, state)
}

/// A MAC, first octet lowest.
#[must_use]
pub fn mac_bits(mac: Mac) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

impl ServiceSetup {
    /// The whole table.
    #[must_use]
    pub fn full_table(&self) -> Vec<u16> {
        let entries = self.word.class().entries() as usize;
        self.table.iter().copied().cycle().take(if self.table.is_empty() { 0 } else { entries }).collect()
    }
}

/// Whom a decapsulator trusts, and for what.
#[derive(Clone, Debug, Default)]
pub struct DecapSetup {
    /// Balancers: address and prefix length.
    pub from: Vec<(IpAddr, u32)>,
    /// VIPs.
    pub vips: Vec<IpAddr>,
}
