//! `netpath top`: networks, NICs and connections by their rates, live or once.

mod connections;
mod rates;
mod reading;
mod rows;
mod sample;
mod state;
mod terminal;
mod view;

use std::{thread, time::Duration};

use self::{
    reading::Readings,
    rows::{Lines, Sort},
    state::{State, View},
};
use super::{Exit, Global, applied::Applied, output, output::Format, table::Table, watch};
use crate::error::Error;

/// Readings are no nearer than this.
const LEAST: Duration = Duration::from_millis(100);

/// Watch networks, NICs and connections by their rates
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to begin with
    #[arg(value_enum, default_value_t = View::Networks)]
    view: View,
    /// Only what is of this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only rows with this text, in either case
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// By this column; one that there is not is answered with those that there are
    #[arg(long, value_name = "COLUMN", default_value = "bits")]
    sort: String,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// The time between two readings: 500ms, 2s
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Print the rates of one interval, and end
    #[arg(long)]
    once: bool,
    /// Rows at most (--once)
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "once")]
    limit: usize,
}

fn interval(text: &str) -> Result<Duration, String> {
    match watch::duration(text)? {
        interval if interval < LEAST => Err(format!("`{text}` is too short; the least is {}ms", LEAST.as_millis())),
        interval => Ok(interval),
    }
}

pub(super) fn run(args: &Args, global: &Global) -> Result<Exit, Error> {
    let mut state = State::new(args.view, args.network.as_deref(), &args.filter);
    state.set_sort(args.sort()?);
    if let Some(name) = &args.network {
        watch::network(&Applied::open(&global.root)?, name)?;
    }
    if args.once {
        once(args, &state, global)?;
    } else if global.output == Format::Table {
        terminal::run(Readings::begin(global)?, state, args.interval)?;
    } else {
        return Err(Error::NoTerminal { what: "`-o`" });
    }
    Ok(Exit::Done)
}

impl Args {
    fn sort(&self) -> Result<Sort, Error> {
        let columns = self.view.columns();
        let Some(column) = columns.iter().position(|column| column.name == self.sort) else {
            let names: Vec<_> = columns.iter().map(|column| column.name).collect();
            let next = format!("the columns of {} are {}", self.view.name(), names.join(", "));
            return Err(Error::NotFound { what: "column", name: self.sort.clone(), next });
        };
        Ok(Sort { column, is_ascending: columns[column].is_text() != self.reverse })
    }
}

/// One frame, as text or as data: two looks at everything, an interval apart.
fn once(args: &Args, state: &State, global: &Global) -> Result<(), Error> {
    let mut readings = Readings::begin(global)?;
    readings.count()?;
    readings.walk(state, usize::MAX)?;
    thread::sleep(args.interval);
    readings.count()?;
    readings.walk(state, usize::MAX)?;
    let rows = readings.last.rows(state, args.limit);
    let table = || {
        format!(
            "{}\n{}\n\n{}",
            view::rates(&readings.last),
            view::counts(&readings.last),
            table(state.view, &rows.lines())
        )
    };
    output::print(global.output, &rows, table)
}

/// The columns that a hundred characters have room for.
fn table(view: View, lines: &Lines) -> String {
    const WIDTH: u16 = super::table::WIDTH as u16;
    let columns = view.columns();
    let shown = || (0..columns.len()).filter(|number| columns[*number].from_width <= WIDTH);
    let headings: Vec<_> = shown().map(|number| columns[number].heading).collect();
    let mut table = Table::new(&headings);
    for cells in &lines.cells {
        table.row(shown().map(|number| cells[number].clone()));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(["top"].iter().chain(words)).map(|line| line.args)
    }

    #[test]
    fn a_column_is_named_and_one_that_is_not_there_is_answered_with_those_that_are() {
        let sort = |words: &[&str]| args(words).unwrap().sort();
        let name = |view: View, sort: Sort| (view.columns()[sort.column].name, sort.is_ascending);
        assert_eq!(name(View::Networks, sort(&[]).unwrap()), ("bits", false));
        assert_eq!(name(View::Nics, sort(&["nics", "--sort", "instance"]).unwrap()), ("instance", true));
        let reversed = sort(&["flows", "--sort", "idle", "--reverse"]).unwrap();
        assert_eq!(name(View::Flows, reversed), ("idle", true));
        let said = sort(&["nics", "--sort", "idle"]).unwrap_err().to_string();
        assert!(said.contains("no column `idle`") && said.contains("instance, device, mac, bits"), "{said}");
    }

    #[test]
    fn an_interval_has_a_least() {
        assert_eq!(args(&["--interval", "250ms"]).unwrap().interval, Duration::from_millis(250));
        assert!(args(&["--interval", "99ms"]).is_err() && args(&["--interval", "1"]).is_err());
    }
}
