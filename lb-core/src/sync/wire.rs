//! One datagram: a header, one message, a tag over both.
//!
//! ```text
//! magic 4 | version 1 | zero 3 | key id 4 | node 8 | session 8 | receiver's session 8 | counter 8 | message | tag 16
//! ```
//!
//! The tag is the first half of BLAKE3 keyed with a key of the cluster: whoever lacks the key file is not understood.
//! Against replay of what was recorded, a datagram names the sessions of both ends and a counter: see [`Window`].

use thiserror::Error;

use super::key::ClusterKey;

mod bytes;
mod codec;
mod message;
mod window;

pub use message::{
    BackendSaid, BatchGroup, DELETE, FlowChange, GroupSaid, Hello, Message, Sequenced, VerdictsSaid,
};
pub use window::Window;

/// Longest datagram: fits into every link that carries Ethernet's 1,500 bytes, in a tunnel or two.
pub const MAX_DATAGRAM: usize = 1_400;
/// Length of a header.
pub const HEADER: usize = 44;
/// Length of a tag.
pub const TAG: usize = 16;
/// Longest message.
pub const MAX_MESSAGE: usize = MAX_DATAGRAM - HEADER - TAG;

const MAGIC: [u8; 4] = *b"FLSY";
const VERSION: u8 = 1;

/// Why a datagram is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum WireError {
    /// From an address that is no peer's.
    #[error("it came from an address that is no peer's")]
    Stranger,
    /// Longer than [`MAX_DATAGRAM`].
    #[error("it is longer than {MAX_DATAGRAM} bytes")]
    TooLong,
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
    /// Not ours.
    #[error("it is no flow sync")]
    Magic,
    /// Another version of the format.
    #[error("its format has another version")]
    Version,
    /// Made with another key file.
    #[error("it was made with another key file")]
    Key,
    /// Not made with the key that it claims, or changed on its way.
    #[error("its tag is wrong")]
    Tag,
    /// A kind of message that is not known.
    #[error("it is of an unknown kind")]
    Kind,
    /// A value out of its range.
    #[error("a value is out of its range")]
    Value,
    /// Something follows the message.
    #[error("something follows the message")]
    Trailing,
    /// For or from a process that is not there any more, or not yet known.
    #[error("it is of another session")]
    Session,
    /// Seen before, or so late that nobody can tell.
    #[error("it was seen before")]
    Replay,
    /// From a node that has our own name.
    #[error("its sender has this node's name")]
    Ourselves,
    /// Of another cluster.
    #[error("it is of another cluster")]
    Cluster,
}

impl WireError {
    /// Every reason there is.
    pub const ALL: [Self; 14] = [
        Self::Stranger,
        Self::TooLong,
        Self::Truncated,
        Self::Magic,
        Self::Version,
        Self::Key,
        Self::Tag,
        Self::Kind,
        Self::Value,
        Self::Trailing,
        Self::Session,
        Self::Replay,
        Self::Ourselves,
        Self::Cluster,
    ];
}

impl WireError {
    /// What the API and metrics call it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Magic => "magic",
            Self::Version => "version",
            Self::Key => "key",
            Self::Tag => "tag",
            Self::Kind => "kind",
            Self::Value => "value",
            Self::Trailing => "trailing",
            Self::Session => "session",
            Self::Replay => "replay",
            Self::Ourselves => "ourselves",
            Self::Cluster => "cluster",
        }
    }
}

/// Datagrams that were not taken, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected([u64; WireError::ALL.len()]);

impl Rejected {
    /// One more.
    pub const fn count(&mut self, reason: WireError) {
        self.0[reason as usize] += 1;
    }

    /// How many for this reason.
    #[must_use]
    pub const fn of(&self, reason: WireError) -> u64 {
        self.0[reason as usize]
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Who sends a datagram, to whom, and the how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender ([`node_id`]).
    pub node: u64,
    /// The sender's session: another one for each start of its process. Never 0.
    pub session: u64,
    /// The receiver's session as far as the sender knows it; 0: it does not.
    pub receiver: u64,
    /// Datagrams that the sender has sent since its start.
    pub counter: u64,
}

/// What a node is called in headers.
#[must_use]
pub fn node_id(cluster: &str, node: &str) -> u64 {
    let mut hash = blake3::Hasher::new();
    // The length keeps ("a", "bc") and ("ab", "c") apart.
    hash.update(&(cluster.len() as u64).to_be_bytes());
    hash.update(cluster.as_bytes());
    hash.update(node.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// The datagram of a message that was encoded before: what is sent again gets a new header.
///
/// # Errors
/// If the message is longer than [`MAX_MESSAGE`].
pub fn seal(key: &ClusterKey, header: &Header, message: &[u8]) -> Result<Vec<u8>, WireError> {
    if message.len() > MAX_MESSAGE {
        return Err(WireError::TooLong);
    }
    let mut out = bytes::Writer(Vec::with_capacity(HEADER + message.len() + TAG));
    out.bytes(&MAGIC);
    out.bytes(&[VERSION, 0, 0, 0]);
    out.bytes(&key.id());
    out.u64(header.node);
    out.u64(header.session);
    out.u64(header.receiver);
    out.u64(header.counter);
    out.bytes(message);
    let tag = key.tag(&out.0);
    out.bytes(&tag.as_bytes()[..TAG]);
    Ok(out.0)
}

/// Header and message of a datagram, if it is whole and made with this key.
///
/// # Errors
/// If it is not. Nothing but the reason is to be believed of it then.
pub fn open(key: &ClusterKey, datagram: &[u8]) -> Result<(Header, Message), WireError> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(WireError::TooLong);
    }
    let mut from = bytes::Reader(datagram);
    if from.take()? != MAGIC {
        return Err(WireError::Magic);
    }
    let [version, ..] = from.take::<4>()?;
    if version != VERSION {
        return Err(WireError::Version);
    }
    if from.take()? != key.id() {
        return Err(WireError::Key);
    }
    let (signed, tag) = datagram.split_last_chunk::<TAG>().ok_or(WireError::Truncated)?;
    if !is_tag(key, signed, *tag) {
        return Err(WireError::Tag);
    }
    let message = signed.get(HEADER..).ok_or(WireError::Truncated)?;
    let header =
        Header { node: from.u64()?, session: from.u64()?, receiver: from.u64()?, counter: from.u64()? };
    if header.session == 0 {
        return Err(WireError::Value);
    }
    Ok((header, Message::decode(message)?))
}

/// Compares in constant time: where a comparison ends early, its duration tells how much of a guess is right.
fn is_tag(key: &ClusterKey, signed: &[u8], tag: [u8; TAG]) -> bool {
    let right = key.tag(signed);
    let mut claimed = *right.as_bytes();
    claimed[..TAG].copy_from_slice(&tag);
    right == blake3::Hash::from_bytes(claimed)
}

#[cfg(test)]
mod tests;
