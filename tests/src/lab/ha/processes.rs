//! Everything that runs in a namespace of the lab: stopped, continued, killed, starved of its CPU; and the whole host gone.

use super::rhythm;
use crate::lab::netns::{RUN_NETNS, run};
use crate::lab::{Host, Lab, Namespace, wait_until};
use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest that something may be starved: the whole machine has few CPUs.
pub const MAX_STARVE: Duration = Duration::from_secs(5);
/// Above the real-time thread of any daemon that is tried here.
const STARVER_PRIORITY: libc::c_int = 90;
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// The processes that live in this namespace, this one excepted.
///
/// # Errors
/// The namespace has gone.
pub fn processes_of(ns: &Namespace) -> Result<Vec<Pid>> {
    let path = Path::new(RUN_NETNS).join(ns.name());
    let inode = fs::metadata(&path).with_context(|| format!("{} is not there", path.display()))?.ino();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let inside = fs::metadata(entry.path().join("ns/net")).is_ok_and(|meta| meta.ino() == inode);
        if inside && pid != std::process::id().cast_signed() {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// Sends a signal to all of these; one that has ended is no error.
///
/// # Errors
/// One of them is not ours to signal.
pub fn signal_all(pids: &[Pid], signal: Signal) -> Result<()> {
    for pid in pids {
        match kill(*pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot send {signal} to {pid}")),
        }
    }
    Ok(())
}

/// Sends a signal to everything in a namespace, daemons and their children alike.
///
/// # Errors
/// As of [`processes_of`] and [`signal_all`].
pub fn signal_namespace(ns: &Namespace, signal: Signal) -> Result<usize> {
    let pids = processes_of(ns)?;
    signal_all(&pids, signal)?;
    Ok(pids.len())
}

/// The host is gone as if its power had failed: its processes die, its cable ends nowhere, its namespace has no name. It
/// does not come back in this lab.
///
/// # Errors
/// Something of it is still there.
pub fn vanish(lab: &Lab, host: &Host) -> Result<()> {
    // The cable first: a dying process has no last word.
    lab.bridge.ip(&format!("link delete {}", host.role))?;
    signal_namespace(&host.ns, Signal::SIGKILL)?;
    wait_until(&format!("everything on {} is dead", host.role), GONE_WITHIN, || {
        Ok(processes_of(&host.ns)?.is_empty())
    })?;
    run(Command::new("ip").args(["netns", "delete", host.ns.name()]), "")
}

/// A task of a higher real-time priority that keeps everything of a process from running, for a limited time.
///
/// The kernel lets real-time tasks have 95 % of each second (`sched_rt_runtime_us`): past 0.95 s ordinary tasks of the
/// same CPU get a breath, and real-time tasks none, the starving one included.
#[derive(Debug)]
pub struct Starve {
    thread: Option<JoinHandle<()>>,
    /// Threads of the process, and where they could run before.
    pinned: Vec<(Pid, CpuSet)>,
}

impl Starve {
    /// Pins every thread of `pid` to the last CPU, and spins there above them for `length`.
    ///
    /// # Errors
    /// No real-time priority here, the process has ended, or it is to starve for longer than [`MAX_STARVE`].
    pub fn begin(pid: Pid, length: Duration) -> Result<Self> {
        ensure!(length <= MAX_STARVE, "{length:?} is longer than {MAX_STARVE:?}");
        let cpu = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let mut only = CpuSet::new();
        only.set(cpu)?;
        let mut starve = Self { thread: None, pinned: Vec::new() };
        for thread in threads_of(pid)? {
            let before = sched_getaffinity(thread)?;
            sched_setaffinity(thread, &only).with_context(|| format!("pinning {thread}"))?;
            starve.pinned.push((thread, before));
        }
        let (ready, is_ready) = mpsc::channel();
        starve.thread = Some(std::thread::spawn(move || {
            let pinned = sched_setaffinity(Pid::from_raw(0), &only).is_ok();
            let may = pinned && rhythm::set_priority(STARVER_PRIORITY);
            let until = Instant::now() + length;
            // Whoever began it waits for this.
            let _ = ready.send(may);
            while may && Instant::now() < until {
                std::hint::spin_loop();
            }
        }));
        let may = is_ready.recv_timeout(MAX_STARVE).context("the starving thread does not run")?;
        ensure!(may, "this process may not have real-time priority");
        Ok(starve)
    }

    /// Waits until it is over; the process may run anywhere again.
    ///
    /// # Errors
    /// The process has ended.
    pub fn end(mut self) -> Result<()> {
        self.join();
        for (thread, before) in std::mem::take(&mut self.pinned) {
            sched_setaffinity(thread, &before).with_context(|| format!("letting {thread} go"))?;
        }
        Ok(())
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Starve {
    fn drop(&mut self) {
        self.join();
        for (thread, before) in &self.pinned {
            // It may have ended.
            let _ = sched_setaffinity(*thread, before);
        }
    }
}

fn threads_of(pid: Pid) -> Result<Vec<Pid>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).with_context(|| format!("{path} is not there"))?.flatten();
    let threads: Vec<Pid> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw).collect();
    (!threads.is_empty()).then_some(threads).ok_or_else(|| anyhow!("process {pid} has no threads"))
}
