//! A thread that is on time: scheduled before others, not paged out, woken by a clock that counts suspension.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};

/// Of the thread, within `SCHED_FIFO`: before all that is not real-time, and as good as threaded interrupts (50), which
/// deliver our packets; below the kernel's watchdogs and migration (99), which must be able to see that we hang.
pub const PRIORITY: libc::c_int = 50;

/// What [`make_real_time`] was allowed to do; else a sentence that says why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealTime {
    /// Of the calling thread: `SCHED_FIFO` with [`PRIORITY`].
    pub scheduling: Result<(), String>,
    /// Of the whole process: what is in memory stays there.
    pub memory: Result<(), String>,
}

/// Makes the calling thread a real-time one, not those it starts later, and keeps the process from being paged out.
pub fn make_real_time() -> RealTime {
    RealTime {
        scheduling: schedule().map_err(|error| {
            format!("SCHED_FIFO with priority {PRIORITY} is refused (CAP_SYS_NICE or RLIMIT_RTPRIO): {error}")
        }),
        memory: lock_memory(),
    }
}

fn schedule() -> io::Result<()> {
    // The helpers that a daemon starts are not to inherit what they could hang the machine with.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 is the calling thread; the parameters outlive the call.
    let answer = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    Errno::result(answer)?;
    Ok(())
}

/// Locks pages as they are first used: stacks and large allocations are mostly untouched and stay so. (Mapped BPF arrays
/// are the kernel's memory, which is never paged out: they are neither locked nor counted.)
///
/// What is mapped later is locked too only where no limit can be met: `mmap` would fail with it, of a BPF map as well.
fn lock_memory() -> Result<(), String> {
    let limit = memory_limit().map_err(|error| format!("the limit of locked memory is unknown: {error}"))?;
    let future = if limit.is_none() { libc::MCL_FUTURE } else { 0 };
    // SAFETY: takes no pointer and changes no content of memory.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT | future) };
    match (Errno::result(locked), limit) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(limit)) => Err(format!(
            "only what is mapped by now is locked: RLIMIT_MEMLOCK is {limit} bytes and CAP_IPC_LOCK is missing"
        )),
        (Err(error), _) => Err(format!("locking is refused (CAP_IPC_LOCK or RLIMIT_MEMLOCK): {error}")),
    }
}

/// In bytes, of what may be locked; as high as we may make it.
fn memory_limit() -> io::Result<Option<u64>> {
    const CAP_IPC_LOCK: u32 = 14;
    // Refused without CAP_SYS_RESOURCE, unless it is so already.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|rights| u64::from_str_radix(rights.trim(), 16).ok()).unwrap_or(0);
    let unlimited = limit == RLIM_INFINITY || rights & (1 << CAP_IPC_LOCK) != 0;
    Ok((!unlimited).then_some(limit))
}

/// Time since boot, suspension included: the clock of leases (`bpf_ktime_get_boot_ns`) and of [`Waiter`].
///
/// # Panics
/// Never: the clock is always there (Linux 2.6.39).
#[must_use]
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the kernel has this clock").into()
}

/// Waits for descriptors or a point of time. Holds its timer, so that a process that ran out of descriptors still
/// wakes in time.
#[derive(Debug)]
pub struct Waiter {
    timer: TimerFd,
}

impl Waiter {
    /// With a timer of its own.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { timer: TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)? })
    }

    /// Waits until one of `fds` can be read, or has an error, or [`boot_time`] has reached the deadline. After a
    /// suspension that went past the deadline it returns at once.
    ///
    /// Returns which of `fds` to read, in their order. With the deadline reached all may be `false`.
    ///
    /// # Errors
    /// A descriptor is not open, or the deadline is beyond all time.
    pub fn wait(&self, fds: &[BorrowedFd<'_>], deadline: Option<Duration>) -> io::Result<Vec<bool>> {
        match deadline {
            // Zero would mean "never" to the kernel.
            Some(deadline) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(deadline.max(Duration::from_nanos(1)))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => self.timer.unset()?,
        }
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().chain([&self.timer.as_fd()]).map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        while let Err(error) = poll(&mut polled, PollTimeout::NONE) {
            if error != Errno::EINTR {
                return Err(error.into());
            }
        }
        let ready = polled.iter().take(fds.len()).map(|fd| fd.any().unwrap_or(true));
        Ok(ready.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn wait_ends_at_the_deadline_or_when_something_can_be_read() {
        let waiter = Waiter::new().expect("a timer");
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let fds = [reader.as_fd()];
        let deadline = boot_time() + Duration::from_millis(20);
        assert_eq!(waiter.wait(&fds, Some(deadline)).expect("waited"), [false]);
        assert!(boot_time() >= deadline);
        for past in [Duration::ZERO, boot_time()] {
            assert_eq!(waiter.wait(&fds, Some(past)).expect("waited"), [false]);
        }
        writer.write_all(b"x").expect("written");
        assert_eq!(waiter.wait(&fds, None).expect("waited"), [true]);
        assert_eq!(waiter.wait(&fds, Some(boot_time() + Duration::from_secs(60))).expect("waited"), [true]);
    }

    #[test]
    fn closed_other_end_is_told() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(writer);
        assert_eq!(
            Waiter::new().and_then(|waiter| waiter.wait(&[reader.as_fd()], None)).expect("waited"),
            [true]
        );
    }
}
