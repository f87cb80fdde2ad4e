//! Rows of LEASES.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Leases;

/// Until when a row says that its VIPs are answered for; `None` for one that is not there.
pub(super) fn lease_of(leases: &Leases, row: u32) -> Option<Duration> {
    let row = row as usize;
    (row < leases.len()).then(|| Duration::from_nanos(leases.word(row).load(Ordering::Acquire)))
}

/// Has it answer until then; row 0 is nobody's.
pub(super) fn set_lease(leases: &Leases, row: u32, until: Duration) {
    let row = row as usize;
    if row > 0 && row < leases.len() {
        let nanoseconds = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX - 1);
        leases.word(row).store(nanoseconds, Ordering::Release);
    }
}
