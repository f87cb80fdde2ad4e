//! Any bytes as a row of frames and events through the packet's journey in plain memory.
//!
//! The first byte chooses the maps. Then comes one step after another: a byte that says which kind, and what it needs.

use std::cell::RefCell;
use std::collections::BTreeMap;

use lb_common::backend::SlotState;
use lb_common::flow::{FlowEntry, TICKS};
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;
use lb_common::reason::Action;
use lb_common::service::{ServiceWord, VipRow};

use crate::packets::client::{ACK, FIN, RST, SYN, ip};
use crate::packets::seen::hex;
use crate::packets::setup::{BACKENDS, LEASE_FAR, LEASE_HELD, LEASE_OVER, ORDINARY, mac_bits, word};
use crate::packets::wire::{OWN, ROUTER, TCP, Tag, UDP};
use crate::packets::{Client, HostWorld, Probe, Seen, Setup};

/// Steps of one input: a flow table of a few buckets is full long before.
const MAX_STEPS: usize = 256;
/// Buckets of the flow table: few, so that flows meet in them.
const BUCKETS: u32 = 4;
/// Idle times, which a few steps of the clock are enough for.
const IDLE: IdleTicks = IdleTicks::new(400, 20, 100, 50);
/// The port of the services whose backends are of the other family.
const CROSSED_PORT: u16 = 82;
/// Slots of [`setup`], and slot 0.
const SLOTS: u16 = 10;
/// What an outer header says of an IPv4 packet, and of an IPv6 packet (RFC 2003, RFC 2473).
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
/// Different maps that [`setup`] makes.
const SETUPS: u8 = 32;
/// What an answer may be longer than its question: a neighbour advertisement has an option that a solicitation may lack.
const LONGEST_SHORT_ANSWER: usize = 14 + 8 + 40 + 32;

/// Runs the target.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    thread_local! {
        // Maps take longer to make than all steps take together.
        static WORLDS: RefCell<BTreeMap<u8, (Setup, HostWorld)>> = const { RefCell::new(BTreeMap::new()) };
    }
    let mut input = Input { bytes };
    let choice = input.byte() % SETUPS;
    WORLDS.with_borrow_mut(|worlds| {
        let (setup, world) = worlds.entry(choice).or_insert_with(|| {
            let setup = setup(choice);
            let world = HostWorld::new(&setup);
            (setup, world)
        });
        reset(world, setup);
        steps(world, setup, input);
    });
}

/// As [`HostWorld::new`] made it; counters go on, since only differences are looked at.
fn reset(world: &mut HostWorld, setup: &Setup) {
    world.tick.set(1_000);
    world.headroom.set(None);
    for (bucket, way) in (0..BUCKETS).flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way))) {
        world.put_entry(bucket, way, 0);
    }
    for service in &setup.services {
        world.put_service(u32::from(service.index), service.word.0);
    }
    world.put_backend(0, 0);
    for backend in &setup.backends {
        world.put_backend(backend.slot, backend.word.0);
    }
}

fn steps(world: &mut HostWorld, setup: &Setup, mut input: Input<'_>) {
    for _ in 0..MAX_STEPS {
        if input.bytes.is_empty() {
            return;
        }
        let kind = input.byte();
        match kind % 16 {
            0 => world.tick.set((world.tick.get() + u16::from(input.byte())) % TICKS),
            1 => {
                let (slot, state) = (u16::from(input.byte()) % SLOTS, input.byte());
                let states = [SlotState::Free, SlotState::Serving, SlotState::Draining, SlotState::Dead];
                world.put_backend(slot, word(slot, states[usize::from(state) % 4]).0);
            }
            2 => {
                let (bucket, way) = (u32::from(input.byte()) % BUCKETS, usize::from(input.byte()) % WAYS);
                mark(world, bucket, way, input.byte());
            }
            3 => {
                let (index, flags) = (input.byte(), input.byte());
                if let Some(service) = setup.services.get(usize::from(index)) {
                    let word = ServiceWord::new(service.word.unit(), service.word.class(), flags, 1);
                    world.put_service(u32::from(service.index), word.0);
                }
            }
            4 => world.headroom.set(Some(usize::from(input.byte()))),
            5..=7 => {
                let length = usize::from(input.byte()) * if kind >= 128 { 16 } else { 1 };
                frame(world, setup, input.take(length));
            }
            8 => {
                let length = usize::from(input.byte());
                let ethertype =
                    [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]][usize::from(kind >> 6)];
                frame(world, setup, &[&OWN[..], &ROUTER, &ethertype, input.take(length)].concat());
            }
            _ => {
                let mut packet = client(&mut input).frame();
                damage(&mut input, &mut packet);
                frame(world, setup, &packet);
            }
        }
    }
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// The next byte; 0 behind the end.
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }
}

const VIPS: [&str; 6] =
    ["192.0.2.10", "2001:db8::10", "192.0.2.20", "2001:db8::20", "192.0.2.40", "192.0.2.99"];

/// Slot 1 `ipip`, 2 `ipip` over IPv6, 3 `l2`, 4 `l2` over IPv6, 5 and 6 share a service, 7 is of an untracked one; 8 is
/// IPv4 in IPv6, 9 IPv6 in IPv4.
fn setup(choice: u8) -> Setup {
    let mtu = [1_500, 576, 9_000, 1_280][usize::from(choice & 3)];
    let (from4, from6) = (Some(ip("10.0.0.254")), Some(ip("fd00::ffff")));
    let mut setup = Setup::new(mtu)
        .service(ip(VIPS[0]), 80, TCP, ORDINARY, &[1])
        .backend(1, ip("10.0.0.1"), from4)
        .service(ip(VIPS[1]), 80, TCP, ORDINARY, &[2])
        .backend(2, ip("fd00::2"), from6)
        .service(ip(VIPS[2]), 80, TCP, ORDINARY, &[3])
        .backend(3, ip("10.0.0.3"), None)
        .service(ip(VIPS[3]), 80, TCP, ORDINARY, &[4])
        .backend(4, ip("fd00::4"), None)
        .service(ip(VIPS[0]), 53, UDP, ORDINARY, &[5, 6])
        .backend(5, ip("10.0.0.5"), from4)
        .backend(6, ip("10.0.0.6"), from4)
        .service(ip(VIPS[1]), 53, UDP, ORDINARY & !ServiceWord::TRACK, &[7])
        .backend(7, ip("fd00::7"), from6)
        .service(ip(VIPS[0]), CROSSED_PORT, TCP, ORDINARY, &[8])
        .backend(8, ip("fd00::8"), from6)
        .service(ip(VIPS[1]), CROSSED_PORT, TCP, ORDINARY, &[9])
        .backend(9, ip("10.0.0.9"), from4)
        .vip(ip(VIPS[4]), if choice & 4 == 0 { LEASE_OVER } else { LEASE_FAR }, 0);
    if choice & 8 != 0 {
        setup = setup.vip(ip(VIPS[0]), LEASE_HELD, VipRow::PASS_UNKNOWN_PORT);
    }
    if choice & 16 != 0 {
        setup.egress[0].ifindex += 1;
    }
    setup.buckets = BUCKETS;
    setup.idle = IDLE;
    setup
}

/// A packet that is in order.
fn client(input: &mut Input) -> Client {
    let (to, shape, port, ttl) = (input.byte(), input.byte(), input.byte(), input.byte());
    let vip = VIPS[usize::from(to) % VIPS.len()];
    let from = if vip.contains(':') { "2001:db8:c::7" } else { "198.51.100.7" };
    let mut packet = Client::new(from, vip).port(1_024 + u16::from(port));
    packet.to_port = [80, 53, 81, CROSSED_PORT][usize::from(shape) % 4];
    let octets = usize::from(ttl) * 8;
    packet = if shape & 4 != 0 {
        packet.udp(octets)
    } else {
        packet.tcp([SYN, ACK, ACK | FIN, RST][usize::from(shape >> 6)], octets)
    };
    packet.ttl = if shape & 8 != 0 { ttl } else { 64 };
    if shape & 16 != 0 {
        packet.tags.push(Tag::Customer(u16::from(ttl)));
    }
    if shape & 32 != 0 {
        packet.tags.push(Tag::Service(u16::from(port)));
    }
    packet
}

/// Up to three octets become others, and maybe the end is cut off.
fn damage(input: &mut Input, packet: &mut Vec<u8>) {
    let plan = input.byte();
    for _ in 0..plan % 4 {
        let (at, value) = (usize::from(input.byte()), input.byte());
        if let Some(octet) = packet.get_mut(at) {
            *octet = value;
        }
    }
    if plan & 0x80 != 0 {
        let length = usize::from(input.byte());
        packet.truncate(length);
    }
}

/// What user space does to entries: marks them as exceptions, or removes them.
fn mark(world: &mut HostWorld, bucket: u32, way: usize, what: u8) {
    let entry = FlowEntry(Probe::bucket(world, bucket)[way]);
    if what == 0 {
        world.put_entry(bucket, way, 0);
    } else if !entry.is_empty() {
        world.put_entry(bucket, way, entry.with_state(entry.state() | FlowEntry::EXCEPTION).0);
    }
}

fn table(world: &HostWorld) -> Vec<u64> {
    (0..BUCKETS).flat_map(|bucket| Probe::bucket(world, bucket)).collect()
}

fn frame(world: &mut HostWorld, setup: &Setup, frame: &[u8]) {
    let before = table(world);
    let seen = world.run(frame);
    let result = holds(setup, frame, &seen).and_then(|()| {
        let after = table(world);
        let mut changed = before.iter().zip(&after).filter(|(before, after)| before != after);
        let result = changed.next().map_or(Ok(()), |(before, after)| {
            if seen.action == Action::Pass {
                return Err("it passed, and yet a flow changed".to_owned());
            }
            is_legal(FlowEntry(*before), FlowEntry(*after), world.tick.get(), &seen)
        });
        result.and_then(|()| changed.next().map_or(Ok(()), |_| Err("two flows changed".to_owned())))
    });
    if let Err(fault) = result {
        panic!("{fault}: {seen:?} for {}", hex(frame));
    }
}

/// Whether an entry may have become another one by a packet.
fn is_legal(before: FlowEntry, after: FlowEntry, now: u16, seen: &Seen) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{what}: {before:?} became {after:?}"));
    if after.is_empty() {
        return fault("a packet removed a flow");
    }
    if !(1..=BACKENDS).contains(&u32::from(after.slot())) {
        return fault("no such slot");
    }
    if seen.events.contains(&"flow_exception_kept") {
        // A newcomer found that only this entry knows where its flow goes: it is marked, and nothing else of it changes.
        let marked = before.with_state(before.state() | FlowEntry::EXCEPTION);
        return if after == marked { Ok(()) } else { fault("more changed than the mark of an exception") };
    }
    if after.tick() != now % TICKS {
        return fault("written with another time than now");
    }
    if after.is(FlowEntry::REMOTE) {
        return fault("no peer sent it");
    }
    let same = before.fingerprint() == after.fingerprint();
    if !same && before.is(FlowEntry::EXCEPTION) && !IDLE.is_over(before, now % TICKS) {
        return fault("a live exception was evicted");
    }
    // A flow that is picked anew may get the table's choice, which is what it had: then it is none any more.
    let kept = same && before.slot() == after.slot() && !seen.events.contains(&"flow_repicked");
    if kept && before.is(FlowEntry::EXCEPTION) && !after.is(FlowEntry::EXCEPTION) {
        return fault("an exception is none any more");
    }
    Ok(())
}

/// What must hold of any frame, whatever the maps are.
fn holds(setup: &Setup, frame: &[u8], seen: &Seen) -> Result<(), String> {
    let [outcome] = seen.outcomes[..] else { return Err("not exactly one outcome".to_owned()) };
    let slots: u64 = seen.slots.values().map(|[packets, _, _]| packets).sum();
    if slots != u64::from(outcome == "forwarded" || outcome == "redirected") {
        return Err("the counters of slots are wrong".to_owned());
    }
    if seen.action == Action::Pass && seen.frame != frame {
        return Err("it passed, but changed".to_owned());
    }
    if matches!(seen.action, Action::Pass | Action::Drop) {
        return Ok(());
    }
    let Some(source) = seen.frame.get(6..12) else { return Err("sent without a header".to_owned()) };
    let is_own = |bits: u64| bits.to_le_bytes()[..6] == *source;
    if !setup.egress.iter().any(|row| is_own(row.mac_bits)) || !is_own(mac_bits(OWN)) {
        return Err("sent from another MAC".to_owned());
    }
    if slots == 1 { forwards_what_came(frame, &seen.frame) } else { is_no_amplifier(frame, &seen.frame) }
}

fn is_no_amplifier(frame: &[u8], out: &[u8]) -> Result<(), String> {
    if out.len() <= frame.len().max(LONGEST_SHORT_ANSWER) {
        return Ok(());
    }
    Err("the answer is longer than what was asked".to_owned())
}

/// Offset of the network header behind up to two tags.
fn network(frame: &[u8]) -> usize {
    let tagged = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    match (tagged(12), tagged(16)) {
        (true, true) => 22,
        (true, false) => 18,
        _ => 14,
    }
}

/// Ethertype and outer header are of one family, and the outer header's protocol is that of the packet inside.
fn says_what_it_carries(out: &[u8], outer: usize, inner_version: u8) -> Result<(), String> {
    let (ethertype, version, protocol) = match outer {
        20 => ([0x08, 0x00], 4, 9),
        40 => ([0x86, 0xdd], 6, 6),
        _ => return Ok(()),
    };
    let header = &out[2..];
    let carried = if inner_version == 4 { IPIP } else { IPV6_IN_IP };
    if out[..2] != ethertype || header[0] >> 4 != version || header[protocol] != carried {
        return Err(format!("{} is no outer header of IPv{inner_version}", hex(out)));
    }
    Ok(())
}

/// Behind the link header and whatever was put in front, only TTL and header checksum differ, and tags not at all.
fn forwards_what_came(frame: &[u8], out: &[u8]) -> Result<(), String> {
    let at = network(frame);
    let outer = out.len().checked_sub(frame.len()).ok_or("it got shorter")?;
    if ![0, 20, 40].contains(&outer) {
        return Err(format!("{outer} octets were added"));
    }
    if out[12..at - 2] != frame[12..at - 2] {
        return Err("its tags changed".to_owned());
    }
    let (mut inner, came) = (out[at + outer..].to_vec(), &frame[at..]);
    says_what_it_carries(&out[at - 2..at + outer], outer, came[0] >> 4)?;
    if outer == 0 && out[at - 2..at] != frame[at - 2..at] {
        return Err("its ethertype changed".to_owned());
    }
    let ttl = if came[0] >> 4 == 4 { 8 } else { 7 };
    if inner[ttl] + 1 != came[ttl] {
        return Err("its TTL did not go down by one".to_owned());
    }
    inner[ttl] = came[ttl];
    if ttl == 8 {
        inner[10..12].copy_from_slice(&came[10..12]);
    }
    if inner == came { Ok(()) } else { Err("what is inside changed".to_owned()) }
}
