//! Small files that the daemon keeps for itself: read with suspicion, replaced whole, set aside and never deleted for
//! being corrupt.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

/// What is at a path, behind links.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing at all.
    Nothing,
    /// A file.
    Bytes(Vec<u8>),
    /// What no file of the daemon is, in words. It can be set aside.
    Unusable(&'static str),
}

/// Reads a file of at most `most` bytes. Never waits, whatever is there.
///
/// # Errors
/// If it is there and cannot be read.
pub(super) fn read(path: &Path, most: u64) -> Result<Content> {
    match try_read(path, most) {
        Ok(content) => Ok(content),
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
            Ok(Content::Nothing)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Content::Unusable("a link to nothing")),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(Content::Unusable("a link to itself")),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot read {}; let the user that fairlead runs as read it, or move it away",
                path.display()
            )
        }),
    }
}

fn try_read(path: &Path, most: u64) -> io::Result<Content> {
    // Before it is opened: that alone can have an effect on a device, and waits for a named pipe.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Ok(Content::Unusable("a directory"));
    }
    if !metadata.is_file() {
        return Ok(Content::Unusable("no regular file"));
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Content::Unusable("no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Ok(Content::Unusable("too large"));
    }
    Ok(Content::Bytes(bytes))
}

/// Warns of a file that others may change, for those that only the daemon should.
pub(super) fn warn_of_owner(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && let Some(fault) = fault(&metadata)
    {
        tracing::warn!(
            file = %path.display(), owner = metadata.uid(), mode = %format!("{:o}", metadata.mode() & 0o7777),
            "{fault}; make it root's with `chown root`, and `chmod 600` it"
        );
    }
}

/// Why others than root and this process may change a file.
fn fault(metadata: &fs::Metadata) -> Option<&'static str> {
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Some("a kept file belongs to somebody else, who can change it");
    }
    (metadata.mode() & 0o022 != 0).then_some("a kept file can be changed by others")
}

/// Renames to its name with `.corrupt-SECONDS` at the end, which is free and says when, so that nothing is lost; gives
/// the name.
///
/// # Errors
/// If the directory can't be written to.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let names = (now..).map(|stamp| beside(path, &format!(".corrupt-{stamp}")));
    let mut free = names.filter(|name| fs::symlink_metadata(name).is_err());
    let aside = free.next().context("no name is free")?;
    fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
    Ok(aside)
}

/// Whether a file must be on disk before anything else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlives {
    /// The daemon only: the kernel writes it when it likes.
    Daemon,
    /// A power cut too.
    Machine,
}

/// Puts `bytes` in the file's place, for its owner only. A link is followed: the file behind it changes.
///
/// # Errors
/// If the directory can't be written to, or the disk is full; the file is as it was then.
pub(super) fn replace(path: &Path, bytes: &[u8], outlives: Outlives) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = beside(&path, ".new");
    let written = || {
        let mut file = create(&temporary)?;
        file.write_all(bytes)?;
        if outlives == Outlives::Machine {
            file.sync_all()?;
        }
        fs::rename(&temporary, &path)?;
        if outlives == Outlives::Machine {
            sync_directory(&path);
        }
        Ok(())
    };
    written().inspect_err(|_| {
        // Half a file is of no use to anybody.
        let _ = fs::remove_file(&temporary);
    })
}

/// A path with something more at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Makes a file that nobody else may read, in the place of what a killed daemon left of an earlier one. Nothing is
/// written through a link that somebody put there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A rename is safe only once its directory is on disk.
pub(super) fn sync_directory(of: &Path) {
    if let Some(directory) = of.parent() {
        File::open(directory).and_then(|directory| directory.sync_all()).ok();
    }
}

/// CRC-32 as in Ethernet (polynomial 0xedb88320, reflected): finds what a disk or a cut changed.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory of a test's own.
    pub(in crate::daemon) fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fairlead-kept-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// What was set aside in a directory, in no order.
    pub(in crate::daemon) fn aside(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.to_string_lossy().contains(".corrupt-")).collect()
    }

    #[test]
    fn checksum_is_that_of_the_check_string() {
        assert_eq!((crc32(b"123456789"), crc32(b"")), (0xcbf4_3926, 0));
    }

    #[test]
    fn whatever_is_there_is_told_without_waiting() {
        let directory = directory("kinds");
        let at = |name: &str| directory.join(name);
        fs::write(at("file"), b"1234").expect("written");
        fs::create_dir(at("folder")).expect("made");
        symlink("file", at("link")).expect("linked");
        symlink("gone", at("dangling")).expect("linked");
        symlink("loop", at("loop")).expect("linked");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        for (name, most, expected) in [
            ("nothing", 4, Content::Nothing),
            ("file", 4, Content::Bytes(b"1234".to_vec())),
            ("file", 3, Content::Unusable("too large")),
            ("link", 4, Content::Bytes(b"1234".to_vec())),
            ("dangling", 4, Content::Unusable("a link to nothing")),
            ("loop", 4, Content::Unusable("a link to itself")),
            ("folder", 4, Content::Unusable("a directory")),
            ("pipe", 4, Content::Unusable("no regular file")),
            ("socket", 4, Content::Unusable("no regular file")),
        ] {
            assert_eq!(read(&at(name), most).expect("told"), expected, "{name}");
        }
        assert_eq!(read(Path::new("/dev/zero"), 4).expect("told"), Content::Unusable("no regular file"));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn what_is_behind_a_link_is_replaced_and_the_link_stays() {
        let directory = directory("link");
        let (link, target) = (directory.join("link"), directory.join("target"));
        fs::write(&target, b"old").expect("written");
        symlink(&target, &link).expect("linked");
        replace(&link, b"new", Outlives::Machine).expect("replaced");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read(&target).expect("read"), b"new");
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn nothing_is_written_through_a_link_in_the_place_of_the_new_file() {
        let directory = directory("planted");
        let (file, other) = (directory.join("file"), directory.join("other"));
        fs::write(&other, b"somebody's").expect("written");
        symlink(&other, directory.join("file.new")).expect("linked");
        replace(&file, b"ours", Outlives::Daemon).expect("replaced");
        assert_eq!(fs::read(&other).expect("read"), b"somebody's");
        assert!(fs::symlink_metadata(&file).expect("there").is_file());
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn what_is_set_aside_keeps_its_whole_name() {
        let directory = directory("aside");
        for name in ["totals.json", "hash-seed"] {
            let file = directory.join(name);
            for content in [b"1", b"2"] {
                fs::write(&file, content).expect("written");
                let aside = set_aside(&file).expect("set aside");
                let text = aside.file_name().expect("a name").to_string_lossy();
                let stamp = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(".corrupt-"));
                assert!(stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok()), "{text}");
                assert_eq!(fs::read(&aside).expect("there"), content);
            }
        }
        assert_eq!(aside(&directory).len(), 4);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn files_that_others_may_change_are_told() {
        let directory = directory("mode");
        let file = directory.join("file");
        fs::write(&file, b"1").expect("written");
        for (mode, told) in [(0o600, false), (0o644, false), (0o664, true), (0o602, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(fault(&fs::metadata(&file).expect("there")).is_some(), told, "{mode:o}");
        }
        fs::remove_dir_all(&directory).expect("removed");
    }
}
