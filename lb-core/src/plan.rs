//! From configuration and health to the operations on the maps.
//!
//! [`plan`] says what the data plane should hold, [`Actual`] mirrors what it holds, and [`diff`] gives the operations
//! from one to the other, in an order in which no packet ever meets something half done.

mod actual;
mod desired;
mod diff;
mod lease;
mod op;
mod region;
mod slots;

pub use actual::{Actual, Snapshot};
pub use desired::{Desired, DesiredBackend, DesiredService, NextHop, ServiceKey, VerdictMap, VipFlags, plan};
pub use diff::{DiffError, diff};
pub use lease::{LeaseRows, lease_rows};
pub use op::{MapOp, Region};
pub(crate) use region::populate;

#[cfg(test)]
mod tests;
