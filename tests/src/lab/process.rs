//! One process of the lab: started, watched, killed, and never left behind.

use super::{interrupt, leftover::LabName, leftover::MARK, wait_until};
use anyhow::{Context, Result, anyhow};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

/// Lines of a log shown in an error.
const LOG_TAIL: usize = 15;

static SURVIVE: AtomicBool = AtomicBool::new(false);

/// From now on, processes are started so that they outlive this one, for a lab that is to be kept.
pub fn survive_us() {
    SURVIVE.store(true, Ordering::SeqCst);
}

/// A running process. Dropping it kills it; if this process dies, the kernel kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own, with its output appended to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(lab: LabName, what: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.process_group(0).env(MARK, lab.to_string());
        if !SURVIVE.load(Ordering::SeqCst) {
            // SAFETY: between fork and exec only prctl(2) is called, which allocates nothing and takes no lock.
            unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) };
        }
        let line = format!("{command:?}");
        let child = spawn(command).with_context(|| format!("cannot start {what}: {line}"))?;
        Ok(Self { child, what: what.to_owned(), log: log.to_owned(), ended: None })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("cannot send {signal} to {} ({})", self.what, self.child.id()))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // Both fail only when it has ended.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// How it ended, `None` while it runs.
    ///
    /// # Errors
    /// The kernel cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("waiting for {}", self.what))?;
        }
        Ok(self.ended)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// It still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.what);
        let waited = wait_until(&what, within, || Ok(self.ended()?.is_some()));
        waited.with_context(|| self.log_tail())?;
        self.ended()?.with_context(|| what)
    }

    /// Waits until `ready` answers true.
    ///
    /// # Errors
    /// It ended before, or was not ready in time; the message carries the end of its log.
    pub fn wait_ready(&mut self, within: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let what = format!("{} is ready", self.what);
        let waited = wait_until(&what, within, || match self.ended()? {
            Some(status) => Err(anyhow!("{} ended with {status}", self.what)),
            None => Ok(ready()),
        });
        waited.with_context(|| self.log_tail())
    }

    /// Everything it has printed since the log file was made.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        format!("the log of {} ends with:\n{}", self.what, tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Order = (Command, Sender<io::Result<Child>>);

/// Starts it from a thread that lives as long as this process: "dies with its parent" means the parent *thread*.
fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                let _open = interrupt::gate();
                // Nobody waits for the answer only if the asker panicked.
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let gone = || io::Error::other("the thread that starts processes has ended");
    let (answer, child) = mpsc::channel();
    spawner.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
