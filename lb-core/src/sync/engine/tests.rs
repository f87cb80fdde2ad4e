//! Two nodes that hear each other, and what else may be on the wire.

use std::sync::atomic::{AtomicU64, Ordering};

use lb_common::flow::FlowEntry;
use lb_common::idle::IdleTicks;
use lb_common::limits::WAYS;

use super::*;
use crate::config::Protocol;
use crate::sync::apply::Table;

const SERVICE: ServiceKey = ServiceKey {
    vip: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    port: 80,
    protocol: Protocol::Tcp,
};

struct Node {
    words: Vec<AtomicU64>,
    directory: Directory,
    groups: Vec<GroupFacts>,
    verdicts: Vec<ServiceSaid>,
    sync: Sync,
    heard: Vec<Effect>,
    /// Everything that it sent.
    sent: Vec<Vec<u8>>,
}

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 1))
}

fn engine(number: u8, session: u64) -> Sync {
    let key = ClusterKey::from_file(b"the key of two nodes").unwrap();
    let settings = Settings {
        cluster: "c".into(),
        node: format!("n{number}"),
        key,
        session,
        peers: vec![address(3 - number)],
        max_rate: 1_000_000,
        told_of: ToldOf::All,
    };
    Sync::new(settings, ms(0))
}

fn node(number: u8, buckets: usize) -> Node {
    let services = [SERVICE].into();
    Node {
        words: (0..buckets * WAYS).map(|_| AtomicU64::new(0)).collect(),
        directory: [(u16::from(number), SERVICE, [10, 1, 1, 1].into())].into_iter().collect(),
        groups: vec![GroupFacts { name: "g".into(), priority: 1, active: number == 1, services }],
        verdicts: vec![ServiceSaid { service: SERVICE, backends: Vec::new(), digest: 7 }],
        sync: engine(number, 100 + u64::from(number)),
        heard: Vec::new(),
        sent: Vec::new(),
    }
}

impl Node {
    fn with(&mut self, act: impl FnOnce(&mut Sync, &Context<'_, AtomicU64>)) -> Vec<Vec<u8>> {
        let table = Table { words: &self.words, tick: 5, idle: IdleTicks::default() };
        let context =
            Context { table, directory: &self.directory, groups: &self.groups, verdicts: &self.verdicts };
        act(&mut self.sync, &context);
        let mut out = Vec::new();
        while let Some(effect) = self.sync.poll() {
            match effect {
                Effect::Send { datagram, .. } => out.push(datagram),
                other => self.heard.push(other),
            }
        }
        self.sent.extend(out.iter().cloned());
        out
    }

    fn tick(&mut self, now: Duration) -> Vec<Vec<u8>> {
        self.with(|sync, context| sync.tick(now, context))
    }

    fn hear(&mut self, now: Duration, from: u8, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let hear = |sync: &mut Sync, context: &Context<'_, _>| {
            datagrams.iter().for_each(|datagram| sync.handle(now, address(from), datagram, context));
        };
        self.with(hear)
    }

    fn flows(&self) -> Vec<(u32, u16)> {
        let entries = self.words.iter().map(|word| FlowEntry(word.load(Ordering::Relaxed)));
        entries.filter(|entry| !entry.is_empty()).map(|entry| (entry.fingerprint(), entry.slot())).collect()
    }

    fn status(&self) -> PeerStatus {
        self.sync.status().remove(0)
    }
}

/// All that both have to say in the intervals of this time.
fn talk(one: &mut Node, two: &mut Node, times: std::ops::Range<u64>) {
    for time in times.step_by(100) {
        let (mut to_two, mut to_one) = (one.tick(ms(time)), two.tick(ms(time)));
        while !to_two.is_empty() || !to_one.is_empty() {
            let answer = two.hear(ms(time), 1, &to_two);
            to_two = one.hear(ms(time), 2, &to_one);
            to_one = answer;
        }
    }
}

fn pair() -> (Node, Node) {
    let (mut one, two) = (node(1, 4), node(2, 4));
    let flow = FlowEntry::new(9, 1, 1, FlowEntry::CONFIRMED);
    one.words[9].store(flow.0, Ordering::Relaxed);
    one.sent.clear();
    (one, two)
}

#[test]
fn a_standby_has_flows_and_verdicts_after_a_few_intervals_and_its_gate_opens() {
    let (mut one, mut two) = pair();
    assert!(!two.sync.gate("g"), "it may be that nobody has answered yet");
    talk(&mut one, &mut two, 0..500);
    assert_eq!(two.flows(), [(9, 2)]);
    assert!(two.heard.contains(&Effect::Verdicts { peer: address(1), said: two.verdicts[0].clone() }));
    assert!(two.sync.gate("g") && two.status().have_theirs && one.status().has_ours);
    assert_eq!((one.status().lag, one.status().resent, one.status().rejected.total()), (0, 0, 0));
    one.words[9].store(0, Ordering::Relaxed);
    talk(&mut one, &mut two, 500..700);
    assert_eq!(two.flows(), []);
}

#[test]
fn who_was_active_itself_is_not_ready_before_a_bulk_of_the_next_one() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    // One was away; when it is back it does not know yet that the other is active now.
    one.groups[0].active = false;
    two.groups[0].active = true;
    one.tick(ms(510));
    assert_eq!(one.sync.readiness("g"), Readiness::NobodyActive);
    talk(&mut one, &mut two, 520..1_100);
    assert_eq!(one.sync.readiness("g"), Readiness::Ready);
    assert!(one.sync.is_claimed("g") && !two.sync.is_claimed("g"));
}

#[test]
fn after_a_split_the_winner_takes_what_it_lacks_and_keeps_what_it_has() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    two.groups[0].active = true;
    let put = |node: &Node, at: usize, fingerprint, slot, tick, state| {
        let entry = FlowEntry::new(fingerprint, slot, tick, FlowEntry::CONFIRMED | state);
        node.words[at].store(entry.0, Ordering::Relaxed);
    };
    for time in (600..2_000).step_by(100) {
        one.tick(ms(time));
        two.tick(ms(time));
    }
    // Both know 16; 24 came up here alone; 8 has been idle for long, and 12 is what the other had told.
    put(&one, 16, 16, 1, 5, 0);
    put(&two, 16, 16, 2, 5, 0);
    put(&two, 24, 24, 2, 5, 0);
    put(&two, 8, 8, 2, 2_000, 0);
    put(&two, 12, 12, 2, 5, FlowEntry::REMOTE);
    two.groups[0].active = false;
    talk(&mut one, &mut two, 2_000..3_000);
    let expected = [(9, 1), (16, 1), (24, 1)];
    assert_eq!(one.flows(), expected);
    assert_eq!(two.flows(), expected.map(|(fingerprint, _)| (fingerprint, 2)));
    assert_eq!((two.sync.readiness("g"), one.status().behind), (Readiness::Ready, ms(0)));
}

#[test]
fn the_winners_bulk_clears_nothing_of_the_loser_before_it_was_offered() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    two.groups[0].active = true;
    (600..2_000).step_by(100).for_each(|time| drop((one.tick(ms(time)), two.tick(ms(time)))));
    two.words[24].store(FlowEntry::new(24, 2, 5, FlowEntry::CONFIRMED).0, Ordering::Relaxed);
    two.groups[0].active = false;
    // The loser hears all of the winner's bulk before it has a turn of its own in which it knows the winner.
    let hello = two.tick(ms(2_000));
    let answer = one.hear(ms(2_000), 2, &hello);
    let answer = two.hear(ms(2_000), 1, &answer);
    one.hear(ms(2_000), 2, &answer);
    let bulk = one.tick(ms(2_050));
    two.hear(ms(2_050), 1, &bulk);
    let bulk = one.tick(ms(2_100));
    two.hear(ms(2_100), 1, &bulk);
    assert!(two.flows().contains(&(24, 2)), "{:?}", two.flows());
    talk(&mut one, &mut two, 2_200..3_500);
    assert_eq!(one.flows(), [(9, 1), (24, 1)]);
    assert_eq!((two.flows(), two.sync.readiness("g")), (vec![(9, 2), (24, 2)], Readiness::Ready));
}

#[test]
fn whoever_is_active_where_no_peer_is_has_nothing_to_give() {
    let (mut one, mut two) = pair();
    one.groups[0].active = false;
    talk(&mut one, &mut two, 0..900);
    assert_eq!(two.sync.readiness("g"), Readiness::NobodyActive);
    talk(&mut one, &mut two, 900..1_100);
    assert!(two.sync.readiness("g") == Readiness::Foreign && two.sync.gate("g"));
}

#[test]
fn a_sender_knows_how_far_a_peer_is_behind() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    assert_eq!(one.status().behind, ms(0));
    one.words[9].store(0, Ordering::Relaxed);
    for time in (500..900).step_by(100) {
        // Nothing gets through.
        one.tick(ms(time));
    }
    assert_eq!(one.status().behind, ms(300));
    talk(&mut one, &mut two, 900..1_300);
    assert_eq!(one.status().behind, ms(0));
}

#[test]
fn a_difference_of_configuration_keeps_the_gate_shut() {
    let (mut one, mut two) = pair();
    two.verdicts[0].digest = 8;
    talk(&mut one, &mut two, 0..500);
    assert!(two.status().have_theirs && !two.sync.gate("g"));
    assert_eq!(two.sync.readiness("g"), Readiness::Differs(address(1), vec![SERVICE]));
    assert_eq!((two.status().differing, one.status().differing), (vec![SERVICE], Vec::new()));
    two.verdicts[0].digest = 7;
    talk(&mut one, &mut two, 500..700);
    assert!(two.sync.gate("g"));
}

#[test]
fn a_silent_peer_is_down_and_its_flows_stay() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    two.tick(ms(1_500));
    assert_eq!(two.heard.last(), Some(&Effect::PeerDown(address(1))));
    assert!(two.sync.next_deadline() <= ms(1_600));
    two.tick(ms(3_100));
    assert_eq!(two.sync.readiness("g"), Readiness::NobodyActive, "it takes over, but from nobody");
    assert!(!two.flows().is_empty() && !two.sync.has_peer("g"));
    talk(&mut one, &mut two, 3_200..3_800);
    assert!(two.heard.contains(&Effect::PeerUp(address(1))) && two.status().have_theirs);
}

#[test]
fn what_was_recorded_is_not_taken_again_by_the_same_or_the_next_process() {
    let (mut one, mut two) = pair();
    talk(&mut one, &mut two, 0..500);
    let recorded = std::mem::take(&mut one.sent);
    one.words[9].store(0, Ordering::Relaxed);
    talk(&mut one, &mut two, 500..700);
    two.hear(ms(700), 1, &recorded);
    assert_eq!(two.flows(), []);
    assert!(two.status().rejected.of(WireError::Replay) > 0);
    // The first one starts anew: what its former process said is over, even if it is not in the window any more.
    one.sync = engine(1, 555);
    talk(&mut one, &mut two, 700..1_000);
    two.hear(ms(1_000), 1, &recorded);
    assert!(two.status().rejected.of(WireError::Session) > 0);
    assert_eq!((two.flows(), two.status().up), (vec![], true));
    two.sync = engine(2, 777);
    two.hear(ms(1_000), 1, &recorded);
    assert!(two.flows().is_empty() && !two.status().up);
    talk(&mut one, &mut two, 1_000..1_500);
    assert!(two.status().have_theirs);
}

#[test]
fn strangers_and_nodes_of_the_same_name_are_not_taken() {
    let (mut one, mut two) = pair();
    let hello = one.tick(ms(0));
    two.hear(ms(0), 77, &hello);
    assert_eq!(two.sync.strangers(), 1);
    let mirrored = two.tick(ms(0));
    two.hear(ms(0), 1, &mirrored);
    assert_eq!(two.status().rejected.of(WireError::Ourselves), 1);
    assert!(matches!(two.heard.as_slice(), [Effect::Warning(_)]));
    two.hear(ms(0), 1, &[vec![0; 9]]);
    assert_eq!(two.status().rejected.total(), 2);
}

#[test]
fn a_peer_with_too_few_buckets_is_named_and_nothing_is_taken_of_it() {
    let (mut one, mut two) = (node(1, 2), node(2, 4));
    one.words[9].store(FlowEntry::new(9, 1, 1, FlowEntry::CONFIRMED).0, Ordering::Relaxed);
    talk(&mut one, &mut two, 0..500);
    let is_named = |effect: &Effect| matches!(effect, Effect::Warning(text) if text.contains("limits.flows"));
    assert!(two.heard.iter().any(is_named) && two.flows().is_empty() && !two.sync.gate("g"));
    assert_eq!((one.status().up, one.status().resent), (true, 0));
}

#[test]
fn requests_reach_a_peer_that_is_up() {
    let (mut one, mut two) = pair();
    one.with(|sync, _| assert_eq!(sync.hand_over("g"), None));
    assert!(one.sent.is_empty(), "nobody is up");
    talk(&mut one, &mut two, 0..300);
    let asked = one.with(|sync, _| assert_eq!(sync.hand_over("g"), Some(address(2))));
    two.hear(ms(300), 1, &asked);
    let (peer, group) = (address(1), "g".to_owned());
    assert_eq!(two.heard.pop(), Some(Effect::HandOverAsked { peer, group: group.clone() }));
    let reply = two.with(|sync, _| {
        sync.reply_to_hand_over("g", true);
        sync.hold("g", ms(2_500));
    });
    one.hear(ms(300), 2, &reply);
    let peer = address(2);
    assert_eq!(one.heard.pop(), Some(Effect::Hold { peer, group: group.clone(), time: ms(2_500) }));
    assert_eq!(one.heard.pop(), Some(Effect::HandOverReply { peer, group, accepted: true }));
}
