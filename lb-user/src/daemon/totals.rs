//! Sums of traffic that outlive the daemon, as the maps do: kept in a file whenever a backend gets or loses a slot.

use std::fs;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lb_common::counters::SlotCounter;
use lb_core::totals::{Kept, Totals};

use super::kept::{self, Content, Outlives, crc32};

/// More than that is no file of ours: the sums of 65,536 backends, and of those that are remembered, are half of it.
const MAX_BYTES: u64 = 64 << 20;

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
    /// understood is set aside. Metrics are no reason not to start: what fails is a warning.
    pub(super) fn load(directory: &Path, fresh: bool) -> Self {
        let path = directory.join("totals.json");
        let kept = match read(&path) {
            Ok(_) if fresh => {
                forget(&path);
                Kept::default()
            }
            Ok(kept) => {
                kept::warn_of_owner(&path);
                kept
            }
            Err(why) => {
                set_aside(&path, &why);
                Kept::default()
            }
        };
        Self { path, totals: Totals::from_kept(kept), failing: false }
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

    fn write(&self) -> Result<()> {
        let text = text(&self.totals.kept())?;
        // Nobody else may have made it: a node of a cluster keeps no seed.
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
        }
        // The maps do not outlive a power cut either.
        kept::replace(&self.path, &text, Outlives::Daemon)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What is written: the sums in one line, and their checksum in another. An earlier version wrote no checksum.
fn text(kept: &Kept) -> Result<Vec<u8>> {
    let sums = serde_json::to_vec(kept)?;
    let check = check_line(&sums);
    Ok([&sums[..], b"\n", check.as_bytes(), b"\n"].concat())
}

fn check_line(sums: &[u8]) -> String {
    format!("{{\"crc32\":\"{:08x}\"}}", crc32(sums))
}

fn parse(bytes: &[u8]) -> Result<Kept, String> {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (sums, check) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default().trim_ascii());
    if !check.is_empty() && check != check_line(sums).as_bytes() {
        return Err("its checksum is another".to_owned());
    }
    serde_json::from_slice(sums).map_err(|error| error.to_string())
}

/// What the file says, or why it can't be understood.
fn read(path: &Path) -> Result<Kept, String> {
    match kept::read(path, MAX_BYTES) {
        Ok(Content::Nothing) => Ok(Kept::default()),
        Ok(Content::Bytes(bytes)) => parse(&bytes),
        Ok(Content::Unusable(what)) => Err(format!("it is {what}")),
        Err(error) => Err(format!("{error:#}")),
    }
}

fn set_aside(path: &Path, why: &str) {
    let lost = "metrics of backends show what their present slots counted";
    let file = path.display();
    match kept::set_aside(path) {
        Ok(aside) => tracing::warn!(
            %file, aside = %aside.display(), error = why,
            "kept sums of traffic are corrupt and set aside; {lost}"
        ),
        Err(error) => tracing::warn!(
            %file, error = why, remedy = "move it away",
            "kept sums of traffic are corrupt; {lost}; {error:#}"
        ),
    }
}

/// The maps are fresh: what earlier ones counted is over. A link stays, with sums of nothing behind it: one that leads
/// nowhere would be set aside by the next start.
fn forget(path: &Path) {
    let forgotten = if path.is_symlink() {
        text(&Kept::default()).and_then(|text| Ok(kept::replace(path, &text, Outlives::Daemon)?))
    } else {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    };
    if let Err(error) = forgotten {
        tracing::warn!(
            file = %path.display(), error = %format!("{error:#}"),
            "cannot remove sums of traffic that are over; remove them by hand"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use lb_core::totals::{Owner, Traffic};

    use super::super::kept::tests::{aside, directory};
    use super::*;

    fn owner() -> Owner {
        Owner { service: "web".to_owned(), backend: [10, 0, 0, 1].into() }
    }

    /// Keeps seven packets of a backend below `directory`.
    fn keep(directory: &Path) -> Traffic {
        let mut totals = KeptTotals::load(directory, true);
        let counter = SlotCounter { packets: 7, bytes: 700, flows: 1, ..SlotCounter::default() };
        totals.observe(&owner(), 3, counter.into());
        totals.retire(&[(3, counter)]);
        counter.into()
    }

    #[test]
    fn sums_that_could_not_be_written_are_with_the_next_save() {
        let directory = directory("again");
        let counter = SlotCounter { packets: 7, bytes: 700, flows: 1, ..SlotCounter::default() };
        let mut first = KeptTotals::load(&directory, true);
        // No file can be put in the place of a folder that is not empty.
        let obstacle = directory.join("totals.json");
        fs::create_dir_all(obstacle.join("inner")).expect("made");
        first.observe(&owner(), 3, counter.into());
        first.retire(&[(3, counter)]);
        assert!(obstacle.is_dir(), "something was written after all");
        fs::remove_dir_all(&obstacle).expect("removed");
        first.save();
        assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), Traffic::from(counter));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn sums_go_on_over_a_restart_and_end_with_the_maps() {
        let directory = directory("totals-kept");
        let kept = keep(&directory);
        assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), kept);
        assert_eq!(KeptTotals::load(&directory, true).of_backend(&owner()), Traffic::default());
        assert!(!directory.join("totals.json").exists());
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn link_to_sums_stays_when_they_end_with_the_maps() {
        let directory = directory("totals-link");
        let (path, elsewhere) = (directory.join("totals.json"), directory.join("elsewhere"));
        symlink(&elsewhere, &path).expect("linked");
        fs::write(&elsewhere, text(&Kept::default()).expect("written")).expect("written");
        let kept = keep(&directory);
        assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), kept);
        for fresh in [true, false] {
            assert_eq!(KeptTotals::load(&directory, fresh).of_backend(&owner()), Traffic::default());
            assert_eq!(fs::read_link(&path).expect("a link"), elsewhere);
            assert_eq!(aside(&directory).len(), 0);
        }
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn sums_of_an_earlier_version_have_no_checksum() {
        let directory = directory("totals-earlier");
        let kept = keep(&directory);
        let path = directory.join("totals.json");
        let text = fs::read(&path).expect("written");
        let end = text.iter().position(|byte| *byte == b'\n').expect("two lines");
        fs::write(&path, &text[..end]).expect("cut");
        assert_eq!(KeptTotals::load(&directory, false).of_backend(&owner()), kept);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn no_flipped_bit_and_no_cut_gives_other_sums() {
        let directory = directory("totals-flipped");
        keep(&directory);
        let right = fs::read(directory.join("totals.json")).expect("written");
        let kept = parse(&right).expect("right");
        for (at, bit) in (0..right.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut wrong = right.clone();
            wrong[at] ^= 1 << bit;
            assert!(parse(&wrong).map_or(true, |found| found == kept), "bit {bit} of octet {at}");
        }
        for length in 0..right.len() {
            assert!(parse(&right[..length]).map_or(true, |found| found == kept), "cut to {length}");
        }
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn every_corrupt_file_is_set_aside_and_none_of_them_lost() {
        let directory = directory("totals-corrupt");
        let path = directory.join("totals.json");
        for fresh in [false, true] {
            let make: [&dyn Fn(); 4] = [
                &|| fs::write(&path, "{\"backends\":[{").expect("written"),
                &|| fs::write(&path, b"\xff\xfe").expect("written"),
                &|| fs::create_dir_all(path.join("inner")).expect("made"),
                &|| symlink("gone", &path).expect("linked"),
            ];
            for make in make {
                let before = aside(&directory).len();
                make();
                let totals = KeptTotals::load(&directory, fresh);
                assert_eq!(totals.of_backend(&owner()), Traffic::default());
                assert_eq!(aside(&directory).len(), before + 1);
                assert!(fs::symlink_metadata(&path).is_err());
            }
        }
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn sums_that_contradict_themselves_end_no_daemon() {
        let directory = directory("totals-absurd");
        // The same backend in two slots, and a clock that cannot go on.
        let traffic = "{\"packets\":1,\"bytes\":1,\"flows\":1}";
        let backend = |slot: u16| {
            format!(
                "{{\"service\":\"web\",\"backend\":\"10.0.0.1\",\"earlier\":{traffic},\"retired_at\":0,\
                 \"held\":{{\"slot\":{slot},\"base\":{traffic},\"seen\":{traffic}}}}}"
            )
        };
        let text = format!(
            "{{\"backends\":[{},{}],\"services\":[],\"clock\":{}}}",
            backend(1),
            backend(2),
            u64::MAX
        );
        fs::write(directory.join("totals.json"), text).expect("written");
        let mut totals = KeptTotals::load(&directory, false);
        let counter = SlotCounter { packets: 7, bytes: 700, flows: 1, ..SlotCounter::default() };
        totals.retire(&[(1, counter), (2, counter)]);
        totals.observe(&owner(), 9, counter.into());
        assert!(totals.of_backend(&owner()).packets >= 7);
        assert_eq!(aside(&directory).len(), 0);
        fs::remove_dir_all(&directory).expect("removed");
    }
}
