//! The configuration file: the one truth, read whole, replaced whole.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use lb_core::config::{self, Checked, Config, Problem};

use super::kept::{self, Content};
use crate::api::ApiError;
use crate::net;

/// More than that is no configuration: the largest that limits allow is a fifth of it.
const MAX_BYTES: u64 = 64 << 20;

/// A configuration and the text that it came from.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) text: String,
    pub(super) config: Config,
    pub(super) warnings: Vec<Problem>,
    /// Counts configurations put in force, from 1.
    pub(super) generation: u64,
    pub(super) at: SystemTime,
}

/// Understands a text as the configuration of generation `generation`, for this machine as it is now.
///
/// # Errors
/// All problems of the text, on this machine.
pub(super) async fn understand(path: &Path, text: String, generation: u64) -> Result<Loaded, ApiError> {
    let checked = net::check_here(&text).await;
    match checked.map_err(|error| ApiError::internal(format!("{error:#}"), ""))? {
        Ok(Checked { config, warnings }) => {
            Ok(Loaded { text, config, warnings, generation, at: SystemTime::now() })
        }
        Err(problems) => Err(ApiError::invalid_config(&path.display().to_string(), problems)),
    }
}

/// [`understand`] for a change to the text `before`, which is in force. What was wrong with that already (a route that
/// has gone since) does not keep anything else from being changed.
///
/// # Errors
/// All problems that the change brings.
pub(super) async fn understand_change(
    path: &Path,
    text: String,
    generation: u64,
    before: &str,
) -> Result<Loaded, ApiError> {
    let mut error = match understand(path, text.clone(), generation).await {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let known = understand(path, before.to_owned(), generation).await.err().map(|error| error.problems);
    let known = known.unwrap_or_default();
    error.problems.retain(|problem| !known.iter().any(|known| same(known, problem)));
    match config::parse(&text) {
        Ok(Checked { config, warnings }) if error.problems.is_empty() => {
            Ok(Loaded { text, config, warnings, generation, at: SystemTime::now() })
        }
        _ => Err(error),
    }
}

/// Whether two problems are one, maybe on different lines of two texts.
fn same(known: &Problem, problem: &Problem) -> bool {
    known.reason == problem.reason && known.remedy == problem.remedy
}

/// Reads the file, through links.
///
/// # Errors
/// If it can't be read, or is no text.
pub(super) fn read(path: &Path) -> Result<String> {
    let unreadable = || format!("cannot read the configuration {}", path.display());
    match kept::read(path, MAX_BYTES).with_context(unreadable)? {
        Content::Bytes(bytes) => String::from_utf8(bytes).with_context(unreadable),
        Content::Nothing => bail!("{}: there is no such file", unreadable()),
        Content::Unusable(what) => bail!("{}: it is {what}", unreadable()),
    }
}

/// A new text of the file that is written, but not in force yet. Dropped without [`Draft::publish`] it leaves nothing.
pub(super) struct Draft {
    /// As the command line names it.
    named: PathBuf,
    temporary: PathBuf,
    /// Behind all links: it is this file that changes.
    path: PathBuf,
    /// Whom the file belongs to (user and group), if the new one must do without.
    lost_owner: Option<(u32, u32)>,
}

impl Draft {
    /// Writes `text` beside the file, with the file's permissions and, where this process may give files away, its owner;
    /// safely on disk.
    ///
    /// # Errors
    /// If the directory can't be written to, or the disk is full.
    pub(super) fn write(named: &Path, text: &str) -> Result<Self> {
        let path = fs::canonicalize(named).with_context(|| format!("cannot find {}", named.display()))?;
        let temporary = kept::beside(&path, ".fairlead-new");
        let mut draft = Self { named: named.to_owned(), temporary, path, lost_owner: None };
        let written = || -> io::Result<_> {
            let mut file = kept::create(&draft.temporary)?;
            file.write_all(text.as_bytes())?;
            let lost_owner = take_after(&file, &fs::metadata(&draft.path)?)?;
            file.sync_all()?;
            Ok(lost_owner)
        };
        draft.lost_owner =
            written().with_context(|| format!("cannot write {}", draft.temporary.display()))?;
        Ok(draft)
    }

    /// Puts the text in the place of the file, which must still say `before`.
    ///
    /// # Errors
    /// If somebody edited the file or led the link elsewhere meanwhile, or the rename fails; the file is as it was then.
    pub(super) fn publish(self, before: &str) -> Result<()> {
        let same = fs::canonicalize(&self.named).is_ok_and(|path| path == self.path)
            && read(&self.path).is_ok_and(|text| text == before);
        if !same {
            bail!("{} was edited meanwhile", self.named.display());
        }
        fs::rename(&self.temporary, &self.path).map_err(|error| {
            let path = self.path.display();
            let what = match error.raw_os_error() {
                Some(libc::EBUSY) => {
                    format!("cannot replace {path}, which is mounted by itself: mount its directory instead")
                }
                _ => format!("cannot replace {path}"),
            };
            anyhow::Error::from(error).context(what)
        })?;
        kept::sync_directory(&self.path);
        if let Some((user, group)) = self.lost_owner {
            tracing::warn!(
                file = %self.path.display(), owner = %format!("{user}:{group}"),
                "the changed configuration belongs to the user that fairlead runs as, which may not give files away; \
                 `chown {user}:{group}` it, or run fairlead with CAP_CHOWN"
            );
        }
        Ok(())
    }
}

/// Gives a new file the owner and mode of the one whose place it takes: that owner, if this process may not give files
/// away. The group stays if it is one of this process's; if not, this process's group gets no more than everybody had.
fn take_after(file: &File, metadata: &Metadata) -> io::Result<Option<(u32, u32)>> {
    let (owner, group) = (metadata.uid(), metadata.gid());
    let now = file.metadata()?;
    let mut lost = None;
    let mut mode = metadata.mode() & 0o7777;
    if (now.uid(), now.gid()) != (owner, group) {
        match fchown(file, Some(owner), Some(group)) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                lost = Some((owner, group));
                mode &= 0o777;
                if now.gid() != group && fchown(file, None, Some(group)).is_err() {
                    mode = (mode & 0o707) | ((mode & 0o007) << 3);
                }
            }
            changed => changed?,
        }
    }
    // Last: a change of the owner clears some bits.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(lost)
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if it was published.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::super::kept::tests::directory;
    use super::*;

    #[test]
    fn a_change_through_links_keeps_them_and_the_files_mode() {
        let directory = directory("config-link");
        let (outer, inner, file) =
            (directory.join("outer"), directory.join("inner"), directory.join("deep/file"));
        fs::create_dir(directory.join("deep")).expect("made");
        fs::write(&file, "a = 1").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("changed");
        symlink("deep/file", &inner).expect("linked");
        symlink(&inner, &outer).expect("linked");
        Draft::write(&outer, "a = 2").expect("written").publish("a = 1").expect("published");
        assert!([&outer, &inner].iter().all(|link| fs::symlink_metadata(link).expect("there").is_symlink()));
        assert_eq!(read(&outer).expect("read"), "a = 2");
        assert_eq!(fs::metadata(&file).expect("there").mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(directory.join("deep")).expect("a folder").count(), 1);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn file_of_somebody_else_is_replaced_by_who_may_not_give_files_away() {
        if !nix::unistd::geteuid().is_root() {
            // Nothing here belongs to anybody else.
            return;
        }
        let directory = directory("config-owner");
        let file = directory.join("file");
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("changed");
        for (group, mode, expected) in [(0, 0o664, (1234, 0, 0o664)), (4321, 0o664, (1234, 0, 0o644))] {
            fs::write(&file, "a = 1").expect("written");
            chown(&file, Some(0), Some(group)).expect("changed");
            fs::set_permissions(&file, Permissions::from_mode(mode)).expect("changed");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // For this thread's files only, and with it go the rights to those of others.
                    nix::unistd::setfsuid(1234.into());
                    let draft = Draft::write(&file, "a = 2").expect("written");
                    assert_eq!(draft.lost_owner, Some((0, group)));
                    draft.publish("a = 1").expect("published");
                });
            });
            let found = fs::metadata(&file).expect("there");
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), expected);
            assert_eq!(read(&file).expect("read"), "a = 2");
            fs::remove_file(&file).expect("removed");
        }
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let directory = directory("config-draft");
        let file = directory.join("file");
        fs::write(&file, "a = 1").expect("written");
        drop(Draft::write(&file, "a = 2").expect("written"));
        assert_eq!(read(&file).expect("read"), "a = 1");
        assert_eq!(fs::read_dir(&directory).expect("a folder").count(), 1);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn an_edit_or_another_link_meanwhile_is_not_written_over() {
        let directory = directory("config-edited");
        let (link, file, other) = (directory.join("link"), directory.join("file"), directory.join("other"));
        fs::write(&file, "a = 1").expect("written");
        fs::write(&other, "a = 1").expect("written");
        symlink("file", &link).expect("linked");
        let draft = Draft::write(&link, "a = 2").expect("written");
        fs::write(&file, "a = 3").expect("edited");
        assert!(draft.publish("a = 1").is_err());
        assert_eq!(read(&file).expect("read"), "a = 3");
        fs::write(&file, "a = 1").expect("written");
        let draft = Draft::write(&link, "a = 2").expect("written");
        fs::remove_file(&link).expect("removed");
        symlink("other", &link).expect("linked");
        assert!(draft.publish("a = 1").is_err());
        assert_eq!(
            (read(&file).expect("read"), read(&other).expect("read")),
            ("a = 1".into(), "a = 1".into())
        );
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn what_is_no_file_is_named() {
        let directory = directory("config-kinds");
        let pipe = directory.join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
        for (path, what) in [
            (directory.clone(), "a directory"),
            (pipe, "no regular file"),
            (directory.join("gone"), "no such file"),
            (PathBuf::from("/dev/zero"), "no regular file"),
        ] {
            let error = format!("{:#}", read(&path).expect_err("no configuration"));
            assert!(error.contains(what) && error.contains(&path.display().to_string()), "{error}");
        }
        fs::remove_dir_all(&directory).expect("removed");
    }
}
