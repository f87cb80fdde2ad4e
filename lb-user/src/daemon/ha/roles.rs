//! Who is active here, for the daemon's loop to read at any time: the thread writes it and never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What this node is for a group, and the how-manieth change of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stand {
    /// Whether it is active.
    pub(crate) active: bool,
    /// Changes so far: what was found out before the last one does not hold any more.
    pub(crate) epoch: u32,
}

/// Stands by row of LEASES.
#[derive(Clone, Debug)]
pub(crate) struct Roles(Arc<[AtomicU32]>);

impl Roles {
    /// Nowhere active.
    pub(crate) fn new(rows: usize) -> Self {
        Self((0..rows).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn of(&self, row: u32) -> Stand {
        let word = self.0.get(row as usize).map_or(0, |word| word.load(Ordering::Acquire));
        Stand { active: word & 1 == 1, epoch: word >> 1 }
    }

    /// Only the thread that keeps leases calls this.
    pub(super) fn set(&self, row: u32, active: bool) {
        let Stand { active: was, epoch } = self.of(row);
        if was == active {
            return;
        }
        if let Some(word) = self.0.get(row as usize) {
            word.store(epoch.wrapping_add(1) << 1 | u32::from(active), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_another_epoch_and_a_repetition_is_none() {
        let roles = Roles::new(3);
        let mut seen = Vec::new();
        for active in [false, true, true, false, true] {
            roles.set(2, active);
            let Stand { active, epoch } = roles.of(2);
            seen.push((active, epoch));
        }
        assert_eq!(seen, [(false, 0), (true, 1), (true, 1), (false, 2), (true, 3)]);
        assert_eq!((roles.of(1), roles.of(9)), (Stand::default(), Stand::default()));
    }
}
