//! The balancer's program with its maps as the daemon fills them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use anyhow::{Result, anyhow, ensure};
use aya::Ebpf;
use fairlead_tests::packets::setup::{INGRESS, SEED, mac_bits, next_hop};
use fairlead_tests::packets::wire::OWN;
use lb_common::counters::Event;
use lb_common::egress::EgressRow;
use lb_common::flow::FlowEntry;
use lb_common::limits::WAYS;
use lb_common::reason::{DropReason, Outcome, Verdict};
use lb_core::config;
use lb_core::plan::{Actual, NextHop, VerdictMap, diff, plan};
use lb_user::bpf::layout::Meta;
use lb_user::bpf::{Layout, Tables, program};

use super::harness::Target;

/// VIP of the IPv4 services.
pub(super) const VIP4: &str = "192.0.2.1";
/// VIP of the IPv6 service.
pub(super) const VIP6: &str = "2001:db8::1";
/// An address that is no VIP.
pub(super) const NO_VIP: &str = "192.0.2.99";

/// Port of the service that does not remember its flows.
pub(super) const UNTRACKED_PORT: u16 = 81;

/// Backends of each service.
const BACKENDS: u16 = 100;
/// Entries of the flow table.
const FLOWS: u32 = 1 << 21;

/// New flows a second before the guard stands in: it counts, as it always does, and never does.
const GUARD: u32 = 100_000_000;

/// The loaded program and its maps.
pub(super) struct Balancer {
    ebpf: Ebpf,
    tables: Tables,
}

/// Every counter by name, and the sum of the backends' new flows as "new_flows".
pub(super) type Counts = BTreeMap<&'static str, u64>;

impl Balancer {
    /// Loads the program, and fills its maps.
    ///
    /// # Errors
    /// Most often for want of rights.
    pub(super) fn load(flow_tuples: bool) -> Result<Self> {
        let config = config::parse(&config_text(flow_tuples))
            .map_err(|problems| anyhow!("the bench's own configuration: {problems:?}"))?
            .config;
        let cpus = aya::util::nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
        let layout = Layout::new(&config.limits, u32::try_from(cpus)?);
        let mut ebpf = program::open(&layout, SEED, None, 0)?;
        program::load(&mut ebpf, program::BALANCER)?;
        let mut tables = Tables::new(&mut ebpf, layout)?;
        let own = EgressRow { ifindex: INGRESS, mtu: 1_500, mac_bits: mac_bits(OWN) };
        tables.publish_interface(&own)?;
        tables.complete(Meta::new(SEED));
        let desired = plan(&config, &VerdictMap::new(), &next_hops());
        let mut actual = Actual::new(layout.limits());
        let ops = diff(&actual, &desired)?;
        tables.perform(&ops, |_| {}, |op| actual.apply(op))?;
        ensure!(diff(&actual, &desired)?.is_empty(), "the maps are not what they should be");
        Ok(Self { ebpf, tables })
    }

    /// The program, to be measured.
    ///
    /// # Errors
    /// If it is not loaded.
    pub(super) fn target(&mut self) -> Result<Target> {
        Target::new(&mut self.ebpf, program::BALANCER)
    }

    /// Forgets all flows.
    pub(super) fn forget_flows(&self) {
        let flows = self.tables.flows();
        (0..flows.words()).for_each(|index| flows.word(index).store(0, Ordering::Relaxed));
    }

    /// Bytes of the flow table for each flow that is stored, by the cache line that a packet brings in: those of the
    /// buckets that hold flows. With `of_half` only every second flow counts, as if no other were there: what a table
    /// has at half the load.
    pub(super) fn hot_bytes_per_flow(&self, of_half: bool) -> f64 {
        let flows = self.tables.flows();
        // No bucket or place is chosen by the uppermost bit of a fingerprint.
        let left_out = |entry: &FlowEntry| entry.is_empty() || of_half && entry.fingerprint() >> 31 == 1;
        let stored =
            |bucket: usize| flows.read(bucket).map(FlowEntry).iter().filter(|entry| !left_out(entry)).count();
        let held = (0..flows.len()).map(stored).filter(|stored| *stored > 0);
        let (buckets, stored) = held.fold((0, 0), |(buckets, all), stored| (buckets + 1, all + stored));
        (buckets * size_of::<[u64; WAYS]>()) as f64 / stored as f64
    }

    /// All counters as they are now.
    pub(super) fn counts(&self) -> Counts {
        let verdicts = Verdict::ALL.iter().map(|verdict| (verdict.name(), Outcome::Verdict(*verdict).row()));
        let drops = DropReason::ALL.iter().map(|reason| (reason.name(), Outcome::Drop(*reason).row()));
        let events = Event::ALL.iter().map(|event| (event.name(), event.row()));
        let rows = verdicts.chain(drops).chain(events);
        let mut counts: Counts = rows.map(|(name, row)| (name, self.tables.counter(row))).collect();
        let slots = 1..=u16::try_from(self.tables.layout().slots - 1).unwrap_or(u16::MAX);
        counts.insert("new_flows", slots.map(|slot| self.tables.slot_counter(slot).flows).sum());
        counts
    }
}

/// A TCP and a UDP service over IPv4, a TCP service over IPv6, and one that does not remember: a hundred backends each.
fn config_text(flow_tuples: bool) -> String {
    let mut text = format!(
        "[limits]\nflows = {FLOWS}\nflow_tuples = {flow_tuples}\nnew_flows_per_second = {GUARD}\n[[interface]]\nname = \"lo\"\n"
    );
    for (name, vip, port, protocol, track) in [
        ("tcp", VIP4, 80, "tcp", true),
        ("udp", VIP4, 80, "udp", true),
        ("tcp6", VIP6, 80, "tcp", true),
        ("untracked", VIP4, UNTRACKED_PORT, "tcp", false),
    ] {
        let _ = write!(
            text,
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"{protocol}\"\nmode = \"ipip\"\ntrack = {track}\n"
        );
        for number in 1..=BACKENDS {
            let _ = write!(text, "[[service.backend]]\naddress = \"{}\"\n", backend(vip == VIP6, number));
        }
    }
    text
}

fn backend(v6: bool, number: u16) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, number])
    } else {
        let [high, low] = number.to_be_bytes();
        IpAddr::from([10, 1, high, low])
    }
}

#[expect(clippy::cast_possible_truncation, reason = "positions are below 4,096")]
fn next_hops() -> BTreeMap<IpAddr, NextHop> {
    let egress = EgressRow::position(INGRESS) as u16;
    let hop = |v6: bool, number: u16| NextHop {
        mac: Some(next_hop(number)),
        egress,
        source: if v6 { IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, 1]) } else { IpAddr::from([10, 0, 0, 1]) },
    };
    let hops = |v6| (1..=BACKENDS).map(move |number| (backend(v6, number), hop(v6, number)));
    hops(false).chain(hops(true)).collect()
}
