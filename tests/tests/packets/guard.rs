//! The flood guard: above its rate new flows go unstored, and known ones keep what they have.

use fairlead_tests::packets::client::{ACK, ip};
use fairlead_tests::packets::setup::{ORDINARY, word};
use fairlead_tests::packets::wire::{TCP, UDP};
use fairlead_tests::packets::{Client, HostWorld, Probe, Seen, Setup};
use lb_common::backend::SlotState;
use lb_common::guard::{per_window, window_of};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::fixture::{MTU, VIP4, to, to_port};
use crate::kernel::Kernel;

/// Four new flows in a window.
const PER_SECOND: u32 = 230;

fn setup(new_flows_per_second: u32) -> Setup {
    let from = Some(ip("10.0.0.254"));
    let mut setup = Setup::new(MTU)
        .service(ip(VIP4), 80, TCP, ORDINARY, &[1])
        .backend(1, ip("10.0.0.1"), from)
        .backend(2, ip("10.0.0.2"), from)
        .service(ip(VIP4), 53, UDP, ORDINARY, &[3])
        .backend(3, ip("10.0.0.3"), from);
    setup.new_flows_per_second = new_flows_per_second;
    setup
}

/// The window of the program's clock.
fn window() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock");
    let nanoseconds = std::time::Duration::from(now).as_nanos();
    window_of(u64::try_from(nanoseconds).expect("centuries of uptime fit"))
}

/// Stays on one CPU, as the guard counts for each.
fn stay() {
    let all = sched_getaffinity(Pid::from_raw(0)).expect("readable");
    let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).expect("some CPU");
    let mut one = CpuSet::new();
    one.set(first).expect("a CPU of the set");
    sched_setaffinity(Pid::from_raw(0), &one).expect("a CPU that was allowed");
}

/// Sends the frames to both worlds within one window; `None` if it ended meanwhile.
fn try_run(kernel: &mut Kernel, host: &mut HostWorld, frames: &[Vec<u8>]) -> Option<Vec<Seen>> {
    let start = window();
    let seen: Vec<Seen> = frames.iter().map(|frame| kernel.run(frame)).collect();
    if window() != start {
        return None;
    }
    host.window.set(start);
    for (frame, kernel) in frames.iter().zip(&seen) {
        assert_eq!(kernel, &host.run(frame), "kernel (left) and memory (right) differ");
    }
    Some(seen)
}

/// What happened to flows, and how many counted as new, when these packets came within one window to fresh worlds;
/// `before` changes them.
fn events(rate: u32, before: impl Fn(&mut dyn Probe), clients: &[Client]) -> (Vec<Vec<&'static str>>, u64) {
    stay();
    let frames: Vec<Vec<u8>> = clients.iter().map(Client::frame).collect();
    for _ in 0..100 {
        let setup = setup(rate);
        let (mut kernel, mut host) = (Kernel::new(&setup), HostWorld::new(&setup));
        before(&mut kernel);
        before(&mut host);
        let now = window();
        while window() == now {
            std::hint::spin_loop();
        }
        if let Some(seen) = try_run(&mut kernel, &mut host, &frames) {
            for one in &seen {
                assert_eq!(one.outcomes, ["forwarded"], "stored or not");
            }
            let new = seen.iter().flat_map(|seen| seen.slots.values()).map(|[_, _, flows]| flows).sum();
            return (seen.into_iter().map(|seen| seen.events).collect(), new);
        }
    }
    panic!("of a hundred windows none was long enough for {} packets", frames.len());
}

fn nothing(_: &mut dyn Probe) {}

#[test]
fn new_flows_of_any_kind_above_the_rate_go_unstored() {
    assert_eq!(per_window(PER_SECOND), 4);
    let clients = [
        to(VIP4).port(1),
        to(VIP4).port(2).tcp(ACK, 9),
        to_port(VIP4, 53).udp(40).port(3),
        to(VIP4).port(4),
        to(VIP4).port(5),
        to(VIP4).port(6).tcp(ACK, 9),
        to_port(VIP4, 53).udp(40).port(7),
        to(VIP4).port(5),
    ];
    let (events, new) = events(PER_SECOND, nothing, &clients);
    // Four are stored, and of the others two are SYNs: of the same flow, which nobody remembers.
    assert_eq!(new, 4 + 2);
    assert_eq!(
        events,
        [
            &["flow_stored"][..],
            &["flow_stored", "flow_midstream_miss"],
            &["flow_stored"],
            &["flow_stored"],
            &["flow_guarded"],
            &["flow_midstream_miss", "flow_guarded"],
            &["flow_guarded"],
            &["flow_guarded"],
        ]
    );
}

#[test]
fn known_flows_are_not_counted_and_keep_their_entries_during_a_flood() {
    let mut clients = vec![to(VIP4).port(1)];
    clients.extend((0..9).map(|_| to(VIP4).port(1).tcp(ACK, 9)));
    clients.extend((2..6).map(|port| to(VIP4).port(port)));
    clients.push(to(VIP4).port(1).tcp(ACK, 9));
    let (events, _) = events(PER_SECOND, nothing, &clients);
    assert!(events[1..10].iter().all(Vec::is_empty), "{events:?}");
    assert_eq!(events[10..13], [["flow_stored"], ["flow_stored"], ["flow_stored"]]);
    assert_eq!(events[13], ["flow_guarded"]);
    assert!(events[14].is_empty(), "{events:?}");
}

#[test]
fn a_flow_that_is_not_stored_counts_once_however_many_packets_it_has() {
    let mut clients: Vec<Client> = (1..6).map(|port| to(VIP4).port(port)).collect();
    clients.extend((0..20).map(|_| to(VIP4).port(5).tcp(ACK, 9)));
    clients.extend((0..20).map(|_| to_port(VIP4, 53).udp(40)));
    let (events, new) = events(PER_SECOND, nothing, &clients);
    assert!(events[4..].iter().all(|events| events.contains(&"flow_guarded")), "{events:?}");
    assert_eq!(new, 5, "and no datagram of a flow that is not stored");
}

#[test]
fn without_a_rate_any_number_is_stored() {
    let clients: Vec<Client> = (0..40).map(|port| to(VIP4).port(port)).collect();
    let (events, new) = events(0, nothing, &clients);
    assert!(events.iter().all(|events| events == &["flow_stored"]));
    assert_eq!(new, 40);
}

#[test]
fn flows_of_a_dead_backend_are_picked_anew_during_a_flood() {
    stay();
    let setup = setup(PER_SECOND);
    let (mut kernel, mut host) = (Kernel::new(&setup), HostWorld::new(&setup));
    let all = lb_common::limits::WAYS as u32 * setup.buckets;
    assert!(all > 64, "room for all");
    let flood: Vec<Vec<u8>> = (10..16).map(|port| to(VIP4).port(port).frame()).collect();
    let known = to(VIP4).port(1).frame();
    for world in [&mut kernel as &mut dyn Probe, &mut host] {
        assert_eq!(world.run(&known).events, ["flow_stored"]);
        world.put_table(0, &[2; 4_093]);
        world.put_backend(1, word(1, SlotState::Dead).0);
        for frame in &flood {
            world.run(frame);
        }
        assert_eq!(world.run(&known).events, ["flow_stored", "flow_repicked"]);
    }
}
