//! Which backend a flow's packets go to, and what the flow table remembers, as stories of one client.

use fairlead_tests::packets::client::{ACK, FIN, PUSH, RST, SYN, Upper, ip};
use fairlead_tests::packets::host::words_of;
use fairlead_tests::packets::setup::{ORDINARY, word};
use fairlead_tests::packets::wire::{TCP, UDP};
use fairlead_tests::packets::{Client, Probe, Setup};
use lb_common::ServiceWord;
use lb_common::backend::SlotState;
use lb_common::flow::FlowEntry;

use crate::both::Both;
use crate::fixture::{MTU, VIP4, VIP6, forwarded, hash, to, to_port, tuple};

const NEW: u8 = 0;
const CONFIRMED: u8 = FlowEntry::CONFIRMED;
const CLOSING: u8 = FlowEntry::CONFIRMED | FlowEntry::CLOSING;

const STORED: &[&str] = &["flow_stored"];
const REPICKED: &[&str] = &["flow_stored", "flow_repicked"];
const MISSED: &[&str] = &["flow_stored", "flow_midstream_miss"];
const NOTHING: &[&str] = &[];

/// A service with three backends, one for UDP, one that is not tracked, one for IPv6. All places go to the first.
fn pool() -> Setup {
    let from = Some(ip("10.0.0.254"));
    let backend = |last: u16| ip(&format!("10.0.0.{last}"));
    Setup::new(MTU)
        .service(ip(VIP4), 80, TCP, ORDINARY, &[1])
        .backend(1, backend(1), from)
        .backend(2, backend(2), from)
        .backend(3, backend(3), from)
        .service(ip(VIP4), 53, UDP, ORDINARY, &[4])
        .backend(4, backend(4), from)
        .backend(5, backend(5), from)
        .service(ip(VIP4), 81, TCP, ORDINARY & !ServiceWord::TRACK, &[6])
        .backend(6, backend(6), from)
        .backend(7, backend(7), from)
        .service(ip(VIP6), 80, TCP, ORDINARY, &[8])
        .backend(8, ip("fd00::8"), Some(ip("fd00::ffff")))
        .backend(9, ip("fd00::9"), Some(ip("fd00::ffff")))
}

struct Story {
    setup: Setup,
    both: Both,
    client: Client,
    service: usize,
}

impl Story {
    fn of(client: Client, service: usize) -> Self {
        let setup = pool();
        Self { both: Both::new(&setup), setup, client, service }
    }

    fn tcp() -> Self {
        Self::of(to(VIP4), 0)
    }

    /// Bucket of the client's flow.
    fn bucket(&self) -> u32 {
        hash(&self.client).bucket(self.setup.buckets - 1)
    }

    fn entry(&self) -> Option<FlowEntry> {
        let fingerprint = hash(&self.client).fingerprint();
        let all = self.both.flows();
        let mut own = all.iter().filter(|(_, _, entry)| entry.fingerprint() == fingerprint);
        let found = own.next();
        assert!(own.next().is_none(), "one flow, one entry: {all:?}");
        found.map(|(bucket, way, entry)| {
            assert_eq!(*bucket, self.bucket());
            let protocol = if self.client.upper == Upper::Udp { UDP } else { TCP };
            assert_eq!(self.both.tuple(*bucket, *way), words_of(&tuple(&self.client, protocol)));
            *entry
        })
    }

    /// Sends a packet, which must reach `slot` and leave an entry in `state`.
    #[track_caller]
    fn sends(&mut self, packet: Client, slot: u16, state: u8, events: &[&str]) -> &mut Self {
        let seen = self.both.run(&packet.frame());
        assert_eq!((&seen.outcomes[..], &seen.events[..]), (&["forwarded"][..], events));
        assert_eq!(seen.frame, forwarded(&self.setup, &packet, slot), "not to slot {slot}: {seen:?}");
        let entry = self.entry().expect("the flow is remembered");
        assert_eq!((entry.slot(), entry.state()), (slot, state), "{entry:?}");
        assert!(self.both.is_now(entry.tick()), "{entry:?}");
        self
    }

    #[track_caller]
    fn tcp_with(&mut self, flags: u8, data: usize, slot: u16, state: u8, events: &[&str]) -> &mut Self {
        self.sends(self.client.tcp(flags, data), slot, state, events)
    }

    fn turns(&mut self, slot: u16, state: SlotState) -> &mut Self {
        self.both.put_backend(slot, word(slot, state).0);
        self
    }

    /// The table now names `slot` everywhere.
    fn table(&mut self, slot: u16) -> &mut Self {
        let first = self.setup.services[self.service].word.first_entry();
        self.both.put_table(first, &vec![slot; 4_093]);
        self
    }

    /// Puts an entry with the client's fingerprint in place.
    fn plants(&mut self, way: usize, slot: u16, age: u16, state: u8) -> &mut Self {
        let tick = self.both.tick().wrapping_sub(age);
        let entry = FlowEntry::new(hash(&self.client).fingerprint(), slot, tick, state);
        self.both.put_entry(self.bucket(), way, entry.0);
        self
    }
}

#[test]
fn a_syn_is_stored_unconfirmed_and_the_next_packet_confirms_it() {
    Story::tcp().tcp_with(SYN, 0, 1, NEW, STORED).tcp_with(ACK, 0, 1, CONFIRMED, NOTHING).tcp_with(
        PUSH | ACK,
        100,
        1,
        CONFIRMED,
        NOTHING,
    );
}

#[test]
fn a_flow_keeps_its_serving_backend_when_the_table_changes() {
    Story::tcp().tcp_with(SYN, 0, 1, NEW, STORED).table(2).tcp_with(ACK, 0, 1, CONFIRMED, NOTHING).tcp_with(
        PUSH | ACK,
        100,
        1,
        CONFIRMED,
        NOTHING,
    );
}

#[test]
fn a_repeated_or_forged_syn_moves_nothing() {
    Story::tcp()
        .tcp_with(SYN, 0, 1, NEW, STORED)
        .table(2)
        .tcp_with(SYN, 0, 1, NEW, NOTHING)
        .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING)
        .tcp_with(SYN, 0, 1, CONFIRMED, NOTHING)
        .tcp_with(ACK, 9, 1, CONFIRMED, NOTHING);
}

#[test]
fn a_draining_backend_keeps_its_flows_and_gets_no_new_ones() {
    Story::tcp()
        .tcp_with(SYN, 0, 1, NEW, STORED)
        .turns(1, SlotState::Draining)
        .table(2)
        .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING)
        .tcp_with(FIN | ACK, 0, 1, CLOSING, NOTHING)
        .tcp_with(SYN, 0, 2, NEW, REPICKED)
        .tcp_with(ACK, 0, 2, CONFIRMED, NOTHING);
}

#[test]
fn a_flow_of_a_dead_backend_is_picked_anew_on_its_next_packet() {
    for (flags, data, state) in [
        (ACK, 0, NEW),
        (PUSH | ACK, 9, NEW),
        (SYN, 0, NEW),
        (FIN | ACK, 0, FlowEntry::CLOSING),
        (RST, 0, FlowEntry::CLOSING),
    ] {
        for gone in [SlotState::Dead, SlotState::Free] {
            Story::tcp()
                .tcp_with(SYN, 0, 1, NEW, STORED)
                .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING)
                .turns(1, gone)
                .table(3)
                .tcp_with(flags, data, 3, state, REPICKED)
                .turns(1, SlotState::Serving)
                .table(1)
                .tcp_with(ACK, 5, 3, CONFIRMED, NOTHING);
        }
    }
}

#[test]
fn without_a_backend_packets_are_dropped_and_the_flow_stays_for_its_return() {
    let mut story = Story::tcp();
    story.tcp_with(SYN, 0, 1, NEW, STORED).turns(1, SlotState::Dead);
    let word = story.setup.services[0].word;
    let unserved = ServiceWord::new(word.unit(), word.class(), ORDINARY & !ServiceWord::SERVE, 1);
    story.both.put_service(0, unserved.0);
    for packet in [story.client.tcp(ACK, 3), story.client.clone(), story.client.port(9)] {
        let seen = story.both.run(&packet.frame());
        assert_eq!((&seen.outcomes[..], seen.events.len()), (&["no_backend"][..], 0));
    }
    assert_eq!(story.both.flows().len(), 1);
    story.both.put_service(0, word.0);
    story.turns(1, SlotState::Serving).tcp_with(ACK, 3, 1, CONFIRMED, NOTHING);
}

#[test]
fn an_unserved_service_still_serves_the_flows_of_a_draining_backend() {
    let mut story = Story::tcp();
    story.tcp_with(SYN, 0, 1, NEW, STORED).turns(1, SlotState::Draining);
    let word = story.setup.services[0].word;
    story
        .both
        .put_service(0, ServiceWord::new(word.unit(), word.class(), ORDINARY & !ServiceWord::SERVE, 1).0);
    story.tcp_with(ACK, 3, 1, CONFIRMED, NOTHING);
}

#[test]
fn fin_and_rst_mark_a_flow_as_closing() {
    for flags in [FIN, FIN | ACK, RST, RST | ACK, FIN | RST] {
        Story::tcp()
            .tcp_with(SYN, 0, 1, NEW, STORED)
            .tcp_with(flags, 0, 1, CLOSING, NOTHING)
            .tcp_with(flags, 7, 1, CLOSING, NOTHING);
    }
}

#[test]
fn data_lifts_closing_and_a_bare_ack_does_not() {
    Story::tcp()
        .tcp_with(SYN, 0, 1, NEW, STORED)
        .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING)
        .tcp_with(FIN | ACK, 0, 1, CLOSING, NOTHING)
        .tcp_with(ACK, 0, 1, CLOSING, NOTHING)
        .tcp_with(PUSH | ACK, 1, 1, CONFIRMED, NOTHING)
        .tcp_with(RST, 0, 1, CLOSING, NOTHING)
        .tcp_with(ACK, 1, 1, CONFIRMED, NOTHING);
}

#[test]
fn padding_is_no_data() {
    let mut story = Story::tcp();
    story.tcp_with(SYN, 0, 1, NEW, STORED).tcp_with(FIN | ACK, 0, 1, CLOSING, NOTHING);
    let padded = story.client.tcp(ACK, 0).with(|packet| packet.padding = vec![1; 6]);
    story.sends(padded, 1, CLOSING, NOTHING);
}

#[test]
fn a_tuple_used_again_after_the_close_is_a_new_flow_at_the_same_backend() {
    Story::tcp()
        .tcp_with(SYN, 0, 1, NEW, STORED)
        .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING)
        .tcp_with(FIN | ACK, 0, 1, CLOSING, NOTHING)
        .table(2)
        .tcp_with(SYN, 0, 1, NEW, NOTHING)
        .tcp_with(ACK, 0, 1, CONFIRMED, NOTHING);
}

#[test]
fn a_packet_in_the_middle_of_a_connection_is_picked_stored_and_counted() {
    let closing = FlowEntry::CLOSING;
    for (flags, data, state) in [
        (ACK, 0, NEW),
        (PUSH | ACK, 50, NEW),
        (0, 0, NEW),
        (SYN | ACK, 0, NEW),
        (FIN | ACK, 0, closing),
        (RST, 0, closing),
    ] {
        Story::tcp().tcp_with(flags, data, 1, state, MISSED).tcp_with(ACK, 5, 1, CONFIRMED, NOTHING);
    }
}

#[test]
fn udp_flows_are_stored_confirmed_and_picked_anew_like_others() {
    let udp = FlowEntry::UDP;
    let mut story = Story::of(to_port(VIP4, 53).udp(20), 1);
    let datagram = story.client.clone();
    story
        .sends(datagram.clone(), 4, udp, STORED)
        .table(5)
        .sends(datagram.clone(), 4, udp | CONFIRMED, NOTHING)
        .turns(4, SlotState::Draining)
        .sends(datagram.udp(0), 4, udp | CONFIRMED, NOTHING)
        .turns(4, SlotState::Dead)
        .sends(datagram, 5, udp, REPICKED);
}

#[test]
fn ipv6_flows_follow_the_same_rules() {
    Story::of(to(VIP6), 3)
        .tcp_with(SYN, 0, 8, NEW, STORED)
        .tcp_with(ACK, 3, 8, CONFIRMED, NOTHING)
        .table(9)
        .tcp_with(FIN | ACK, 0, 8, CLOSING, NOTHING)
        .turns(8, SlotState::Draining)
        .tcp_with(ACK, 1, 8, CONFIRMED, NOTHING)
        .tcp_with(SYN, 0, 9, NEW, REPICKED);
}

#[test]
fn an_untracked_service_goes_by_the_table_alone_and_stores_nothing() {
    let mut story = Story::of(to_port(VIP4, 81), 2);
    for (slot, state) in [(6, SlotState::Serving), (6, SlotState::Draining), (7, SlotState::Serving)] {
        story.table(slot).turns(slot, state);
        for packet in [story.client.clone(), story.client.tcp(ACK, 9), story.client.tcp(RST, 0)] {
            let seen = story.both.run(&packet.frame());
            assert_eq!((&seen.outcomes[..], seen.events.len()), (&["forwarded"][..], 0));
            assert_eq!(seen.frame, forwarded(&story.setup, &packet, slot));
            assert_eq!(story.both.flows(), []);
        }
    }
}

#[test]
fn an_entry_is_found_in_any_way_of_its_bucket() {
    for way in 0..8 {
        let mut story = Story::tcp();
        story.plants(way, 2, 3, CONFIRMED);
        let packet = story.client.tcp(ACK, 1);
        let seen = story.both.run(&packet.frame());
        assert_eq!(seen.frame, forwarded(&story.setup, &packet, 2), "way {way}");
        let entry = FlowEntry(story.both.bucket(story.bucket())[way]);
        assert!(story.both.is_now(entry.tick()), "way {way}: {entry:?}");
        assert_eq!(story.both.flows().len(), 1);
    }
}

#[test]
fn marks_of_user_space_survive_packets() {
    let marks = FlowEntry::EXCEPTION | FlowEntry::REMOTE;
    for (flags, data, before, after) in [
        (ACK, 0, marks, marks | CONFIRMED),
        (FIN | ACK, 0, marks, marks | CLOSING),
        (ACK, 1, marks | CLOSING, marks | CONFIRMED),
        (SYN, 0, marks | CLOSING, marks),
    ] {
        let mut story = Story::tcp();
        story.plants(2, 2, 3, before);
        let seen = story.both.run(&story.client.tcp(flags, data).frame());
        assert_eq!(seen.events.len(), 0);
        let [(_, _, entry)] = story.both.flows()[..] else { panic!("one flow") };
        assert_eq!((entry.slot(), entry.state()), (2, after));
    }
}

#[test]
fn an_entry_of_another_service_with_the_same_fingerprint_is_no_hit() {
    for flags in [SYN, ACK, FIN | ACK] {
        let state = if flags & FIN == 0 { NEW } else { FlowEntry::CLOSING };
        // Slot 4 belongs to the UDP service.
        Story::tcp().plants(5, 4, 0, CONFIRMED).tcp_with(flags, 0, 1, state, STORED);
    }
}

#[test]
fn an_entry_of_a_slot_that_nothing_is_in_is_no_hit() {
    for slot in [40, 64, 65, 4_000, 65_535] {
        Story::of(to(VIP6), 3).plants(0, slot, 0, CONFIRMED).tcp_with(ACK, 0, 8, NEW, STORED);
    }
}

#[test]
fn flows_of_different_ports_have_entries_of_their_own() {
    let mut story = Story::tcp();
    for port in 1_000..1_100 {
        let seen = story.both.run(&story.client.port(port).frame());
        assert_eq!(seen.events, STORED);
    }
    assert_eq!(story.both.flows().len(), 100);
    story.table(2);
    for port in 1_000..1_100 {
        let packet = story.client.port(port).tcp(ACK, 1);
        assert_eq!(story.both.run(&packet.frame()).frame, forwarded(&story.setup, &packet, 1));
    }
    assert_eq!(story.both.flows().len(), 100);
}
