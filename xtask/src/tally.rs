//! The sum over all test binaries, read from what they print.

/// Tests that passed and failed so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed, and everything else that went wrong, one each.
    pub(crate) failed: u64,
}

impl Tally {
    /// Adds the numbers of libtest's summary line; any other line changes nothing.
    pub(crate) fn absorb(&mut self, line: &str) {
        let Some(summary) = line.trim_start().strip_prefix("test result: ") else { return };
        let parts = summary.split_once(". ").map_or("", |(_, parts)| parts);
        for part in parts.split("; ") {
            match part.split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse::<u64>().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Counts one check of xtask itself as a test.
    pub(crate) fn check(&mut self, ok: bool) {
        if ok { self.passed += 1 } else { self.failed += 1 }
    }

    /// Adds another sum.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Whether this is a success: something ran and nothing failed.
    pub(crate) fn ok(self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_added_and_other_lines_are_not() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test ok_looking ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.10s",
            "the test result: ok. 100 passed; is not at the start",
        ] {
            tally.absorb(line);
        }
        assert_eq!(tally, Tally { passed: 7, failed: 2 });
    }

    #[test]
    fn a_run_without_tests_is_no_success() {
        assert!(!Tally::default().ok());
        assert!(Tally { passed: 1, failed: 0 }.ok());
        assert!(!Tally { passed: 1, failed: 1 }.ok());
    }
}
