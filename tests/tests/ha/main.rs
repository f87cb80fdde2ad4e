//! The measuring tools for high availability, proved on a pair of keepalived and on what must break; and Fairleads measured with them.

mod cut;
mod fairlead;
mod herd;
mod metrics;
mod pair;
mod scene;
mod starve;
mod sync;
mod traffic;
mod trio;
mod watch;
