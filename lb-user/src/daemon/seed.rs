//! The seed of the flow hash: made at the first start and kept, since another one would move every flow.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};

use super::state_file::{self, Survives};

/// The file.
const NAME: &str = "hash-seed";

/// The seed kept below `directory`, or a new one, which is kept from then on. What can't be understood is set aside.
///
/// # Errors
/// If the directory can't be written to, or the file not be read.
pub(super) fn load_or_create(directory: &Path) -> Result<[u64; 2]> {
    if let Some(seed) = kept(directory)? {
        return Ok(seed);
    }
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    let seed = split(u128::from_ne_bytes(bytes));
    write(directory, seed)?;
    Ok(seed)
}

/// Keeps a seed that was found in running maps. A file that says anything else is set aside.
///
/// # Errors
/// If the directory can't be written to.
pub(super) fn save(directory: &Path, seed: [u64; 2]) -> Result<()> {
    match kept(directory)? {
        Some(found) if found == seed => Ok(()),
        Some(_) => {
            set_aside(&directory.join(NAME), "another than that of the running maps, which stays")?;
            write(directory, seed)
        }
        None => write(directory, seed),
    }
}

/// What the file says, `None` if there is none. What is no seed, be it a directory, is set aside.
fn kept(directory: &Path) -> Result<Option<[u64; 2]>> {
    let path = directory.join(NAME);
    let text = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::IsADirectory => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let seed = std::str::from_utf8(&text).ok().and_then(parse);
    if seed.is_none() {
        set_aside(&path, "corrupt")?;
    }
    Ok(seed)
}

fn set_aside(path: &Path, why: &str) -> Result<()> {
    let aside = state_file::set_aside(path)?;
    tracing::warn!(file = %path.display(), aside = %aside.display(), "the kept hash seed is {why}; it is set aside");
    Ok(())
}

fn write(directory: &Path, seed: [u64; 2]) -> Result<()> {
    let digits = format!("{:016x}{:016x}\n", seed[0], seed[1]);
    state_file::replace(&directory.join(NAME), digits.as_bytes(), Survives::Machine)
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

    /// What was set aside, in no order.
    fn aside(directory: &Path) -> Vec<Vec<u8>> {
        let entries =
            fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
        let corrupt = entries.filter(|path| path.to_string_lossy().contains("hash-seed.corrupt-"));
        corrupt.map(|path| fs::read(path).unwrap_or_default()).collect()
    }

    #[test]
    fn every_corrupt_seed_is_set_aside_and_none_of_them_lost() {
        let directory = directory("corrupt");
        let mut last = load_or_create(&directory).expect("made");
        let cases: [&[u8]; 4] =
            [b"", b"12345", b"\xff\xfe\x00garbage", b"0123456789abcdef0123456789abcdeg\n"];
        for (count, content) in cases.into_iter().enumerate() {
            fs::write(directory.join(NAME), content).expect("written");
            let next = load_or_create(&directory).expect("made anew");
            assert_ne!(next, last);
            assert_eq!(aside(&directory).len(), count + 1);
            last = next;
        }
        let mut all = aside(&directory);
        let mut expected = cases.map(<[u8]>::to_vec).to_vec();
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_directory_in_the_seeds_place_is_set_aside() {
        let directory = directory("directory");
        fs::create_dir_all(directory.join(NAME).join("inner")).expect("made");
        let seed = load_or_create(&directory).expect("made anew");
        assert_eq!((load_or_create(&directory).expect("read"), aside(&directory).len()), (seed, 1));
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn the_seed_of_running_maps_replaces_what_is_kept_and_sets_it_aside() {
        let directory = directory("running");
        load_or_create(&directory).expect("made");
        save(&directory, [1, 2]).expect("kept");
        assert_eq!((load_or_create(&directory).expect("read"), aside(&directory).len()), ([1, 2], 1));
        save(&directory, [1, 2]).expect("kept already");
        assert_eq!(aside(&directory).len(), 1);
        fs::remove_dir_all(&directory).expect("removed");
    }
}
