//! The seed of the flow hash: made at the first start and kept, since another one would move every flow.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// The seed kept below `directory`, or a new one, which is kept from then on. A file that can't be understood is set
/// aside.
///
/// # Errors
/// If the directory can't be written to.
pub(super) fn load_or_create(directory: &Path) -> Result<[u64; 2]> {
    let path = directory.join("hash-seed");
    match fs::read_to_string(&path) {
        Ok(text) => match parse(&text) {
            Some(seed) => return Ok(seed),
            None => {
                let aside = path.with_extension("corrupt");
                fs::rename(&path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
                tracing::warn!(file = %path.display(), aside = %aside.display(), "the hash seed is corrupt; made a new one");
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let bits = u128::from_ne_bytes(bytes);
    let seed = split(bits);
    save(directory, seed)?;
    Ok(seed)
}

/// Keeps a seed that was found in running maps.
///
/// # Errors
/// If the directory can't be written to.
pub(super) fn save(directory: &Path, seed: [u64; 2]) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}; name another with --state-dir", directory.display()))?;
    let path = directory.join("hash-seed");
    let temporary = directory.join("hash-seed.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    writeln!(file, "{:016x}{:016x}", seed[0], seed[1])?;
    file.sync_all()?;
    fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))
}

fn parse(text: &str) -> Option<[u64; 2]> {
    let digits = text.trim();
    if digits.len() != 32 {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(split)
}

const fn split(bits: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("fairlead-seed-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_seed_is_made_once_and_kept() {
        let directory = directory("kept");
        let first = load_or_create(&directory).expect("made");
        assert_eq!(load_or_create(&directory).expect("read"), first);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_corrupt_seed_is_set_aside() {
        let directory = directory("corrupt");
        let first = load_or_create(&directory).expect("made");
        fs::write(directory.join("hash-seed"), "12345").expect("written");
        assert_ne!(load_or_create(&directory).expect("made anew"), first);
        assert!(directory.join("hash-seed.corrupt").exists());
        fs::remove_dir_all(&directory).expect("removed");
    }
}
