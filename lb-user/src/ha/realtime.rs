//! A thread that wakes up when it should.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// Before every ordinary thread, behind what keeps the machine alive: watchdogs and migration run at 99, interrupt threads at
/// 50 and more on kernels that have them.
const PRIORITY: i32 = 45;
/// Waking up early and looking again costs less than an overflow of milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What keeps the thread from being late, and why it is not had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealTime {
    /// SCHED_FIFO.
    pub scheduling: Result<(), String>,
    /// Memory that can't be paged out.
    pub memory: Result<(), String>,
}

/// Gives the calling thread a real-time priority, and locks the memory of the process as it is touched.
#[must_use]
pub fn make_real_time() -> RealTime {
    // SAFETY: a plain struct of integers.
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = PRIORITY;
    // SAFETY: reads the parameters; 0 is the calling thread. Children do not inherit the priority.
    let set = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    let scheduling = Errno::result(set).map(drop).map_err(|error| {
        format!("no real-time priority ({error}): adverts may be late on a busy machine; allow CAP_SYS_NICE")
    });
    // On fault: the mapped flow table is not read into memory as a whole.
    // SAFETY: has no memory-safety preconditions.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    let memory = Errno::result(locked).map(drop).map_err(|error| {
        format!("memory is not locked ({error}): adverts may be late when memory is short; allow CAP_IPC_LOCK")
    });
    RealTime { scheduling, memory }
}

/// CLOCK_BOOTTIME, which leases are compared with.
#[must_use]
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Waits until something can be read, or until `deadline` of [`boot_time`].
///
/// # Errors
/// If the kernel refuses.
pub fn wait(descriptors: &[BorrowedFd<'_>], deadline: Option<Duration>) -> io::Result<()> {
    let left = deadline.map_or(LONGEST_WAIT, |at| at.saturating_sub(boot_time())).min(LONGEST_WAIT);
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)).collect();
    match nix::poll::ppoll(&mut polled, Some(TimeSpec::from_duration(left)), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(Errno::ENOSYS) => poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))
            .map(drop)
            .map_err(io::Error::from),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn waiting_ends_at_the_deadline_or_when_something_comes() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let deadline = boot_time() + Duration::from_millis(5);
        wait(&[far.as_fd()], Some(deadline)).expect("waited");
        assert!(boot_time() >= deadline);
        near.write_all(b"x").expect("written");
        wait(&[far.as_fd()], Some(boot_time() + Duration::from_secs(600))).expect("waited");
        wait(&[], Some(Duration::ZERO)).expect("a deadline that is over");
    }

    #[test]
    fn a_real_time_thread_has_the_policy_or_says_why_not() {
        let (got, policy) = std::thread::spawn(|| {
            let got = make_real_time();
            // SAFETY: 0 is the calling thread.
            (got, unsafe { libc::sched_getscheduler(0) })
        })
        .join()
        .expect("joined");
        match got.scheduling {
            Ok(()) => assert_eq!(policy, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK),
            Err(why) => assert!(why.contains("CAP_SYS_NICE") && policy == libc::SCHED_OTHER, "{why}"),
        }
    }
}
