//! Something each so-and-so-much, from a thread that the machine's other work delays as little as possible.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Real-time priority of what measures: above everything ordinary, below any daemon that has a real-time thread.
const PRIORITY: libc::c_int = 2;

/// Gives the calling thread real-time priority; false if it may not have it (in a child cgroup of the v1 `cpu`
/// controller, for one).
pub(super) fn hurry() -> bool {
    set_priority(PRIORITY)
}

/// Gives the calling thread this real-time priority, which its children do not inherit.
pub(super) fn set_priority(priority: libc::c_int) -> bool {
    // SAFETY: all-zero is a valid `sched_param`, as it is made of integers only.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is to a whole `sched_param` that outlives the call; 0 means the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

/// The beats of a rhythm. What comes late is made up for by leaving beats out, never by a burst.
pub(super) struct Rhythm {
    every: Duration,
    next: Instant,
}

impl Rhythm {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now() }
    }

    /// Whether the next beat is due; then the one after it is an interval from now at most.
    pub(super) fn due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        self.next += self.every;
        if self.next <= now {
            self.next = now + self.every;
        }
        true
    }

    /// Sleeps until the next beat, or until there is something to read; true for the latter.
    pub(super) fn sleep(&self, socket: BorrowedFd<'_>) -> bool {
        let rest = self.next.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
        ppoll(&mut fds, Some(TimeSpec::from_duration(rest)), None).is_ok_and(|ready| ready > 0)
    }
}
