//! Health checks: one probe over the network, and the prober that runs them all on time.

mod error;
mod http;
mod once;
mod prober;
mod spread;

pub use once::probe;
pub use prober::{BackendHealth, ProbeEvent, Prober};

#[cfg(test)]
mod servers;
#[cfg(test)]
mod tests;
