//! ARP, neighbour discovery, ICMP in all its kinds, and what is no IP at all.

use std::net::IpAddr;

use super::Generator;
use crate::packets::client::{Client, SYN, Upper, ip};
use crate::packets::icmp;
use crate::packets::neighbour::{ALL_NODES, Arp, Solicitation, advertisement};
use crate::packets::wire::{ALL, ICMP, ICMPV6, IPV4, IPV6, Ip4, Mac, OWN, ROUTER, UDP, ethernet, ipv4, ipv6};

impl Generator {
    pub(super) fn arp(&mut self) -> Vec<u8> {
        let asked = self.address_like(true);
        let sender = match self.random.below(8) {
            0 => ip("0.0.0.0"),
            1 => asked,
            2 => self.address_like(true),
            _ => self.client(true),
        };
        let (_, from) = self.stations();
        let arp = Arp {
            operation: self.random.pick(&[1, 1, 1, 1, 1, 2, 2, 3, 0]),
            sender: (from, sender),
            target: (self.random.pick(&[[0; 6], [0; 6], ALL, OWN]), asked),
        };
        let mac = self.random.pick(&[ALL, ALL, OWN, super::OTHER_STATION]);
        let tags = self.tags();
        let frame = if self.one_in(12) {
            // By proxy: the frame is not from the station that the packet names.
            ethernet(mac, [2, 0x77, 0, 0, 0, 1], &tags, crate::packets::wire::ARP, &arp.packet())
        } else {
            arp.frame(mac, &tags)
        };
        let padding = self.padding(28);
        [frame, padding].concat()
    }

    pub(super) fn solicitation(&mut self) -> Vec<u8> {
        let target = self.address_like(false);
        let source = if self.one_in(4) { ip("::") } else { self.client(false) };
        let mut asked = Solicitation::new(source, target);
        match self.random.below(8) {
            0 | 1 => (asked.destination, asked.mac) = (target, OWN),
            2 => (asked.destination, asked.mac) = (ip(ALL_NODES.0), ALL_NODES.1),
            3 => asked.destination = self.address_like(false),
            _ => {}
        }
        asked.hop_limit = if self.one_in(8) { self.random.pick(&[0, 1, 64, 254]) } else { 255 };
        asked.code = u8::from(self.one_in(24));
        if source.is_unspecified() && !self.one_in(8) || self.one_in(8) {
            asked.options.clear();
        } else if self.one_in(8) {
            asked.options.extend([14, 1, 1, 2, 3, 4, 5, 6].repeat(self.random.pick(&[1, 1, 2])));
        } else if self.one_in(24) {
            asked.options[1] = self.random.pick(&[0, 2, 255]);
        }
        if self.one_in(16) {
            asked.flipped = 1 << self.random.below(16);
        }
        asked.source_mac = self.stations().1;
        if self.one_in(24) {
            asked.source = self.random.pick(&[ip("ff02::1"), ip("::1"), ip("ff02::1:ff00:10")]);
        }
        asked.tags = self.tags();
        let frame = asked.frame();
        let padding = self.padding(72);
        [frame, padding].concat()
    }

    /// The frame around an ICMP or ICMPv6 message to an address.
    fn message(&mut self, to: IpAddr, message: impl FnOnce(&mut Self, IpAddr) -> Vec<u8>) -> Vec<u8> {
        let from = self.client(to.is_ipv4());
        let mut packet = Client::new("0.0.0.0", "0.0.0.0");
        (packet.from, packet.to) = (from, to);
        packet.data = message(self, from);
        packet.upper = Upper::Raw(if to.is_ipv4() { ICMP } else { ICMPV6 });
        packet.ttl = self.random.pick(&[0, 1, 2, 64, 64, 64, 255]);
        packet.tags = self.tags();
        (packet.mac, packet.source_mac) = self.stations();
        if self.one_in(16) {
            packet.options = vec![1; self.random.below(41) as usize];
            packet.extensions =
                vec![crate::packets::extension::Extension::HopByHop(0); self.random.below(6) as usize];
            packet.fragment = self.random.pick(&[0, 0x2000, 0x4000, 1]);
        }
        let padding = self.padding(28);
        packet.padding = padding;
        packet.frame()
    }

    pub(super) fn echo(&mut self) -> Vec<u8> {
        let to = self.address();
        self.message(to, |this, from| {
            let bytes = this.random.pick(&[0, 1, 8, 56, 57, 1_452, 1_472, 4_000, 8_000]);
            let fill = this.random.pick(&[0, 0xff, 0x5a]);
            let data = if this.one_in(3) { vec![fill; bytes] } else { this.octets(bytes.min(64) as u64) };
            let word = match this.random.below(3) {
                0 => [0; 4],
                1 => [0xff; 4],
                _ => (this.random.next() as u32).to_ne_bytes(),
            };
            let code = u8::from(this.one_in(16));
            let reply = this.one_in(12);
            if to.is_ipv4() {
                icmp::v4(if reply { 0 } else { 8 }, code, word, &data)
            } else {
                icmp::v6(from, to, if reply { 129 } else { 128 }, code, word, &data)
            }
        })
    }

    /// An ICMP error about a packet that a VIP sent.
    pub(super) fn error(&mut self) -> Vec<u8> {
        let to = self.address();
        let client = self.client(to.is_ipv4());
        let mut offender = Client::new("0.0.0.0", "0.0.0.0").tcp(SYN, 40);
        (offender.from, offender.to, offender.port, offender.to_port) = (to, client, 80, 1_024);
        if self.one_in(2) {
            offender = offender.udp(30);
        }
        let quoted = offender.packet();
        self.message(to, |this, from| {
            let kept = this.random.pick(&[0, 8, 20, 28, 40, 48, 60]).min(quoted.len());
            let code = this.random.below(6) as u8;
            let mtu = this.random.pick(&[[0, 0, 5, 0], [0, 0, 2, 0x40], [0; 4]]);
            if to.is_ipv4() {
                icmp::v4(this.random.pick(&[3, 3, 3, 4, 5, 11, 12]), code, mtu, &quoted[..kept])
            } else {
                icmp::v6(from, to, this.random.pick(&[1, 2, 2, 3, 4]), code, mtu, &quoted[..kept])
            }
        })
    }

    /// Advertisements, redirects, router discovery, timestamps and the like.
    pub(super) fn other_control(&mut self) -> Vec<u8> {
        let to = self.address();
        if !to.is_ipv4() && self.one_in(4) {
            let packet = advertisement(to, ROUTER, ip(ALL_NODES.0), 0x20);
            return ethernet(ALL_NODES.1, ROUTER, &self.tags(), IPV6, &packet);
        }
        self.message(to, |this, from| {
            let bytes = this.random.below(40);
            let data = this.octets(bytes);
            if to.is_ipv4() {
                icmp::v4(this.random.pick(&[9, 10, 13, 14, 15, 17, 42, 255]), 0, [0; 4], &data)
            } else {
                let kind = this.random.pick(&[127, 133, 134, 136, 136, 137, 138, 130, 131, 143, 160, 255]);
                let data = if kind == 136 { crate::packets::wire::octets(to) } else { data };
                icmp::v6(from, to, kind, 0, [0x60, 0, 0, 0], &data)
            }
        })
    }

    /// Groups, broadcasts, and what is neither ARP nor IP.
    pub(super) fn foreign(&mut self) -> Vec<u8> {
        let bytes = self.random.below(100);
        let data = self.octets(bytes);
        let tags = self.tags();
        match self.random.below(5) {
            // A multicast listener report behind a router alert (RFC 3810).
            0 => {
                let (from, to) = (ip("fe80::1"), ip("ff02::16"));
                let kind = self.random.pick(&[130, 131, 132, 143]);
                let report = icmp::v6(from, to, kind, 0, [0; 4], &data);
                let content = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0], &report[..]].concat();
                ethernet([0x33, 0x33, 0, 0, 0, 0x16], ROUTER, &tags, IPV6, &ipv6(from, to, 1, 0, 0, &content))
            }
            1 => self.grouped(&data, 2, ip("224.0.0.22"), [1, 0, 0x5e, 0, 0, 0x16]),
            2 => self.grouped(&data, UDP, ip("255.255.255.255"), ALL),
            3 => {
                let to = self.address_like(true);
                let mac = self.random.pick(&[ALL, [1, 0, 0x5e, 0, 0, 1]]);
                self.grouped(&data, UDP, to, mac)
            }
            _ => {
                let kinds = [0x88cc, 0x0842, 0x8847, 0x8863, 0x05dc, 0x0000, 0xffff, 0x9100, 0x88e5];
                let kind = self.random.pick(&kinds);
                ethernet(self.stations().0, ROUTER, &tags, kind, &data)
            }
        }
    }

    fn grouped(&mut self, data: &[u8], protocol: u8, destination: IpAddr, mac: Mac) -> Vec<u8> {
        let source = self.client(true);
        let header =
            Ip4 { source, destination, ttl: 1, protocol, identification: 7, fragment: 0, options: &[] };
        ethernet(mac, ROUTER, &self.tags(), IPV4, &ipv4(&header, data))
    }
}
