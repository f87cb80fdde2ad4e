//! Both ends, with a network in between that is as bad as they come.

use std::time::Duration;

use lb_common::hash::SplitMix64;

use super::*;
use crate::sync::wire::{Message, Sequenced};

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

const BEGIN: Sequenced = Sequenced::BulkBegin { first: true, services: Vec::new() };

fn batch() -> Sequenced {
    Sequenced::Batch(Vec::new())
}

fn popped(inbox: &mut Inbox, now: Duration) -> usize {
    std::iter::from_fn(|| inbox.pop(now)).count()
}

#[test]
fn what_came_early_waits_and_what_is_missing_is_asked_for_after_a_while() {
    let mut inbox = Inbox::default();
    inbox.push(ms(0), 1, batch());
    assert_eq!((popped(&mut inbox, ms(0)), inbox.next_deadline()), (1, None));
    inbox.push(ms(5), 4, batch());
    inbox.push(ms(6), 5, batch());
    inbox.push(ms(6), 5, batch());
    assert_eq!((popped(&mut inbox, ms(6)), inbox.next_expected()), (0, 2));
    assert_eq!((inbox.next_deadline(), inbox.nack(ms(14))), (Some(ms(15)), None));
    assert_eq!((inbox.nack(ms(15)), inbox.nack(ms(16))), (Some((2, 3)), None));
    inbox.push(ms(17), 2, batch());
    assert_eq!((popped(&mut inbox, ms(17)), inbox.nack(ms(20)), inbox.nack(ms(27))), (1, None, Some((3, 3))));
    inbox.push(ms(30), 3, batch());
    inbox.push(ms(30), 1, batch());
    assert_eq!((popped(&mut inbox, ms(30)), inbox.next_deadline(), inbox.next_expected()), (3, None, 6));
}

#[test]
fn a_bulk_needs_nothing_that_was_before_it() {
    let mut inbox = Inbox::default();
    inbox.push(ms(0), 3, batch());
    inbox.push(ms(0), 9, batch());
    inbox.push(ms(0), 8, BEGIN);
    assert_eq!((popped(&mut inbox, ms(0)), inbox.next_expected(), inbox.next_deadline()), (2, 10, None));
    inbox.push(ms(0), 8, BEGIN);
    assert_eq!(popped(&mut inbox, ms(0)), 0);
    inbox.push(ms(0), 11, Sequenced::BulkBegin { first: false, services: Vec::new() });
    assert_eq!(popped(&mut inbox, ms(0)), 0, "the rest of a list of services waits for its turn");
}

#[test]
fn neither_buffer_nor_request_grows_without_bound() {
    let mut inbox = Inbox::default();
    inbox.push(ms(0), MAX_REORDERED + 1, batch());
    assert_eq!(inbox.next_deadline(), None);
    inbox.push(ms(0), MAX_REORDERED, batch());
    assert_eq!(inbox.nack(ms(10)), Some((1, MAX_NACK)));
    inbox.push(ms(0), u64::MAX, BEGIN);
    inbox.push(ms(0), u64::MAX - 1, BEGIN);
    assert_eq!((popped(&mut inbox, ms(0)), inbox.next_expected()), (1, u64::MAX), "the last one is none");
}

#[test]
fn what_was_sent_is_kept_until_it_is_acknowledged_or_too_much() {
    let mut outbox = Outbox::new(100);
    let sent: Vec<Vec<u8>> = (0..10).map(|_| outbox.push(batch())).collect();
    assert_eq!(sent[0].len(), 11);
    assert_eq!((outbox.next(), outbox.missing(1), outbox.missing(11)), (11, Missing::Gone, Missing::Never));
    assert_eq!(outbox.missing(2), Missing::Kept(&sent[1]));
    assert!(outbox.acknowledge(5));
    assert_eq!((outbox.missing(4), outbox.missing(5)), (Missing::Gone, Missing::Kept(&sent[4])));
    assert!(outbox.acknowledge(11) && !outbox.acknowledge(12));
    outbox.push(batch());
    outbox.forget();
    assert_eq!(outbox.missing(11), Missing::Gone);
}

#[test]
fn bytes_come_at_the_rate_and_a_tenth_of_a_second_of_them_at_once() {
    let mut rate = Rate::new(1_000_000, ms(0));
    assert_eq!(rate.available(ms(0)), 100_000);
    rate.spend(100_000);
    assert_eq!(
        (rate.available(ms(0)), rate.available(ms(30)), rate.available(ms(5_000))),
        (0, 30_000, 100_000)
    );
    let mut slow = Rate::new(0, ms(0));
    slow.spend(10_000);
    // Looked at often, it still gains.
    for look in 0..10_000 {
        slow.available(Duration::from_micros(look * 10));
    }
    assert!((900..=1_000).contains(&slow.available(ms(100))), "{slow:?}");
}

#[test]
fn all_arrives_in_order_over_any_network() {
    for seed in 0..40 {
        let mut random = SplitMix64(seed);
        let (mut outbox, mut inbox) = (Outbox::default(), Inbox::default());
        let mut wire: Vec<Vec<u8>> = Vec::new();
        let mut got = Vec::new();
        for time in 0..3_000 {
            if time < 300 {
                wire.push(outbox.push(Sequenced::Verdicts(numbered(time))));
            }
            // The last one of all may be lost: another comes now and then, as in real life.
            if time >= 300 && time % 100 == 0 {
                wire.push(outbox.push(batch()));
            }
            if random.draw().is_multiple_of(2) && !wire.is_empty() {
                let at = usize::try_from(random.draw()).unwrap() % wire.len();
                let chance = random.draw() % 10;
                let message = if chance == 0 { wire[at].clone() } else { wire.swap_remove(at) };
                let Ok(Message::Sequenced(sequence, what)) = Message::decode(&message) else { panic!() };
                if chance > 2 {
                    inbox.push(ms(time), sequence, what);
                }
            }
            while let Some(what) = inbox.pop(ms(time)) {
                if let Sequenced::Verdicts(said) = what {
                    got.push(said.digest);
                }
            }
            if let Some((from, to)) = inbox.nack(ms(time)) {
                for sequence in from..=to {
                    let Missing::Kept(message) = outbox.missing(sequence) else { panic!("seed {seed}") };
                    wire.push(message.to_vec());
                }
            }
        }
        assert_eq!(got, (0..300).collect::<Vec<_>>(), "seed {seed}");
    }
}

fn numbered(digest: u64) -> crate::sync::wire::VerdictsSaid {
    let service = crate::plan::ServiceKey {
        vip: [192, 0, 2, 1].into(),
        port: 1,
        protocol: crate::config::Protocol::Tcp,
    };
    crate::sync::wire::VerdictsSaid { service, first: true, last: true, backends: Vec::new(), digest }
}
