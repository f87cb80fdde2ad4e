//! The life of flows in a model: the code that packets run, the operations of pool changes and the sweeper, interleaved by
//! chance, against an oracle that knows every flow by its whole tuple.
//!
//! `FAIRLEAD_SEED` repeats a run, `FAIRLEAD_QUICK` makes it small.

mod memory;
mod oracle;
mod packet;
mod random;
mod user;
mod world;

use lb_common::counters::Event;
use lb_common::pick::Signals;

use oracle::NONE;
use user::SERVICES;
use world::{World, flow_service};

/// Changes of the pool.
const CHANGES: u32 = 100;
/// In one of so many places marks are looked at after a change.
const MARKED_PARTS: usize = 9;
/// Entries for each flow: a load of 0.25.
const ENTRIES_PER_FLOW: usize = 4;

struct Size {
    flows: u32,
    /// Packets during each change.
    packets: u32,
}

fn size() -> Size {
    if std::env::var_os("FAIRLEAD_QUICK").is_some() {
        Size { flows: 1 << 17, packets: 5_000 }
    } else {
        Size { flows: 1 << 21, packets: 40_000 }
    }
}

fn seed() -> u64 {
    let given =
        std::env::var("FAIRLEAD_SEED").ok().map(|text| text.parse().expect("FAIRLEAD_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        time.map_or(1, |time| time.as_secs() << 20 | u64::from(time.subsec_nanos() >> 10))
    });
    println!("FAIRLEAD_SEED={seed}");
    seed
}

/// First packets, and for most flows a second one.
fn open(world: &World, flows: std::ops::Range<u32>) {
    for flow in flows {
        world.send(flow);
        if flow_service(flow) < SERVICES - 1 && !world.random.once_in(16) {
            world.packet(flow, Signals(0));
        }
        world.opened.set(world.opened.get().max(flow + 1));
    }
}

/// User space comes to the end of what it is at.
fn settle(world: &World) {
    while !world.user.borrow().is_idle() {
        world.advance();
    }
}

fn pass(world: &World) {
    world.user.borrow_mut().begin_pass(world);
    settle(world);
}

/// One change of the pool under traffic, and the timer's pass behind it.
fn change(world: &World, size: &Size, round: u32) {
    world.user.borrow_mut().begin_change(world);
    let half = size.flows / 2;
    let opened = |round: u32| half + half / CHANGES * round;
    open(world, opened(round)..opened(round + 1));
    (0..size.packets).for_each(|_| world.send_any());
    settle(world);
    world.time.set(world.time.get() + 1);
    world.user.borrow_mut().begin_pass(world);
    come_back(world);
    settle(world);
    // Most changes come when the one before has been dealt with.
    if !world.random.once_in(4) {
        pass(world);
        compare_marks(world, round as usize % MARKED_PARTS);
    }
}

/// After both marking passes exceptions are marked and nothing else is, in one of [`MARKED_PARTS`] of all places.
fn compare_marks(world: &World, part: usize) {
    let places = (part..world.places()).step_by(MARKED_PARTS);
    let wrong = places.filter(|place| !world.is_marked_right(*place)).count();
    // A mark may lose its race in both passes; whoever would evict the flow then looks himself.
    let few = world.places() / ENTRIES_PER_FLOW / MARKED_PARTS / 1_000;
    assert!(wrong <= few, "{wrong} entries are marked, or not, and should be otherwise: more than {few}");
}

/// Flows that lost their entries go on, so that the table stays as full as it was.
fn come_back(world: &World) {
    for flow in 0..world.opened.get() {
        if world.oracle.borrow().flows[flow as usize].at == NONE {
            (0..2).for_each(|_| world.packet(flow, Signals(Signals::DATA)));
        }
    }
}

/// Entries and oracle agree on every place and every flow.
fn compare(world: &World) {
    let mut oracle = world.oracle.borrow_mut();
    let mut used = 0;
    for place in 0..world.places() {
        let (entry, owner) = (world.entry_at(place), oracle.owner(place));
        used += usize::from(!entry.is_empty());
        let agree = match owner {
            NONE => entry.is_empty(),
            owner => {
                let flow = oracle.flows[owner as usize];
                let home = oracle.second(place).or((flow.at as usize == place).then_some(flow.home));
                home == Some(world.rows.number(entry.slot()))
            }
        };
        if !agree {
            oracle.fault("entry and oracle differ", || format!("{entry:?} of {owner} at {place}"));
        }
    }
    let wrong = (0..world.places()).filter(|place| !world.is_marked_right(*place)).count();
    // A mark may lose its race in both passes; whoever would evict the flow then looks himself.
    assert!(
        wrong <= oracle.flows.len() / 10_000,
        "{wrong} entries are marked, or not, and should be otherwise"
    );
    let with = oracle.flows.iter().filter(|flow| flow.at != NONE).count() + oracle.seconds();
    assert_eq!(used, with, "entries, and flows that have one");
}

fn report(world: &World, size: &Size) {
    let (oracle, user) = (world.oracle.borrow(), world.user.borrow());
    let reused: u32 = user.uses.iter().map(|uses| uses.saturating_sub(1)).sum();
    println!(
        "{} flows, {} entries, {} switches of tables, {} interleaved, slots reused {reused} times (one of them {})",
        size.flows,
        world.places(),
        user.switches,
        world.interleaved.get(),
        user.uses.iter().max().map_or(0, |uses| uses.saturating_sub(1)),
    );
    println!("changes: {:?}", user.kinds);
    println!("last pass: {:?}", user.census);
    for event in Event::ALL {
        println!("{:>12} {}", world.event(*event), event.name());
    }
    let mut seen: Vec<_> = oracle.seen.iter().collect();
    seen.sort();
    seen.iter().for_each(|(category, count)| println!("{count:>12} {category}"));
    let placeless = oracle.placeless();
    println!("{placeless:>12} without a place at the end, {:.4} %", share(placeless, size.flows));
}

fn share(part: usize, flows: u32) -> f64 {
    part as f64 * 100.0 / f64::from(flows)
}

#[test]
fn no_live_flow_goes_astray_while_pool_table_and_sweeper_change_under_it() {
    let size = size();
    let world = World::new(size.flows as usize, size.flows as usize * ENTRIES_PER_FLOW, seed());
    settle(&world);
    open(&world, 0..size.flows / 2);
    world.rate.set(128);
    (0..CHANGES).for_each(|round| change(&world, &size, round));
    open(&world, world.opened.get()..size.flows);
    world.rate.set(0);
    pass(&world);
    compare(&world);
    (0..size.flows).for_each(|flow| world.packet(flow, Signals(Signals::DATA)));
    compare(&world);
    report(&world, &size);
    let oracle = world.oracle.borrow();
    assert!(oracle.faulty.is_empty(), "{:?}\n{}", oracle.faulty, oracle.faults.join("\n"));
    let reused: u32 = world.user.borrow().uses.iter().map(|uses| uses.saturating_sub(1)).sum();
    assert!(reused >= 40, "slots were reused {reused} times only");
    let without = share(oracle.placeless(), size.flows);
    assert!((0.005..0.03).contains(&without), "{without} % of all flows have no place");
    assert!(world.event(Event::LostRace) > 0 && world.event(Event::Repicked) > 0, "nothing came in between");
    assert!(oracle.seen("evicted") > 0, "no bucket was full");
    assert!(oracle.seen("stored twice at once") < u64::from(size.flows) / 10_000, "two entries of one flow");
}
