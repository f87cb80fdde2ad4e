//! The program on two CPUs at once, on the same few flows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use fairlead_tests::packets::client::{ACK, FIN, SYN, ip};
use fairlead_tests::packets::setup::ORDINARY;
use fairlead_tests::packets::wire::TCP;
use fairlead_tests::packets::{Probe, Setup};
use lb_common::flow::FlowEntry;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::fixture::{MTU, VIP4, hash, to};
use crate::kernel::{Kernel, run_once};

/// Flows that both CPUs send packets of.
const FLOWS: u16 = 48;
/// Packets that each of them sends.
const PACKETS: usize = 30_000;

/// One service; few buckets make flows evict each other all the time.
fn crowded(buckets: u32) -> Setup {
    let from = Some(ip("10.0.0.254"));
    let mut setup = Setup::new(MTU)
        .service(ip(VIP4), 80, TCP, ORDINARY, &[1, 2])
        .backend(1, ip("10.0.0.1"), from)
        .backend(2, ip("10.0.0.2"), from);
    setup.buckets = buckets;
    setup
}

/// Sends all packets, each at the same moment as the other CPU sends it.
fn storm(kernel: &Kernel, cpu: usize, progress: &[AtomicUsize; 2]) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("few CPUs");
    // With one CPU only both run there, which finds less but breaks nothing.
    let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
    let frames: Vec<Vec<u8>> = (0..FLOWS)
        .flat_map(|port| {
            let client = to(VIP4).port(port);
            [client.tcp(SYN, 0), client.tcp(ACK, 1), client.tcp(FIN | ACK, 0)].map(|packet| packet.frame())
        })
        .collect();
    for count in 0..PACKETS {
        progress[cpu].store(count + 1, Ordering::Release);
        for turn in 0.. {
            if progress[1 - cpu].load(Ordering::Acquire) > count {
                break;
            }
            if turn % 512 == 511 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        run_once(kernel.program(), &frames[count % frames.len()]);
    }
}

fn after_a_storm(setup: &Setup) -> (Kernel, BTreeMap<&'static str, usize>) {
    let kernel = Kernel::new(setup);
    let progress = [AtomicUsize::new(0), AtomicUsize::new(0)];
    std::thread::scope(|scope| {
        for cpu in 0..2 {
            let (kernel, progress) = (&kernel, &progress);
            scope.spawn(move || storm(kernel, cpu, progress));
        }
    });
    let counted = kernel.counted();
    let mut times = BTreeMap::new();
    for name in counted.outcomes.into_iter().chain(counted.events) {
        *times.entry(name).or_default() += 1;
    }
    (kernel, times)
}

#[test]
fn every_packet_is_forwarded_and_every_entry_is_whole() {
    for buckets in [2, 32] {
        let setup = crowded(buckets);
        let (kernel, times) = after_a_storm(&setup);
        println!("{buckets} buckets: {times:?}");
        assert_eq!(times.get("forwarded"), Some(&(2 * PACKETS)), "{times:?}");
        let table = setup.services[0].full_table();
        let known: BTreeMap<u32, (u32, u16)> = (0..FLOWS)
            .map(|port| {
                let hash = hash(&to(VIP4).port(port));
                let place = (u64::from(hash.fingerprint()) * 4_093) >> 32;
                (hash.fingerprint(), (hash.bucket(buckets - 1), table[place as usize]))
            })
            .collect();
        for bucket in 0..buckets {
            let entries = kernel.bucket(bucket).map(FlowEntry);
            for (way, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_empty()) {
                assert_eq!(
                    known.get(&entry.fingerprint()),
                    Some(&(bucket, entry.slot())),
                    "{entry:?} is torn"
                );
                let twice = entries[..way].iter().any(|other| other.fingerprint() == entry.fingerprint());
                assert!(!twice, "a flow is stored twice: {entries:?}");
            }
        }
    }
}
