//! A configuration file, edits of it, and the way to the maps that it asks for.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_tests::fuzz::config::run(bytes));
