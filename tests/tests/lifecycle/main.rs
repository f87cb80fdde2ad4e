//! The life of a daemon in the lab: started, killed, adopted, refused, changed, reloaded, stopped; and what its
//! commands say about it.

mod adoption;
mod api;
mod bad_input;
mod change;
mod config_file;
mod conflict;
mod exception;
mod fixture;
mod interfaces;
mod leftover;
mod limits;
mod log;
mod metrics;
mod pins;
mod refused;
mod rights;
mod stop;
mod trial;
