//! What is known of a next hop over time, whatever state its entry passes through while the kernel asks again.

use super::neighbour::Neighbour;

/// The last word on a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The last MAC the kernel took for valid.
    pub(super) mac: Option<[u8; 6]>,
    /// It fell silent, and has not been heard of since.
    pub(super) failed: bool,
}

impl Known {
    /// With the entry as it is now, if there is one.
    pub(super) fn after(self, now: Option<&Neighbour>) -> Self {
        match now {
            Some(Neighbour { mac: Some(mac), .. }) => Self { mac: Some(*mac), failed: false },
            // The kernel asks a failed neighbour again and again, each time through a state that is not "failed".
            Some(neighbour) => Self { mac: self.mac, failed: self.failed || neighbour.failed },
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn last_mac_and_failure_hold_until_the_neighbour_is_heard_of_again() {
        let entry = |mac, failed| Some(Neighbour { mac, failed, fixed: false, managed: true, ours: true });
        let asking = entry(None, false);
        let steps = [
            ("no entry yet", None, None, false),
            ("asked for the first time", asking, None, false),
            ("heard of", entry(Some(MAC), false), Some(MAC), false),
            ("asked again", asking, Some(MAC), false),
            ("silent", entry(None, true), Some(MAC), true),
            ("asked again while silent", asking, Some(MAC), true),
            ("removed", None, Some(MAC), true),
            ("heard of from elsewhere", entry(Some(OTHER), false), Some(OTHER), false),
        ];
        let mut known = Known::default();
        for (step, now, mac, failed) in steps {
            known = known.after(now.as_ref());
            assert_eq!(known, Known { mac, failed }, "{step}");
        }
    }
}
