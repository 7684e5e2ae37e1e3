//! Rows of a view: what their columns are, which of them match a filter, and in which order they stand.

use std::{cmp::Ordering, sync::Arc};

use netpath_common::maps::FlowKey;

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    /// What `--sort` calls it.
    pub(super) name: &'static str,
    /// What stands above it; of a column of numbers, which stands right, it begins with `>`.
    pub(super) heading: &'static str,
    /// Characters that it takes at least.
    pub(super) width: u16,
    /// It takes what the others leave.
    pub(super) grows: bool,
    /// The width of a screen from which it is shown.
    pub(super) from_width: u16,
}

impl Column {
    pub(super) const fn new(name: &'static str, heading: &'static str, width: u16) -> Self {
        Self { name, heading, width, grows: false, from_width: 0 }
    }

    /// The same with all the room there is.
    pub(super) const fn growing(self) -> Self {
        Self { grows: true, ..self }
    }

    /// The same on wide screens only.
    pub(super) const fn on_wide(self, from_width: u16) -> Self {
        Self { from_width, ..self }
    }

    pub(super) fn is_text(&self) -> bool {
        !self.heading.starts_with('>')
    }

    pub(super) fn title(&self) -> &'static str {
        self.heading.trim_start_matches('>')
    }
}

/// What stands in a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Text(String),
    /// A number as it is.
    Number(u64),
    /// A number of which three digits are enough.
    Rate(u64),
    /// A duration.
    Seconds(u32),
}

impl Cell {
    pub(super) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Rate(rate) => short(rate),
            Self::Seconds(seconds) => crate::cli::terms::duration(seconds.into()),
        }
    }
}

/// Three digits of a number and its unit: `1.23k`, `45.6M`, `789G`.
pub(super) fn short(number: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if number < 1000 {
        return number.to_string();
    }
    let (mut value, mut unit) = (number as f64, 0);
    // Not 1000 but what is printed as that.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// What a row is of, for a selection to stay with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Network(Arc<str>),
    /// `network/instance/mac`.
    Nic(Arc<str>),
    Flow(FlowKey),
}

/// A row of a view.
pub(super) trait Row {
    /// Its columns.
    const COLUMNS: &'static [Column];

    /// What stands in one of them.
    fn cell(&self, column: usize) -> Cell;

    /// What it is of.
    fn key(&self) -> Key;

    /// The order of rows that are equal otherwise, so that they do not change places.
    fn order(&self, other: &Self) -> Ordering;
}

/// By which column rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    pub(super) is_ascending: bool,
}

/// The rows with a text in one of their columns, in either case, sorted; the first `most` of them.
pub(super) fn arrange<R: Row>(rows: Vec<R>, filter: &str, sort: Sort, most: usize) -> Vec<R> {
    let filter = filter.to_lowercase();
    let has = |row: &R| {
        let mut texts = (0..R::COLUMNS.len()).filter(|column| R::COLUMNS[*column].is_text());
        filter.is_empty() || texts.any(|column| row.cell(column).text().to_lowercase().contains(&filter))
    };
    let mut rows: Vec<(Cell, R)> = rows.into_iter().filter(has).map(|row| (row.cell(sort.column), row)).collect();
    let order = |a: &(Cell, R), b: &(Cell, R)| {
        let by_column = if sort.is_ascending { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) };
        by_column.then_with(|| a.1.order(&b.1))
    };
    // Of many only the first are put in order.
    if most < rows.len() {
        rows.select_nth_unstable_by(most, order);
        rows.truncate(most);
    }
    rows.sort_unstable_by(order);
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Rows as they are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) keys: Vec<Key>,
    /// A text for each column.
    pub(super) cells: Vec<Vec<String>>,
}

impl Lines {
    pub(super) fn of<R: Row>(rows: &[R]) -> Self {
        let cells = |row: &R| (0..R::COLUMNS.len()).map(|column| row.cell(column).text()).collect();
        Self { keys: rows.iter().map(R::key).collect(), cells: rows.iter().map(cells).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Pair(&'static str, u64);

    impl Row for Pair {
        const COLUMNS: &'static [Column] = &[Column::new("name", "NAME", 4), Column::new("rate", ">RATE", 4)];

        fn cell(&self, column: usize) -> Cell {
            if column == 0 { Cell::Text(self.0.to_owned()) } else { Cell::Rate(self.1) }
        }

        fn key(&self) -> Key {
            Key::Network(self.0.into())
        }

        fn order(&self, other: &Self) -> Ordering {
            self.0.cmp(other.0)
        }
    }

    fn names(filter: &str, column: usize, is_ascending: bool, most: usize) -> Vec<&'static str> {
        let rows = vec![Pair("web", 5), Pair("App", 5), Pair("db", 70), Pair("cache", 0)];
        arrange(rows, filter, Sort { column, is_ascending }, most).iter().map(|row| row.0).collect()
    }

    #[test]
    fn rows_stand_by_their_column_and_equal_ones_by_name() {
        assert_eq!(names("", 1, false, 9), ["db", "App", "web", "cache"]);
        assert_eq!(names("", 1, true, 9), ["cache", "App", "web", "db"]);
        assert_eq!(names("", 0, true, 9), ["App", "cache", "db", "web"]);
    }

    #[test]
    fn the_first_of_many_are_the_first_of_all() {
        assert_eq!(names("", 1, false, 2), ["db", "App"]);
        assert_eq!(names("", 1, false, 0), [""; 0]);
    }

    #[test]
    fn a_filter_is_a_text_in_either_case_and_no_number_matches_it() {
        assert_eq!(names("aP", 1, false, 9), ["App"]);
        assert_eq!(names("70", 1, false, 9), [""; 0]);
    }

    #[test]
    fn a_rate_has_three_digits_and_a_unit() {
        let numbers = [0, 999, 1000, 1234, 45_600, 999_499, 999_500, 9_996_000, 1_000_000_000, u64::MAX];
        let wanted = ["0", "999", "1.00k", "1.23k", "45.6k", "999k", "1.00M", "10.0M", "1.00G", "18.4E"];
        assert_eq!(numbers.map(short), wanted);
    }
}
