//! The real daemon in a balancer's namespace, and its CLI and API.

use super::binaries::binary;
use super::http::{self, PATIENCE, Response};
use super::leftover::{BPFFS, LabName};
use super::process::Process;
use super::topology::{Host, Lab};
use super::wait_until;
use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the daemon may take from its start to its first answer.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to end after it was asked to.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What a CLI call came to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The exit code, -1 if a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// One instance of `fairlead run`, with pins, sockets, state and configuration of its own inside the lab.
/// Dropping it kills the daemon; the lab removes its pins.
#[derive(Debug)]
pub struct Fairlead {
    lab: LabName,
    host: Host,
    folder: PathBuf,
    pins: PathBuf,
    extra: Vec<String>,
    launcher: Vec<String>,
    process: Option<Process>,
}

impl Fairlead {
    /// An instance for this balancer with this configuration, not started yet.
    ///
    /// # Errors
    /// The files cannot be written, or there is no BPF file system.
    pub fn new(lab: &Lab, host: &Host, config: &str) -> Result<Self> {
        let folder = lab.folder().join(format!("fairlead-{}", host.role));
        for part in ["run", "state"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let pins = lab.pin_folder(&host.role)?;
        let (extra, launcher) = (Vec::new(), Vec::new());
        let new = Self { lab: lab.name(), host: host.clone(), folder, pins, extra, launcher, process: None };
        new.write_config(config)?;
        Ok(new)
    }

    /// [`Self::new`] and [`Self::start`].
    ///
    /// # Errors
    /// As of both.
    pub fn launch(lab: &Lab, host: &Host, config: &str) -> Result<Self> {
        let mut new = Self::new(lab, host, config)?;
        new.start()?;
        Ok(new)
    }

    /// Further arguments of `fairlead run`, from the next start on.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.extra = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    }

    /// A program with its arguments that the daemon is started by, from the next start on, inside the namespace: for one
    /// that may not enter it by itself.
    pub fn set_launcher(&mut self, launcher: &[&str]) {
        self.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer in time; the message carries its log's end.
    pub fn start(&mut self) -> Result<()> {
        self.begin()?;
        let socket = self.socket();
        let process = self.process.as_mut().context("was just started")?;
        process.wait_ready(STARTS_WITHIN, || {
            api(&socket, "GET", "/v1/status", &[]).is_ok_and(|r| r.status == 200)
        })
    }

    /// Starts the daemon and leaves it to itself.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn begin(&mut self) -> Result<()> {
        self.process = Some(self.spawn()?);
        Ok(())
    }

    /// Waits until the daemon has ended; its exit code, -1 after a signal.
    ///
    /// # Errors
    /// It was not started, or still runs after 10 s.
    pub fn ended(&mut self) -> Result<i32> {
        let mut process = self.process.take().context("the daemon was not started by this instance")?;
        Ok(process.wait(STOPS_WITHIN)?.code().unwrap_or(-1))
    }

    /// Starts a daemon that is expected to refuse; its exit code and what it said.
    ///
    /// # Errors
    /// It still runs after 20 s.
    pub fn refused(&mut self) -> Result<(i32, String)> {
        let before = fs::read_to_string(self.log_path()).unwrap_or_default().len();
        let mut process = self.spawn()?;
        let status = process.wait(STARTS_WITHIN)?;
        Ok((status.code().unwrap_or(-1), process.log().split_off(before)))
    }

    fn spawn(&self) -> Result<Process> {
        let mut command = match self.launcher.split_first() {
            Some((program, arguments)) => {
                let mut command = self.host.ns.command(program);
                command.args(arguments).arg(binary("fairlead")?).envs(self.environment()).arg("run");
                command
            }
            None => {
                let mut command = self.command()?;
                command.args(["run", "--netns", self.host.ns.name()]);
                command
            }
        };
        command.arg("--config").arg(self.config_path()).args(&self.extra);
        Process::start(self.lab, &format!("fairlead on {}", self.host.role), command, &self.log_path())
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// `fairlead stop`: the daemon ends, forwarding goes on.
    ///
    /// # Errors
    /// It refuses, or does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_with(&["stop"])
    }

    /// `fairlead stop --detach`: the program and the pins go as well.
    ///
    /// # Errors
    /// As [`Self::stop`].
    pub fn detach(&mut self) -> Result<()> {
        self.stop_with(&["stop", "--detach"])
    }

    fn stop_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.ok(arguments)?;
        let mut process = self.process.take().context("the daemon was not started by this instance")?;
        let status = process.wait(STOPS_WITHIN)?;
        if !status.success() {
            bail!("the daemon stopped with {status}; {}", process.log_tail());
        }
        Ok(())
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("the daemon does not run")?.signal(signal)
    }

    /// The daemon's process number while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Everything the daemon has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a CLI command against this instance.
    ///
    /// # Errors
    /// The binary cannot be started; that a command fails is no error here.
    pub fn cli(&self, arguments: &[&str]) -> Result<Answer> {
        let output = self.command()?.args(arguments).output().context("cannot start fairlead")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ok(Answer { code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs a CLI command that must succeed; what it printed.
    ///
    /// # Errors
    /// It fails; the message carries what it said.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        let answer = self.cli(arguments)?;
        if answer.code != 0 {
            bail!("fairlead {} ended with {}: {}", arguments.join(" "), answer.code, answer.stderr.trim());
        }
        Ok(answer.stdout)
    }

    /// Runs a CLI command that must succeed with `-o json`.
    ///
    /// # Errors
    /// As [`Self::ok`], or the output is not JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.ok(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&output).with_context(|| format!("fairlead {}: {output:?}", arguments.join(" ")))
    }

    /// GET on the API.
    ///
    /// # Errors
    /// No answer, another status than 200, or no JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let answer = api(&self.socket(), "GET", path, &[])?;
        if answer.status != 200 {
            bail!("GET {path}: HTTP {}: {}", answer.status, answer.body);
        }
        serde_json::from_str(&answer.body).with_context(|| format!("GET {path}: {:?}", answer.body))
    }

    /// Any call on the API, whatever its status.
    ///
    /// # Errors
    /// No answer.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        api(&self.socket(), method, path, body.as_bytes())
    }

    /// Asks the API until `holds` is true of the answer.
    ///
    /// # Errors
    /// It did not become true `within`; the message carries the last answer.
    pub fn until(
        &self,
        what: &str,
        path: &str,
        within: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let mut last = Value::Null;
        let waited = wait_until(what, within, || {
            last = self.get(path)?;
            Ok(holds(&last))
        });
        waited.with_context(|| format!("GET {path} last answered {last}"))
    }

    /// Replaces the configuration file; the daemon does not know yet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, text: &str) -> Result<()> {
        fs::write(self.config_path(), text)
            .with_context(|| format!("cannot write {}", self.config_path().display()))
    }

    /// The configuration file as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_config(&self) -> Result<String> {
        fs::read_to_string(self.config_path())
            .with_context(|| format!("cannot read {}", self.config_path().display()))
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.join("fairlead.toml")
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("run/main.sock")
    }

    /// The folder of its pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("fairlead.log")
    }

    /// The environment that makes `fairlead` mean this instance.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("FAIRLEAD_PIN_DIR", self.pins.clone()),
            ("FAIRLEAD_RUN_DIR", self.folder.join("run")),
            ("FAIRLEAD_STATE_DIR", self.folder.join("state")),
        ]
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary("fairlead")?);
        command.envs(self.environment());
        Ok(command)
    }
}

fn api(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<Response> {
    http::over_unix(socket, method, path, body, PATIENCE)
}

/// Mounts the BPF file system where it belongs, unless it is there.
pub(super) fn mount_bpffs() -> Result<()> {
    // A second mount on top of the first would hide what is pinned there.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if mounted {
        return Ok(());
    }
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("cannot mount the BPF file system on {BPFFS}"))
}
