//! The secret that the nodes of a cluster share.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lb_core::sync::ClusterKey;

/// More than this is no key: somebody named another file.
const MAX_BYTES: u64 = 4_096;

/// Reads the key.
///
/// # Errors
/// If there is none, others may read it, or it is no key.
pub(super) fn key(path: &Path) -> Result<ClusterKey> {
    let shown = path.display();
    let make = "make one with `head -c 32 /dev/urandom | base64 > FILE`, mode 0600, and copy it to all nodes";
    let file = File::open(path).with_context(|| format!("cannot read the cluster key {shown}; {make}"))?;
    let about = file.metadata().with_context(|| format!("cannot read the cluster key {shown}"))?;
    if !about.is_file() {
        bail!("the cluster key {shown} is no file; {make}");
    }
    if about.mode() & 0o077 != 0 {
        bail!(
            "the cluster key {shown} has mode {:04o}: others could read it; run `chmod 0600 {shown}`",
            about.mode() & 0o7777
        );
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read the cluster key {shown}"))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("the cluster key {shown} has more than {MAX_BYTES} bytes: it is no key; {make}");
    }
    ClusterKey::from_file(&bytes).with_context(|| format!("{shown}; {make}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::kept::tests::directory;
    use super::*;

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused_by_its_name() {
        let directory = directory("cluster-key");
        let path = directory.join("key");
        let mut refusals = vec![format!("{:#}", key(&path).expect_err("nothing there"))];
        for (content, mode) in
            [("0123456789abcdef0123", 0o644), ("short", 0o600), (&"x".repeat(5_000), 0o600)]
        {
            fs::write(&path, content).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            refusals.push(format!("{:#}", key(&path).expect_err("no key")));
        }
        for (refusal, reason) in
            refusals.iter().zip(["No such file", "chmod 0600", "5 bytes", "more than 4096"])
        {
            assert!(refusal.contains(reason) && refusal.contains("cluster-key"), "{refusal}");
        }
        fs::write(&path, "0123456789abcdef0123\n").expect("written");
        let seed = key(&path).expect("a key").flow_seed();
        assert_ne!(seed, [0, 0]);
        fs::remove_dir_all(&directory).expect("removed");
    }
}
