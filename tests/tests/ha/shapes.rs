//! Connections of four shapes over a death of the active node: busy, idle, asking and answered, and one large transfer.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::ha::HerdPlan;
use fairlead_tests::lab::{http, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::*;
use crate::scene::*;
use crate::trio::*;

const TRANSFER: usize = 24 << 20;
const PIECE: usize = 64 << 10;
/// Between two pieces, so that there is time for something to happen meanwhile: some 20 MB a second.
const REST: Duration = Duration::from_millis(3);
/// Longer than TCP takes to get over any failover here.
const OVER_IT: Duration = Duration::from_secs(20);

/// One request with megabytes behind it, on its way.
struct Transfer {
    sent: Arc<AtomicUsize>,
    thread: JoinHandle<Result<String>>,
    backend: String,
}

impl Transfer {
    fn start(trio: &Trio, v6: bool) -> Result<Self> {
        let target = SocketAddr::new(trio.vip(v6), PORT);
        let source = trio.lab.client.address_like(target.ip());
        let mut stream = trio.lab.client.ns.enter(|| http::connect(Some(source), target, OVER_IT))?;
        let backend = request(&mut stream, 0, 0, |_| ())?;
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let send = move || {
            request(&mut stream, 1, TRANSFER, |length| {
                let _ = count.fetch_add(length, Ordering::AcqRel);
            })
        };
        Ok(Self { sent, thread: std::thread::spawn(send), backend })
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Acquire)
    }

    /// Waits for its answer.
    fn end(self) -> Result<()> {
        let backend = self.thread.join().map_err(|_| anyhow::anyhow!("the transfer panicked"))??;
        ensure!(backend == self.backend, "begun at {}, answered by {backend}", self.backend);
        Ok(())
    }
}

/// A request with so many octets; who answers it.
fn request(stream: &mut TcpStream, number: u32, octets: usize, progress: impl Fn(usize)) -> Result<String> {
    stream.write_all(format!("{number} {octets}\n").as_bytes())?;
    let piece = vec![b'x'; PIECE];
    let mut left = octets;
    while left > 0 {
        let length = left.min(PIECE);
        stream.write_all(&piece[..length]).with_context(|| format!("{left} octets before the end"))?;
        progress(length);
        left -= length;
        std::thread::sleep(REST);
    }
    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut octet = [0];
        stream.read_exact(&mut octet).context("waiting for the answer")?;
        text.push(octet[0].into());
    }
    let (answered, name) = text.trim_end().split_once(' ').with_context(|| text.clone())?;
    ensure!(answered == number.to_string(), "{number} was answered by {text:?}");
    Ok(name.to_owned())
}

#[test]
fn busy_idle_asking_and_large_connections_outlive_a_killed_node_and_its_return() -> Result<()> {
    let mut trio = Trio::start(2, |_| {})?;
    trio.until_ready(1, "full")?;
    // What was opened with two backends is, for a third of the flows, an exception with three.
    trio.change_pool(&[0, 1], false)?;
    let quiet = HerdPlan { requests_per_second: 0, bulk: 0, ..HerdPlan::new(few()) };
    let shapes = [
        ("busy", HerdPlan { connections: 8, idle: 0, requests_per_second: 2_000, ..quiet }),
        ("idle", HerdPlan { idle: few(), ..quiet }),
        ("asking", HerdPlan { idle: 0, requests_per_second: 500, ..quiet }),
    ];
    let mut herds = Vec::new();
    for (shape, v6) in shapes.iter().flat_map(|shape| FAMILIES.map(|v6| (shape, v6))) {
        herds.push((format!("{}, {}", shape.0, name(v6)), herd_by(&trio, v6, shape.1)?));
    }
    for returns in [false, true] {
        let what = if returns { "return" } else { "death" };
        let transfers = FAMILIES.map(|v6| Transfer::start(&trio, v6));
        let transfers = transfers.into_iter().collect::<Result<Vec<_>>>()?;
        trio.change_pool(&[0, 1], true)?;
        if returns {
            trio.nodes[0].kill();
            trio.until_only(1)?;
            trio.nodes[0].start()?;
            trio.until_only(0)?;
        } else {
            wait_until("both are well under way", SOON, || {
                Ok(transfers.iter().all(|one| one.sent() > TRANSFER / 6))
            })?;
            trio.nodes[0].kill();
            trio.until_only(1)?;
            ensure!(transfers.iter().all(|one| one.sent() < TRANSFER), "over before the takeover");
        }
        let begun = Instant::now();
        for transfer in transfers {
            transfer.end().context(what)?;
        }
        println!("{what}: transfers ended after {:?}", begun.elapsed());
        for (shape, herd) in &herds {
            let checkup = herd.check(SOON)?;
            let broken = checkup.broken.len();
            ensure!(broken == 0, "{what}, {shape}: {broken} broken: {:?}", checkup.reasons());
        }
        if !returns {
            trio.nodes[0].start()?;
            trio.until_only(0)?;
            trio.until_ready(1, "full")?;
            trio.change_pool(&[0, 1], false)?;
        }
    }
    Ok(())
}
