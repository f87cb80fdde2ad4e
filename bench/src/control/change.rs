//! How long a command takes until packets go where it says: a real daemon, a client that sends without pause, and two
//! backends that note when a packet came.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::{Fairlead, Host, Lab, VipRoute, wait_until};
use fairlead_tests::report::Report;

use super::{milliseconds, record};

const TIMES: usize = 50;
const PORT: u16 = 9_000;
/// Between two packets.
const PAUSE: Duration = Duration::from_micros(100);
/// How long anything may take at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Receives on a backend and notes when the first packet came after it was armed.
struct Watch {
    first: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    fn start(host: &Host, at: SocketAddr, end: &Arc<AtomicBool>) -> Result<(Self, JoinHandle<()>)> {
        let socket =
            host.ns.enter(|| UdpSocket::bind(at)).with_context(|| format!("{} on {at}", host.role))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let first = Arc::new(Mutex::new(None));
        let (noted, end) = (Arc::clone(&first), Arc::clone(end));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !end.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    let now = Instant::now();
                    noted.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
                }
            }
        });
        Ok((Self { first }, thread))
    }

    fn first(&self) -> Option<Instant> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arm(&self) {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// From before the request to disable the backend of a flow until its first packet is at the other backend.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    let lab = Lab::builder().vip_route(VipRoute::Balancer(0)).build()?;
    let (vip, _) = *lab.vips.first().context("the lab has a VIP")?;
    let balancer = lab.balancers.first().context("the lab has a balancer")?;
    let mut text = format!(
        "[[interface]]\nname = \"eth0\"\n[[service]]\nname = \"udp\"\nvip = \"{vip}\"\nport = {PORT}\n\
         protocol = \"udp\"\nmode = \"l2\"\n"
    );
    for backend in &lab.backends {
        text.push_str(&format!("[[service.backend]]\naddress = \"{}\"\n", backend.v4));
    }
    let daemon = Fairlead::launch(&lab, balancer, &text)?;
    let end = Arc::new(AtomicBool::new(false));
    let at = SocketAddr::new(vip.into(), PORT);
    let mut threads = Vec::new();
    let mut watches = Vec::new();
    for backend in &lab.backends {
        let (watch, thread) = Watch::start(backend, at, &end)?;
        watches.push((watch, backend.v4.to_string()));
        threads.push(thread);
    }
    let stop = Arc::clone(&end);
    threads.push(lab.client.ns.spawn(move || send(at, &stop)));
    let series = changes(&daemon, &watches);
    end.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| drop(thread.join()));
    record(report, "change_to_packets_ms", &series?)
}

fn send(to: SocketAddr, end: &AtomicBool) {
    let Ok(socket) = UdpSocket::bind("0.0.0.0:0") else { return };
    while !end.load(Ordering::Relaxed) {
        // What is lost is lost: the next follows at once.
        let _ = socket.send_to(b"x", to);
        sleep(PAUSE);
    }
}

fn changes(daemon: &Fairlead, watches: &[(Watch, String)]) -> Result<Vec<f64>> {
    let [one, other] = watches else { anyhow::bail!("two backends are needed") };
    wait_until("the first packet is at a backend", PATIENCE, || {
        Ok(one.0.first().is_some() || other.0.first().is_some())
    })?;
    let mut series = Vec::new();
    for _ in 0..TIMES {
        let (from, to) = if one.0.first().is_some() { (one, other) } else { (other, one) };
        to.0.arm();
        // The other backend must be idle, or its first packet would say nothing.
        sleep(Duration::from_millis(20));
        ensure!(to.0.first().is_none(), "packets of one flow go to both backends");
        let begun = Instant::now();
        set(daemon, &from.1, "disable")?;
        wait_until("packets go to the other backend", PATIENCE, || Ok(to.0.first().is_some()))?;
        let first = to.0.first().context("was just there")?;
        series.push(milliseconds(first.saturating_duration_since(begun)));
        set(daemon, &from.1, "enable")?;
        // The flow is known by now and stays where it went.
        from.0.arm();
    }
    Ok(series)
}

fn set(daemon: &Fairlead, backend: &str, word: &str) -> Result<()> {
    let answer = daemon.call("POST", &format!("/v1/services/udp/backends/{backend}/{word}"), "")?;
    ensure!(answer.status == 200, "{word} {backend}: HTTP {}: {}", answer.status, answer.body);
    Ok(())
}
