//! Answers compared with the tables that there really were, and the limits.

use std::net::Ipv4Addr;
use std::time::Duration;

use lb_common::SlotState;
use lb_common::packet::Family;

use super::*;
use crate::config::{AdminState, Limits, Mode, Protocol};
use crate::health::Verdict;
use crate::plan::{Desired, DesiredBackend, DesiredService, diff};

/// One table: its class, the source of outer headers (another one takes other slots), last octet and weight of
/// backends.
#[derive(Clone, Copy, Debug)]
struct Step<'s>(TableClass, u8, &'s [(u8, u32)]);

const SMALL: TableClass = TableClass::Small;
const MEDIUM: TableClass = TableClass::Medium;

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn key(service: u16) -> ServiceKey {
    ServiceKey { vip: [192, 0, 2, 1].into(), port: service, protocol: Protocol::Tcp }
}

/// A moment so many seconds after the first.
fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A cause that is told from others by its number.
fn cause(number: usize) -> Cause {
    Cause::Network(number.to_string())
}

fn service(Step(class, source, pool): Step<'_>) -> DesiredService {
    let backend = |(last, weight): &(u8, u32)| {
        let planned = DesiredBackend {
            mode: Mode::Ipip,
            inner: Family::V4,
            source: Some([10, 0, 1, source].into()),
            mac: Some([2, 0, 0, 0, 0, *last]),
            egress: 0,
            state: SlotState::Serving,
            table_weight: *weight,
        };
        (address(*last), planned)
    };
    DesiredService {
        name: "web".to_owned(),
        class,
        track: true,
        backends: pool.iter().map(backend).collect(),
    }
}

/// Maps and their history.
struct World {
    actual: Actual,
    history: History,
    desired: Desired,
    changes: usize,
}

impl World {
    fn new() -> Self {
        let limits = Limits { services: 64, backends: 256, table_slots: 64 * 65_536, ..Limits::default() };
        Self {
            actual: Actual::new(limits),
            history: History::default(),
            desired: Desired::default(),
            changes: 0,
        }
    }

    /// Gives a service this table, or takes it away, by the cause and at the second of this change's number from 0.
    fn change(&mut self, number: u16, step: Option<Step<'_>>) {
        let changes = self.changes;
        self.change_by(number, step, &cause(changes));
    }

    fn change_by(&mut self, number: u16, step: Option<Step<'_>>, cause: &Cause) {
        match step {
            Some(step) => self.desired.services.insert(key(number), service(step)),
            None => self.desired.services.remove(&key(number)),
        };
        let ops = diff(&self.actual, &self.desired).expect("room enough");
        ops.iter().for_each(|op| self.actual.apply(op));
        self.history.record(at(self.changes as u64), cause, &self.actual);
        self.changes += 1;
    }

    /// Whom the present table of service 1 gives a flow.
    fn choice(&self, fingerprint: u32) -> Option<IpAddr> {
        let (_, word) = self.actual.service(&key(1))?;
        let slot = self.actual.table(&key(1))?.get(table_index(word.class(), fingerprint) as usize)?;
        self.actual.slot(*slot).map(|(row, _)| row.address)
    }

    fn since(&self, fingerprint: u32, last: u8) -> Option<Since<'_>> {
        self.history.since(&key(1), fingerprint, address(last))
    }

    fn remembered(&self, service: u16) -> usize {
        self.history.services.get(&key(service)).map_or(0, |past| past.switches.len())
    }
}

/// Flows that fall on places all over a table of any size.
fn fingerprints() -> impl Iterator<Item = u32> {
    (0..200).map(|number| number * 21_474_836)
}

/// Goes from table to table; then, for every flow and every backend that it does not go to, the answer must be the
/// newest change that took the flow's place from the backend, by the tables that there were. Gives the number of
/// answers by change.
#[track_caller]
fn check(steps: &[Step<'_>]) -> BTreeMap<usize, usize> {
    let mut world = World::new();
    let mut choices: Vec<Vec<Option<IpAddr>>> = Vec::new();
    for step in steps {
        world.change(1, Some(*step));
        choices.push(fingerprints().map(|fingerprint| world.choice(fingerprint)).collect());
    }
    let backends: BTreeSet<u8> =
        steps.iter().flat_map(|Step(_, _, pool)| pool.iter().map(|(last, _)| *last)).collect();
    let mut answers = BTreeMap::new();
    for (flow, fingerprint) in fingerprints().enumerate() {
        for last in &backends {
            let named: Vec<bool> = choices.iter().map(|all| all[flow] == Some(address(*last))).collect();
            if named.last() == Some(&true) {
                continue;
            }
            let expected = named.iter().rposition(|named| *named).map(|before| before + 1);
            let answer = match world.since(fingerprint, *last) {
                Some(Since::Switch(switch)) => {
                    let number = (0..steps.len()).find(|number| *switch.cause == cause(*number));
                    assert_eq!(Some(switch.at), number.map(|number| at(number as u64)));
                    number
                }
                Some(Since::Longer { known_since, horizon }) => {
                    assert_eq!((known_since, horizon), (at(0), Horizon::Added));
                    None
                }
                None => panic!("the service is not known"),
            };
            assert_eq!(answer, expected, "fingerprint {fingerprint:#010x}, backend {last}, {steps:?}");
            if let Some(number) = answer {
                *answers.entry(number).or_default() += 1;
            }
        }
    }
    answers
}

#[test]
fn each_change_of_the_pool_is_named_for_the_flows_that_it_made_exceptions() {
    let two = [(1, 1), (2, 1)];
    let three = [(1, 1), (2, 1), (3, 1)];
    // Added, weighed, removed, added again, and removed for good.
    let steps = [
        Step(SMALL, 1, &two),
        Step(SMALL, 1, &three),
        Step(SMALL, 1, &[(1, 1), (2, 9), (3, 1)]),
        Step(SMALL, 1, &[(1, 1), (2, 9)]),
        Step(SMALL, 1, &three),
        Step(SMALL, 1, &two),
        Step(SMALL, 1, &[(2, 1)]),
    ];
    for last in 1..steps.len() {
        let answers = check(&steps[..=last]);
        assert!(answers.contains_key(&last), "change {last} moves no flow: {answers:?}");
    }
}

#[test]
fn table_without_backends_takes_every_flow_from_its_backend() {
    let answers = check(&[Step(SMALL, 1, &[(1, 1), (2, 1)]), Step(SMALL, 1, &[])]);
    assert_eq!(answers, BTreeMap::from([(1, fingerprints().count())]));
    check(&[
        Step(SMALL, 1, &[]),
        Step(SMALL, 1, &[(1, 1), (2, 1)]),
        Step(SMALL, 1, &[]),
        Step(SMALL, 1, &[(2, 1), (3, 1)]),
        Step(SMALL, 1, &[(3, 1)]),
    ]);
}

#[test]
fn change_of_the_tables_size_moves_flows_like_any_other() {
    let pool = [(1, 3), (2, 2), (3, 1)];
    let answers = check(&[
        Step(SMALL, 1, &pool),
        Step(MEDIUM, 1, &pool),
        Step(MEDIUM, 1, &pool[..2]),
        Step(SMALL, 1, &pool[..2]),
    ]);
    assert!(answers.contains_key(&1) && answers.contains_key(&3), "{answers:?}");
}

#[test]
fn backend_in_another_slot_is_the_same_backend() {
    let pool = [(1, 1), (2, 1), (3, 1)];
    let answers = check(&[
        Step(SMALL, 1, &pool),
        Step(SMALL, 2, &pool),
        Step(SMALL, 2, &pool[..2]),
        Step(SMALL, 3, &pool[..2]),
    ]);
    assert!(answers.keys().eq([2].iter()), "{answers:?}");
}

#[test]
fn table_that_is_made_anew_without_another_pool_is_no_switch() {
    let mut world = World::new();
    for source in [1, 2, 3] {
        world.change(1, Some(Step(SMALL, source, &[(1, 1), (2, 1)])));
    }
    let generation = world.actual.service(&key(1)).map(|(_, word)| word.generation());
    assert_eq!((world.remembered(1), generation), (1, Some(3)));
}

#[test]
fn switch_tells_the_generation_of_the_services_word() {
    let mut world = World::new();
    for pool in [&[(1, 1)][..], &[(2, 1)], &[(3, 1)], &[]] {
        world.change(1, Some(Step(SMALL, 1, pool)));
    }
    // Losing the table keeps the generation.
    for (last, generation) in [(1, 2), (2, 3), (3, 3)] {
        let Some(Since::Switch(switch)) = world.since(0, last) else { panic!("backend {last}") };
        assert_eq!(switch.generation, generation, "backend {last}");
    }
}

#[test]
fn service_that_is_added_again_has_no_past() {
    let mut world = World::new();
    world.change(1, Some(Step(SMALL, 1, &[(1, 1)])));
    world.change(1, Some(Step(SMALL, 1, &[(2, 1)])));
    world.change(1, None);
    assert_eq!(world.since(0, 1), None);
    world.change(1, Some(Step(SMALL, 1, &[(2, 1)])));
    assert_eq!(world.since(0, 1), Some(Since::Longer { known_since: at(3), horizon: Horizon::Added }));
}

#[test]
fn services_have_a_history_each_and_their_changes_a_cause() {
    let mut world = World::new();
    world.change(1, Some(Step(SMALL, 1, &[(1, 1)])));
    world.change(2, Some(Step(SMALL, 1, &[(1, 1)])));
    world.change(2, Some(Step(SMALL, 1, &[(2, 1)])));
    assert_eq!((world.remembered(1), world.remembered(2)), (1, 2));
}

#[test]
fn tables_of_an_earlier_daemon_are_not_known() {
    let mut world = World::new();
    world.change_by(1, Some(Step(SMALL, 1, &[(1, 1)])), &Cause::Start { adopted: true });
    let horizon = Horizon::EarlierDaemon;
    assert_eq!(world.since(0, 9), Some(Since::Longer { known_since: at(0), horizon }));
    world.change(1, Some(Step(SMALL, 1, &[(2, 1)])));
    assert!(matches!(world.since(0, 1), Some(Since::Switch(switch)) if switch.at == at(1)));
    // What is added later has no table that this daemon does not know.
    world.change(2, Some(Step(SMALL, 1, &[(1, 1)])));
    let second = world.history.since(&key(2), 0, address(9));
    assert_eq!(second, Some(Since::Longer { known_since: at(2), horizon: Horizon::Added }));
}

#[test]
fn table_found_in_the_maps_and_not_recognised_is_not_known() {
    let mut history = History::default();
    let mut world = World::new();
    world.change(1, Some(Step(SMALL, 1, &[(1, 1)])));
    let (index, word) = world.actual.service(&key(1)).expect("published");
    let table = world.actual.table(&key(1)).expect("serving").to_vec();
    let snapshot = crate::plan::Snapshot {
        services: vec![(key(1), index, word, table)],
        ..crate::plan::Snapshot::default()
    };
    history.record(at(0), &Cause::Start { adopted: true }, &Actual::from_snapshot(snapshot));
    assert_eq!(history.since(&key(1), 0, address(1)), None);
}

#[test]
fn oldest_switches_of_a_service_are_forgotten_and_that_is_said() {
    let mut world = World::new();
    world.change(1, Some(Step(SMALL, 1, &[(1, 1)])));
    for number in 0..MAX_SWITCHES {
        world.change(1, Some(Step(SMALL, 1, &[(2 + u8::from(number % 2 == 0), 1)])));
    }
    assert_eq!(world.remembered(1), MAX_SWITCHES);
    let expected = Since::Longer { known_since: at(1), horizon: Horizon::Forgotten };
    assert_eq!(world.since(0, 1), Some(expected));
    assert!(matches!(world.since(0, 3), Some(Since::Switch(_))));
}

/// A service's past with tables of this class and pool, as many as the limits of one service allow.
fn full_past(class: TableClass, pool: &Arc<[(IpAddr, u32)]>, age: u64) -> Past {
    let mut past = Past { switches: VecDeque::new(), horizon: Horizon::Added };
    for number in 0..2 * MAX_SWITCHES as u64 {
        let table = Table { class, pool: Arc::clone(pool) };
        let cause = Arc::new(Cause::Reload);
        past.switches.push_back(Switch { at: at(age + number), generation: 1, cause, table });
        past.keep_to_limits();
    }
    past
}

fn members(count: u16, weight: impl Fn(u16) -> u32) -> Arc<[(IpAddr, u32)]> {
    (0..count)
        .map(|number| (Ipv4Addr::from(0x0a00_0000 + u32::from(number)).into(), weight(number)))
        .collect()
}

#[test]
fn a_lookup_populates_no_more_than_its_bound() {
    let uneven = |number| if number == 0 { 1_000 } else { 1 };
    for (class, pool, expected) in [
        (SMALL, members(40, |_| 1), MAX_SWITCHES),
        (MEDIUM, members(1_000, |_| 1), MAX_SWITCHES),
        (TableClass::Large, members(10_000, |_| 1), 1 + 17),
        // Each of the heavy one's places costs a round in which all others get next to nothing.
        (TableClass::Large, members(1_000, uneven), 1 + 1),
        (TableClass::Large, members(60_000, uneven), 1),
        (SMALL, members(0, |_| 1), MAX_SWITCHES),
    ] {
        let past = full_past(class, &pool, 0);
        assert_eq!(past.switches.len(), expected, "{class:?}, {} members", pool.len());
        assert_eq!(past.horizon, Horizon::Forgotten);
    }
}

#[test]
fn all_services_together_keep_to_their_limits_and_the_oldest_switches_go() {
    for (services, pool) in [(300, members(0, |_| 1)), (20, members(1_000, |_| 1))] {
        let mut history = History::default();
        for number in 0..services {
            history.services.insert(key(number), full_past(SMALL, &pool, 1_000 * u64::from(number)));
        }
        history.keep_to_limits();
        let kept: Vec<usize> = history.services.values().map(|past| past.switches.len()).collect();
        let switches = kept.iter().sum::<usize>() - kept.len();
        let members = switches * pool.len();
        assert!(switches <= MAX_SWITCHES_IN_ALL && members <= MAX_MEMBERS_IN_ALL, "{kept:?}");
        // One more would be too many.
        assert!(
            switches == MAX_SWITCHES_IN_ALL || members + pool.len() > MAX_MEMBERS_IN_ALL,
            "{switches} switches, {members} members"
        );
        assert!(kept.is_sorted() && kept[0] == 1 && kept.last() == Some(&MAX_SWITCHES), "{kept:?}");
    }
}

#[test]
fn more_services_than_switches_are_remembered_have_a_history_of_the_latest_ones() {
    let services = 10_000;
    let pools = [members(1, |_| 1), members(2, |_| 1)];
    let mut history = History::default();
    // A backend that all of them share comes and goes.
    for (second, pool) in pools.iter().cycle().take(4).enumerate() {
        let cause = Arc::new(Cause::Reload);
        for number in 0..services {
            let table = Table { class: SMALL, pool: Arc::clone(pool) };
            let at = at(second as u64);
            let switch = Switch { at, generation: 1, cause: Arc::clone(&cause), table };
            let past = Past { switches: VecDeque::new(), horizon: Horizon::Added };
            history.services.entry(key(number)).or_insert(past).switches.push_back(switch);
        }
        history.keep_to_limits();
        let earlier = || history.services.values().flat_map(Past::earlier);
        assert_eq!(earlier().count(), if second == 0 { 0 } else { MAX_SWITCHES_IN_ALL });
        assert!(earlier().all(|switch| switch.at == at(second as u64 - 1)), "after second {second}");
        assert!(history.services.values().all(|past| !past.switches.is_empty()), "after second {second}");
    }
    // One of these was changed alone since.
    let last = key(0);
    let past = history.services.get_mut(&last).expect("of the services");
    let table = Table { class: SMALL, pool: Arc::clone(&pools[0]) };
    past.switches.push_back(Switch { at: at(9), generation: 1, cause: Arc::new(Cause::Reload), table });
    history.keep_to_limits();
    assert!(
        matches!(history.since(&last, 0, address(200)), Some(Since::Longer { known_since, .. }) if known_since == at(3))
    );
    assert_eq!(history.services[&last].switches.len(), 2);
}

#[test]
fn causes_are_told_in_the_words_of_whoever_made_them() {
    let ip = address;
    let set = |all: &[u8]| -> BTreeSet<IpAddr> { all.iter().map(|last| address(*last)).collect() };
    let service = || "web".to_owned();
    let command = |change| Cause::Command(change);
    let state = |state| command(Change::SetState { service: service(), address: ip(1), state });
    let reason = "10.0.0.12:80: connection refused".to_owned();
    let transition = Transition { from: Verdict::Up, to: Verdict::Down, reason };
    for (cause, words) in [
        (Cause::Start { adopted: false }, "start"),
        (Cause::Start { adopted: true }, "start"),
        (Cause::Reload, "reload"),
        (
            command(Change::AddBackend { service: service(), address: ip(13), weight: 1 }),
            "backend add web 10.0.0.13",
        ),
        (
            Cause::Undone(Box::new(command(Change::AddBackend {
                service: service(),
                address: ip(13),
                weight: 2,
            }))),
            "undone: backend add web 10.0.0.13 --weight 2",
        ),
        (
            command(Change::RemoveBackend { service: service(), address: ip(1) }),
            "backend remove web 10.0.0.1",
        ),
        (
            command(Change::SetWeight { service: service(), address: ip(1), weight: 7 }),
            "backend weight web 10.0.0.1 7",
        ),
        (state(AdminState::Enabled), "backend enable web 10.0.0.1"),
        (state(AdminState::Drain), "backend drain web 10.0.0.1"),
        (state(AdminState::Disabled), "backend disable web 10.0.0.1"),
        (
            Cause::Health { backend: ip(12), transition },
            "health of 10.0.0.12: up -> down (10.0.0.12:80: connection refused)",
        ),
        (Cause::network(&set(&[1, 2]), &set(&[1])), "network: next hop lost for 10.0.0.2"),
        (
            Cause::network(&set(&[9]), &set(&[1, 2, 3, 4, 5])),
            "network: next hop lost for 10.0.0.9, next hop found for 10.0.0.1, 10.0.0.2, 10.0.0.3 and 2 more",
        ),
        (Cause::network(&set(&[1]), &set(&[1])), "network: nothing new, what failed earlier was tried again"),
    ] {
        assert_eq!(cause.to_string(), words);
    }
}
