//! Every decision of the Fairlead controller, as pure functions and state machines: no IO, no clock, no runtime.
//!
//! Time is a [`std::time::Duration`] since an arbitrary start that the caller passes in ([`history`] is passed the wall
//! clock's, which people compare with their logs); effects are values that the caller performs.
#![forbid(unsafe_code)]

pub mod aging;
pub mod alarm;
pub mod config;
pub mod edit;
pub mod health;
pub mod history;
pub mod plan;
pub mod sweep;
pub mod sync;
pub mod totals;
pub mod vrrp;
