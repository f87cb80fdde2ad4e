//! The maps. Sizes here are placeholders for most: the loader sets them from the configuration. Layouts are lb-common's.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMap, HashMap, LpmTrie};
use lb_common::backend::BackendRow;
use lb_common::counters::SlotCounter;
use lb_common::egress::{EgressFaults, EgressRow, WatchRow};
use lb_common::guard::GUARD_WORDS;
use lb_common::hash::{HashKey, WORDS};
use lb_common::limits::{MAX_DECAP_PREFIXES, MAX_DECAP_VIPS, MAX_EGRESS, TABLE_ENTRIES_PER_VALUE, WAYS};
use lb_common::packet::Tuple;
use lb_common::service::{ServiceKey4, ServiceKey6, VipRow};
use lb_common::settings::Settings;
use lb_common::trace::TraceRow;

/// Frozen at load.
#[unsafe(no_mangle)]
pub static SETTINGS: Global<Settings> = Global::new(Settings {
    key: HashKey { first: [0; WORDS + 1], second: [0; WORDS + 1] },
    bucket_mask: 0,
    slots: 0,
    flow_tuples: 0,
    guard_per_window: 0,
});

/// VIP, port, protocol to service index.
#[map]
pub static SERVICES4: HashMap<ServiceKey4, u32> = HashMap::with_max_entries(1, 0);
/// VIP, port, protocol to service index.
#[map]
pub static SERVICES6: HashMap<ServiceKey6, u32> = HashMap::with_max_entries(1, 0);
/// Service words by index.
#[map]
pub static SERVICES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// VIPs by address alone.
#[map]
pub static VIPS4: HashMap<u32, VipRow> = HashMap::with_max_entries(1, 0);
/// VIPs by address alone.
#[map]
pub static VIPS6: HashMap<[u32; 4], VipRow> = HashMap::with_max_entries(1, 0);
/// Until when this node answers for the VIPs of a lease: CLOCK_BOOTTIME in nanoseconds.
#[map]
pub static LEASES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Backends by slot.
#[map]
pub static BACKENDS: Array<BackendRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Interfaces by index modulo its size.
#[map]
pub static EGRESS: Array<EgressRow> = Array::with_max_entries(MAX_EGRESS, BPF_F_MMAPABLE);
/// The interfaces themselves by row of [`EGRESS`], for frames that leave by another one than they came in by.
#[map]
pub static DEVICES: DevMap = DevMap::with_max_entries(MAX_EGRESS, 0);
/// What became of redirected frames, by row of [`EGRESS`].
#[map]
pub static FAULTS: Array<EgressFaults> = Array::with_max_entries(MAX_EGRESS, BPF_F_MMAPABLE);
/// All Maglev tables.
#[map]
pub static MAGLEV: Array<[u16; TABLE_ENTRIES_PER_VALUE]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Flow table.
#[map]
pub static FLOWS: Array<[u64; WAYS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// By CPU, a cache line each: see [`lb_common::guard`].
#[map]
pub static GUARD: Array<[u64; GUARD_WORDS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// 5-tuples of the flows, for listings.
#[map]
pub static FLOW_TUPLES: Array<Tuple> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Outcomes and events by CPU.
#[map]
pub static COUNTERS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Traffic of slots by CPU.
#[map]
pub static SLOT_COUNTERS: Array<SlotCounter> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What the programs on tracepoints must know. Each load has its own.
#[map]
pub static WATCH: Array<WatchRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What a dry run is asked and tells. Each load has its own.
#[map]
pub static TRACE: Array<TraceRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Balancers that the decapsulator trusts.
#[map]
pub static DECAP_FROM4: LpmTrie<u32, u32> = LpmTrie::with_max_entries(MAX_DECAP_PREFIXES, 0);
/// Balancers that the decapsulator trusts.
#[map]
pub static DECAP_FROM6: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(MAX_DECAP_PREFIXES, 0);
/// VIPs of the backend.
#[map]
pub static DECAP_VIPS4: HashMap<u32, u32> = HashMap::with_max_entries(MAX_DECAP_VIPS, 0);
/// VIPs of the backend.
#[map]
pub static DECAP_VIPS6: HashMap<[u32; 4], u32> = HashMap::with_max_entries(MAX_DECAP_VIPS, 0);
/// Outcomes of the decapsulator by CPU, [`DECAP_COUNTERS_PER_CPU`] each.
#[map]
pub static DECAP_COUNTERS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rows of [`DECAP_COUNTERS`] for each CPU: one cache line.
pub const DECAP_COUNTERS_PER_CPU: u32 = 8;

/// What a later daemon must know to go on with the maps; the programs do not read it.
#[map]
pub static META: Array<[u64; 8]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
