//! Frames as they may come to a balancer: most of them whole, the rest damaged in every way that comes to mind.

mod control;
mod damage;
mod flow;

use std::net::IpAddr;

use super::client::ip;
use super::random::Random;
use super::setup::{LEASE_OVER, Setup};
use super::wire::{ALL, Mac, OWN, ROUTER, Tag};

/// Another station than the balancer and the router.
pub const OTHER_STATION: Mac = [0x02, 0, 0, 0, 0, 0x55];
/// Addresses that no setup uses as a VIP.
const NO_VIPS: [&str; 4] = ["192.0.2.99", "10.0.0.254", "2001:db8::99", "fd00::ffff"];

/// Makes frames for one balancer.
pub struct Generator {
    random: Random,
    services: Vec<(IpAddr, u16, u8)>,
    vips: Vec<IpAddr>,
    /// Client ports in use: few make flows that live long, many make new ones.
    ports: u64,
    mtu: u64,
    last: Vec<u8>,
}

impl Generator {
    /// The generator for a balancer.
    #[must_use]
    pub fn new(setup: &Setup, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let services = setup.services.iter().map(|service| (service.vip, service.port, service.protocol));
        let mut vips: Vec<IpAddr> = setup.vips.iter().map(|(vip, _)| *vip).collect();
        // What nobody may answer for is asked for less.
        vips.sort_by_key(|vip| {
            setup.vips.iter().any(|(address, row)| address == vip && row.lease == LEASE_OVER)
        });
        let ports = random.pick(&[4, 32, 32, 256, 60_000]);
        let mtu = setup.egress.first().map_or(1_500, |row| row.mtu.into());
        Self { random, services: services.collect(), vips, ports, mtu, last: vec![0; 14] }
    }

    /// The next frame, of 14 octets at least.
    pub fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.random.below(40) {
            0 | 1 => self.arp(),
            2 | 3 => self.solicitation(),
            4 | 5 => self.echo(),
            6 => self.error(),
            7 => self.other_control(),
            8 => self.foreign(),
            _ => self.flow(),
        };
        if self.random.one_in(4) {
            self.damage(&mut frame);
        }
        self.last.clone_from(&frame);
        frame
    }

    /// The random numbers behind it.
    pub const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.random.one_in(times)
    }

    fn octets(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.random.next() as u8).collect()
    }

    /// A VIP, mostly.
    fn address(&mut self) -> IpAddr {
        if self.vips.is_empty() || self.one_in(8) {
            return ip(self.random.pick(&NO_VIPS));
        }
        let first = self.random.below(self.vips.len() as u64);
        let index = self.random.below(first + 1);
        self.vips[index as usize]
    }

    /// The same of one family.
    fn address_like(&mut self, v4: bool) -> IpAddr {
        for _ in 0..8 {
            let address = self.address();
            if address.is_ipv4() == v4 {
                return address;
            }
        }
        ip(if v4 { NO_VIPS[0] } else { NO_VIPS[2] })
    }

    /// Where packets for an address of this family come from.
    fn client(&mut self, v4: bool) -> IpAddr {
        if self.one_in(48) {
            let odd4 = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"];
            let odd6 = ["::", "::1", "ff02::1", "fe80::1", "::ffff:1.2.3.4", "ff05::2"];
            return if self.one_in(6) {
                self.address_like(v4)
            } else {
                ip(self.random.pick(if v4 { &odd4 } else { &odd6 }))
            };
        }
        let host = self.random.below(4) as u16;
        if v4 {
            IpAddr::from([198, 51, 100, host as u8])
        } else {
            IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, host])
        }
    }

    fn tags(&mut self) -> Vec<Tag> {
        let count = if self.one_in(4) { self.random.pick(&[1, 1, 1, 2, 2, 3]) } else { 0 };
        (0..count)
            .map(|_| {
                let control = self.random.next() as u16;
                if self.one_in(3) { Tag::Service(control) } else { Tag::Customer(control) }
            })
            .collect()
    }

    /// Destination and source MAC of a frame to the balancer, now and then of another one.
    fn stations(&mut self) -> (Mac, Mac) {
        let to = if self.one_in(24) {
            self.random.pick(&[ALL, OTHER_STATION, [0; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1]])
        } else {
            OWN
        };
        let from = if self.one_in(64) { self.random.pick(&[OWN, OWN, ALL, [0; 6]]) } else { ROUTER };
        (to, from)
    }

    fn padding(&mut self, bytes: usize) -> Vec<u8> {
        match self.random.below(6) {
            0 => vec![0; 46usize.saturating_sub(bytes)],
            1 => {
                let count = self.random.below(20);
                self.octets(count)
            }
            _ => Vec::new(),
        }
    }
}
