//! The balancer's maps as user space works on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aya::Ebpf;
use aya::maps::{DevMap, HashMap, Map, MapData};
use lb_common::backend::BackendRow;
use lb_common::counters::{COUNTERS_PER_CPU, SlotCounter};
use lb_common::egress::{EgressFaults, EgressRow};
use lb_common::guard::{GUARD_WORDS, IDLE_WORD};
use lb_common::idle::IdleTicks;
use lb_common::limits::{MAX_EGRESS, WAYS};
use lb_common::service::{LEASE_FOR_EVER, LEASE_ROW_FOR_EVER};
use lb_common::{BackendWord, ServiceWord};
use lb_core::config::Protocol;
use lb_core::plan::{MapOp, Region, ServiceKey, Snapshot, VipFlags};
use lb_core::sweep::clear_slots;

use super::layout::{Layout, Meta};
use super::mapped::Mapped;

/// How long packets may be on their way, where the kernel can't be asked to wait for them.
const GRACE_WITHOUT_MEMBARRIER: Duration = Duration::from_millis(50);

/// All maps of the balancer.
pub struct Tables {
    layout: Layout,
    services4: HashMap<MapData, [u8; 8], u32>,
    services6: HashMap<MapData, [u8; 20], u32>,
    vips4: HashMap<MapData, [u8; 4], [u32; 2]>,
    vips6: HashMap<MapData, [u8; 16], [u32; 2]>,
    services: Mapped<u64>,
    leases: Arc<Mapped<u64>>,
    backends: Mapped<BackendRow>,
    egress: Mapped<EgressRow>,
    devices: DevMap<MapData>,
    devices_id: u32,
    faults: Mapped<EgressFaults>,
    maglev: Mapped<[u16; 32]>,
    flows: Mapped<[u64; WAYS]>,
    tuples: Mapped<[u64; 5]>,
    counters: Mapped<u64>,
    slot_counters: Mapped<SlotCounter>,
    guard: Mapped<[u64; GUARD_WORDS]>,
    meta: Mapped<Meta>,
}

impl Tables {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// If a map is missing, of another kind, or can't be mapped.
    pub fn new(ebpf: &mut Ebpf, layout: Layout) -> Result<Self> {
        let entries = |name: &str| {
            let shape = layout.shapes().into_iter().find(|shape| shape.name == name);
            shape.map(|shape| shape.entries).ok_or_else(|| anyhow!("no map {name} in the layout"))
        };
        let mut take =
            |name: &str| ebpf.take_map(name).ok_or_else(|| anyhow!("the BPF object has no map {name}"));
        macro_rules! array {
            ($name:literal) => {{
                let Map::Array(map) = take($name)? else { return Err(anyhow!("map {} is no array", $name)) };
                Mapped::new(map.fd(), entries($name)?).context(concat!("map ", $name))?
            }};
        }
        let devices = take("DEVICES")?;
        let devices_id = match &devices {
            Map::DevMap(map) => map.info()?.id(),
            _ => return Err(anyhow!("map DEVICES holds no interfaces")),
        };
        Ok(Self {
            layout,
            services4: HashMap::try_from(take("SERVICES4")?)?,
            services6: HashMap::try_from(take("SERVICES6")?)?,
            vips4: HashMap::try_from(take("VIPS4")?)?,
            vips6: HashMap::try_from(take("VIPS6")?)?,
            services: array!("SERVICES"),
            leases: Arc::new(array!("LEASES")),
            backends: array!("BACKENDS"),
            egress: array!("EGRESS"),
            devices: DevMap::try_from(devices)?,
            devices_id,
            faults: array!("FAULTS"),
            maglev: array!("MAGLEV"),
            flows: array!("FLOWS"),
            tuples: array!("FLOW_TUPLES"),
            counters: array!("COUNTERS"),
            slot_counters: array!("SLOT_COUNTERS"),
            guard: array!("GUARD"),
            meta: array!("META"),
        })
    }

    /// Sizes of the maps.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Until when VIPs are answered for, by row: nanoseconds of CLOCK_BOOTTIME. Row 0 is not to be touched.
    #[must_use]
    pub fn leases(&self) -> Arc<Mapped<u64>> {
        Arc::clone(&self.leases)
    }

    /// Marks fresh maps as complete.
    pub fn complete(&self, meta: Meta) {
        self.leases.word(LEASE_ROW_FOR_EVER as usize).store(LEASE_FOR_EVER, Ordering::Release);
        self.meta.write(0, &meta, 1);
        // The version is in the first word, which goes last.
        self.meta.write(0, &meta, 0);
    }

    /// What a later daemon must know.
    #[must_use]
    pub fn meta(&self) -> Meta {
        self.meta.read(0)
    }

    /// The flow table, entry by entry.
    #[must_use]
    pub const fn flows(&self) -> &Mapped<[u64; WAYS]> {
        &self.flows
    }

    /// The words of the flow table.
    #[must_use]
    pub fn flow_words(&self) -> &[AtomicU64] {
        self.flows.all_words()
    }

    /// The 5-tuples of flows, if they are kept.
    #[must_use]
    pub fn tuples(&self) -> Option<&Mapped<[u64; 5]>> {
        self.layout.flow_tuples.then_some(&self.tuples)
    }

    /// Publishes an interface: as one that frames come in by, and as one that they may be redirected to.
    ///
    /// # Errors
    /// If the kernel does not take it as a target of redirection; frames that come in by it are steered all the same.
    pub fn publish_interface(&mut self, row: &EgressRow) -> Result<()> {
        let position = EgressRow::position(row.ifindex);
        if self.egress(position) != *row {
            self.egress.write(position as usize, row, 0);
        }
        // An interface that went takes its place in the kernel's map with it, even if it came back under its old index.
        if self.devices.get(position, 0).map_or(0, |device| device.if_index) == row.ifindex {
            return Ok(());
        }
        let set = self.devices.set(position, row.ifindex, None, 0);
        set.context("frames cannot be redirected to it")
    }

    /// Takes all interfaces away whose indexes are not among these.
    pub fn keep_interfaces(&mut self, ifindexes: &BTreeSet<u32>) {
        for position in 0..MAX_EGRESS {
            let row = self.egress(position);
            if row.ifindex != 0 && !ifindexes.contains(&row.ifindex) {
                self.egress.write(position as usize, &EgressRow::default(), 0);
                // Index 0 empties the place, which fails only if there is no such place.
                let _ = self.devices.set(position, 0, None, 0);
            }
        }
    }

    /// An interface as published.
    #[must_use]
    pub fn egress(&self, position: u32) -> EgressRow {
        self.egress.read(position as usize)
    }

    /// What became of frames that were redirected to an interface, since the maps were made.
    #[must_use]
    pub fn faults(&self, ifindex: u32) -> EgressFaults {
        self.faults.read(EgressRow::position(ifindex) as usize)
    }

    /// The kernel's number of the map that frames are redirected by.
    #[must_use]
    pub const fn devices_id(&self) -> u32 {
        self.devices_id
    }

    /// What packets of new flows were told last.
    #[must_use]
    pub fn idle(&self) -> IdleTicks {
        IdleTicks(self.guard.word(IDLE_WORD).load(Ordering::Acquire))
    }

    /// Tells packets of new flows after which idle time others may go.
    pub fn set_idle(&self, idle: IdleTicks) {
        for cpu in 0..self.guard.len() {
            self.guard.word(cpu * GUARD_WORDS + IDLE_WORD).store(idle.0, Ordering::Release);
        }
    }

    /// Performs operations in order.
    ///
    /// `done` is called after each, so that a mirror of the maps never runs ahead of them; `retire` before slots are
    /// freed, with what they counted, which is then cleared.
    ///
    /// # Errors
    /// If the kernel refuses one; those before it are done.
    pub fn perform(
        &mut self,
        ops: &[MapOp],
        mut retire: impl FnMut(&[(u16, SlotCounter)]),
        mut done: impl FnMut(&MapOp),
    ) -> Result<()> {
        let (mut at, mut retired) = (0, 0);
        while let Some(op) = ops.get(at) {
            let run = ops[at..].iter().take_while(|op| matches!(op, MapOp::SweepSlot { .. })).count();
            if run > 0 {
                let slots = ops[at..at + run].iter().filter_map(|op| match op {
                    MapOp::SweepSlot { slot } => Some(*slot),
                    _ => None,
                });
                clear_slots(self.flow_words(), &slots.collect());
                ops[at..at + run].iter().for_each(&mut done);
                at += run;
                continue;
            }
            if at >= retired {
                let freed: Vec<_> = ops[at..].iter().map_while(|op| self.freed(op)).collect();
                retired = at + freed.len().max(1);
                if !freed.is_empty() {
                    retire(&freed);
                    freed.iter().for_each(|(slot, _)| self.clear_slot_counters(*slot));
                }
            }
            self.perform_one(op).with_context(|| format!("cannot perform {}", name_of(op)))?;
            done(op);
            at += 1;
        }
        Ok(())
    }

    /// A slot that an operation frees, and what it counted.
    fn freed(&self, op: &MapOp) -> Option<(u16, SlotCounter)> {
        match op {
            MapOp::FreeSlot { slot } => Some((*slot, self.slot_counter(*slot))),
            _ => None,
        }
    }

    fn perform_one(&mut self, op: &MapOp) -> Result<()> {
        match op {
            MapOp::WriteRow { slot, row } => {
                self.clear_slot_counters(*slot);
                self.backends.write(usize::from(*slot), &row.row(), 0);
            }
            MapOp::SetWord { slot, mac, egress, state } => {
                self.backend_word(*slot).store(BackendWord::new(*mac, *egress, *state).0, Ordering::Release);
            }
            MapOp::WriteTable { region, table, .. } => {
                for (index, slot) in table.iter().enumerate() {
                    self.maglev.short(region.first_entry() as usize + index).store(*slot, Ordering::Relaxed);
                }
                fence(Ordering::Release);
            }
            MapOp::StoreService { index, word } => {
                self.services.word(*index as usize).store(word.0, Ordering::Release)
            }
            MapOp::InsertService { key, index } => match key_bytes(key) {
                KeyBytes::V4(key) => self.services4.insert(key, index, 0)?,
                KeyBytes::V6(key) => self.services6.insert(key, index, 0)?,
            },
            MapOp::RemoveService { key } => match key_bytes(key) {
                KeyBytes::V4(key) => self.services4.remove(&key)?,
                KeyBytes::V6(key) => self.services6.remove(&key)?,
            },
            MapOp::InsertVip { addr, flags } => {
                let row = [flags.lease, flags.bits()];
                match addr {
                    IpAddr::V4(addr) => self.vips4.insert(addr.octets(), row, 0)?,
                    IpAddr::V6(addr) => self.vips6.insert(addr.octets(), row, 0)?,
                }
            }
            MapOp::RemoveVip { addr } => match addr {
                IpAddr::V4(addr) => self.vips4.remove(&addr.octets())?,
                IpAddr::V6(addr) => self.vips6.remove(&addr.octets())?,
            },
            MapOp::Grace => wait_for_readers(),
            MapOp::SweepSlot { slot } => clear_slots(self.flow_words(), &std::iter::once(*slot).collect()),
            MapOp::FreeSlot { slot } => {
                let index = usize::from(*slot) * (size_of::<BackendRow>() / 8);
                for word in 0..size_of::<BackendRow>() / 8 {
                    self.backends.word(index + word).store(0, Ordering::Release);
                }
            }
            MapOp::FreeRegion { .. } => {}
            MapOp::FreeService { index } => self.services.word(*index as usize).store(0, Ordering::Release),
        }
        Ok(())
    }

    fn backend_word(&self, slot: u16) -> &AtomicU64 {
        self.backends.word(usize::from(slot) * (size_of::<BackendRow>() / 8))
    }

    /// What the maps hold, for a daemon that takes them over. Waits for packets that were on their way first: what the
    /// services no longer name is free then.
    ///
    /// # Errors
    /// If a map can't be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        wait_for_readers();
        let mut services = Vec::new();
        let mut add = |key, index: u32| {
            let word = ServiceWord(self.services.word(index as usize).load(Ordering::Acquire));
            services.push((key, index, word, self.table(word)));
        };
        for found in self.services4.iter() {
            let (key, index) = found.context("cannot read the services")?;
            add(service_key4(key), index);
        }
        for found in self.services6.iter() {
            let (key, index) = found.context("cannot read the services")?;
            add(service_key6(key), index);
        }
        let mut vips = Vec::new();
        for found in self.vips4.iter() {
            let (address, [lease, flags]) = found.context("cannot read the VIPs")?;
            vips.push((IpAddr::V4(Ipv4Addr::from(address)), VipFlags::from_row(lease, flags)));
        }
        for found in self.vips6.iter() {
            let (address, [lease, flags]) = found.context("cannot read the VIPs")?;
            vips.push((IpAddr::V6(Ipv6Addr::from(address)), VipFlags::from_row(lease, flags)));
        }
        let slots = (1..self.layout.slots).filter_map(|slot| {
            let row = self.backends.read(slot as usize);
            Some((u16::try_from(slot).ok()?, row.spec()?, row.load()))
        });
        Ok(Snapshot { slots: slots.collect(), services, vips, limits: self.layout.limits() })
    }

    /// The table that a service's word names.
    fn table(&self, word: ServiceWord) -> Vec<u16> {
        if !word.has(ServiceWord::SERVE) {
            return Vec::new();
        }
        let region = Region { unit: word.unit(), class: word.class() };
        (0..word.class().entries() as usize)
            .map(|index| self.maglev.short(region.first_entry() as usize + index).load(Ordering::Relaxed))
            .collect()
    }

    /// A counter of outcomes or events, over all CPUs.
    #[must_use]
    pub fn counter(&self, row: u32) -> u64 {
        (0..self.layout.cpus)
            .map(|cpu| self.counters.word((cpu * COUNTERS_PER_CPU + row) as usize).load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }

    /// Traffic of a slot, over all CPUs.
    #[must_use]
    pub fn slot_counter(&self, slot: u16) -> SlotCounter {
        let mut sum = SlotCounter::default();
        for cpu in 0..self.layout.cpus {
            let one = self.slot_counters.read((cpu * self.layout.slots + u32::from(slot)) as usize);
            sum.packets = sum.packets.wrapping_add(one.packets);
            sum.bytes = sum.bytes.wrapping_add(one.bytes);
            sum.flows = sum.flows.wrapping_add(one.flows);
        }
        sum
    }

    fn clear_slot_counters(&self, slot: u16) {
        for cpu in 0..self.layout.cpus {
            let index = (cpu * self.layout.slots + u32::from(slot)) as usize;
            self.slot_counters.write(index, &SlotCounter::default(), 0);
        }
    }
}

/// Waits until every packet that was being handled has been dealt with: a global membarrier is an RCU grace period,
/// and XDP programs run inside RCU read sections.
fn wait_for_readers() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Kernels with nohz_full refuse it.
        std::thread::sleep(GRACE_WITHOUT_MEMBARRIER);
    }
}

enum KeyBytes {
    V4([u8; 8]),
    V6([u8; 20]),
}

/// A key in the layout of `ServiceKey4` or `ServiceKey6`.
fn key_bytes(key: &ServiceKey) -> KeyBytes {
    fn tail(key: &ServiceKey, at: &mut [u8]) {
        at[..2].copy_from_slice(&key.port.to_be_bytes());
        at[2] = key.protocol.number();
    }
    match key.vip {
        IpAddr::V4(vip) => {
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&vip.octets());
            tail(key, &mut bytes[4..]);
            KeyBytes::V4(bytes)
        }
        IpAddr::V6(vip) => {
            let mut bytes = [0; 20];
            bytes[..16].copy_from_slice(&vip.octets());
            tail(key, &mut bytes[16..]);
            KeyBytes::V6(bytes)
        }
    }
}

fn service_key4([a, b, c, d, high, low, protocol, _]: [u8; 8]) -> ServiceKey {
    service_key(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), [high, low], protocol)
}

fn service_key6(bytes: [u8; 20]) -> ServiceKey {
    let [address @ .., high, low, protocol, _] = bytes;
    service_key(IpAddr::V6(Ipv6Addr::from(address)), [high, low], protocol)
}

fn service_key(vip: IpAddr, port: [u8; 2], protocol: u8) -> ServiceKey {
    let protocol = if protocol == Protocol::Udp.number() { Protocol::Udp } else { Protocol::Tcp };
    ServiceKey { vip, port: u16::from_be_bytes(port), protocol }
}

fn name_of(op: &MapOp) -> String {
    match op {
        // Tables are long.
        MapOp::WriteTable { region, .. } => format!("WriteTable {region:?}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_the_service_it_was_made_of() {
        for (vip, port, protocol) in [("10.0.0.1", 80, Protocol::Tcp), ("2001:db8::1", 53, Protocol::Udp)] {
            let key = ServiceKey { vip: vip.parse().expect("an address"), port, protocol };
            let back = match key_bytes(&key) {
                KeyBytes::V4(bytes) => service_key4(bytes),
                KeyBytes::V6(bytes) => service_key6(bytes),
            };
            assert_eq!(back, key);
        }
    }
}
