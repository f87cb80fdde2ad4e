//! Octets on a connection of the API.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    reason = "the stand-in is that of lb-user's own tests, which use more of it"
)]

#[path = "../../lb-user/tests/control/fuzz.rs"]
mod fuzz;
#[path = "../../lb-user/tests/control/samples.rs"]
mod samples;
#[path = "../../lb-user/tests/control/stand_in.rs"]
mod stand_in;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::run(bytes));
