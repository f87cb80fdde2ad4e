//! What a lab has made on this machine, found by its name alone: processes, pins, namespaces, folders.

use super::netns::RUN_NETNS;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The BPF file system.
pub(super) const BPFFS: &str = "/sys/fs/bpf";
/// Where labs keep their folders. Not the user's TMPDIR: what another user's run left must be found too.
pub(super) const FOLDERS: &str = "/tmp";
/// Every process of a lab has this variable; its value is the lab's name.
pub(super) const MARK: &str = "FAIRLEAD_LAB";
/// A file in a lab's folder that says: this lab is to outlive its maker.
pub(super) const KEPT: &str = "kept";

/// How long killed processes may take to vanish.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What to do with labs that `demo --keep` left on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Leave them alone.
    Spare,
    /// Remove them too.
    Remove,
}

/// The name of a lab: the process that made it, and a number within that process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LabName {
    pub(super) owner: u32,
    pub(super) number: u32,
}

impl std::fmt::Display for LabName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "fl-{}-{}", self.owner, self.number)
    }
}

impl LabName {
    /// The lab that `name` belongs to: `fl-<pid>-<n>` or anything that continues this with a dash.
    fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("fl-")?.splitn(3, '-');
        Some(Self { owner: parts.next()?.parse().ok()?, number: parts.next()?.parse().ok()? })
    }

    /// The lab's own folder.
    pub(super) fn folder(self) -> PathBuf {
        Path::new(FOLDERS).join(self.to_string())
    }

    fn owner_lives(self) -> bool {
        Path::new("/proc").join(self.owner.to_string()).exists()
    }

    fn is_kept(self) -> bool {
        self.folder().join(KEPT).exists()
    }
}

/// Removes every lab whose maker no longer lives, and names what it removed.
///
/// # Errors
/// No rights, or a thing that cannot be removed.
pub fn sweep(kept: Kept) -> Result<Vec<String>> {
    remove(|lab| !lab.owner_lives() && (kept == Kept::Remove || !lab.is_kept()))
}

/// Removes every lab of this process.
///
/// # Errors
/// As [`sweep`].
pub fn remove_own() -> Result<Vec<String>> {
    let own = std::process::id();
    remove(|lab| lab.owner == own)
}

/// Removes the labs that `which` picks, and names what was there.
pub(super) fn remove(which: impl Fn(LabName) -> bool) -> Result<Vec<String>> {
    let picked = |name: &str| LabName::of(name).is_some_and(&which);
    let namespaces = entries(RUN_NETNS, &picked)?;
    let mut removed = kill_processes(&namespaces, &picked)?;
    for pin in entries(BPFFS, &picked)? {
        remove_folder(&pin)?;
        removed.push(format!("pins {}", pin.display()));
    }
    for namespace in namespaces {
        let name = namespace.file_name().unwrap_or_default();
        let output =
            Command::new("ip").args(["netns", "delete"]).arg(name).output().context("cannot run ip")?;
        if !output.status.success() && namespace.exists() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("cannot remove network namespace {}: {}", name.display(), said.trim());
        }
        removed.push(format!("namespace {}", name.display()));
    }
    for folder in entries(FOLDERS, &picked)? {
        remove_folder(&folder)?;
        removed.push(format!("folder {}", folder.display()));
    }
    Ok(removed)
}

/// After an interrupt the lab's own thread may be faster: what is gone already is no error.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("cannot remove {}", folder.display()))
}

fn entries(folder: &str, picked: &impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        // Without the rights of root this process cannot have made anything there.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot list {folder}")),
    };
    let paths = listing.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.file_name().is_some_and(|name| picked(&name.to_string_lossy()))).collect())
}

/// Kills the labs' processes: those that carry the mark, and those that live in the labs' namespaces.
fn kill_processes(namespaces: &[PathBuf], picked: &impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let inodes: BTreeSet<u64> = namespaces.iter().flat_map(fs::metadata).map(|meta| meta.ino()).collect();
    let found = processes(&inodes, picked)?;
    for &(pid, _) in &found {
        // An error means that it ended in the meantime.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    super::wait_until("killed processes are gone", GONE_WITHIN, || {
        Ok(processes(&inodes, picked)?.is_empty())
    })?;
    Ok(found.into_iter().map(|(pid, command)| format!("process {pid} ({command})")).collect())
}

fn processes(inodes: &BTreeSet<u64>, picked: &impl Fn(&str) -> bool) -> Result<Vec<(i32, String)>> {
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let path = entry.path();
        // A process that has ended, even if nobody waited for it, has neither environment nor namespace.
        let marked = fs::read(path.join("environ")).is_ok_and(|environ| carries_mark(&environ, picked));
        let inside = fs::metadata(path.join("ns/net")).is_ok_and(|meta| inodes.contains(&meta.ino()));
        if pid != own && (marked || inside) {
            let command = fs::read_to_string(path.join("comm")).unwrap_or_default();
            found.push((pid, command.trim_end().to_owned()));
        }
    }
    Ok(found)
}

fn carries_mark(environ: &[u8], picked: &impl Fn(&str) -> bool) -> bool {
    environ.split(|byte| *byte == 0).any(|variable| {
        let name =
            std::str::from_utf8(variable).ok().and_then(|text| text.strip_prefix(MARK)?.strip_prefix('='));
        name.is_some_and(picked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_lab_and_foreign_names_tell_none() {
        let lab = LabName { owner: 4711, number: 2 };
        for (name, expected) in [
            ("fl-4711-2", Some(lab)),
            ("fl-4711-2-client", Some(lab)),
            ("fl-4711-2-backend-3", Some(lab)),
            ("fl-4711", None),
            ("fl-x-2-client", None),
            ("flannel", None),
            ("", None),
        ] {
            assert_eq!(LabName::of(name), expected, "{name}");
        }
    }

    #[test]
    fn only_the_whole_variable_is_a_mark() {
        let any = |name: &str| LabName::of(name).is_some();
        assert!(carries_mark(b"HOME=/root\0FAIRLEAD_LAB=fl-1-2\0", &any));
        assert!(!carries_mark(b"HOME=/root\0FAIRLEAD_LAB_OLD=fl-1-2\0", &any));
        assert!(!carries_mark(b"NOTE=FAIRLEAD_LAB=fl-1-2\0", &any));
    }
}
