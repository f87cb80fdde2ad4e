//! A full bucket: who has to go for a newcomer, and who never does.

use fairlead_tests::packets::client::ip;
use fairlead_tests::packets::setup::ORDINARY;
use fairlead_tests::packets::wire::TCP;
use fairlead_tests::packets::{Client, Probe, Random, Setup};
use lb_common::flow::FlowEntry;
use lb_common::idle::IdleTicks;

use crate::both::Both;
use crate::fixture::{MTU, VIP4, forwarded, hash, to};

const NEW: u8 = 0;
const LIVE: u8 = FlowEntry::CONFIRMED;
const CLOSING: u8 = FlowEntry::CONFIRMED | FlowEntry::CLOSING;
const EXCEPTION: u8 = FlowEntry::EXCEPTION;
const UDP: u8 = FlowEntry::UDP;

/// One service, one backend, and a flow table of a single bucket; nothing is ever expired in it.
fn setup() -> Setup {
    let mut setup = Setup::new(MTU).service(ip(VIP4), 80, TCP, ORDINARY, &[1]).backend(
        1,
        ip("10.0.0.1"),
        Some(ip("10.0.0.254")),
    );
    setup.buckets = 1;
    setup
}

/// Age in ticks and state of an entry; `None`: empty.
type Place = Option<(u16, u8)>;

/// Fills the bucket, sends a newcomer, and says in which way it is now.
fn newcomer(both: &mut Both, client: &Client, places: [Place; 8]) -> (Option<usize>, Vec<&'static str>) {
    let tick = both.tick();
    let mut before = [FlowEntry::EMPTY; 8];
    for (way, place) in places.into_iter().enumerate() {
        if let Some((age, state)) = place {
            before[way] = FlowEntry::new(way as u32 + 1, 1, tick.wrapping_sub(age), state);
        }
        both.put_entry(0, way, before[way].0);
    }
    let seen = both.run(&client.frame());
    assert_eq!(seen.frame, forwarded(&setup(), client, 1), "forwarded whether stored or not");
    let after = both.entries(0);
    let changed: Vec<usize> = (0..8).filter(|way| after[*way] != before[*way]).collect();
    assert!(changed.len() <= 1, "{before:?} {after:?}");
    let place = changed.first().copied();
    if let Some(way) = place {
        assert_eq!((after[way].fingerprint(), after[way].state()), (hash(client).fingerprint(), NEW));
    }
    (place, seen.events)
}

const EVICTED: &[&str] = &["flow_stored", "flow_evicted"];

#[test]
fn the_one_worth_least_goes() {
    let live = |age| Some((age, LIVE));
    let rest = |places: [Place; 4]| {
        let [a, b, c, d] = places;
        [a, b, c, d, live(20), live(40), live(60), live(30)]
    };
    let cases: &[(&str, [Place; 8], usize)] = &[
        ("closing before anything", rest([Some((900, NEW)), live(900), Some((2, CLOSING)), live(1_000)]), 2),
        (
            "the oldest of the closing",
            rest([Some((4, CLOSING)), Some((8, CLOSING)), Some((6, CLOSING)), live(900)]),
            1,
        ),
        ("unconfirmed before the confirmed", rest([live(900), live(1_000), live(2), Some((2, NEW))]), 3),
        (
            "the oldest of the unconfirmed",
            rest([Some((4, NEW)), Some((2, NEW)), Some((9, NEW)), live(900)]),
            2,
        ),
        ("the oldest of the confirmed", rest([live(61), live(2), live(90), live(4)]), 2),
        ("the oldest, wherever", rest([live(1), live(2), live(3), live(4)]), 6),
        (
            "never closed: closing without confirmation",
            rest([Some((2, FlowEntry::CLOSING)), Some((900, NEW)), live(9), live(9)]),
            0,
        ),
        (
            "UDP by the same order",
            rest([Some((70, LIVE | UDP)), Some((2, NEW | UDP)), live(900), live(9)]),
            1,
        ),
        (
            "what a peer sent by the same order",
            rest([Some((70, LIVE | FlowEntry::REMOTE)), live(9), live(9), live(9)]),
            0,
        ),
        ("no exception, however old", rest([Some((1_000, LIVE | EXCEPTION)), live(2), live(3), live(4)]), 6),
        (
            "no closing exception",
            rest([Some((1_000, CLOSING | EXCEPTION)), Some((2, NEW)), live(3), live(4)]),
            1,
        ),
    ];
    let mut both = Both::new(&setup());
    for (name, places, expected) in cases {
        let (way, events) = newcomer(&mut both, &to(VIP4), *places);
        assert_eq!((way, &events[..]), (Some(*expected), EVICTED), "{name}");
    }
}

#[test]
fn an_empty_place_is_taken_before_anybody_goes() {
    let mut both = Both::new(&setup());
    for empty in 0..8 {
        for state in [CLOSING, NEW, LIVE, LIVE | EXCEPTION] {
            let mut places = [Some((900, state)); 8];
            places[empty] = None;
            let (way, events) = newcomer(&mut both, &to(VIP4), places);
            assert_eq!((way, &events[..]), (Some(empty), &["flow_stored"][..]), "way {empty} among {state}");
        }
    }
}

#[test]
fn the_fingerprint_says_which_empty_place_comes_first() {
    let mut both = Both::new(&setup());
    for port in 1_000..1_064 {
        let client = to(VIP4).port(port);
        let (way, _) = newcomer(&mut both, &client, [None; 8]);
        assert_eq!(way, Some(hash(&client).fingerprint() as usize % 8), "port {port}");
    }
}

#[test]
fn exceptions_are_never_evicted_and_the_newcomer_goes_unstored() {
    let mut both = Both::new(&setup());
    for state in [LIVE, NEW, CLOSING, LIVE | UDP, LIVE | FlowEntry::REMOTE] {
        for age in [0, 2, 1_000] {
            let (way, events) = newcomer(&mut both, &to(VIP4), [Some((age, state | EXCEPTION)); 8]);
            assert_eq!((way, &events[..]), (None, &["flow_unstored"][..]), "state {state} age {age}");
        }
        for only in 0..8 {
            let mut places = [Some((1_000, state | EXCEPTION)); 8];
            places[only] = Some((0, LIVE));
            let (way, events) = newcomer(&mut both, &to(VIP4), places);
            assert_eq!((way, &events[..]), (Some(only), EVICTED), "among exceptions");
        }
    }
}

/// Ages in ticks above which an entry is expired.
const ESTABLISHED: u16 = 400;
const CLOSES: u16 = 60;
const DATAGRAMS: u16 = 200;
const UNCONFIRMED: u16 = 100;

/// The same with idle times.
fn setup_with_idle() -> Setup {
    let mut setup = setup();
    setup.idle = IdleTicks::new(ESTABLISHED, CLOSES, DATAGRAMS, UNCONFIRMED);
    setup
}

#[test]
fn the_expired_go_first_whatever_they_are() {
    let cases: &[(&str, Place)] = &[
        ("a datagram's flow that is younger than a connection", Some((210, LIVE | UDP))),
        ("a connection", Some((410, LIVE))),
        ("one that closed", Some((70, CLOSING))),
        ("one that never went on", Some((110, NEW))),
        ("an exception", Some((410, LIVE | EXCEPTION))),
        ("a datagram's exception", Some((210, LIVE | UDP | EXCEPTION))),
        ("an exception that closed", Some((70, CLOSING | EXCEPTION))),
    ];
    let mut both = Both::new(&setup_with_idle());
    for (name, expired) in cases {
        for way in 0..8 {
            let mut places = [Some((390, LIVE)); 8];
            (places[0], places[1], places[2]) =
                (Some((50, CLOSING)), Some((90, NEW)), Some((390, LIVE | EXCEPTION)));
            places[way] = *expired;
            let (gone, events) = newcomer(&mut both, &to(VIP4), places);
            assert_eq!((gone, &events[..]), (Some(way), EVICTED), "{name} in way {way}");
        }
    }
}

#[test]
fn an_exception_stays_to_the_end_of_its_time() {
    let mut both = Both::new(&setup_with_idle());
    for (age, state) in [(390, LIVE), (190, LIVE | UDP), (50, CLOSING), (90, NEW)] {
        let (way, events) = newcomer(&mut both, &to(VIP4), [Some((age, state | EXCEPTION)); 8]);
        assert_eq!((way, &events[..]), (None, &["flow_unstored"][..]), "state {state} age {age}");
    }
}

#[test]
fn ages_one_tick_apart_are_told_apart() {
    let mut both = Both::new(&setup());
    for older in 0..8 {
        let mut places = [Some((10, LIVE)); 8];
        places[older] = Some((11, LIVE));
        assert_eq!(newcomer(&mut both, &to(VIP4), places).0, Some(older));
    }
}

/// Class of an entry: the higher goes first.
fn class(age: u16, state: u8) -> Option<u8> {
    let longest = match () {
        () if state & UDP != 0 => DATAGRAMS,
        () if state & FlowEntry::CLOSING != 0 => CLOSES,
        () if state & FlowEntry::CONFIRMED != 0 => ESTABLISHED,
        () => UNCONFIRMED,
    };
    match () {
        () if age > longest => Some(3),
        () if state & EXCEPTION != 0 => None,
        () if state & FlowEntry::CLOSING != 0 => Some(2),
        () if state & FlowEntry::CONFIRMED == 0 => Some(1),
        () => Some(0),
    }
}

#[test]
fn random_buckets_lose_whom_the_rules_name() {
    let mut random = Random::seeded("random_buckets_lose_whom_the_rules_name");
    let mut both = Both::new(&setup_with_idle());
    for _ in 0..3_000 {
        // Odd ages, and even limits, so that a tick that passes meanwhile changes no order and lets none expire.
        let start = random.below(64) as u16;
        let places: [Place; 8] = std::array::from_fn(|at| {
            let age = 2 * (start + (at as u16 * 5 + start) % 8 * 50) + 1;
            Some((age, random.below(32) as u8))
        });
        let expected = (0..8)
            .filter_map(|way| {
                places[way].and_then(|(age, state)| class(age, state).map(|class| (class, age, way)))
            })
            .max()
            .map(|(_, _, way)| way);
        let client = to(VIP4).port(random.below(60_000) as u16);
        let (way, _) = newcomer(&mut both, &client, places);
        assert_eq!(way, expected, "{places:?} from port {}", client.port);
    }
}
