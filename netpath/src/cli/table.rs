//! Text in columns, at most 100 wide.

/// Width that tables fit in.
pub(super) const WIDTH: usize = 100;
const GAP: usize = 2;

/// Rows under headings. A column whose heading begins with `>` is aligned to the right.
#[derive(Debug)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each heading.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text. Where it would be too wide, the widest columns are cut, and end in `~`.
    pub(super) fn render(&self) -> String {
        let titles: Vec<_> = self.headings.iter().map(|heading| heading.trim_start_matches('>')).collect();
        let mut widths: Vec<_> = titles.iter().map(|title| title.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        fit(&mut widths);
        let mut text = String::new();
        self.line(&mut text, &widths, titles.iter().copied());
        for row in &self.rows {
            self.line(&mut text, &widths, row.iter().map(String::as_str));
        }
        text
    }

    fn line<'a>(&self, text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
        let mut line = String::new();
        for ((cell, width), heading) in cells.zip(widths).zip(&self.headings) {
            let cell = cut(cell, *width);
            let padding = " ".repeat(width - cell.chars().count());
            match heading.starts_with('>') {
                true => line.extend([padding.as_str(), &cell]),
                false => line.extend([cell.as_str(), &padding]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Takes from the widest column until the line fits.
fn fit(widths: &mut [usize]) {
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > WIDTH {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 1 => *widest -= 1,
            _ => return,
        }
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    let mut short: String = cell.chars().take(width.saturating_sub(1)).collect();
    short.push('~');
    short
}

/// Words of `text` in lines of at most [`WIDTH`] columns, each after `indent` spaces.
pub(super) fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push_str(&format!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push_str(&format!("{:indent$}{line}\n", ""));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", ">ROWS", "WHAT"]);
        table.row(["a".into(), "1".into(), "x".into()]);
        table.row(["long".into(), "12345".into(), String::new()]);
        assert_eq!(table.render(), "NAME   ROWS  WHAT\na         1  x\nlong  12345\n");
    }

    #[test]
    fn a_wide_table_is_cut_to_the_width() {
        let mut table = Table::new(&["A", "B"]);
        table.row(["x".repeat(150), "y".repeat(20)]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(text.contains("x~  yyyy"));
    }

    #[test]
    fn wrapped_text_fits_and_keeps_its_words() {
        let text = wrap(&"word ".repeat(60), 4);
        assert!(text.lines().all(|line| line.starts_with("    word") && line.len() <= WIDTH));
        assert_eq!(text.split_whitespace().count(), 60);
    }
}
