//! New TCP flows at a steady rate, as frames: more than sockets could make, and nobody has to answer them.

use super::record::Mac;
use super::socket::PacketSocket;
use crate::lab::{DEVICE, Host, Lab};
use crate::packets::Client;
use crate::packets::client::{ACK, SYN};
use anyhow::{Context, Result, anyhow, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The network that the flows come from: nobody's, so that nobody answers.
const NETWORK: &str = "10.30.0.0/16";
/// Flows of one source address: its ports.
const PORTS: u64 = 60_000;
const FIRST_PORT: u16 = 1_024;
/// So many source addresses, one octet of them.
const MAX_FLOWS: u64 = PORTS * 200;
/// How long the maker rests between two bursts.
const REST: Duration = Duration::from_millis(1);

/// Makes new flows until it is dropped or stopped: a SYN and an ACK each, which makes them established for a balancer.
#[derive(Debug)]
pub struct FlowMaker {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl FlowMaker {
    /// Lets the backends of a lab be silent about these flows: without this each packet is answered by a reset, which
    /// finds no way.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn prepare(lab: &Lab) -> Result<()> {
        lab.backends.iter().try_for_each(|backend| backend.ns.ip(&format!("route add blackhole {NETWORK}")))
    }

    /// From `host`, to the station `balancer`: `rate` new flows a second to `target`, beginning with flow `first`, so that
    /// two makers make none twice.
    ///
    /// # Errors
    /// No packet socket, or the target is not of IPv4.
    pub fn start(host: &Host, balancer: Mac, target: SocketAddr, rate: u32, first: u64) -> Result<Self> {
        ensure!(target.is_ipv4(), "flows are made of IPv4 only, not to {target}");
        let socket = host.ns.enter(|| PacketSocket::open(DEVICE, true)).context("a packet socket")?;
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while !ended.load(Ordering::Acquire) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a count of flows"
                )]
                let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                for number in count.load(Ordering::Relaxed)..due {
                    for frame in frames(balancer, target, first + number)? {
                        socket.send(&frame).context("sending a frame")?;
                    }
                    count.store(number + 1, Ordering::Release);
                }
                std::thread::sleep(REST);
            }
            Ok(())
        });
        Ok(Self { stop, made, thread: Some(thread) })
    }

    /// How many flows it has made.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Ends it; how many flows it has made.
    ///
    /// # Errors
    /// A frame could not be sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("a maker is stopped once")?;
        thread.join().map_err(|_| anyhow!("the maker of flows panicked"))??;
        Ok(self.made())
    }
}

impl Drop for FlowMaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // Whoever dropped it does not want to know.
            let _ = thread.join();
        }
    }
}

fn frames(balancer: Mac, target: SocketAddr, number: u64) -> Result<[Vec<u8>; 2]> {
    ensure!(number < MAX_FLOWS, "{MAX_FLOWS} flows are the most");
    let source = Ipv4Addr::new(10, 30, 0, u8::try_from(number / PORTS + 1)?);
    let port = FIRST_PORT + u16::try_from(number % PORTS)?;
    let client = Client::new("10.30.0.1", "10.30.0.2").with(|packet| {
        packet.from = IpAddr::from(source);
        (packet.to, packet.to_port) = (target.ip(), target.port());
        packet.mac = balancer.0;
    });
    let client = client.port(port);
    Ok([client.tcp(SYN, 0).frame(), client.tcp(ACK, 0).frame()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flow_comes_twice_and_the_last_one_has_room() {
        let target = SocketAddr::from(([10, 20, 9, 1], 80));
        let of =
            |number| frames(Mac([2; 6]), target, number).expect("a flow").map(|frame| frame[26..36].to_vec());
        assert_ne!(of(0), of(1));
        assert_ne!(of(PORTS - 1), of(2 * PORTS - 1));
        assert_eq!(of(7)[0], of(7)[1], "both of the same flow");
        assert!(frames(Mac([2; 6]), target, MAX_FLOWS - 1).is_ok());
        assert!(frames(Mac([2; 6]), target, MAX_FLOWS).is_err());
    }
}
