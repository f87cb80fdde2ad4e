//! What fuzzing found, and what it reaches the code with, replayed.

use fairlead_tests::fuzz::{config, journey, kept_inputs};

#[test]
fn every_kept_row_of_frames_keeps_the_promises_of_the_journey() {
    for (path, bytes) in kept_inputs("journey") {
        println!("{}", path.display());
        journey::run(&bytes);
    }
}

#[test]
fn every_kept_file_is_refused_with_reasons_or_changed_and_planned_without_harm() {
    for (path, bytes) in kept_inputs("config") {
        println!("{}", path.display());
        config::run(&bytes);
    }
}
