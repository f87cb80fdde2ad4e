//! Sums of traffic that outlive the daemon, as the maps do: kept in a file whenever a backend gets or loses a slot.

use std::fs;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::counters::SlotCounter;
use lb_core::totals::{Kept, Totals};

/// [`Totals`] with the file they are kept in.
#[derive(Debug)]
pub(super) struct KeptTotals {
    path: PathBuf,
    totals: Totals,
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
    /// understood is set aside.
    ///
    /// # Errors
    /// If the directory can't be written to.
    pub(super) fn load(directory: &Path, fresh: bool) -> Result<Self> {
        let path = directory.join("totals.json");
        if fresh {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", path.display()))
                }
                _ => Ok(Self { path, totals: Totals::default() }),
            };
        }
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error.to_string()),
        };
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                let aside = path.with_extension("corrupt");
                fs::rename(&path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
                tracing::warn!(file = %path.display(), aside = %aside.display(), %error, "kept sums of traffic are corrupt; metrics of backends show what their present slots counted");
                Kept::default()
            }
        };
        Ok(Self { path, totals: Totals::from_kept(kept) })
    }

    /// Slots are about to be cleared: what they counted is safe in the file first. A daemon that is killed between this
    /// and the clearing leaves it counted twice, never not at all.
    pub(super) fn retire(&mut self, slots: &[(u16, SlotCounter)]) {
        for (slot, counter) in slots {
            self.totals.retire(*slot, (*counter).into());
        }
        self.save();
    }

    /// Writes the file, if what it says changed. Without a file metrics go on for as long as the daemon lives.
    pub(super) fn save(&mut self) {
        if self.totals.take_changed()
            && let Err(error) = self.write()
        {
            tracing::warn!(error = %format!("{error:#}"), "sums of traffic can't be kept; a restart may lose some");
        }
    }

    /// Not synced to the disk: the maps do not outlive a power cut either.
    fn write(&self) -> Result<()> {
        let temporary = self.path.with_extension("new");
        let json = serde_json::to_vec(&self.totals.kept())?;
        fs::write(&temporary, json).with_context(|| format!("cannot write {}", temporary.display()))?;
        fs::rename(&temporary, &self.path).with_context(|| format!("cannot replace {}", self.path.display()))
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

    #[test]
    fn sums_go_on_over_a_restart_and_end_with_the_maps() {
        let directory = directory("kept");
        let mut first = KeptTotals::load(&directory, true).expect("nothing yet");
        let counter = SlotCounter { packets: 7, bytes: 700, flows: 1, ..SlotCounter::default() };
        first.observe(&owner(), 3, counter.into());
        first.retire(&[(3, counter)]);
        let second = KeptTotals::load(&directory, false).expect("read");
        assert_eq!(second.of_backend(&owner()), Traffic::from(counter));
        let fresh = KeptTotals::load(&directory, true).expect("anew");
        assert_eq!(fresh.of_backend(&owner()), Traffic::default());
        assert!(!directory.join("totals.json").exists());
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn truncated_sums_are_set_aside() {
        let directory = directory("corrupt");
        fs::write(directory.join("totals.json"), "{\"backends\":[{").expect("written");
        KeptTotals::load(&directory, false).expect("goes on without");
        assert!(directory.join("totals.corrupt").exists() && !directory.join("totals.json").exists());
        fs::remove_dir_all(&directory).expect("removed");
    }
}
