//! Debian's keepalived in a namespace: the peer to compare with, and to talk VRRP with.

use super::processes::{processes_of, signal_namespace};
use crate::lab::leftover::LabName;
use crate::lab::process::Process;
use crate::lab::{DEVICE, Host, Lab, wait_until};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long it may take to be in some state after its start.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// One VRRP instance of keepalived: one virtual router of one family.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name, which its log says.
    pub name: String,
    /// Virtual router ID.
    pub vrid: u8,
    /// 1 to 254; 255 is for the owner of the addresses.
    pub priority: u8,
    /// How often it advertises; keepalived knows hundredths of a second.
    pub advert_interval: Duration,
    /// The addresses, all of one family.
    pub vips: Vec<IpAddr>,
    /// The other routers' addresses, of the same family; none: multicast.
    pub peers: Vec<IpAddr>,
    /// Whether it takes over from an active of lower priority.
    pub preempt: bool,
    /// How long it waits with that after its start.
    pub preempt_delay: Duration,
}

impl Instance {
    /// An instance for these VIPs that advertises by multicast and preempts.
    #[must_use]
    pub fn new(name: &str, vrid: u8, priority: u8, advert_interval: Duration, vips: &[IpAddr]) -> Self {
        Self {
            name: name.to_owned(),
            vrid,
            priority,
            advert_interval,
            vips: vips.to_vec(),
            peers: Vec::new(),
            preempt: true,
            preempt_delay: Duration::ZERO,
        }
    }

    /// The same, by unicast to these.
    #[must_use]
    pub fn unicast(mut self, peers: &[IpAddr]) -> Self {
        self.peers = peers.to_vec();
        self
    }

    fn write(&self, host: &Host, text: &mut String) -> Result<()> {
        let vip = *self.vips.first().context("an instance without a VIP")?;
        writeln!(
            text,
            "vrrp_instance {} {{\n  state BACKUP\n  interface {DEVICE}\n  virtual_router_id {}\n  priority {}\n  \
             advert_int {:.2}",
            self.name,
            self.vrid,
            self.priority,
            self.advert_interval.as_secs_f64(),
        )?;
        if !self.preempt {
            writeln!(text, "  nopreempt")?;
        } else if !self.preempt_delay.is_zero() {
            writeln!(text, "  preempt_delay {:.3}", self.preempt_delay.as_secs_f64())?;
        }
        if self.vips.iter().any(|other| other.is_ipv4() != vip.is_ipv4()) {
            bail!("{}: keepalived's instances have one family", self.name);
        }
        if !self.peers.is_empty() {
            // Of an interface with several addresses it might choose another.
            writeln!(text, "  unicast_src_ip {}", host.address_like(vip))?;
            let peers: Vec<String> = self.peers.iter().map(IpAddr::to_string).collect();
            writeln!(text, "  unicast_peer {{\n    {}\n  }}", peers.join("\n    "))?;
        }
        let length = if vip.is_ipv4() { 32 } else { 128 };
        // RFC 9568 section 5.2.9: over IPv6 the first address is link-local. keepalived does as it is told.
        let vips: Vec<String> = self.vips.iter().map(|vip| format!("{vip}/{length} dev {DEVICE}")).collect();
        writeln!(text, "  virtual_ipaddress {{\n    {}\n  }}\n}}", vips.join("\n    "))?;
        Ok(())
    }
}

/// What an instance of keepalived says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for the active to fall silent.
    Backup,
    /// Has the addresses.
    Master,
    /// Its interface is down.
    Fault,
}

/// A keepalived for one host. Dropping it kills it.
#[derive(Debug)]
pub struct Keepalived {
    lab: LabName,
    host: Host,
    folder: PathBuf,
    instances: Vec<Instance>,
    real_time: bool,
    starts: u32,
    process: Option<Process>,
}

impl Keepalived {
    /// A keepalived with these instances, not started yet.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn new(lab: &Lab, host: &Host, instances: Vec<Instance>) -> Result<Self> {
        let folder = lab.folder().join(format!("keepalived-{}", host.role));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (lab, host) = (lab.name(), host.clone());
        Ok(Self { lab, host, folder, instances, real_time: false, starts: 0, process: None })
    }

    /// Gives it real-time priority from the next start on, so that it misses no deadline for want of a CPU.
    pub fn set_real_time(&mut self, real_time: bool) {
        self.real_time = real_time;
    }

    /// Its instances from the next start on.
    pub fn set_instances(&mut self, instances: Vec<Instance>) {
        self.instances = instances;
    }

    /// Starts it and waits until each instance is in a state.
    ///
    /// # Errors
    /// It is not installed, ends, or stays without a state.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let config = self.folder.join("keepalived.conf");
        fs::write(&config, self.config()?).with_context(|| format!("cannot write {}", config.display()))?;
        let mut command = self.host.ns.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--no-syslog", "--vrrp"]);
        command.arg("--use-file").arg(&config);
        for (option, file) in [("--pid", "keepalived.pid"), ("--vrrp_pid", "vrrp.pid")] {
            let file = self.folder.join(file);
            // One that was killed left its own, and the next would believe that it runs.
            let _ = fs::remove_file(&file);
            command.arg(option).arg(file);
        }
        // Another log at each start: a state that is read from it is of this start.
        let log = self.folder.join(format!("log-{}", self.starts));
        let what = format!("keepalived on {}", self.host.role);
        let mut process = Process::start(self.lab, &what, command, &log)?;
        let names: Vec<&str> = self.instances.iter().map(|instance| instance.name.as_str()).collect();
        process.wait_ready(STARTS_WITHIN, || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            names.iter().all(|name| last_state(&log, name).is_some())
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn config(&self) -> Result<String> {
        let mut text = format!(
            "global_defs {{\n  router_id {}\n  vrrp_version 3\n  vrrp_garp_master_delay 1\n{}}}\n",
            self.host.role,
            if self.real_time { "  vrrp_rt_priority 50\n" } else { "" }
        );
        for instance in &self.instances {
            instance.write(&self.host, &mut text)?;
        }
        Ok(text)
    }

    /// Whether it was started, and neither stopped nor killed since.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// The state of an instance, by the log of this start.
    #[must_use]
    pub fn state(&self, instance: &str) -> Option<State> {
        last_state(&self.process.as_ref()?.log(), instance)
    }

    /// Waits until an instance is in this state.
    ///
    /// # Errors
    /// It is not `within`; the message carries the end of its log.
    pub fn until(&self, instance: &str, state: State, within: Duration) -> Result<()> {
        let what = format!("{instance} on {} is {state:?}", self.host.role);
        wait_until(&what, within, || Ok(self.state(instance) == Some(state))).with_context(|| self.log_tail())
    }

    /// How often it has become master since its start, all instances together.
    #[must_use]
    pub fn takeovers(&self) -> usize {
        self.process.as_ref().map_or(0, |process| process.log().matches(ENTERED[1].0).count())
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.as_ref().map_or_else(|| "it does not run".to_owned(), Process::log_tail)
    }

    /// Asks it to end, which gives its addresses up, and waits until it has.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.signal(Signal::SIGTERM)?;
        process.wait(STOPS_WITHIN).map(|_| ())
    }

    /// Kills it and its child with SIGKILL: its addresses stay where they are.
    ///
    /// # Errors
    /// Its namespace has gone.
    pub fn kill(&mut self) -> Result<()> {
        // The parent would be told of the child's death, and the child of the parent's: both at once.
        signal_namespace(&self.host.ns, Signal::SIGKILL)?;
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
        let what = format!("keepalived on {} is dead", self.host.role);
        wait_until(&what, STOPS_WITHIN, || Ok(processes_of(&self.host.ns)?.is_empty()))
    }

    /// Sends a signal to it and its child, as SIGSTOP and SIGCONT.
    ///
    /// # Errors
    /// Its namespace has gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_namespace(&self.host.ns, signal).map(|_| ())
    }

    /// Takes the addresses off the device that a killed one left there.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn clean_addresses(&self) -> Result<()> {
        for vip in self.instances.iter().flat_map(|instance| &instance.vips) {
            let length = if vip.is_ipv4() { 32 } else { 128 };
            // It fails if the address is not there, which is what is wanted.
            let _ = self.host.ns.ip(&format!("addr del {vip}/{length} dev {DEVICE}"));
        }
        Ok(())
    }
}

const ENTERED: [(&str, State); 3] = [
    ("Entering BACKUP STATE", State::Backup),
    ("Entering MASTER STATE", State::Master),
    ("Entering FAULT STATE", State::Fault),
];

/// The last state that a log says of an instance, in lines like `Wed Nov 25 11:00:00 2026: (v4) Entering MASTER STATE`.
fn last_state(log: &str, instance: &str) -> Option<State> {
    let prefix = format!("({instance}) ");
    log.lines().rev().find_map(|line| {
        let said = line.split_once(&prefix)?.1;
        ENTERED.iter().find(|(words, _)| said.starts_with(words)).map(|(_, state)| *state)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_state_of_each_instance_is_read_from_the_log() {
        let log = "Wed Nov 25 11:00:00 2026: (v4) Entering BACKUP STATE (init)\n\
                   Wed Nov 25 11:00:00 2026: (v6) Entering BACKUP STATE (init)\n\
                   Wed Nov 25 11:00:04 2026: (v4) Entering MASTER STATE\n\
                   Wed Nov 25 11:00:04 2026: (v4) setting VIPs.\n\
                   Wed Nov 25 11:00:05 2026: (v44) Entering FAULT STATE\n";
        assert_eq!(last_state(log, "v4"), Some(State::Master));
        assert_eq!(last_state(log, "v6"), Some(State::Backup));
        assert_eq!(last_state(log, "v44"), Some(State::Fault));
        assert_eq!(last_state(log, "v"), None);
    }
}
