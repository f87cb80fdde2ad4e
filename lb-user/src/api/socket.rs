//! The daemon's Unix socket: where it is, who may use it, and what becomes of one that a killed daemon left behind.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::error::ApiError;

/// Held while the process's umask is not what it was.
static UMASK: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Longest path of a Unix socket in bytes: `sun_path` with its final zero.
const MAX_PATH_BYTES: usize = 107;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers on it.
    #[error("a daemon is already listening on {}", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has this name.
    #[error("{} exists and is not a socket; remove it, or name another with --socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The kernel takes no paths this long.
    #[error("{} is longer than the {MAX_PATH_BYTES} bytes of a socket's path; name a shorter one with --socket", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {source}; run as root, or name another place with --socket", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl From<BindError> for ApiError {
    fn from(error: BindError) -> Self {
        let message = error.to_string();
        match error {
            BindError::InUse { .. } => ApiError::conflict(
                message,
                "stop it with `fairlead stop`, or start this one with another --instance",
            ),
            _ => ApiError::internal(message, ""),
        }
    }
}

/// A bound socket that only its owner can connect to. The file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    pub(super) inner: UnixListener,
    file: SocketFile,
}

impl Listener {
    /// Makes the socket, and its directory if need be. One that nobody listens on any more is replaced.
    ///
    /// Two daemons that start at the same moment are kept apart by the lock of their instance, not by this.
    ///
    /// # Errors
    /// See [`BindError`]; a daemon that answers on the socket is [`BindError::InUse`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        if path.as_os_str().len() > MAX_PATH_BYTES {
            return Err(BindError::TooLong { path: path.to_owned() });
        }
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(failed("create", directory))?;
        }
        remove_stale(path)?;
        // Group and others never get a moment in which they could connect.
        // The mask belongs to the whole process.
        let alone = UMASK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        drop(alone);
        let inner = bound.map_err(failed("listen on", path))?;
        inner.set_nonblocking(true).map_err(failed("listen on", path))?;
        let file = SocketFile::of(path).map_err(failed("look at", path))?;
        Ok(Self { inner, file })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.inner, self.file)
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { action, path, source }
}

/// Removes a socket that nobody listens on any more.
///
/// # Errors
/// A daemon answers on it, it is no socket, or it cannot be removed.
pub(crate) fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at", path)(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove", path))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse { path: path.to_owned() })
        }
        Err(error) => Err(failed("connect to", path)(error)),
    }
}

/// The file of a socket, removed on drop unless it is another one by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the API socket");
        }
    }
}

#[cfg(test)]
mod tests;
