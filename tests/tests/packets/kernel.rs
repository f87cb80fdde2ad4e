//! The loaded BPF programs, run on single frames by BPF_PROG_TEST_RUN. Nothing is attached to any interface.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{DevMap, HashMap, LpmTrie, Map};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use fairlead_tests::packets::host::difference;
use fairlead_tests::packets::setup::{BACKENDS, INGRESS, SEED, SERVICES, UNITS};
use fairlead_tests::packets::wire::octets;
use fairlead_tests::packets::{DecapSetup, Probe, Seen, Setup};
use lb_common::backend::BackendRow;
use lb_common::counters::{COUNTERS_PER_CPU, FIRST_EVENT, SlotCounter};
use lb_common::decap::DecapOutcome;
use lb_common::egress::EgressRow;
use lb_common::guard::{GUARD_WORDS, IDLE_WORD};
use lb_common::limits::WAYS;
use lb_common::reason::Action;
use lb_user::bpf::Layout;
use lb_user::bpf::mapped::{Mapped, Row};
use lb_user::bpf::program;

/// Counters of the decapsulator for each CPU.
const DECAP_COUNTERS_PER_CPU: usize = 8;
/// Room for what comes out: the longest IP packet, link header and outer headers.
pub(crate) const LONGEST: usize = 66_000;
/// Why nothing works without them.
const RIGHTS: &str = "packet tests load BPF programs and run them: run them as root (CAP_BPF, CAP_NET_ADMIN)";

/// The balancer program with its maps.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    cpus: usize,
    services: Mapped<u64>,
    backends: Mapped<BackendRow>,
    maglev: Mapped<[u16; 32]>,
    flows: Mapped<[u64; WAYS]>,
    tuples: Mapped<[u64; 5]>,
    counters: Mapped<u64>,
    slots: Mapped<SlotCounter>,
}

fn layout(buckets: u32, new_flows_per_second: u32) -> Layout {
    let cpus = aya::util::nr_cpus().expect("the number of CPUs is readable");
    let cpus = u32::try_from(cpus).expect("few CPUs");
    Layout {
        services: SERVICES,
        slots: BACKENDS + 1,
        buckets,
        flow_tuples: true,
        units: UNITS,
        cpus,
        new_flows_per_second,
    }
}

/// Opens the object and verifies one of its programs.
///
/// # Panics
/// Without the rights for it.
pub(crate) fn open(buckets: u32, name: &str) -> Ebpf {
    open_with(&layout(buckets, 0), name)
}

fn open_with(layout: &Layout, name: &str) -> Ebpf {
    let mut ebpf = program::open(layout, SEED, None, 0).unwrap_or_else(|error| panic!("{RIGHTS}: {error:#}"));
    program::load(&mut ebpf, name).unwrap_or_else(|error| panic!("{RIGHTS}: {error:#}"));
    ebpf
}

fn mapped<T: Row>(ebpf: &Ebpf, name: &str, entries: u32) -> Mapped<T> {
    let Some(Map::Array(map)) = ebpf.map(name) else { panic!("the object has no array {name}") };
    Mapped::new(map.fd(), entries).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

impl Kernel {
    /// Loads the program and fills its maps.
    pub(crate) fn new(setup: &Setup) -> Self {
        let layout = layout(setup.buckets, setup.new_flows_per_second);
        let ebpf = open_with(&layout, program::BALANCER);
        let entries = |name: &str| {
            let shape = layout.shapes().into_iter().find(|shape| shape.name == name);
            shape.unwrap_or_else(|| panic!("the layout has no map {name}")).entries
        };
        let mut kernel = Self {
            cpus: layout.cpus as usize,
            services: mapped(&ebpf, "SERVICES", entries("SERVICES")),
            backends: mapped(&ebpf, "BACKENDS", entries("BACKENDS")),
            maglev: mapped(&ebpf, "MAGLEV", entries("MAGLEV")),
            flows: mapped(&ebpf, "FLOWS", entries("FLOWS")),
            tuples: mapped(&ebpf, "FLOW_TUPLES", entries("FLOW_TUPLES")),
            counters: mapped(&ebpf, "COUNTERS", entries("COUNTERS")),
            slots: mapped(&ebpf, "SLOT_COUNTERS", entries("SLOT_COUNTERS")),
            ebpf,
        };
        let egress: Mapped<EgressRow> = mapped(&kernel.ebpf, "EGRESS", entries("EGRESS"));
        let devices = kernel.ebpf.map_mut("DEVICES").expect("the object has a map of interfaces");
        let mut devices = DevMap::try_from(devices).expect("a map of interfaces");
        for row in &setup.egress {
            let position = EgressRow::position(row.ifindex);
            egress.write(position as usize, row, 0);
            if !setup.gone.contains(&row.ifindex) {
                // The loopback stands for all of them: nothing is sent in a test run.
                devices.set(position, INGRESS, None, 0).expect("the loopback is there");
            }
        }
        let leases: Mapped<u64> = mapped(&kernel.ebpf, "LEASES", entries("LEASES"));
        for (row, until) in setup.leases.iter().enumerate() {
            leases.word(row).store(*until, Ordering::Relaxed);
        }
        let guard: Mapped<[u64; GUARD_WORDS]> = mapped(&kernel.ebpf, "GUARD", entries("GUARD"));
        for cpu in 0..guard.len() {
            guard.word(cpu * GUARD_WORDS + IDLE_WORD).store(setup.idle.0, Ordering::Relaxed);
        }
        kernel.fill(setup);
        kernel
    }

    fn fill(&mut self, setup: &Setup) {
        for backend in &setup.backends {
            let row = backend.spec.row();
            row.word.store(backend.word.0, Ordering::Relaxed);
            self.backends.write(usize::from(backend.slot), &row, 0);
        }
        for service in &setup.services {
            self.put_table(service.word.first_entry(), &service.full_table());
            self.put_service(u32::from(service.index), service.word.0);
            let port = service.port.to_be_bytes();
            let key = [&octets(service.vip)[..], &port, &[service.protocol, 0]].concat();
            let index = u32::from(service.index);
            match service.vip {
                IpAddr::V4(_) => self.insert::<8, 4>("SERVICES4", &key, index.to_ne_bytes()),
                IpAddr::V6(_) => self.insert::<20, 4>("SERVICES6", &key, index.to_ne_bytes()),
            }
        }
        for (vip, row) in &setup.vips {
            let (key, value) =
                (octets(*vip), (u64::from(row.flags) << 32 | u64::from(row.lease)).to_le_bytes());
            match vip {
                IpAddr::V4(_) => self.insert::<4, 8>("VIPS4", &key, value),
                IpAddr::V6(_) => self.insert::<16, 8>("VIPS6", &key, value),
            }
        }
    }

    fn insert<const K: usize, const V: usize>(&mut self, name: &str, key: &[u8], value: [u8; V]) {
        insert::<K, V>(&mut self.ebpf, name, key, value);
    }

    fn totals(&self) -> (Vec<u64>, Vec<[u64; 3]>) {
        let mut counters = vec![0u64; COUNTERS_PER_CPU as usize];
        let mut slots = vec![[0u64; 3]; BACKENDS as usize + 1];
        for cpu in 0..self.cpus {
            for (row, sum) in counters.iter_mut().enumerate() {
                *sum += self.counters.word(cpu * COUNTERS_PER_CPU as usize + row).load(Ordering::Relaxed);
            }
            let first = cpu * slots.len();
            for (slot, sums) in slots.iter_mut().enumerate() {
                for (word, sum) in sums.iter_mut().enumerate() {
                    *sum += self.slots.word((first + slot) * 4 + word).load(Ordering::Relaxed);
                }
            }
        }
        (counters, slots)
    }

    /// All that a frame on this CPU may change but for tuples, in the order of [`HostWorld::words`].
    ///
    /// [`HostWorld::words`]: fairlead_tests::packets::HostWorld::words
    pub(crate) fn words(&self, cpu: usize, into: &mut Vec<u64>) {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let rows = COUNTERS_PER_CPU as usize;
        into.clear();
        into.extend((cpu * rows..(cpu + 1) * rows).map(|row| load(self.counters.word(row))));
        let slots = BACKENDS as usize + 1;
        for row in cpu * slots..(cpu + 1) * slots {
            into.extend((0..3).map(|word| load(self.slots.word(row * 4 + word))));
        }
        into.extend((0..self.flows.words()).map(|word| load(self.flows.word(word))));
    }

    /// The program, for runs from several threads.
    pub(crate) fn program(&self) -> &Xdp {
        xdp(&self.ebpf, program::BALANCER)
    }

    /// Frames counted so far, on all CPUs.
    pub(crate) fn frames(&self) -> u64 {
        self.totals().0[..FIRST_EVENT as usize].iter().sum()
    }

    /// Everything counted so far, as if for one frame that passed.
    pub(crate) fn counted(&self) -> Seen {
        let zero = (vec![0; COUNTERS_PER_CPU as usize], vec![[0; 3]; BACKENDS as usize + 1]);
        difference(&zero, &self.totals(), Action::Pass, Vec::new())
    }
}

fn insert<const K: usize, const V: usize>(ebpf: &mut Ebpf, name: &str, key: &[u8], value: [u8; V]) {
    let map = ebpf.map_mut(name).unwrap_or_else(|| panic!("the object has no map {name}"));
    let mut map: HashMap<_, [u8; K], [u8; V]> = HashMap::try_from(map).expect("a hash map of this shape");
    let key = <[u8; K]>::try_from(key).expect("a key of this length");
    map.insert(key, value, 0).expect("room in the map");
}

fn xdp<'e>(ebpf: &'e Ebpf, name: &str) -> &'e Xdp {
    let program = ebpf.program(name).unwrap_or_else(|| panic!("the object has no program {name}"));
    program.try_into().expect("an XDP program")
}

/// Runs a program on one frame: what it says, and the frame afterwards.
///
/// # Panics
/// If the kernel refuses to, or the program says what ours never do.
pub(crate) fn run_once(program: &Xdp, frame: &[u8]) -> (Action, Vec<u8>) {
    let mut out = vec![0; LONGEST];
    let (action, length) = run_into(program, frame, &mut out);
    out.truncate(length);
    (action, out)
}

/// The same with a place for the frame afterwards; gives its length.
///
/// # Panics
/// As [`run_once`], and if the place is too small.
pub(crate) fn run_into(program: &Xdp, frame: &[u8], out: &mut [u8]) -> (Action, usize) {
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(out);
    let result = program.test_run(options).expect("BPF_PROG_TEST_RUN takes frames from 14 octets on");
    let action = match result.return_value {
        1 => Action::Drop,
        2 => Action::Pass,
        3 => Action::Transmit,
        4 => Action::Redirect,
        other => panic!("the program returned {other}"),
    };
    (action, result.data_size_out as usize)
}

impl Probe for Kernel {
    fn run(&mut self, frame: &[u8]) -> Seen {
        let before = self.totals();
        let (action, out) = run_once(self.program(), frame);
        difference(&before, &self.totals(), action, out)
    }

    fn bucket(&self, index: u32) -> [u64; 8] {
        self.flows.read(index as usize)
    }

    fn put_entry(&mut self, bucket: u32, way: usize, entry: u64) {
        self.flows.word(bucket as usize * WAYS + way).store(entry, Ordering::Relaxed);
    }

    fn tuple(&self, bucket: u32, way: usize) -> [u64; 5] {
        self.tuples.read(bucket as usize * WAYS + way)
    }

    fn put_backend(&mut self, slot: u16, word: u64) {
        self.backends.word(usize::from(slot) * size_of::<BackendRow>() / 8).store(word, Ordering::Relaxed);
    }

    fn put_service(&mut self, index: u32, word: u64) {
        self.services.word(index as usize).store(word, Ordering::Relaxed);
    }

    fn put_table(&mut self, first_entry: u32, slots: &[u16]) {
        for (at, slot) in slots.iter().enumerate() {
            self.maglev.short(first_entry as usize + at).store(*slot, Ordering::Relaxed);
        }
    }
}

/// The decapsulator program with its maps.
pub(crate) struct KernelDecap {
    ebpf: Ebpf,
    counters: Mapped<u64>,
}

impl KernelDecap {
    /// Loads the program and fills its maps.
    pub(crate) fn new(setup: &DecapSetup) -> Self {
        let mut ebpf = open(1, program::DECAPSULATOR);
        for vip in &setup.vips {
            match vip {
                IpAddr::V4(_) => insert::<4, 4>(&mut ebpf, "DECAP_VIPS4", &octets(*vip), [0; 4]),
                IpAddr::V6(_) => insert::<16, 4>(&mut ebpf, "DECAP_VIPS6", &octets(*vip), [0; 4]),
            }
        }
        for (net, prefix) in &setup.from {
            match net {
                IpAddr::V4(net) => trust(&mut ebpf, "DECAP_FROM4", *prefix, net.octets()),
                IpAddr::V6(net) => trust(&mut ebpf, "DECAP_FROM6", *prefix, net.octets()),
            }
        }
        let entries = layout(1, 0).cpus * DECAP_COUNTERS_PER_CPU as u32;
        let counters = mapped(&ebpf, "DECAP_COUNTERS", entries);
        Self { ebpf, counters }
    }

    fn totals(&self) -> Vec<u64> {
        (0..self.counters.len()).map(|row| self.counters.word(row).load(Ordering::Relaxed)).collect()
    }

    /// Runs one frame: what became of it, and the frame afterwards.
    pub(crate) fn run(&mut self, frame: &[u8]) -> (DecapOutcome, Vec<u8>) {
        let before = self.totals();
        let (action, out) = run_once(xdp(&self.ebpf, program::DECAPSULATOR), frame);
        let after = self.totals();
        let rose: Vec<usize> = (0..before.len()).filter(|row| before[*row] != after[*row]).collect();
        let [row] = rose[..] else { panic!("counters {rose:?} rose, not one") };
        assert_eq!(after[row], before[row] + 1);
        let number = row % DECAP_COUNTERS_PER_CPU;
        let outcome = DecapOutcome::ALL.iter().find(|outcome| **outcome as usize == number);
        let outcome = *outcome.unwrap_or_else(|| panic!("counter {number} has no name"));
        assert_eq!(outcome.action(), action, "{outcome:?}");
        (outcome, out)
    }
}

fn trust<const K: usize>(ebpf: &mut Ebpf, name: &str, prefix: u32, net: [u8; K]) {
    let map = ebpf.map_mut(name).unwrap_or_else(|| panic!("the object has no map {name}"));
    let mut map: LpmTrie<_, [u8; K], u32> = LpmTrie::try_from(map).expect("a trie of this shape");
    map.insert(&Key::new(prefix, net), 0, 0).expect("room in the map");
}
