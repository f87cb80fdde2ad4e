//! The decapsulator in plain memory.

use std::cell::Cell;
use std::net::IpAddr;

use lb_common::decap::{DecapOutcome, DecapWorld, decapsulate};

use super::memory::{Memory, frame_access};
use super::setup::DecapSetup;

frame_access!(HostDecap);

/// A decapsulator in plain memory.
pub struct HostDecap {
    frame: Memory,
    setup: DecapSetup,
    counted: Cell<Option<DecapOutcome>>,
    times: Cell<u32>,
}

impl HostDecap {
    /// Runs one frame: what became of it, and the frame afterwards.
    ///
    /// # Panics
    /// If the frame was not counted exactly once.
    #[must_use]
    pub fn run(setup: &DecapSetup, frame: &[u8]) -> (DecapOutcome, Vec<u8>) {
        let frame = Memory::new(frame);
        let world = Self { frame, setup: setup.clone(), counted: Cell::new(None), times: Cell::new(0) };
        let outcome = decapsulate(&world);
        assert_eq!((world.counted.get(), world.times.get()), (Some(outcome), 1));
        (outcome, world.frame.frame())
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.setup.from.iter().any(|(net, prefix)| shares_prefix(*net, address, *prefix))
    }
}

fn shares_prefix(net: IpAddr, address: IpAddr, prefix: u32) -> bool {
    match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            (net.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            (net.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        _ => false,
    }
}

fn v4(address: u32) -> IpAddr {
    IpAddr::from(address.to_ne_bytes())
}

fn v6(address: &[u32; 4]) -> IpAddr {
    let octets: [u8; 16] = std::array::from_fn(|at| address[at / 4].to_ne_bytes()[at % 4]);
    IpAddr::from(octets)
}

impl DecapWorld for HostDecap {
    fn is_balancer4(&self, address: u32) -> bool {
        self.trusts(v4(address))
    }

    fn is_balancer6(&self, address: &[u32; 4]) -> bool {
        self.trusts(v6(address))
    }

    fn vip4(&self, address: u32) -> bool {
        self.setup.vips.contains(&v4(address))
    }

    fn vip6(&self, address: &[u32; 4]) -> bool {
        self.setup.vips.contains(&v6(address))
    }

    fn count(&self, outcome: DecapOutcome) {
        self.counted.set(Some(outcome));
        self.times.set(self.times.get() + 1);
    }
}
