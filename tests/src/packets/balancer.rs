//! Balancers to put random frames through: maps filled as a daemon fills them, and as it never would.

use std::net::IpAddr;

use lb_common::backend::{BackendWord, SlotState};
use lb_common::idle::IdleTicks;
use lb_common::maglev::{Candidate, Turn, populate};
use lb_common::service::{ServiceWord, TableClass, VipRow};

use super::client::ip;
use super::random::Random;
use super::setup::{
    Backend, ELSEWHERE, INGRESS, LEASE_FAR, LEASE_HELD, LEASE_OVER, ORDINARY, ServiceSetup, Setup, word,
};
use super::wire::{TCP, UDP};

/// Services at most, so that each has a second place for its table.
const MOST_SERVICES: u16 = 12;

/// See [`balancer`].
pub const NOWHERE: u64 = 64;

/// Something that changes while packets flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A backend's word.
    Backend(u16, BackendWord),
    /// A service is steered by a new table at another place: index, word, table.
    Table(u16, ServiceWord, Vec<u16>),
}

/// The balancer of a seed. If that is a multiple of [`NOWHERE`], it does not know the interface that frames come in by.
#[must_use]
pub fn balancer(seed: u64) -> Setup {
    let mut random = Random::new(seed ^ 0xba1a_7ce8);
    let mtu = random.pick(&[1_500, 1_500, 1_500, 1_500, 576, 1_280, 4_000, 9_000, 200]);
    let mut setup = Setup::new(mtu);
    // Backends may be behind another interface, which may be unknown, or known and gone. Numbers of its own: kept cases
    // need the other ones as they were.
    let mut elsewhere = Random::new(seed ^ 0xe15e_3e4e);
    if !elsewhere.one_in(4) {
        setup = setup.with_elsewhere(elsewhere.pick(&[1_500, 1_500, 1_400, 576, 9_000]));
        if elsewhere.one_in(8) {
            setup.gone.push(ELSEWHERE);
        }
    }
    if seed.is_multiple_of(NOWHERE) {
        setup.egress.clear();
    }
    setup.buckets = random.pick(&[1, 2, 8, 64, 256, 256]);
    let services = 3 + random.below(u64::from(MOST_SERVICES) - 2) as u16;
    let mut slot = 1;
    for index in 0..services {
        setup = add_service(setup, &mut random, index, &mut slot);
    }
    for (address, lease, flags) in [
        ("192.0.2.30", LEASE_HELD, VipRow::PASS_UNKNOWN_PORT),
        ("2001:db8::30", LEASE_HELD, VipRow::PASS_UNKNOWN_PORT),
        ("192.0.2.40", LEASE_OVER, 0),
        ("2001:db8::40", LEASE_OVER, 0),
        ("192.0.2.41", LEASE_FAR, 0),
    ] {
        setup = setup.vip(ip(address), lease, flags);
    }
    // Now and then a VIP with services has lost its lease, or passes what it does not know.
    for (_, row) in &mut setup.vips {
        if random.one_in(12) {
            row.lease = LEASE_OVER;
        }
        if random.one_in(12) {
            row.flags = VipRow::PASS_UNKNOWN_PORT;
        }
    }
    // Of some balancers the idle times are not known; the generator of changes makes entries up to 1,100 ticks old.
    if !random.one_in(4) {
        let mut ticks = || random.below(1_000) as u16 + 1;
        setup.idle = IdleTicks::new(ticks(), ticks(), ticks(), ticks());
    }
    setup
}

fn add_service(mut setup: Setup, random: &mut Random, index: u16, slot: &mut u16) -> Setup {
    let v4 = index.is_multiple_of(2);
    // Few addresses, so that VIPs have several services.
    let vip = if v4 {
        IpAddr::from([192, 0, 2, 10 + random.below(3) as u8])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10 + random.below(3) as u16])
    };
    let protocol = random.pick(&[TCP, TCP, UDP]);
    let flags = match random.below(16) {
        0 => ORDINARY & !ServiceWord::SERVE,
        1 => 0,
        2..=4 => ORDINARY & !ServiceWord::TRACK,
        _ => ORDINARY,
    };
    setup = setup.service(vip, 80 + index, protocol, flags, &[]);
    let l2 = random.one_in(3);
    // One service in three has its backends in the other family, which only a tunnel leads to.
    let crossed = !l2 && index % 3 == 2;
    let count = 1 + random.below(5) as u16;
    for _ in 0..count {
        setup = add_backend(setup, random, *slot, v4 != crossed, l2);
        *slot += 1;
    }
    let table = table_of(&setup, index, |_| true);
    let service = setup.services.last_mut().expect("just added");
    service.table = match random.below(24) {
        // What a daemon never writes: nobody, somebody else's slot, slots without a row.
        0 => vec![0],
        1 => vec![1, 63],
        _ => table,
    };
    setup
}

fn add_backend(setup: Setup, random: &mut Random, slot: u16, v4: bool, l2: bool) -> Setup {
    let (address, source) = if v4 {
        (IpAddr::from([10, 0, 0, slot as u8]), ip("10.0.0.254"))
    } else {
        (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, slot]), ip("fd00::ffff"))
    };
    let word = any_word(&setup, random, slot);
    let mut setup = setup.backend(slot, address, (!l2).then_some(source));
    if let Some(backend) = setup.backends.last_mut() {
        backend.word = word;
    }
    setup
}

/// A word that a slot may have: serving, mostly.
fn any_word(setup: &Setup, random: &mut Random, slot: u16) -> BackendWord {
    let state = match random.below(12) {
        0 => SlotState::Draining,
        1 => SlotState::Dead,
        _ => SlotState::Serving,
    };
    match random.below(24) {
        0 => BackendWord::new([0; 6], INGRESS as u16, state),
        1 => BackendWord::new(word(slot, state).mac(), ELSEWHERE as u16, state),
        2..=5 if setup.egress.len() > 1 => BackendWord::new(word(slot, state).mac(), ELSEWHERE as u16, state),
        _ => word(slot, state),
    }
}

/// The Maglev table of a service for those of its backends that `takes` lets in.
#[must_use]
pub fn table_of(setup: &Setup, service: u16, takes: impl Fn(&Backend) -> bool) -> Vec<u16> {
    let class = TableClass::Small;
    let mut turns: Vec<Turn> = (setup.backends.iter())
        .filter(|backend| backend.spec.service == service && takes(backend))
        .map(|backend| {
            let (address, slot) = (backend.spec.address, backend.slot);
            Turn::new(Candidate { address, weight: 1 + u32::from(slot % 3), slot }, class)
        })
        .collect();
    let mut table = vec![0; class.entries() as usize];
    populate(class, &mut turns, &mut table);
    table
}

/// A change of this balancer's pools, which `setup` then has too. As a daemon does it, a new table goes to another place
/// before the service's word names it.
pub fn change(setup: &mut Setup, random: &mut Random) -> Option<Change> {
    if setup.backends.is_empty() {
        return None;
    }
    if random.one_in(2) {
        let at = random.below(setup.backends.len() as u64) as usize;
        let word = any_word(setup, random, setup.backends[at].slot);
        let backend = &mut setup.backends[at];
        backend.word = word;
        return Some(Change::Backend(backend.slot, backend.word));
    }
    let index = random.below(setup.services.len() as u64) as u16;
    let all = random.one_in(3);
    let left_out = random.next();
    let table = table_of(setup, index, |backend| all || left_out >> backend.slot & 1 == 0);
    let flags = if random.one_in(16) { ORDINARY & !ServiceWord::SERVE } else { ORDINARY };
    let service = &mut setup.services[usize::from(index)];
    let unit = if service.word.unit() == u32::from(index) { index + MOST_SERVICES } else { index };
    let tracks = service.word.has(ServiceWord::TRACK);
    let flags = if tracks { flags } else { flags & !ServiceWord::TRACK };
    let generation = service.word.generation().wrapping_add(1);
    service.word = ServiceWord::new(u32::from(unit), TableClass::Small, flags, generation);
    service.table.clone_from(&table);
    Some(Change::Table(index, service.word, table))
}

impl ServiceSetup {
    /// Whether the data path remembers its flows.
    #[must_use]
    pub const fn tracks(&self) -> bool {
        self.word.has(ServiceWord::TRACK)
    }
}
