//! One network namespace: made, entered, configured.

use super::interrupt;
use super::leftover::LabName;
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Where iproute2 keeps its names of namespaces.
pub(super) const RUN_NETNS: &str = "/run/netns";

/// A named network namespace (as of `ip netns`). A clone is the same namespace. The lab removes it.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    file: Arc<File>,
}

impl Namespace {
    /// Makes `<lab>-<role>` with its loopback up and no duplicate address detection.
    pub(super) fn create(lab: LabName, role: &str) -> Result<Self> {
        let name = format!("{lab}-{role}");
        let _open = interrupt::gate();
        run(Command::new("ip").args(["netns", "add", &name]), "")?;
        let path = Path::new(RUN_NETNS).join(&name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let namespace = Self { name, file: Arc::new(file) };
        namespace.ip("link set lo up")?;
        for family in ["default", "all"] {
            namespace.sysctl(&format!("net/ipv6/conf/{family}/accept_dad"), "0")?;
            namespace.sysctl(&format!("net/ipv6/conf/{family}/router_solicitations"), "0")?;
        }
        Ok(namespace)
    }

    /// The name, for `ip -n` and `--netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. Sockets opened there stay there.
    ///
    /// # Panics
    /// If `work` does, or the namespace cannot be entered.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.move_in().expect("a namespace that this process made can be entered");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` inside on a thread of its own.
    ///
    /// # Panics
    /// In the new thread, if the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.move_in().expect("a namespace that this process made can be entered");
            work()
        })
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        // SAFETY: between fork and exec only setns(2) is called, which allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || namespace.move_in()) };
        command
    }

    fn move_in(&self) -> io::Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Runs lines of `ip`, without the word `ip`, inside; empty lines are skipped, the first failing one ends it.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn ip(&self, lines: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines)
    }

    /// Sets a kernel parameter inside, named by its path: `net/ipv4/conf/all/arp_ignore`.
    ///
    /// # Errors
    /// There is no such parameter, or the value is refused.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        // Which namespace /proc/sys/net shows is that of the thread that opens the file.
        self.enter(|| fs::write(&path, value))
            .with_context(|| format!("{}: cannot set {key} to {value}", self.name))
    }

    /// Switches features of a device: `&["tx", "off", "gro", "on"]`.
    ///
    /// # Errors
    /// What `ethtool` said.
    pub fn features(&self, device: &str, features: &[&str]) -> Result<()> {
        run(self.command("ethtool").args(["-K", device]).args(features), "")
    }
}

/// Runs a command to its end with `input` on stdin; an error carries what it said.
pub(super) fn run(command: &mut Command, input: &str) -> Result<()> {
    let line = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start {line}; run `cargo xtask setup`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ended early says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {line}"))?;
    if !output.status.success() {
        bail!("{line} ended with {}: {}{input}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
