//! "Who has this address?" as frames, and what comes back, for both families.

use super::record::Mac;
use crate::lab::plan::Row;
use crate::packets::neighbour::{Arp, REPLY, REQUEST, Solicitation};
use crate::packets::wire;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

const ETHERNET: usize = 14;
/// An Ethernet header and an ARP packet for IPv4.
const ARP_FRAME: usize = ETHERNET + 28;
/// An Ethernet header, an IPv6 header, and an advertisement up to its target.
const ADVERTISEMENT: usize = ETHERNET + 40 + 24;
const ADVERTISEMENT_TYPE: u8 = 136;
/// The flag of an advertisement that answers a question.
const SOLICITED: u8 = 0x40;
/// The option with the MAC of the target, and its length in units of eight octets.
const TARGET_MAC: [u8; 2] = [2, 1];

/// Who is asked: everybody as usual, or one station alone, which bothers nobody else on the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Broadcast, or the solicited-node group.
    Everybody,
    /// This station.
    Station(Mac),
}

/// A question that is asked again and again. It comes from a station that is not there: a MAC and addresses of its own,
/// so that no kernel in the lab learns from the answers what it should learn from announcements.
#[derive(Debug, Clone)]
pub struct Question {
    own: Mac,
    about: IpAddr,
    frame: Vec<u8>,
}

/// What a frame says about the address asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It answers the question.
    Answer(Mac),
    /// It was said to everybody, unasked.
    Announcement(Mac),
}

impl Question {
    /// A question about `about`, from a station that nobody else in this process is.
    #[must_use]
    pub fn new(about: IpAddr, to: To) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        // Few ask at the same time; that numbers come again is no harm.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 100;
        let own = Mac([2, 0, b'a', b's', b'k', number]);
        let index = 100 + number;
        let mut frame = match about {
            IpAddr::V4(_) => {
                let sender = (own.0, Row::Control.v4(index).into());
                Arp { operation: REQUEST, sender, target: ([0; 6], about) }.frame(wire::ALL, &[])
            }
            IpAddr::V6(_) => {
                let question = Solicitation::new(Row::Control.v6(index).into(), about);
                let options = [&[1, 1], &own.0[..]].concat();
                Solicitation { source_mac: own.0, options, ..question }.frame()
            }
        };
        if let (To::Station(mac), Some(destination)) = (to, frame.get_mut(..6)) {
            destination.copy_from_slice(&mac.0);
        }
        Self { own, about, frame }
    }

    /// Whether it is asked by ARP; else by a neighbour solicitation.
    pub(super) fn is_arp(&self) -> bool {
        self.about.is_ipv4()
    }

    /// The frame.
    pub(super) fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// What a frame says; nothing if it is about something else.
    pub(super) fn heard(&self, frame: &[u8]) -> Option<Said> {
        match self.about {
            IpAddr::V4(about) => self.heard_arp(frame, about.octets()),
            IpAddr::V6(about) => self.heard_advertisement(frame, &about.octets()),
        }
    }

    fn heard_arp(&self, frame: &[u8], about: [u8; 4]) -> Option<Said> {
        let packet = frame.get(ETHERNET..ARP_FRAME)?;
        let (sender, target) = (mac(packet, 8)?, mac(packet, 18)?);
        if packet.get(14..18)? != about {
            return None;
        }
        if packet.get(24..28)? == about {
            return Some(Said::Announcement(sender));
        }
        (packet.get(6..8)? == REPLY.to_be_bytes() && target == self.own).then_some(Said::Answer(sender))
    }

    fn heard_advertisement(&self, frame: &[u8], about: &[u8; 16]) -> Option<Said> {
        let message = frame.get(ETHERNET + 40..)?;
        let advertisement = frame.len() >= ADVERTISEMENT
            && frame.get(20) == Some(&wire::ICMPV6)
            && message.first() == Some(&ADVERTISEMENT_TYPE);
        if !advertisement || message.get(8..24)? != about {
            return None;
        }
        let named = message.get(24..26).filter(|option| *option == TARGET_MAC).and_then(|_| mac(message, 26));
        let station = named.or_else(|| mac(frame, 6))?;
        if message.get(4)? & SOLICITED == 0 {
            return Some(Said::Announcement(station));
        }
        (mac(frame, 0)? == self.own).then_some(Said::Answer(station))
    }
}

fn mac(octets: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(octets.get(at..at + 6)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packets::neighbour::advertisement;

    const HOLDER: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x12];

    fn arp(operation: u16, sender: ([u8; 6], &str), target: ([u8; 6], &str)) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("an address");
        let arp =
            Arp { operation, sender: (sender.0, address(sender.1)), target: (target.0, address(target.1)) };
        arp.frame(wire::ALL, &[])
    }

    #[test]
    fn arp_answers_and_announcements_are_told_apart_from_all_else() {
        let question = Question::new("10.20.9.1".parse().expect("an address"), To::Everybody);
        let (own, asker) = (question.own.0, "10.20.8.101");
        let answer = Some(Said::Answer(Mac(HOLDER)));
        let announcement = Some(Said::Announcement(Mac(HOLDER)));
        for (what, frame, expected) in [
            ("an answer", arp(REPLY, (HOLDER, "10.20.9.1"), (own, asker)), answer),
            ("to another", arp(REPLY, (HOLDER, "10.20.9.1"), (OTHER, "10.20.1.1")), None),
            ("about another", arp(REPLY, (HOLDER, "10.20.9.2"), (own, asker)), None),
            ("gratuitous", arp(REQUEST, (HOLDER, "10.20.9.1"), ([0; 6], "10.20.9.1")), announcement),
            ("gratuitous reply", arp(REPLY, (HOLDER, "10.20.9.1"), (wire::ALL, "10.20.9.1")), announcement),
            ("a question", question.frame().to_vec(), None),
            ("too short", vec![0; 20], None),
        ] {
            assert_eq!(question.heard(&frame), expected, "{what}");
        }
    }

    #[test]
    fn advertisements_are_told_apart_from_all_else() {
        let vip = "fd20::29:1".parse().expect("an address");
        let question = Question::new(vip, To::Everybody);
        let frame = |to: [u8; 6], target: IpAddr, flags| {
            let packet = advertisement(target, HOLDER, "fd20::28:65".parse().expect("an address"), flags);
            wire::ethernet(to, OTHER, &[], wire::IPV6, &packet)
        };
        let other = "fd20::29:2".parse().expect("an address");
        for (what, frame, expected) in [
            ("an answer", frame(question.own.0, vip, 0x60), Some(Said::Answer(Mac(HOLDER)))),
            ("to another", frame(OTHER, vip, 0x60), None),
            ("about another", frame(question.own.0, other, 0x60), None),
            ("unsolicited", frame(wire::ALL, vip, 0x20), Some(Said::Announcement(Mac(HOLDER)))),
            ("a question", question.frame().to_vec(), None),
            ("too short", frame(wire::ALL, vip, 0x20)[..60].to_vec(), None),
        ] {
            assert_eq!(question.heard(&frame), expected, "{what}");
        }
    }

    #[test]
    fn a_station_can_be_asked_alone() {
        let question = Question::new("10.20.9.1".parse().expect("an address"), To::Station(Mac(HOLDER)));
        assert_eq!(question.frame()[..6], HOLDER);
    }
}
