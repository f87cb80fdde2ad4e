//! Frames through the packet's journey in plain memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairlead_tests::fuzz::journey::run(bytes));
