//! API and command line, both ends of a real Unix socket with a stand-in for the daemon behind it.

mod api;
mod cli;
mod fuzz;
mod samples;
mod stand_in;
