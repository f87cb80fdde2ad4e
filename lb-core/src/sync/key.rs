//! What a cluster's key file gives: the seed of the flow hash, the key of messages, and a name for both.

use std::fmt;

use thiserror::Error;

/// Fewest bytes of a key file: with fewer a key can be guessed, whatever they are.
pub const MIN_KEY_BYTES: usize = 16;

// Changing a context changes what the same file means: nodes of two versions would not understand each other.
const FLOW_HASH: &str = "fairlead flow hash v1";
const MESSAGES: &str = "fairlead sync v1";
const KEY_ID: &str = "fairlead key id v1";

/// Why a key file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Too little in it.
    #[error("the cluster key has {0} bytes: at least {MIN_KEY_BYTES} are needed")]
    Short(usize),
}

/// All that follows from a key file. The same file gives the same on all nodes of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    flow_seed: [u64; 2],
    message: [u8; 32],
    id: [u8; 4],
}

impl ClusterKey {
    /// Derives all keys from the bytes of a key file. White space at its end does not count, as editors and `echo` add
    /// it.
    ///
    /// # Errors
    /// If it has less than [`MIN_KEY_BYTES`].
    pub fn from_file(bytes: &[u8]) -> Result<Self, KeyError> {
        let material = bytes.trim_ascii_end();
        if material.len() < MIN_KEY_BYTES {
            return Err(KeyError::Short(material.len()));
        }
        let seed = blake3::derive_key(FLOW_HASH, material);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = seed;
        let [first, second, third, fourth, ..] = blake3::derive_key(KEY_ID, material);
        Ok(Self {
            flow_seed: [
                u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                u64::from_le_bytes([i, j, k, l, m, n, o, p]),
            ],
            message: blake3::derive_key(MESSAGES, material),
            id: [first, second, third, fourth],
        })
    }

    /// Seed of the flow hash ([`lb_common::hash::HashKey::from_seed`]).
    #[must_use]
    pub const fn flow_seed(&self) -> [u64; 2] {
        self.flow_seed
    }

    /// Tells keys apart and says nothing about them: may be shown.
    #[must_use]
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Tag of a message, to be compared as a whole: this type does it in constant time.
    pub(super) fn tag(&self, message: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.message, message)
    }
}

impl fmt::Debug for ClusterKey {
    /// Shows the id only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({:08x})", u32::from_be_bytes(self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"0123456789abcdef0123456789abcdef";

    #[test]
    fn the_same_file_gives_the_same_keys_for_ever() {
        let key = ClusterKey::from_file(FILE).unwrap();
        // Frozen: other values would move every flow and part the nodes of a cluster that is upgraded one by one.
        assert_eq!((key.flow_seed(), key.id()), (GOLDEN_SEED, GOLDEN_ID));
    }

    const GOLDEN_SEED: [u64; 2] = [14_445_394_479_199_474_548, 5_220_662_386_090_484_740];
    const GOLDEN_ID: [u8; 4] = [6, 229, 78, 186];

    #[test]
    fn white_space_at_the_end_does_not_count_and_anything_else_does() {
        let key = ClusterKey::from_file(FILE).unwrap();
        assert_eq!(ClusterKey::from_file(&[FILE, b"\r\n"].concat()).unwrap(), key);
        let other = ClusterKey::from_file(&[FILE, b"x"].concat()).unwrap();
        assert_ne!((other.flow_seed(), other.id()), (key.flow_seed(), key.id()));
        assert_ne!(other.tag(b"message"), key.tag(b"message"));
    }

    #[test]
    fn a_short_file_is_refused() {
        assert_eq!(ClusterKey::from_file(b"secret        \n").unwrap_err(), KeyError::Short(6));
        assert!(ClusterKey::from_file(&FILE[..MIN_KEY_BYTES]).is_ok());
    }

    #[test]
    fn what_is_printed_is_the_id_only() {
        let key = ClusterKey::from_file(FILE).unwrap();
        assert_eq!(format!("{key:?}"), format!("ClusterKey({:08x})", u32::from_be_bytes(key.id())));
    }
}
