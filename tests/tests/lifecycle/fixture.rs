//! What the tests start from: a lab with line servers behind a daemon that was started or is about to be.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fairlead_tests::lab::plan::Row;
use fairlead_tests::lab::{Answer, Fairlead, Host, Lab, LineClient, Peer, wait_until};
use serde_json::Value;

/// The port of the line servers and of the services before them.
pub(crate) const LINES: u16 = 7000;
/// Longer than anything here takes; nothing is concluded from how long it took.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The first lines of every file, with comments that must survive.
pub(crate) const HEAD: &str = "# Balancer of the lab.\n[[interface]]\nname = \"eth0\" # the only one\n\n\
    [limits] # small, so that starting is quick\nservices = 8\nbackends = 16\nflows = 65536\ntable_slots = 65536\n";

/// A lab and a daemon; fields are dropped in this order.
pub(crate) struct Stage {
    pub(crate) lines: LineClient,
    pub(crate) daemon: Fairlead,
    _servers: Vec<Peer>,
    pub(crate) lab: Lab,
}

/// A service in mode l2 without check, on port [`LINES`].
pub(crate) fn service(name: &str, vip: impl Into<IpAddr>, backends: &[IpAddr]) -> String {
    let vip = vip.into();
    let mut text = format!(
        "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {LINES}\nmode = \"l2\"\ntable_size = 4093\n"
    );
    for address in backends {
        // Writing to a string does not fail.
        let _ = write!(text, "\n[[service.backend]] # {name} on {address}\naddress = \"{address}\"\n");
    }
    text
}

/// The service `lines` with all backends of the lab, IPv4.
pub(crate) fn plain(lab: &Lab) -> String {
    let backends: Vec<IpAddr> = lab.backends.iter().map(|host| host.v4.into()).collect();
    format!("{HEAD}{}", service("lines", lab.vips[0].0, &backends))
}

impl Stage {
    /// A lab with this many backends, line servers on them, and a daemon with this file that is not started yet.
    pub(crate) fn set(lab: Lab, text: &str) -> Result<Self> {
        let servers =
            lab.backends.iter().map(|host| Peer::lines(&lab, host, LINES)).collect::<Result<Vec<_>>>()?;
        let daemon = Fairlead::new(&lab, &lab.balancers[0], text)?;
        Ok(Self { lines: LineClient::start(&lab.client.ns), daemon, _servers: servers, lab })
    }

    /// The service `lines` over this many backends, running.
    pub(crate) fn running(backends: u8) -> Result<Self> {
        let lab = Lab::builder().backends(backends).build()?;
        let text = plain(&lab);
        let mut stage = Self::set(lab, &text)?;
        stage.daemon.start()?;
        Ok(stage)
    }

    pub(crate) fn balancer(&self) -> &Host {
        &self.lab.balancers[0]
    }

    pub(crate) fn vip(&self) -> IpAddr {
        self.lab.vips[0].0.into()
    }

    pub(crate) fn backend(&self, index: usize) -> IpAddr {
        self.lab.backends[index].v4.into()
    }

    /// Opens a connection to the service `lines`: somebody answers it.
    pub(crate) fn forwards(&self) -> Result<()> {
        self.lines.open(&[(self.lab.client.v4.into(), SocketAddr::new(self.vip(), LINES))])
    }

    /// Waits until every open connection has carried two further lines; none may have broken.
    pub(crate) fn none_broke(&self) -> Result<()> {
        let heard: Vec<u64> = self.lines.lines().iter().map(|line| line.heard).collect();
        wait_until("every connection goes on", PATIENCE, || {
            let lines = self.lines.lines();
            let broken = lines.iter().find(|line| line.broken.is_some());
            if let Some((line, (_, why))) = broken.and_then(|line| Some((line, line.broken.as_ref()?))) {
                anyhow::bail!(
                    "{} to {} over {} broke after {} lines: {why}",
                    line.from,
                    line.to,
                    line.backend,
                    line.heard
                );
            }
            Ok(lines.iter().zip(&heard).all(|(line, heard)| line.heard >= heard + 2))
        })
    }

    /// Lets the balancer know next hops for the first addresses of the farm, so that backends there enter tables.
    pub(crate) fn know_farm(&self, count: u8) -> Result<()> {
        let line = |index| {
            let address = Row::Farm.v4(index);
            format!("neigh replace {address} lladdr 02:00:00:00:03:01 dev eth0 nud permanent\n")
        };
        self.balancer().ns.ip(&(0..count).map(line).collect::<String>())
    }

    /// What is attached to the balancer's interface: the id of its XDP program.
    pub(crate) fn xdp(&self) -> Result<Option<u64>> {
        xdp(self.balancer(), "eth0")
    }

    /// Fails unless no program is attached, and no pin and no socket is left.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        ensure!(self.xdp()?.is_none(), "a program is still attached");
        ensure!(!self.daemon.pins().exists(), "{} is still there", self.daemon.pins().display());
        ensure!(!self.daemon.socket().exists(), "{} is still there", self.daemon.socket().display());
        Ok(())
    }
}

/// The id of the XDP program on a device.
pub(crate) fn xdp(host: &Host, device: &str) -> Result<Option<u64>> {
    let output = host.ns.command("ip").args(["-j", "-d", "link", "show", "dev", device]).output()?;
    let links: Value = serde_json::from_slice(&output.stdout).context("ip -j link show")?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// Fails unless a command or daemon ended with `code` and said each of `parts`.
pub(crate) fn check(what: &str, (code, said): (i32, &str), expected: i32, parts: &[&str]) -> Result<()> {
    ensure!(code == expected, "{what} ended with {code} instead of {expected}:\n{said}");
    for part in parts {
        ensure!(said.contains(part), "{what} does not say {part:?}:\n{said}");
    }
    Ok(())
}

/// [`check`] for what a command said on stderr.
pub(crate) fn check_cli(daemon: &Fairlead, line: &str, expected: i32, parts: &[&str]) -> Result<Answer> {
    let answer = daemon.cli(&line.split(' ').collect::<Vec<_>>())?;
    check(line, (answer.code, &answer.stderr), expected, parts)?;
    Ok(answer)
}
