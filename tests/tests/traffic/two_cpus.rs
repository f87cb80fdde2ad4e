//! Two CPUs that see packets of the same flows at the same time.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Fairlead, Host, Lab, Namespace, wait_until};
use fairlead_tests::packets::Client;
use lb_common::counters::COUNTERS_PER_CPU;
use lb_common::reason::Verdict;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::scene::*;
use crate::tap::Tap;

/// Few: every backend needs a neighbour entry for each, and the kernel has room for 1,024 in all namespaces together.
const SOURCES: u8 = 20;
const PORTS: std::ops::Range<u16> = 30_000..30_040;
const ALL_FLOWS: usize = 800;
/// Flows between two meetings of the senders: more, and they would drift apart.
const STRETCH: usize = 8;
/// How often the table is switched meanwhile.
const SWITCHES: u32 = 8;

/// Two receive queues at the balancer, each fed by the CPU of its number.
fn two_queues(lab: &Lab) -> Result<()> {
    let balancer = &lab.balancers[0];
    let channels = |ns: &Namespace, device: &str, kind: &str| -> Result<()> {
        let output = ns.command("ethtool").args(["-L", device, kind, "2"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ethtool -L {device} {kind} 2: {}", said.trim());
        Ok(())
    };
    channels(&balancer.ns, "eth0", "rx")?;
    channels(&lab.bridge, &balancer.role, "tx")?;
    // Only `ip netns exec` shows the namespace's own /sys.
    for (queue, cpus) in [(0, "1"), (1, "2")] {
        let path = format!("/sys/class/net/{}/queues/tx-{queue}/xps_cpus", balancer.role);
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", lab.bridge.name(), "sh", "-c", &format!("echo {cpus} > {path}")]);
        ensure!(command.status()?.success(), "cannot write {path}");
    }
    Ok(())
}

/// What the senders share.
struct Race {
    meet: Barrier,
    /// Set by the test when the table has been switched often enough.
    over: AtomicBool,
    /// What the senders make of it.
    last: AtomicBool,
}

impl Race {
    /// Sends every flow's frame again and again, a stretch at a time together with the other sender.
    fn send(&self, cpu: usize, tap: &Tap, frames: &[Vec<u8>]) -> Result<()> {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus).with_context(|| format!("cannot run on CPU {cpu}"))?;
        let mut result = Ok(());
        loop {
            for stretch in frames.chunks(STRETCH) {
                self.meet.wait();
                // A failed sender keeps meeting the other one, which would wait for ever.
                for frame in stretch {
                    result = result.and_then(|()| tap.send(frame));
                }
            }
            // One looks for both, so that neither waits for one that has gone.
            if self.meet.wait().is_leader() {
                self.last.store(self.over.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            self.meet.wait();
            if self.last.load(Ordering::SeqCst) {
                return result;
            }
        }
    }
}

/// One flow: the client's address and port.
type Flow = String;

/// All flows.
fn flows() -> impl Iterator<Item = (Ipv4Addr, u16)> {
    PORTS.flat_map(|port| (0..SOURCES).map(move |index| (Row::Client.v4(index), port)))
}

fn name_of((from, port): (Ipv4Addr, u16)) -> Flow {
    format!("{from}:{port}")
}

/// Reads what comes until the senders are done, nothing comes any more, and every flow was answered or was given its
/// time: a backend may have to ask for the client's address a second time.
fn listen(sockets: &[UdpSocket], done: &AtomicBool) -> Result<BTreeMap<Flow, BTreeSet<String>>> {
    let mut answers: BTreeMap<Flow, BTreeSet<String>> = BTreeMap::new();
    let mut buffer = [0; 256];
    let mut deadline = None;
    loop {
        let finished = done.load(Ordering::SeqCst);
        let mut idle = true;
        for socket in sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                idle = false;
                let text = String::from_utf8_lossy(&buffer[..length]);
                let (flow, name) = text.split_once(' ').with_context(|| format!("the answer {text:?}"))?;
                answers.entry(flow.to_owned()).or_default().insert(name.to_owned());
            }
        }
        if idle && finished {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + SOON);
            if answers.len() == ALL_FLOWS || Instant::now() > deadline {
                return Ok(answers);
            }
        }
        if idle {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A frame of each flow, as the host `by` sends it: the switch is not to learn that the client has moved.
fn frames(lab: &Lab, by: &Host) -> Result<Vec<Vec<u8>>> {
    let (source_mac, mac) = (mac(by)?, mac(&lab.balancers[0])?);
    let frame = |(from, port): (Ipv4Addr, u16)| {
        let udp = Client::new(&from.to_string(), &vip(false, 0).to_string()).udp(0);
        Client { port, to_port: ECHO, data: name_of((from, port)).into_bytes(), mac, source_mac, ..udp }
            .frame()
    };
    Ok(flows().map(frame).collect())
}

/// Packets that each CPU has forwarded.
fn forwarded_by_cpu(balancer: &Fairlead) -> Result<Vec<u64>> {
    let pin = balancer.pins().join("main/maps/COUNTERS");
    let map = MapData::from_pin(&pin).with_context(|| format!("cannot open {}", pin.display()))?;
    let rows = Array::<_, u64>::try_from(Map::Array(map))?;
    let forwarded = (Verdict::Forward as u32..rows.len()).step_by(COUNTERS_PER_CPU as usize);
    forwarded.map(|row| rows.get(&row, 0).context("a row")).collect()
}

/// The frames of all flows by two senders on a CPU each, while the table is switched again and again.
fn same_flows_on_two_cpus(mode: &str) -> Result<()> {
    let lab = Lab::builder().balancers(2).backends(3).client_addresses(SOURCES).build()?;
    decaps(&lab)?;
    let _echoes = echoes(&lab)?;
    if mode == "native" {
        two_queues(&lab)?;
    }
    let service = Service::new("echo", vip(false, 0), ECHO).key("protocol", "udp").over(&lab.backends);
    let balancer = Fairlead::launch(&lab, &lab.balancers[0], &config_in(mode, &[service]))?;
    let open = |port: u16| {
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let sockets = lab.client.ns.enter(|| PORTS.map(open).collect::<std::io::Result<Vec<_>>>())?;
    let race = Race { meet: Barrier::new(2), over: AtomicBool::new(false), last: AtomicBool::new(false) };
    // The second sender is on another port of the bridge, so that the CPUs share no queue before the balancer.
    let hosts: [&Host; 2] = [&lab.client, &lab.balancers[1]];
    let outfits = hosts.map(|host| Ok((Tap::open(&host.ns, "eth0")?, frames(&lab, host)?)));
    let outfits: Vec<(Tap, Vec<Vec<u8>>)> = outfits.into_iter().collect::<Result<_>>()?;
    let done = AtomicBool::new(false);
    let answers = thread::scope(|scope| {
        let (race, done) = (&race, &done);
        let senders = outfits.iter().enumerate();
        let senders = senders.map(|(cpu, (tap, frames))| scope.spawn(move || race.send(cpu, tap, frames)));
        let senders: Vec<_> = senders.collect();
        let reader = scope.spawn(|| listen(&sockets, done));
        let switched = (0..SWITCHES).try_for_each(|step| {
            let (weight, backend) = ((1 + step % 5).to_string(), &lab.backends[step as usize % 3]);
            balancer.ok(&["backend", "weight", "echo", &backend.v4.to_string(), &weight]).map(drop)
        });
        race.over.store(true, Ordering::SeqCst);
        let sent =
            senders.into_iter().try_for_each(|sender| sender.join().expect("a sender that does not panic"));
        let settled = wait_until("nothing is on its way any more", SOON, || {
            let before = counter(&balancer, "forwarded")?;
            thread::sleep(Duration::from_millis(50));
            Ok(counter(&balancer, "forwarded")? == before)
        });
        done.store(true, Ordering::SeqCst);
        let answers = reader.join().expect("a reader that does not panic");
        switched.and(sent).and(settled).and(answers)
    })?;

    let moved: Vec<_> = answers.iter().filter(|(_, names)| names.len() != 1).collect();
    ensure!(moved.is_empty(), "answered by more than one backend: {moved:?}");
    let silent: Vec<Flow> = flows().map(name_of).filter(|flow| !answers.contains_key(flow)).collect();
    ensure!(silent.is_empty(), "flows without any answer: {silent:?}");
    let served: BTreeSet<&String> = answers.values().flatten().collect();
    assert_eq!(served.len(), 3, "served by {served:?} only");

    let list = balancer.json(&["flow", "list", "--limit", "10000"])?;
    let flows = list["flows"].as_array().context("flows")?;
    let mut listed = BTreeMap::new();
    for flow in flows {
        let client = flow["client"].as_str().context("client")?.to_owned();
        let backend = lab.backends.iter().find(|host| flow["backend"] == host.v4.to_string());
        let name = backend.with_context(|| format!("no such backend: {flow}"))?.role.clone();
        ensure!(listed.insert(client, BTreeSet::from([name])).is_none(), "listed twice: {flow}");
    }
    ensure!(listed == answers, "the list says {listed:?}, the answers {answers:?}");
    let forwarded = forwarded_by_cpu(&balancer)?;
    ensure!(
        forwarded.iter().filter(|packets| **packets > 0).count() > 1,
        "by CPU: {forwarded:?}: that was no race"
    );
    for impossible in ["internal", "malformed", "flow_unstored", "flow_evicted"] {
        assert_eq!(counter(&balancer, impossible)?, 0, "{impossible}");
    }
    assert_eq!(counter(&balancer, "flow_stored")?, ALL_FLOWS as u64, "each flow is stored once");
    Ok(())
}

#[test]
fn flows_seen_by_two_cpus_at_once_have_one_backend_and_one_entry_in_native_mode() -> Result<()> {
    same_flows_on_two_cpus("native")
}

#[test]
fn flows_seen_by_two_cpus_at_once_have_one_backend_and_one_entry_in_generic_mode() -> Result<()> {
    same_flows_on_two_cpus("generic")
}
