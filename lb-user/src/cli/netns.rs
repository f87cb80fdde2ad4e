//! Entering a network namespace.
//!
//! By `setns`, not by `ip netns exec`: that remounts /sys, and BPF pins vanish inside it.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

/// Why a network namespace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It cannot be opened.
    #[error("cannot open network namespace {}: {source}; `ip netns list` shows those there are", path.display())]
    Open {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It cannot be entered.
    #[error("cannot enter network namespace {}: {source}; run as root, and name a network namespace", path.display())]
    Enter {
        /// Its file.
        path: PathBuf,
        /// The kernel's answer.
        source: nix::Error,
    },
}

/// File of a namespace: `name` in /run/netns, or a path as it is.
#[must_use]
pub fn path_of(name: &str) -> PathBuf {
    if name.contains('/') { PathBuf::from(name) } else { PathBuf::from("/run/netns").join(name) }
}

/// Moves the calling thread into a namespace. Threads made before stay where they are, so there should be none.
///
/// # Errors
/// If there is no such namespace, or for want of rights.
pub fn enter(name: &str) -> Result<(), NetnsError> {
    let path = path_of(name);
    let file = File::open(&path).map_err(|source| NetnsError::Open { path: path.clone(), source })?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Enter { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_a_path_is_not() {
        for (name, path) in
            [("blue", "/run/netns/blue"), ("/proc/1/ns/net", "/proc/1/ns/net"), ("./x", "./x")]
        {
            assert_eq!(path_of(name), PathBuf::from(path));
        }
    }

    #[test]
    fn a_namespace_that_is_not_there_or_none_is_named_in_the_error() {
        let error = enter("fairlead-no-such-namespace").expect_err("not there");
        assert!(error.to_string().contains("/run/netns/fairlead-no-such-namespace"), "{error}");
        let error = enter("/proc/self/status").expect_err("no namespace");
        assert!(matches!(error, NetnsError::Enter { .. }), "{error}");
    }
}
