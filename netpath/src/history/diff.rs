//! What changed from one document to another.

use std::time::Duration;

use similar::TextDiff;

/// Documents of megabytes that have nothing in common are compared coarsely after this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A unified diff with three lines of context; empty when the texts are equal.
#[must_use]
pub fn unified(from: (&str, &str), to: (&str, &str)) -> String {
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(from.1, to.1);
    diff.unified_diff().context_radius(3).header(from.0, to.0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_is_shown_with_what_is_around_it() {
        let diff = unified(("revision 1", "a\nb\nc\nd\ne\nf\n"), ("revision 2", "a\nb\nc\nd\nE\nf\n"));
        assert_eq!(diff, "--- revision 1\n+++ revision 2\n@@ -2,5 +2,5 @@\n b\n c\n d\n-e\n+E\n f\n");
        assert_eq!(unified(("a", "same\n"), ("b", "same\n")), "");
    }
}
