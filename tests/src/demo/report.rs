//! What was expected and what was seen.

use anyhow::Result;

use super::site::Site;

/// The table that the demo ends with.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<Row>);

#[derive(Debug)]
struct Row {
    what: String,
    expected: String,
    seen: String,
    is_ok: bool,
}

impl Report {
    /// Adds a row. When what was seen is not what was expected, the hypervisors' own view is printed at once, as an
    /// operator would look at it.
    pub(super) fn row(&mut self, site: &Site, what: &str, expected: &str, seen: Result<String>) {
        let (seen, detail) = match seen {
            Ok(seen) => (seen, None),
            Err(error) => ("an error, printed above".to_owned(), Some(format!("{error:#}"))),
        };
        let is_ok = seen == expected;
        println!("{} {what}: {}", if is_ok { "ok  " } else { "FAIL" }, detail.as_deref().unwrap_or(&seen));
        if !is_ok {
            println!("     expected: {expected}");
            site.explain();
        }
        self.0.push(Row { what: what.to_owned(), expected: expected.to_owned(), seen, is_ok });
    }

    /// Whether every row is as expected.
    pub(super) fn is_as_expected(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|row| row.is_ok)
    }

    /// The table, and the sum under it.
    pub(super) fn render(&self) -> String {
        let heading = ["what", "expected", "seen", "ok"].map(str::to_owned);
        let cells = |row: &Row| {
            let ok = if row.is_ok { "yes" } else { "NO" };
            [row.what.clone(), row.expected.clone(), row.seen.clone(), ok.to_owned()]
        };
        let lines: Vec<_> = std::iter::once(heading).chain(self.0.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let [a, b, c] = [0, 1, 2].map(width);
        let mut text = String::new();
        for (number, [what, expected, seen, ok]) in lines.iter().enumerate() {
            text += &format!("{what:a$} | {expected:b$} | {seen:c$} | {ok}\n");
            if number == 0 {
                text += &format!("{:-<a$}-+-{:-<b$}-+-{:-<c$}-+----\n", "", "", "");
            }
        }
        let failed = self.0.iter().filter(|row| !row.is_ok).count();
        text + &format!("\n{} as expected, {failed} not\n", self.0.len() - failed)
    }
}
