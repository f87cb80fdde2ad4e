//! Sums of traffic that outlive the daemon, as the maps do: kept in a file whenever a backend gets or loses a slot.

use std::fs;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::Result;
use lb_common::counters::SlotCounter;
use lb_core::totals::{Kept, Totals};

use super::state_file::{self, Survives};

/// [`Totals`] with the file they are kept in.
#[derive(Debug)]
pub(super) struct KeptTotals {
    path: PathBuf,
    totals: Totals,
    /// Whether the last attempt to write failed, and that was said.
    failing: bool,
}

impl Deref for KeptTotals {
    type Target = Totals;

    fn deref(&self) -> &Totals {
        &self.totals
    }
}

impl DerefMut for KeptTotals {
    fn deref_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }
}

impl KeptTotals {
    /// The sums kept below `directory`; none if the maps are fresh, and what they counted is gone. A file that can't be
    /// understood is set aside: figures are no reason to leave packets without a daemon.
    pub(super) fn load(directory: &Path, fresh: bool) -> Self {
        let path = directory.join("totals.json");
        let (totals, stale) = if fresh { (Totals::default(), outdated(&path)) } else { kept(&path) };
        let mut kept = Self { path, totals, failing: false };
        match stale.then(|| state_file::set_aside(&kept.path)) {
            None => {}
            Some(Ok(aside)) => {
                tracing::warn!(file = %kept.path.display(), aside = %aside.display(), "set aside");
            }
            Some(Err(error)) => {
                tracing::warn!(error = %format!("{error:#}"), "what is in the place of sums of traffic stays there");
                // It is not to be read by the next daemon: overwriting may still work.
                kept.put_back_changed();
            }
        }
        kept
    }

    /// Slots are about to be cleared: what they counted is safe in the file first. A daemon that is killed between this
    /// and the clearing leaves it counted twice, never not at all.
    pub(super) fn retire(&mut self, slots: &[(u16, SlotCounter)]) {
        for (slot, counter) in slots {
            self.totals.retire(*slot, (*counter).into());
        }
        self.save();
    }

    /// Writes the file, if what it says changed or could not be written the last time. Without a file metrics go on for
    /// as long as the daemon lives.
    pub(super) fn save(&mut self) {
        if !self.totals.take_changed() {
            return;
        }
        match self.write() {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.totals.put_back_changed();
                // Each scrape tries again.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = %format!("{error:#}"), "sums of traffic can't be kept; a restart may lose some");
                }
            }
        }
    }

    /// Not synced to the disk: the maps do not outlive a power cut either.
    fn write(&self) -> Result<()> {
        let json = serde_json::to_vec(&self.totals.kept())?;
        state_file::replace(&self.path, &json, Survives::Daemon)
    }
}

/// Removes the sums of maps that are gone. Whether something that cannot be removed is in their place.
fn outdated(path: &Path) -> bool {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "sums of traffic of earlier maps can't be removed");
            true
        }
        _ => false,
    }
}

/// What the file says, and whether it is to be set aside.
fn kept(path: &Path) -> (Totals, bool) {
    let kept = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error.to_string()),
    };
    match kept {
        Ok(kept) => (Totals::from_kept(kept), false),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "kept sums of traffic are corrupt; metrics of backends show what their present slots counted");
            (Totals::default(), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use lb_core::totals::{Owner, Traffic};

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fairlead-totals-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    fn owner() -> Owner {
        Owner { service: "web".to_owned(), backend: [10, 0, 0, 1].into() }
    }

    const COUNTER: SlotCounter = SlotCounter { packets: 7, bytes: 700, flows: 1, reserved: 0 };

    /// What was set aside, in no order.
    fn aside(directory: &Path) -> Vec<PathBuf> {
        let entries =
            fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
        entries.filter(|path| path.to_string_lossy().contains("totals.corrupt-")).collect()
    }

    #[test]
    fn sums_go_on_over_a_restart_and_end_with_the_maps() {
        let directory = directory("kept");
        let mut first = KeptTotals::load(&directory, true);
        first.observe(&owner(), 3, COUNTER.into());
        first.retire(&[(3, COUNTER)]);
        let second = KeptTotals::load(&directory, false);
        assert_eq!(second.of_backend(&owner()), Traffic::from(COUNTER));
        let fresh = KeptTotals::load(&directory, true);
        assert_eq!(fresh.of_backend(&owner()), Traffic::default());
        assert!(!directory.join("totals.json").exists());
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn sums_that_could_not_be_written_are_with_the_next_save() {
        let directory = directory("again");
        let mut first = KeptTotals::load(&directory, true);
        // No file can be opened in the temporary one's place.
        let obstacle = directory.join("totals.new");
        fs::create_dir(&obstacle).expect("made");
        first.observe(&owner(), 3, COUNTER.into());
        first.retire(&[(3, COUNTER)]);
        assert!(!directory.join("totals.json").exists());
        fs::remove_dir(&obstacle).expect("removed");
        first.save();
        assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), Traffic::from(COUNTER));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn every_corrupt_file_of_sums_is_set_aside_and_none_of_them_lost() {
        let directory = directory("corrupt");
        let mut expected = Vec::new();
        for content in ["", "{\"backends\":[{", "\u{0}\u{1}", "[]"] {
            fs::write(directory.join("totals.json"), content).expect("written");
            KeptTotals::load(&directory, false);
            assert!(!directory.join("totals.json").exists());
            expected.push(content.to_owned());
        }
        let mut found: Vec<_> =
            aside(&directory).iter().map(|path| fs::read_to_string(path).expect("text")).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_directory_in_the_place_of_sums_is_set_aside_with_fresh_maps_and_with_old_ones() {
        for fresh in [true, false] {
            let directory = directory(if fresh { "fresh" } else { "old" });
            fs::create_dir_all(directory.join("totals.json").join("inner")).expect("made");
            let mut totals = KeptTotals::load(&directory, fresh);
            assert_eq!(aside(&directory).len(), 1);
            totals.observe(&owner(), 3, COUNTER.into());
            totals.save();
            assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), Traffic::from(COUNTER));
            fs::remove_dir_all(&directory).expect("removed");
        }
    }

    #[test]
    fn a_state_directory_that_cannot_be_one_keeps_nothing_and_stops_nobody() {
        let file = directory("file").join("file");
        fs::write(&file, "").expect("written");
        for fresh in [true, false] {
            let mut totals = KeptTotals::load(&file, fresh);
            totals.observe(&owner(), 3, COUNTER.into());
            totals.save();
            assert_eq!(totals.of_backend(&owner()), Traffic::from(COUNTER));
        }
        fs::remove_dir_all(file.parent().expect("a folder")).expect("removed");
    }
}
