//! An independent judge of what a balancer did with a frame.
//!
//! It was written from the documents (docs/ARCHITECTURE.md, docs/OPERATIONS.md and the RFCs they rest on) by somebody who
//! did not write the data path, reads packets with etherparse, and shares with the data path only the types that maps are
//! made of, the flow hash and the Maglev table, which golden vectors freeze. Where the documents leave it open what becomes
//! of a frame (a header that contradicts itself, mostly), only what holds for any frame at all is asked for.

#![expect(
    clippy::cast_possible_truncation,
    reason = "fields of headers are taken out by narrowing casts, and table indexes fit"
)]

mod answers;
mod asked;
mod expected;
mod forwarded;
mod pool;

use lb_common::egress::EgressRow;
use lb_common::flow::FlowEntry;
use lb_common::reason::Action;

use crate::packets::Setup;
use crate::packets::balancer::Change;
use crate::packets::setup::{INGRESS, LEASE_OVER};
use asked::{Frame, Ip};
use expected::Expected;
use pool::{Key, Pool};

/// What is said against what a balancer did.
type Judgement = Result<(), String>;

/// What became of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Done<'f> {
    /// What the kernel was told to do.
    pub action: Action,
    /// Name of the counter that rose.
    pub outcome: &'f str,
    /// The frame afterwards; nobody looks at it if it was dropped.
    pub frame: &'f [u8],
    /// Flows that lost their place in the flow table, or found none.
    pub lost: u64,
}

/// The judge.
pub struct Oracle {
    pool: Pool,
    sure: u64,
    stuck: u64,
}

/// Fails with a reason unless something holds.
macro_rules! holds {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err(format!($($reason)+));
        }
    };
}
use holds;

impl Oracle {
    /// The judge of this balancer, whose flow table is empty.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self { pool: Pool::new(setup), sure: 0, stuck: 0 }
    }

    /// The balancer's maps changed.
    pub fn changed(&mut self, change: &Change) {
        self.pool.change(change);
    }

    /// Somebody else wrote over this flow entry.
    pub fn overwritten(&mut self, entry: FlowEntry) {
        self.pool.forget(entry.fingerprint());
    }

    /// This entry is in the flow table, and its flow's packets were sent before anybody looked.
    pub fn planted(&mut self, bucket: u32, entry: FlowEntry) {
        self.pool.plant(bucket, entry.fingerprint(), entry.slot());
    }

    /// Frames that went where their flow was before, and that the table would have sent elsewhere.
    #[must_use]
    pub const fn stuck(&self) -> u64 {
        self.stuck
    }

    /// Frames of which it was known what must become of them.
    #[must_use]
    pub const fn sure(&self) -> u64 {
        self.sure
    }

    /// Judges what became of a frame of 14 octets or more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&mut self, came: &[u8], done: Done<'_>) -> Judgement {
        let frame = Frame::read(came)?;
        let ip = if frame.is_ip() { Ip::read(frame.ethertype, frame.content) } else { Err(None) };
        let expected = self.expect(&frame, &ip);
        self.sure += u64::from(expected != Expected::Open);
        let judged = self.judged(came, &frame, ip.as_ref(), &expected, done);
        let slot = judged.map_err(|error| {
            format!("{error} (expected {expected:?}, seen {:?} as {})", done.action, done.outcome)
        })?;
        let key = ip.as_ref().ok().and_then(key_of);
        holds!(
            done.lost == 0 || key.is_some(),
            "{} flows lost their places to what is of no flow",
            done.lost
        );
        if let Some(key) = key {
            let losses = self.pool.losses(&key);
            self.stuck += u64::from(slot.is_some() && self.sticks(&key, ip.as_ref()));
            self.pool.lost(&key, done.lost);
            match (slot, done.outcome) {
                (Some(slot), _) => self.pool.went(key, slot, losses),
                (
                    None,
                    "answered_too_big" | "no_neighbour" | "no_egress" | "no_headroom" | "too_big"
                    | "no_backend" | "internal",
                ) => {
                    self.pool.unseen(key);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether only what the flow did before says where its packet goes.
    fn sticks(&self, key: &Key, ip: Result<&Ip<'_>, &Option<std::net::IpAddr>>) -> bool {
        let flags = ip.ok().and_then(Ip::ports).map_or(0, |(_, _, flags)| flags);
        self.pool.service(key).is_some_and(|service| self.pool.ways(service, key, flags).sticks)
    }

    /// The slot that a forwarded frame went to, if all is well.
    fn judged(
        &self,
        came: &[u8],
        frame: &Frame<'_>,
        ip: Result<&Ip<'_>, &Option<std::net::IpAddr>>,
        expected: &Expected,
        done: Done<'_>,
    ) -> Result<Option<u16>, String> {
        holds!(expected.allows(done), "not what the documents say");
        match done.action {
            Action::Pass => {
                holds!(done.frame == came, "passed, but not as it came");
                Ok(None)
            }
            Action::Drop => {
                let vip = ip.map_or_else(|destination| *destination, |ip| Some(ip.destination));
                holds!(vip.is_some_and(|vip| self.is_vip(vip)), "dropped, and no VIP is concerned");
                Ok(None)
            }
            Action::Transmit => self.sent(frame, ip, done),
            Action::Redirect => self.redirected(frame, ip, done).map(Some),
        }
    }

    /// What holds for every frame that is sent, and then what holds for each kind.
    fn sent(
        &self,
        came: &Frame<'_>,
        ip: Result<&Ip<'_>, &Option<std::net::IpAddr>>,
        done: Done<'_>,
    ) -> Result<Option<u16>, String> {
        let went = Frame::read(done.frame)?;
        let Some(row) = self.pool.setup.egress.first() else {
            return Err("no interface is known".to_owned());
        };
        let own = self.own();
        holds!(came.is_grouped() || came.to == own, "it was for another station");
        holds!(went.from == own, "sent from {:02x?}", went.from);
        holds!(went.tags == came.tags, "tags {:02x?} became {:02x?}", came.tags, went.tags);
        let same = went.ethertype == came.ethertype || done.outcome == "forwarded";
        holds!(same, "ethertype {:04x}", went.ethertype);
        // What comes in longer than it may go out is sent back no longer than it came.
        let longest = (row.mtu as usize).max(came.content.len());
        let bytes = Ip::read(went.ethertype, went.content).map_or(0, |ip| ip.packet.len());
        holds!(bytes <= longest, "{bytes} octets go out where {longest} may");
        match (done.outcome, ip) {
            ("forwarded", Ok(ip)) => self.forwarded(came, ip, &went, row).map(Some),
            ("forwarded", Err(_)) => Err("forwarded what is no packet".to_owned()),
            ("answered_arp", _) => self.arp(came, &went).map(|()| None),
            ("answered_nd", Ok(ip)) => self.advertisement(came, ip, &went).map(|()| None),
            ("answered_echo", Ok(ip)) => self.echo(came, ip, &went).map(|()| None),
            ("answered_too_big", Ok(ip)) => self.too_big(came, ip, &went).map(|()| None),
            _ => Err("sent, and for no reason that is known".to_owned()),
        }
    }

    /// What holds for every frame that leaves by another interface: it is a packet on its way to a backend.
    fn redirected(
        &self,
        came: &Frame<'_>,
        ip: Result<&Ip<'_>, &Option<std::net::IpAddr>>,
        done: Done<'_>,
    ) -> Result<u16, String> {
        let went = Frame::read(done.frame)?;
        let (Ok(ip), "redirected") = (ip, done.outcome) else {
            return Err("leaves by another interface, and for no reason that is known".to_owned());
        };
        holds!(came.to == self.own(), "it was for another station");
        let mac = |row: &&EgressRow| {
            let [octets @ .., _, _] = row.mac_bits.to_le_bytes();
            octets == went.from && row.ifindex != INGRESS
        };
        let Some(row) = self.pool.setup.egress.iter().find(mac) else {
            return Err(format!("sent from {:02x?}, which no other interface has", went.from));
        };
        holds!(!self.pool.setup.gone.contains(&row.ifindex), "by an interface that is gone");
        holds!(went.tags.is_empty(), "tags {:02x?} of the segment that it came from", went.tags);
        self.forwarded(came, ip, &went, row)
    }

    fn own(&self) -> [u8; 6] {
        let row = self.pool.setup.egress.first();
        let [a, b, c, d, e, f, ..] = row.map_or(0, |row| row.mac_bits).to_le_bytes();
        [a, b, c, d, e, f]
    }

    fn vip_flags(&self, address: std::net::IpAddr) -> Option<(bool, u32)> {
        let (_, row) = self.pool.setup.vips.iter().find(|(vip, _)| *vip == address)?;
        Some((row.lease != LEASE_OVER, row.flags))
    }

    fn is_vip(&self, address: std::net::IpAddr) -> bool {
        self.vip_flags(address).is_some()
    }

    fn holds_vip(&self, address: std::net::IpAddr) -> bool {
        self.vip_flags(address).is_some_and(|(held, _)| held)
    }
}

fn key_of(ip: &Ip<'_>) -> Option<Key> {
    let (from, to, _) = ip.ports()?;
    Some((ip.source, from, ip.destination, to, ip.protocol))
}
