//! Small servers on a backend, each a process of its own, so that SIGKILL means to them what it means to any server.

use super::binaries::binary;
use super::process::Process;
use super::topology::{Host, Lab};
use anyhow::Result;
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;

/// What `lab-peer` prints once it serves.
pub(super) const READY: &str = "ready";
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// A running server that names its backend in every answer.
#[derive(Debug)]
pub struct Peer {
    process: Process,
}

impl Peer {
    /// A TCP server of numbered lines ([`super::line_server`]) on every address of the host.
    ///
    /// # Errors
    /// It does not start; the message carries what it said.
    pub fn lines(lab: &Lab, host: &Host, port: u16) -> Result<Self> {
        start(lab, host, "lines", &[host.role.clone(), port.to_string()])
    }

    /// A TCP server for a herd of connections ([`super::ha::Herd`]) on every address of the host.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub fn herd(lab: &Lab, host: &Host, port: u16) -> Result<Self> {
        start(lab, host, "herd", &[host.role.clone(), port.to_string()])
    }

    /// A UDP server ([`super::udp`]) on these addresses of the host, which it answers from.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub fn udp(lab: &Lab, host: &Host, port: u16, addresses: &[IpAddr]) -> Result<Self> {
        let mut args = vec![host.role.clone(), port.to_string()];
        args.extend(addresses.iter().map(IpAddr::to_string));
        start(lab, host, "udp", &args)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn start(lab: &Lab, host: &Host, kind: &str, args: &[String]) -> Result<Peer> {
    let mut command = host.ns.command(binary("lab-peer")?);
    command.arg(kind).args(args);
    // Also the log says when it is ready, so every start needs a new one.
    static STARTS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
    let number = STARTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let log = lab.folder().join(format!("{kind}-{}-{number}.log", host.role));
    let mut process = Process::start(lab.name(), &format!("{kind} on {}", host.role), command, &log)?;
    let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(READY));
    process.wait_ready(STARTS_WITHIN, ready)?;
    Ok(Peer { process })
}
