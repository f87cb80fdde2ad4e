//! How messages are written and read.

use std::time::Duration;

use super::WireError;
use super::bytes::{Reader, Writer};
use super::message::{
    BackendSaid, BatchGroup, DELETE, FlowChange, GroupSaid, Hello, Message, Sequenced, VerdictsSaid,
};
use crate::config::AdminState;
use crate::health::Verdict;

/// All there are, in the order of their numbers on the wire, which are part of the format.
const VERDICTS: &[Verdict] = &[Verdict::Unchecked, Verdict::Unknown, Verdict::Up, Verdict::Down];

const HELLO: u8 = 1;
const BATCH: u8 = 2;
const NACK: u8 = 3;
const BULK_BEGIN: u8 = 4;
const BULK_END: u8 = 5;
const VERDICTS_SAID: u8 = 6;
const HAND_OVER: u8 = 7;
const HAND_OVER_REPLY: u8 = 8;
const HOLD: u8 = 9;
const LEGACY: u8 = 10;

impl Message {
    /// Kind and content, without header and tag.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello(hello) => put_hello(&mut out, hello),
            Self::Sequenced(sequence, what) => put_sequenced(&mut out, *sequence, what),
            Self::Nack { from, to } => {
                out.u8(NACK);
                out.u64(*from);
                out.u64(*to);
            }
            Self::HandOver { group } => {
                out.u8(HAND_OVER);
                out.text(group);
            }
            Self::HandOverReply { group, accepted } => {
                out.u8(HAND_OVER_REPLY);
                out.text(group);
                out.flag(*accepted);
            }
            Self::Hold { group, time } => {
                out.u8(HOLD);
                out.text(group);
                out.u32(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
            }
        }
        out.0
    }

    /// Reads what [`Message::encode`] wrote.
    ///
    /// # Errors
    /// On anything else, a byte too many included.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            HELLO => Self::Hello(get_hello(&mut from)?),
            kind @ (BATCH | BULK_BEGIN | BULK_END | VERDICTS_SAID | LEGACY) => {
                Self::Sequenced(from.u64()?, get_sequenced(&mut from, kind)?)
            }
            NACK => Self::Nack { from: from.u64()?, to: from.u64()? },
            HAND_OVER => Self::HandOver { group: from.text()? },
            HAND_OVER_REPLY => Self::HandOverReply { group: from.text()?, accepted: from.flag()? },
            HOLD => Self::Hold { group: from.text()?, time: Duration::from_millis(u64::from(from.u32()?)) },
            _ => return Err(WireError::Kind),
        };
        if from.0.is_empty() { Ok(message) } else { Err(WireError::Trailing) }
    }
}

fn put_hello(out: &mut Writer, hello: &Hello) {
    out.u8(HELLO);
    out.text(&hello.cluster);
    out.text(&hello.node);
    out.u8(hello.bucket_bits);
    out.flag(hello.hash_complete);
    out.list(&hello.groups, |out, group| {
        out.text(&group.name);
        out.u8(group.priority);
        out.flag(group.active);
    });
    out.u64(hello.next_expected);
    out.flag(hello.bulk_complete);
}

fn get_hello(from: &mut Reader<'_>) -> Result<Hello, WireError> {
    Ok(Hello {
        cluster: from.text()?,
        node: from.text()?,
        bucket_bits: from.u8().and_then(|bits| if bits <= 32 { Ok(bits) } else { Err(WireError::Value) })?,
        hash_complete: from.flag()?,
        groups: from
            .list(|from| Ok(GroupSaid { name: from.text()?, priority: from.u8()?, active: from.flag()? }))?,
        next_expected: from.u64()?,
        bulk_complete: from.flag()?,
    })
}

fn put_sequenced(out: &mut Writer, sequence: u64, what: &Sequenced) {
    out.u8(match what {
        Sequenced::Batch(_) => BATCH,
        Sequenced::BulkBegin { .. } => BULK_BEGIN,
        Sequenced::BulkEnd => BULK_END,
        Sequenced::Verdicts(_) => VERDICTS_SAID,
        Sequenced::Legacy(_) => LEGACY,
    });
    out.u64(sequence);
    match what {
        Sequenced::Batch(groups) | Sequenced::Legacy(groups) => out.list(groups, |out, group| {
            out.service(&group.service);
            out.address(group.backend);
            out.list(&group.changes, |out, change| {
                out.u32(change.hash_low);
                out.u32(change.fingerprint);
                out.u8(change.state);
            });
        }),
        Sequenced::BulkBegin { first, services } => {
            out.flag(*first);
            out.list(services, Writer::service);
        }
        Sequenced::BulkEnd => {}
        Sequenced::Verdicts(said) => {
            out.service(&said.service);
            out.flag(said.first);
            out.flag(said.last);
            out.u64(said.digest);
            out.list(&said.backends, |out, one| {
                out.address(one.backend);
                out.one_of(AdminState::ALL, one.state);
                out.u32(one.weight);
                out.one_of(VERDICTS, one.verdict);
            });
        }
    }
}

fn get_sequenced(from: &mut Reader<'_>, kind: u8) -> Result<Sequenced, WireError> {
    Ok(match kind {
        BATCH => Sequenced::Batch(from.list(get_batch_group)?),
        LEGACY => Sequenced::Legacy(from.list(get_batch_group)?),
        BULK_BEGIN => Sequenced::BulkBegin { first: from.flag()?, services: from.list(Reader::service)? },
        BULK_END => Sequenced::BulkEnd,
        _ => Sequenced::Verdicts(VerdictsSaid {
            service: from.service()?,
            first: from.flag()?,
            last: from.flag()?,
            digest: from.u64()?,
            backends: from.list(|from| {
                Ok(BackendSaid {
                    backend: from.address()?,
                    state: from.one_of(AdminState::ALL)?,
                    weight: from.u32()?,
                    verdict: from.one_of(VERDICTS)?,
                })
            })?,
        }),
    })
}

fn get_batch_group(from: &mut Reader<'_>) -> Result<BatchGroup, WireError> {
    Ok(BatchGroup {
        service: from.service()?,
        backend: from.address()?,
        changes: from.list(|from| {
            let change = FlowChange { hash_low: from.u32()?, fingerprint: from.u32()?, state: from.u8()? };
            if change.state & !DELETE < 32 { Ok(change) } else { Err(WireError::Value) }
        })?,
    })
}
