//! The measuring tools for high availability, proved on a pair of keepalived and on what must break; and Fairleads measured with them.

mod cut;
mod fairlead;
mod faults;
mod freezes;
mod herd;
mod load;
mod metrics;
mod pair;
mod reuse;
mod scene;
mod shapes;
mod starve;
mod sync;
mod traffic;
mod trio;
mod upkeep;
mod watch;
