//! Packets of TCP connections and UDP exchanges.

use super::Generator;
use crate::packets::Client;
use crate::packets::client::{ACK, FIN, PUSH, RST, SYN, Upper, pattern};
use crate::packets::extension::Extension;
use crate::packets::wire::{TCP, UDP, pseudo_checksum, tcp};

const FLAGS: [u8; 14] =
    [SYN, SYN, SYN, ACK, ACK, ACK, ACK, PUSH | ACK, FIN | ACK, RST, RST | ACK, SYN | ACK, 0, SYN | FIN];
/// IPv4 options: record route, timestamp, router alert, loose and strict source route, security; end and padding.
const OPTIONS: [&[u8]; 8] = [
    &[7, 7, 4, 0, 0, 0, 0],
    &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[0x94, 4, 0, 0],
    &[0x83, 7, 4, 10, 0, 0, 1],
    &[0x89, 11, 4, 10, 0, 0, 1, 10, 0, 0, 2],
    &[0x82, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[1, 1, 1],
    &[0],
];
/// TCP options: MSS, window scale, SACK permitted and timestamps as in a SYN; timestamps; nothing.
const TCP_OPTIONS: [&[u8]; 3] = [
    &[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7],
    &[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
    &[1, 1, 1, 0],
];

impl Generator {
    pub(super) fn flow(&mut self) -> Vec<u8> {
        let (vip, port, protocol) = self.target();
        let from = self.client(vip.is_ipv4());
        let mut packet = Client::new("0.0.0.0", "0.0.0.0");
        (packet.from, packet.to, packet.to_port) = (from, vip, port);
        packet.port = 1_024u16.wrapping_add(self.random.below(self.ports) as u16);
        (packet.mac, packet.source_mac) = self.stations();
        packet.ttl =
            if self.one_in(16) { self.random.pick(&[0, 1, 2]) } else { self.random.pick(&[2, 63, 64, 255]) };
        packet.tags = self.tags();
        self.network(&mut packet);
        let bytes = self.data_bytes();
        packet.data = pattern(bytes as usize);
        self.transport(&mut packet, protocol);
        let padding = if bytes < 64 { self.padding(28) } else { Vec::new() };
        packet.padding = padding;
        let mut frame = packet.frame();
        if self.one_in(64) {
            self.contradict(&packet, &mut frame);
        }
        frame
    }

    fn target(&mut self) -> (std::net::IpAddr, u16, u8) {
        if self.services.is_empty() || self.one_in(12) {
            let port = self.random.pick(&[0, 9, 53, 80, 81, 443, 65_535]);
            return (self.address(), port, self.random.pick(&[TCP, TCP, UDP, 132, 2, 47, 50, 4, 41, 0]));
        }
        let services = self.services.clone();
        self.random.pick(&services)
    }

    fn data_bytes(&mut self) -> u64 {
        match self.random.below(40) {
            0..=18 => 0,
            19..=33 => self.random.below(200),
            // Around the size that just fits, with and without the outer header, options and extension headers.
            34..=37 => (self.mtu.saturating_sub(130) + self.random.below(140)).min(9_200),
            38 => self.random.below(3_700),
            _ => self.random.below(9_200),
        }
    }

    fn network(&mut self, packet: &mut Client) {
        if packet.to.is_ipv4() {
            if self.one_in(12) {
                let option = self.random.pick(&OPTIONS);
                packet.options = option.iter().copied().cycle().take(option.len().min(40)).collect();
                if self.one_in(4) {
                    let more = self.random.below(41 - packet.options.len() as u64);
                    packet.options.extend(vec![1; more as usize]);
                }
            }
            packet.fragment = match self.random.below(20) {
                0 => self.random.pick(&[0x2000, 0x2001, 0x0001, 0x00b9, 0x4001, 0x1fff, 0x3fff]),
                1 => self.random.pick(&[0x8000, 0xc000, 0xe000]),
                2..=9 => 0x4000,
                _ => 0,
            };
        } else if self.one_in(6) {
            packet.extensions = (0..self.random.below(7)).map(|_| self.extension()).collect();
        }
    }

    fn extension(&mut self) -> Extension {
        let units = self.random.pick(&[0, 0, 0, 1, 2, 8, 40]);
        match self.random.below(10) {
            0..=2 => Extension::HopByHop(units),
            3 => Extension::Routing(units),
            4..=6 => Extension::Destination(units),
            7 => Extension::Authentication(self.random.pick(&[1, 2, 4, 5, 255])),
            8 => Extension::Fragment(self.random.pick(&[0, 0, 6, 7])),
            _ => Extension::Fragment(self.random.pick(&[1, 8, 9, 0xfff8])),
        }
    }

    fn transport(&mut self, packet: &mut Client, protocol: u8) {
        let flags = self.random.pick(&FLAGS);
        match protocol {
            TCP if self.one_in(4) => {
                let options = self.random.pick(&TCP_OPTIONS);
                packet.data = with_options(packet, flags, options);
                packet.upper = Upper::Raw(TCP);
            }
            TCP => packet.upper = Upper::Tcp(flags),
            UDP => packet.upper = Upper::Udp,
            // The second half of a connection or exchange's frame looks like one of another protocol.
            other => packet.upper = Upper::Raw(other),
        }
    }

    /// Lengths and checksums that do not fit.
    fn contradict(&mut self, packet: &Client, frame: &mut [u8]) {
        let at = 14 + 4 * packet.tags.len();
        let length = if packet.to.is_ipv4() { at + 2 } else { at + 4 };
        let wrong = match self.random.below(6) {
            0 => 0,
            1 => 0xffff,
            2 => self.random.below(60) as u16,
            _ => {
                let now = u16::from_be_bytes([frame[length], frame[length + 1]]);
                now.wrapping_add(self.random.pick(&[1, 2, 8, 0xffff, 0xfffe, 0xfff0]))
            }
        };
        let place = if self.one_in(3) && packet.to.is_ipv4() { at + 10 } else { length };
        frame[place..place + 2].copy_from_slice(&wrong.to_be_bytes());
    }
}

/// A segment with options; the data are the packet's.
fn with_options(packet: &Client, flags: u8, options: &[u8]) -> Vec<u8> {
    let ports = [packet.port, packet.to_port];
    let mut segment = tcp(packet.from, packet.to, ports, flags, &[options, &packet.data].concat());
    segment[12] = (((20 + options.len()) / 4) << 4) as u8;
    segment[16..18].fill(0);
    let check = pseudo_checksum(packet.from, packet.to, TCP, &segment);
    segment[16..18].copy_from_slice(&check);
    segment
}
