//! The screen: what is looked at, all of it in sum, the rows, and the keys.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Row, Table, TableState},
};

use super::{
    rates::NetworkRow,
    reading::Reading,
    rows::{Column, Lines, short},
    state::State,
};

const KEYS: &str = "enter open  esc back  1-3 view  <> sort  r reverse  / filter  p pause  q quit";
const TYPING: &str = "enter keep it  esc drop it";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, reading: &Reading, lines: &Lines) {
    let [sums, title, rows, keys] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Line::from(rates(reading)).style(Modifier::BOLD), sums);
    // What is looked at goes over how much there is, where there is no room for both.
    frame.render_widget(Line::from(counts(reading)).right_aligned(), title);
    frame.render_widget(Line::from(format!("{}  ", title_of(state, lines))), title);
    draw_rows(frame, rows, state, lines);
    let help = match (&reading.problem, state.is_typing) {
        (Some(problem), _) => Span::styled(problem.clone(), Modifier::REVERSED),
        (None, true) => Span::raw(TYPING),
        (None, false) => Span::raw(KEYS),
    };
    frame.render_widget(Line::from(help), keys);
}

/// The host, and what passes all of its NICs.
pub(super) fn rates(reading: &Reading) -> String {
    let sum = |rate: fn(&NetworkRow) -> u64| short(total(reading, rate));
    format!(
        "{}  from {} bit/s {} pkt/s  to {} bit/s {} pkt/s  drops {}/s",
        reading.host,
        sum(|row| row.from_guest_bits_per_second),
        sum(|row| row.from_guest_packets_per_second),
        sum(|row| row.to_guest_bits_per_second),
        sum(|row| row.to_guest_packets_per_second),
        sum(|row| row.drops_per_second),
    )
}

/// How many of each there are.
pub(super) fn counts(reading: &Reading) -> String {
    let flows = total(reading, |row| row.flows);
    format!("networks {}  NICs {}  flows {flows}", reading.networks.len(), reading.nics.len())
}

fn total(reading: &Reading, number: fn(&NetworkRow) -> u64) -> u64 {
    reading.networks.iter().map(number).fold(0, u64::saturating_add)
}

fn title_of(state: &State, lines: &Lines) -> String {
    let sort = state.sort();
    let scope = match (&state.nic, &state.network) {
        (Some(nic), _) => format!(" of {}", nic.rsplit_once('/').map_or(&**nic, |(short, _)| short)),
        (None, Some(network)) => format!(" of {network}"),
        (None, None) => String::new(),
    };
    let column = state.view.columns()[sort.column].name;
    let order = if sort.is_ascending { ", lowest first" } else { "" };
    let place = match lines.keys.len() {
        0 => "none".to_owned(),
        count => format!("{} of {count}", state.index + 1),
    };
    let filter = match (state.is_typing, state.filter.as_str()) {
        (true, filter) => format!("  filter: {filter}_"),
        (false, "") => String::new(),
        (false, filter) => format!("  filter: {filter}"),
    };
    let paused = if state.is_paused { "  paused" } else { "" };
    format!("{}{scope} by {column}{order}  {place}{filter}{paused}", state.view.name())
}

fn draw_rows(frame: &mut Frame<'_>, area: Rect, state: &State, lines: &Lines) {
    let columns = state.view.columns();
    let shown: Vec<(usize, &Column)> =
        columns.iter().enumerate().filter(|(_, column)| column.from_width <= area.width).collect();
    let cell = |column: &Column, text: String| {
        let line = Line::from(text);
        Cell::from(if column.is_text() { line } else { line.right_aligned() })
    };
    let header = shown.iter().map(|(number, column)| {
        let style = if *number == state.sort().column { Modifier::REVERSED } else { Modifier::UNDERLINED };
        cell(column, column.title().to_owned()).style(Style::from(style))
    });
    let rows = lines.cells.iter().map(|cells| {
        Row::new(shown.iter().map(|(number, column)| cell(column, cells.get(*number).cloned().unwrap_or_default())))
    });
    let widths = shown.iter().map(|(_, column)| match column.grows {
        true => Constraint::Min(column.width),
        false => Constraint::Length(column.width),
    });
    let table = Table::new(rows, widths)
        .header(Row::new(header))
        .column_spacing(1)
        .row_highlight_style(Style::from(Modifier::REVERSED));
    let chosen = (!lines.keys.is_empty()).then_some(state.index);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(chosen));
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::Counters;
    use ratatui::{
        Terminal,
        backend::TestBackend,
        crossterm::event::{KeyCode, KeyEvent},
    };

    use super::{
        super::{
            rates::{NetworkCount, NicCount, Sample, between},
            state::View,
        },
        *,
    };

    /// Two networks of two NICs each, after a second in which every one has sent ten times as much as the one before it.
    fn reading() -> Reading {
        let sample = |at_ns: u64| Sample {
            at_ns,
            networks: ["acme-web", "globex-web"]
                .map(|name| NetworkCount { name: name.into(), flows: 12, drops: at_ns / 500_000_000 })
                .to_vec(),
            nics: ["acme-web/web-1", "acme-web/web-2", "globex-web/web-1", "globex-web/web-2"]
                .iter()
                .enumerate()
                .map(|(number, name)| NicCount {
                    name: format!("{name}/02:00:0a:01:01:0{number}").into(),
                    device: (number != 3).then(|| format!("vnet{number}")),
                    counters: Counters {
                        from_guest_packets: at_ns / 1_000_000,
                        from_guest_bytes: at_ns / 1_000_000 * 10_u64.pow(number as u32),
                        to_guest_packets: at_ns / 10_000_000,
                        to_guest_bytes: at_ns / 20_000_000,
                    },
                })
                .collect(),
        };
        let (networks, nics) = between(&sample(0), &sample(1_000_000_000));
        Reading { host: "kvm1".into(), networks, nics, ..Reading::default() }
    }

    /// The screen after some keys.
    fn screen(width: u16, height: u16, view: View, keys: &[KeyCode], reading: &Reading) -> Terminal<TestBackend> {
        let mut state = State::new(view, None, "");
        let mut lines = reading.rows(&state, 1000).lines();
        state.follow(&lines);
        for key in keys {
            let _ = state.press(KeyEvent::from(*key), &lines);
            lines = reading.rows(&state, 1000).lines();
            state.follow(&lines);
        }
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &state, reading, &lines)).unwrap();
        terminal
    }

    /// The lines of a screen of eighty columns, without what is empty at their ends and between the rows and the keys.
    fn lines(view: View, keys: &[KeyCode]) -> Vec<String> {
        let terminal = screen(80, 24, view, keys, &reading());
        let cells: Vec<&str> = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        let lines = cells.chunks(80).map(|line| line.concat().trim_end().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn networks_stand_by_rate_in_a_terminal_of_eighty_columns() {
        assert_eq!(
            lines(View::Networks, &[]),
            [
                "kvm1  from 8.89M bit/s 4.00k pkt/s  to 1.60k bit/s 400 pkt/s  drops 4/s",
                "networks by bits  1 of 2                            networks 2  NICs 4  flows 24",
                "NETWORK             NICS   FLOWS   BIT/S    FROM   PKT/S      TO   PKT/S  DROP/S",
                "globex-web             2      12   8.80M   8.80M   2.00k     800     200       2",
                "acme-web               2      12   88.8k   88.0k   2.00k     800     200       2",
                KEYS,
            ]
        );
    }

    #[test]
    fn enter_opens_a_network_and_a_filter_leaves_what_matches_it() {
        let rows = &lines(View::Networks, &[KeyCode::Down, KeyCode::Enter])[1..];
        assert_eq!(
            rows[..4],
            [
                "NICs of acme-web by bits  1 of 2                    networks 2  NICs 4  flows 24",
                "NETWORK         INSTANCE       DEVICE      BIT/S    FROM   PKT/S      TO   PKT/S",
                "acme-web        web-2          vnet1       80.4k   80.0k   1.00k     400     100",
                "acme-web        web-1          vnet0       8.40k   8.00k   1.00k     400     100",
            ]
        );
        let keys = [KeyCode::Char('/'), KeyCode::Char('W'), KeyCode::Char('-'), KeyCode::Char('1')];
        let rows = &lines(View::Nics, &keys)[1..];
        assert!(rows[0].starts_with("NICs by bits  none  filter: W-1_  "), "{rows:?}");
        assert_eq!(rows[2..], [TYPING]);
        let keys = [&keys[..1], &[KeyCode::Char('B')], &keys[2..], &[KeyCode::Enter]].concat();
        let rows = &lines(View::Nics, &keys)[1..];
        assert!(rows[0].starts_with("NICs by bits  1 of 2  filter: B-1  "), "{rows:?}");
        assert!(rows[2].starts_with("globex-web") && rows[3].starts_with("acme-web"), "{rows:?}");
    }

    #[test]
    fn a_problem_stands_where_the_keys_do_and_the_rows_stay() {
        let reading = Reading { problem: Some("nothing is applied".into()), ..reading() };
        let terminal = screen(80, 24, View::Networks, &[], &reading);
        let text: String = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
        assert!(text.contains("globex-web") && text.trim_end().ends_with("nothing is applied"), "{text}");
    }

    #[test]
    fn the_chosen_row_and_the_column_of_the_order_are_in_reverse() {
        let terminal = screen(80, 24, View::Networks, &[KeyCode::Down], &reading());
        let is_reversed = |x, y| terminal.backend().buffer()[(x, y)].modifier.contains(Modifier::REVERSED);
        assert_eq!([2, 3, 4].map(|y| is_reversed(0, y)), [false, false, true]);
        assert!(is_reversed(39, 2) && !is_reversed(47, 2));
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (10, 3), (40, 4), (79, 24), (400, 100)] {
            for view in [View::Networks, View::Nics, View::Flows] {
                let _ = screen(width, height, view, &[], &reading());
            }
        }
    }
}
