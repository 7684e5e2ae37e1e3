//! Counting tests from what the test binaries print.

use std::{fmt, ops::AddAssign};

/// What a test prints, straight to its standard error, when it finds that it cannot run here.
///
/// The test's name and the reason follow it. The test then returns, so libtest counts it as passed.
pub(crate) const SKIP_MARK: &str = "netpath-test-skip: ";

/// How many tests ended which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// Something other than a test went wrong.
    pub(crate) fn failure() -> Self {
        Self { failed: 1, ..Self::default() }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads the output of test binaries line by line and ends with their [`Tally`].
#[derive(Default)]
pub(crate) struct Counter {
    /// What libtest says.
    said: Tally,
    /// Tests that skipped themselves.
    skips: u64,
}

impl Counter {
    /// Takes in one line.
    pub(crate) fn read(&mut self, line: &str) {
        self.skips += u64::from(line.contains(SKIP_MARK));
        let Some((_, result)) = line.split_once("test result: ") else { return };
        let count = |what: &str| {
            let before = result.split(&format!(" {what}")).next()?;
            before.rsplit(' ').next()?.parse::<u64>().ok()
        };
        self.said += Tally {
            passed: count("passed").unwrap_or(0),
            failed: count("failed").unwrap_or(0),
            skipped: count("ignored").unwrap_or(0),
        };
    }

    /// The count. Output that ended badly (`clean` is false) without naming a failed test counts as one failure.
    pub(crate) fn end(self, clean: bool) -> Tally {
        let mut tally = self.said;
        tally.passed = tally.passed.saturating_sub(self.skips);
        tally.skipped += self.skips;
        if !clean && tally.failed == 0 {
            tally.failed = 1;
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::{Counter, Tally};

    fn count(lines: &[&str], clean: bool) -> Tally {
        let mut counter = Counter::default();
        lines.iter().for_each(|line| counter.read(line));
        counter.end(clean)
    }

    #[test]
    fn results_of_several_binaries_add_up() {
        let lines = [
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "noise",
            "test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.20s",
        ];
        assert_eq!(count(&lines, false), Tally { passed: 17, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_test_that_skips_itself_did_not_pass() {
        let lines = [
            "test a ... netpath-test-skip: a: this kernel has no VLAN devices",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        assert_eq!(count(&lines, true), Tally { passed: 1, failed: 0, skipped: 1 });
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        assert_eq!(count(&["running 3 tests"], false), Tally { passed: 0, failed: 1, skipped: 0 });
    }
}
