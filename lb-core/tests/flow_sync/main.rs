//! Flow sync in a simulation: nodes with tables in memory, a network that loses, doubles and overtakes, flows that come,
//! move and go, roles that change, splits and restarts. When all is quiet each standby has exactly the active's flows.

mod node;
mod world;

use world::World;

/// Schedules of one run.
const SCHEDULES: u64 = 150;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn when_all_is_quiet_each_standby_has_the_flows_of_the_active_and_no_others() {
    let first = number("FAIRLEAD_SEED").unwrap_or(1);
    let count = number("FAIRLEAD_SCHEDULES").unwrap_or(SCHEDULES);
    let mut compared = 0;
    for seed in first..first + count {
        match World::new(seed).run() {
            Ok(flows) => compared += flows,
            Err(fault) => panic!(
                "{fault}\nFAIRLEAD_SEED={seed} FAIRLEAD_SCHEDULES=1 cargo test -p lb-core --test flow_sync"
            ),
        }
    }
    assert!(compared > count * 20, "{compared} flows only");
}
