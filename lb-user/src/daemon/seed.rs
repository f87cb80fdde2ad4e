//! The seed of the flow hash: made at the first start and kept, since another one would move every flow.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use super::kept::{self, Content, Outlives, crc32};

/// The file: 32 digits, a blank, and the checksum of the 16 bytes they stand for. An earlier version wrote no checksum.
const NAME: &str = "hash-seed";
/// More than that is no seed.
const MAX_BYTES: u64 = 256;

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
    let why = match kept::read(&path, MAX_BYTES)? {
        Content::Nothing => return Ok(None),
        Content::Bytes(bytes) => match std::str::from_utf8(&bytes).ok().and_then(parse) {
            Some(seed) => {
                kept::warn_of_owner(&path);
                return Ok(Some(seed));
            }
            None => "corrupt",
        },
        Content::Unusable(what) => what,
    };
    set_aside(&path, why)?;
    Ok(None)
}

fn set_aside(path: &Path, why: &str) -> Result<()> {
    let aside = kept::set_aside(path)?;
    tracing::warn!(file = %path.display(), aside = %aside.display(), "the kept hash seed is {why}; it is set aside");
    Ok(())
}

fn write(directory: &Path, seed: [u64; 2]) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}; name another with --state-dir", directory.display()))?;
    let path = directory.join(NAME);
    kept::replace(&path, text(seed).as_bytes(), Outlives::Machine).with_context(|| {
        format!("cannot write {}; free space, or name another directory with --state-dir", path.display())
    })
}

/// What is written.
fn text([first, second]: [u64; 2]) -> String {
    format!("{first:016x}{second:016x} {:08x}\n", check([first, second]))
}

fn check([first, second]: [u64; 2]) -> u32 {
    crc32(&[first.to_be_bytes(), second.to_be_bytes()].concat())
}

fn parse(text: &str) -> Option<[u64; 2]> {
    let mut words = text.split_ascii_whitespace();
    let (digits, sum, end) = (words.next()?, words.next(), words.next());
    let hexadecimal = |word: &str| word.bytes().all(|digit| digit.is_ascii_hexdigit());
    if digits.len() != 32 || !hexadecimal(digits) || end.is_some() {
        return None;
    }
    let seed = split(u128::from_str_radix(digits, 16).ok()?);
    let fits =
        |sum: &str| sum.len() == 8 && hexadecimal(sum) && u32::from_str_radix(sum, 16) == Ok(check(seed));
    sum.is_none_or(fits).then_some(seed)
}

const fn split(bits: u128) -> [u64; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::kept::tests::{aside, directory};
    use super::*;

    #[test]
    fn a_seed_is_made_once_and_kept() {
        let directory = directory("seed-kept");
        let first = load_or_create(&directory).expect("made");
        assert_eq!(load_or_create(&directory).expect("read"), first);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn every_corrupt_seed_is_set_aside_and_none_of_them_lost() {
        let directory = directory("seed-corrupt");
        let mut last = load_or_create(&directory).expect("made");
        let cases: [&[u8]; 7] = [
            b"",
            b"12345",
            b"\xff\xfe\x00garbage",
            b"0123456789abcdef0123456789abcdeg\n",
            b"+123456789abcdef0123456789abcdef\n",
            b"0123456789abcdef0123456789abcdef 00000000\n",
            &[b'1'; 300],
        ];
        for (count, content) in cases.into_iter().enumerate() {
            fs::write(directory.join(NAME), content).expect("written");
            let next = load_or_create(&directory).expect("made anew");
            assert_ne!(next, last);
            assert_eq!(aside(&directory).len(), count + 1);
            last = next;
        }
        let mut all: Vec<_> = aside(&directory).iter().map(|path| fs::read(path).expect("there")).collect();
        let mut expected = cases.map(<[u8]>::to_vec).to_vec();
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_seed_of_an_earlier_version_has_no_checksum() {
        assert_eq!(parse("0123456789abcdef0123456789abcdef\n"), Some([0x0123_4567_89ab_cdef; 2]));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_gives_another_seed() {
        let seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        let right = text(seed).into_bytes();
        assert_eq!(std::str::from_utf8(&right).ok().and_then(parse), Some(seed));
        for (at, bit) in (0..right.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut wrong = right.clone();
            wrong[at] ^= 1 << bit;
            let found = std::str::from_utf8(&wrong).ok().and_then(parse);
            assert!(found.is_none_or(|found| found == seed), "bit {bit} of octet {at}: {found:x?}");
        }
        for length in 0..right.len() {
            let found = std::str::from_utf8(&right[..length]).ok().and_then(parse);
            assert!(found.is_none_or(|found| found == seed), "cut to {length}: {found:x?}");
        }
    }

    #[test]
    fn what_is_no_file_in_the_seeds_place_is_set_aside() {
        let directory = directory("seed-kinds");
        let path = directory.join(NAME);
        let make: [&dyn Fn(); 3] = [
            &|| fs::create_dir_all(path.join("inner")).expect("made"),
            &|| symlink("gone", &path).expect("linked"),
            &|| symlink(NAME, &path).expect("linked"),
        ];
        for (count, make) in make.into_iter().enumerate() {
            let _ = fs::remove_file(&path);
            make();
            let seed = load_or_create(&directory).expect("made anew");
            let found = (load_or_create(&directory).expect("read"), aside(&directory).len());
            assert_eq!(found, (seed, count + 1));
        }
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn a_link_to_a_seed_is_followed_and_stays() {
        let directory = directory("seed-link");
        let (path, elsewhere) = (directory.join(NAME), directory.join("elsewhere"));
        fs::write(&elsewhere, text([3, 4])).expect("written");
        symlink(&elsewhere, &path).expect("linked");
        assert_eq!(load_or_create(&directory).expect("read"), [3, 4]);
        save(&directory, [3, 4]).expect("kept already");
        assert!(fs::symlink_metadata(&path).expect("there").is_symlink());
        fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn the_seed_of_running_maps_replaces_what_is_kept_and_sets_it_aside() {
        let directory = directory("seed-running");
        load_or_create(&directory).expect("made");
        save(&directory, [1, 2]).expect("kept");
        assert_eq!((load_or_create(&directory).expect("read"), aside(&directory).len()), ([1, 2], 1));
        save(&directory, [1, 2]).expect("kept already");
        assert_eq!(aside(&directory).len(), 1);
        fs::remove_dir_all(&directory).expect("removed");
    }
}
