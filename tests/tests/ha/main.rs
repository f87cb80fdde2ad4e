//! The measuring tools for high availability, proved on a pair of keepalived and on what must break.

mod cut;
mod herd;
mod pair;
mod scene;
mod starve;
mod traffic;
mod watch;
