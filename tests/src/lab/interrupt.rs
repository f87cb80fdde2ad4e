//! Ctrl-C: what the lab made is removed before the process dies of the signal.

use super::leftover;
use anyhow::{Context, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;

/// The signals that end a run from outside.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Held for reading while something is made; the watcher takes it for writing and keeps it, so that nothing new
/// appears behind its back.
static GATE: RwLock<()> = RwLock::new(());

/// Where the handler writes the signal's number to, -1 before [`install`].
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Whether a signal has come.
static CAME: AtomicBool = AtomicBool::new(false);

/// What to do first; `Some` once the watcher runs.
static ACTIONS: Mutex<Option<Vec<Action>>> = Mutex::new(None);

/// Something to do before the labs are removed.
pub type Action = fn();

/// Makes sure that SIGINT, SIGTERM and SIGHUP remove this process's labs. `first` runs before that.
///
/// # Errors
/// The handler cannot be installed.
pub fn install(first: Action) -> Result<()> {
    let mut actions = ACTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(actions) = actions.as_mut() {
        actions.push(first);
        return Ok(());
    }
    let (reader, writer) = nix::unistd::pipe().context("a pipe for signals")?;
    PIPE.store(writer.as_raw_fd(), Ordering::SeqCst);
    // The handler needs it until the process ends.
    std::mem::forget(writer);
    thread::Builder::new()
        .name("interrupt".into())
        .spawn(move || watch(reader))
        .context("the signal watcher")?;
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    for signal in SIGNALS {
        // SAFETY: the handler only calls write(2), which may be called in a signal handler.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("a handler for {signal}"))?;
    }
    *actions = Some(vec![first]);
    Ok(())
}

/// Does not return once a signal has come: the watcher is cleaning up and will end the process. To be called before
/// starting something new, and before ending.
pub fn stand_still_if_interrupted() {
    while CAME.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// To be held while a namespace, a process or a pin is made.
pub(super) fn gate() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

extern "C" fn handler(signal: libc::c_int) {
    CAME.store(true, Ordering::SeqCst);
    let number = signal.to_ne_bytes();
    // SAFETY: the buffer lives on this stack frame; a write to a pipe that nobody reads any more fails harmlessly.
    unsafe { libc::write(PIPE.load(Ordering::SeqCst), number.as_ptr().cast(), number.len()) };
}

fn watch(reader: OwnedFd) {
    let mut number = [0; size_of::<libc::c_int>()];
    if File::from(reader).read_exact(&mut number).is_err() {
        return;
    }
    eprintln!("interrupted: cleaning up");
    let actions = ACTIONS.lock().map(|actions| actions.clone().unwrap_or_default()).unwrap_or_default();
    for action in actions {
        action();
    }
    let _closed = GATE.write().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = leftover::remove_own() {
        eprintln!("error: {error:#}; run `cargo xtask clean`");
    }
    // Whoever looks now should not even find the dead.
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {}
    die_of(libc::c_int::from_ne_bytes(number));
}

/// Ends the process as the signal would have, so that whoever started it knows.
fn die_of(number: libc::c_int) {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { sigaction(signal, &default) };
        let _ = raise(signal);
    }
    std::process::exit(128 + number);
}
