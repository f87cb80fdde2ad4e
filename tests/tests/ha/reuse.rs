//! A client uses the port of a connection that is over again, while another node is active: what the first one still
//! knows of the port must not harm the second connection.

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::http::PATIENCE;
use fairlead_tests::lab::{quick, wait_until};
use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::scene::*;
use crate::trio::*;

/// How long a closed flow is kept, here.
const CLOSING: Duration = Duration::from_secs(2);
/// Below those that the kernel chooses by itself.
const FIRST_PORT: u16 = 20_000;

/// A connection from a port of the test's choice.
struct Fixed {
    stream: TcpStream,
    backend: String,
}

impl Fixed {
    fn open(trio: &Trio, v6: bool, port: u16) -> Result<Self> {
        let vip = trio.vip(v6);
        let source = SocketAddr::new(trio.lab.client.address_like(vip), port);
        let target = SocketAddr::new(vip, PORT);
        let socket = trio.lab.client.ns.enter(|| -> Result<Socket> {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&source.into())?;
            socket.connect_timeout(&target.into(), PATIENCE)?;
            Ok(socket)
        });
        let socket = socket.with_context(|| format!("from {source}"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_tcp_nodelay(true)?;
        let mut new = Self { stream: socket.into(), backend: String::new() };
        new.backend = new.ask(0)?;
        Ok(new)
    }

    /// One request; who answers.
    fn ask(&mut self, number: u32) -> Result<String> {
        self.stream.write_all(format!("{number} 0\n").as_bytes()).context("asking")?;
        let mut text = Vec::new();
        while !text.ends_with(b"\n") {
            let mut octet = [0];
            self.stream.read_exact(&mut octet).context("waiting for the answer")?;
            text.extend_from_slice(&octet);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let (answered, name) = text.trim_end().split_once(' ').with_context(|| text.clone())?;
        ensure!(answered == number.to_string(), "{number} was answered by {text:?}");
        Ok(name.to_owned())
    }

    /// Ends it by FINs, the server's first, so that nothing of it is left on this side.
    fn close(mut self) -> Result<()> {
        self.stream.write_all(b"enough\n")?;
        ensure!(self.stream.read(&mut [0; 16])? == 0, "it goes on");
        Ok(())
    }

    /// Ends it by a reset.
    fn reset(self) -> Result<()> {
        Ok(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?)
    }
}

/// How the first node loses its role, and has it again.
#[derive(Debug, Clone, Copy)]
enum Absence {
    Killed,
    Frozen,
    HandedOver,
}

impl Absence {
    fn begin(self, trio: &mut Trio) -> Result<()> {
        match self {
            Self::Killed => trio.nodes[0].kill(),
            Self::Frozen => trio.nodes[0].signal(Signal::SIGSTOP)?,
            Self::HandedOver => drop(trio.nodes[0].ok(&["ha", "handover", "--all"])?),
        }
        wait_until("the other one is active", SOON, || Ok(trio.group(1)?["role"] == "active"))
    }

    fn end(self, trio: &mut Trio) -> Result<()> {
        match self {
            Self::Killed => trio.nodes[0].start()?,
            Self::Frozen => trio.nodes[0].signal(Signal::SIGCONT)?,
            Self::HandedOver => drop(trio.nodes[0].ok(&["ha", "resume", "--all"])?),
        }
        trio.until_only(0)
    }
}

/// State of the first backend as this node steers by it.
fn state(trio: &Trio, node: usize, service: &str, backend: IpAddr) -> Result<String> {
    let all = trio.nodes[node].json(&["backend", "list", service])?;
    let mut backends = all["backends"].as_array().into_iter().flatten();
    let found = backends.find(|one| one["address"] == backend.to_string().as_str()).context("the backend")?;
    Ok(found["state"].as_str().unwrap_or_default().to_owned())
}

fn used_again(v6: bool) -> Result<()> {
    let count: u16 = if quick() { 60 } else { 150 };
    let service = if v6 { "herd6" } else { "herd" };
    let mut trio = Trio::start(2, |cluster| {
        let closing = format!("table_size = 4093\ntimeouts = {{ closing = \"{}s\" }}", CLOSING.as_secs());
        cluster.rest = cluster.rest.replace("table_size = 4093", &closing);
    })?;
    let backend = trio.lab.backends[0].address_like(trio.vip(v6));
    for (round, absence) in [Absence::Killed, Absence::Frozen, Absence::HandedOver].into_iter().enumerate() {
        trio.until_ready(1, "full")?;
        let ports = FIRST_PORT + 1_000 * u16::try_from(round)?..;
        let ports: Vec<u16> = ports.take(count.into()).collect();
        let opened = ports.iter().map(|port| Fixed::open(&trio, v6, *port)).collect::<Result<Vec<_>>>()?;
        let before: Vec<String> = opened.iter().map(|one| one.backend.clone()).collect();
        // Both nodes know of them as they are, and then of their end.
        std::thread::sleep(ADVERT * 3);
        // A third of them ends only when the first node can't see it any more: it believes that they go on.
        let mut unseen = Vec::new();
        for (number, one) in opened.into_iter().enumerate() {
            match number % 3 {
                0 => one.close()?,
                1 => one.reset()?,
                _ => unseen.push(one),
            }
        }
        trio.nodes[0].ok(&["backend", "disable", service, &backend.to_string()])?;
        wait_until("the other one has disabled it", SOON, || {
            Ok(state(&trio, 1, service, backend)? == "disabled")
        })?;
        absence.begin(&mut trio)?;
        unseen.into_iter().try_for_each(Fixed::reset)?;
        let open = ports.iter().map(|port| Fixed::open(&trio, v6, *port)).collect::<Result<Vec<_>>>();
        let mut second = open.with_context(|| format!("{absence:?}: opened again"))?;
        let moved = second.iter().zip(&before).filter(|(one, before)| one.backend != **before).count();
        trio.nodes[1].ok(&["backend", "enable", service, &backend.to_string()])?;
        absence.end(&mut trio)?;
        println!("{absence:?}: {moved} of {count} at another backend than the first time");
        ensure!(moved > usize::from(count) / 10, "only {moved} moved");
        // At once, and once more when whatever was known of the first connections is due to be forgotten.
        for number in [1, 2] {
            for (one, port) in second.iter_mut().zip(&ports) {
                let name =
                    one.ask(number).with_context(|| format!("{absence:?}: port {port}, request {number}"))?;
                ensure!(name == one.backend, "{absence:?}: port {port} went from {} to {name}", one.backend);
            }
            std::thread::sleep(if number == 1 {
                CLOSING + Duration::from_millis(1_500)
            } else {
                Duration::ZERO
            });
        }
        second.into_iter().try_for_each(Fixed::reset)?;
    }
    Ok(())
}

#[test]
fn a_port_used_again_under_another_node_keeps_its_second_connection_v4() -> Result<()> {
    used_again(false)
}

#[test]
fn a_port_used_again_under_another_node_keeps_its_second_connection_v6() -> Result<()> {
    used_again(true)
}
