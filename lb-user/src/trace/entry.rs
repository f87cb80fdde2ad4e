//! An entry of the flow table in words.

use lb_common::flow::{FlowEntry, TICK_SHIFT, age};

use crate::api::types::FlowState;

/// What the entry says of its flow.
#[must_use]
pub fn state_of(entry: FlowEntry) -> FlowState {
    if entry.is(FlowEntry::CLOSING) {
        FlowState::Closing
    } else if entry.is(FlowEntry::CONFIRMED) {
        FlowState::Established
    } else {
        FlowState::Unconfirmed
    }
}

/// Seconds since the flow's last packet, at the tick `now`.
#[must_use]
pub fn age_seconds(entry: FlowEntry, now: u16) -> u64 {
    (u64::from(age(now, entry.tick())) << TICK_SHIFT) / 1_000_000_000
}

/// State and age at the tick `now`, and whether it is an exception, which its mark says only after a while.
#[must_use]
pub fn in_words(entry: FlowEntry, exception: bool, now: u16) -> String {
    let exception = if exception { ", an exception to the present table" } else { "" };
    format!("{}, last packet {} s ago{exception}", state_of(entry).word(), age_seconds(entry, now))
}
