//! What is looked at: the view, its scope, its order and its filter, and what keys make of them.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::{Column, Key, Lines, Row, Sort};
use super::{
    connections::FlowRow,
    rates::{NetworkRow, NicRow},
};

/// Rows that Page Up and Page Down go by.
const PAGE: usize = 10;

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum View {
    /// The networks with a member on this host
    Networks,
    /// The guest ports of this host
    Nics,
    /// Connections, both directions in one
    Flows,
}

impl View {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Nics => "NICs",
            Self::Flows => "flows",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Networks => NetworkRow::COLUMNS,
            Self::Nics => NicRow::COLUMNS,
            Self::Flows => FlowRow::COLUMNS,
        }
    }

    /// By the rate in both directions, the highest first.
    pub(super) fn default_sort(self) -> Sort {
        let column = self.columns().iter().position(|column| column.name == "bits").unwrap_or(0);
        Sort { column, is_ascending: false }
    }
}

/// What the loop has to do because of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Draw what there is.
    Draw,
    /// Read what is shown now, too.
    Read,
    Leave,
    /// Give the terminal back until the shell continues the process.
    Suspend,
}

/// What is looked at.
#[derive(Debug)]
pub(super) struct State {
    pub(super) view: View,
    /// Only what is of this network.
    pub(super) network: Option<Arc<str>>,
    /// Only connections of this NIC, `network/instance/mac`.
    pub(super) nic: Option<Arc<str>>,
    pub(super) filter: String,
    /// Keys are the filter's.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    sorts: [Sort; 3],
    /// The row that is chosen, wherever it is now.
    selected: Option<Key>,
    /// Where it was last.
    pub(super) index: usize,
}

impl State {
    pub(super) fn new(view: View, network: Option<&str>, filter: &str) -> Self {
        Self {
            view,
            network: network.map(Arc::from),
            nic: None,
            filter: filter.to_owned(),
            is_typing: false,
            is_paused: false,
            sorts: [View::Networks, View::Nics, View::Flows].map(View::default_sort),
            selected: None,
            index: 0,
        }
    }

    pub(super) fn sort(&self) -> Sort {
        self.sorts[self.view as usize]
    }

    pub(super) fn set_sort(&mut self, sort: Sort) {
        self.sorts[self.view as usize] = sort;
    }

    /// Keeps the choice with its row; where that has gone, with its place.
    pub(super) fn follow(&mut self, lines: &Lines) {
        let found = self.selected.as_ref().and_then(|selected| lines.keys.iter().position(|key| key == selected));
        let place = found.unwrap_or(self.index);
        self.choose(place, lines);
    }

    fn choose(&mut self, place: usize, lines: &Lines) {
        self.index = place.min(lines.keys.len().saturating_sub(1));
        self.selected = lines.keys.get(self.index).cloned();
    }

    /// What a key does, with these lines on the screen.
    pub(super) fn press(&mut self, key: KeyEvent, lines: &Lines) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Leave,
                KeyCode::Char('z') => Action::Suspend,
                _ => Action::Draw,
            };
        }
        if self.is_typing {
            return self.type_filter(key.code);
        }
        match key.code {
            KeyCode::Char('q') => return Action::Leave,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('1') => return self.look_at(View::Networks),
            KeyCode::Char('2') => return self.look_at(View::Nics),
            KeyCode::Char('3') => return self.look_at(View::Flows),
            KeyCode::Enter => return self.open(),
            KeyCode::Esc | KeyCode::Backspace => return self.back(),
            KeyCode::Left | KeyCode::Char('<') => self.move_sort(false),
            KeyCode::Right | KeyCode::Char('>') => self.move_sort(true),
            KeyCode::Char('r') => {
                let Sort { column, is_ascending } = self.sort();
                self.set_sort(Sort { column, is_ascending: !is_ascending });
            }
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.index.saturating_sub(1), lines),
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.index + 1, lines),
            KeyCode::PageUp => self.choose(self.index.saturating_sub(PAGE), lines),
            KeyCode::PageDown => self.choose(self.index + PAGE, lines),
            KeyCode::Home | KeyCode::Char('g') => self.choose(0, lines),
            KeyCode::End | KeyCode::Char('G') => self.choose(usize::MAX, lines),
            _ => {}
        }
        Action::Draw
    }

    fn type_filter(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) => self.filter.push(character),
            _ => {}
        }
        Action::Draw
    }

    /// Another view of everything.
    fn look_at(&mut self, view: View) -> Action {
        (self.network, self.nic) = (None, None);
        self.turn(view)
    }

    /// Into the chosen row: a network's NICs, a NIC's connections.
    fn open(&mut self) -> Action {
        match self.selected.clone() {
            Some(Key::Network(network)) => {
                self.network = Some(network);
                self.turn(View::Nics)
            }
            Some(Key::Nic(nic)) => {
                self.network = nic.split('/').next().map(Arc::from);
                self.nic = Some(nic);
                self.turn(View::Flows)
            }
            Some(Key::Flow(_)) | None => Action::Draw,
        }
    }

    /// Out again: of the filter, the NIC, the network.
    fn back(&mut self) -> Action {
        if !self.filter.is_empty() {
            self.filter.clear();
            return Action::Draw;
        }
        if let Some(nic) = self.nic.take() {
            self.turn(View::Nics);
            self.selected = Some(Key::Nic(nic));
            return Action::Read;
        }
        let network = self.network.take();
        self.turn(View::Networks);
        self.selected = network.map(Key::Network);
        Action::Read
    }

    fn turn(&mut self, view: View) -> Action {
        self.view = view;
        self.filter.clear();
        (self.selected, self.index) = (None, 0);
        Action::Read
    }

    fn move_sort(&mut self, is_forward: bool) {
        let columns = self.view.columns();
        let step = if is_forward { 1 } else { columns.len() - 1 };
        let column = (self.sort().column + step) % columns.len();
        self.set_sort(Sort { column, is_ascending: columns[column].is_text() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(keys: impl IntoIterator<Item = Key>) -> Lines {
        Lines { keys: keys.into_iter().collect(), cells: Vec::new() }
    }

    fn networks(names: &[&str]) -> Lines {
        lines(names.iter().map(|name| Key::Network((*name).into())))
    }

    fn press(state: &mut State, code: KeyCode, on: &Lines) -> Action {
        let action = state.press(KeyEvent::from(code), on);
        state.follow(on);
        action
    }

    fn type_text(state: &mut State, text: &str, on: &Lines) {
        for character in text.chars() {
            press(state, KeyCode::Char(character), on);
        }
    }

    #[test]
    fn enter_goes_from_a_network_to_its_nics_to_a_nics_flows_and_esc_the_same_way_back() {
        let mut state = State::new(View::Networks, None, "");
        let all = networks(&["db", "web"]);
        state.follow(&all);
        press(&mut state, KeyCode::Down, &all);
        assert_eq!(state.press(KeyCode::Enter.into(), &all), Action::Read);
        assert_eq!((state.view, state.network.as_deref()), (View::Nics, Some("web")));
        let nics = lines([Key::Nic("web/a/m".into())]);
        state.follow(&nics);
        assert_eq!(state.press(KeyCode::Enter.into(), &nics), Action::Read);
        assert_eq!((state.view, state.nic.as_deref()), (View::Flows, Some("web/a/m")));
        state.follow(&lines([]));
        assert_eq!(press(&mut state, KeyCode::Enter, &lines([])), Action::Draw);
        assert_eq!(press(&mut state, KeyCode::Esc, &nics), Action::Read);
        assert_eq!((state.view, state.nic.as_deref(), state.network.as_deref()), (View::Nics, None, Some("web")));
        press(&mut state, KeyCode::Backspace, &all);
        assert_eq!((state.view, state.network.as_deref(), state.index), (View::Networks, None, 1));
    }

    #[test]
    fn the_choice_stays_with_its_row_and_where_that_goes_with_its_place() {
        let mut state = State::new(View::Networks, None, "");
        let before = networks(&["a", "b", "c"]);
        state.follow(&before);
        press(&mut state, KeyCode::End, &before);
        assert_eq!(state.index, 2);
        state.follow(&networks(&["c", "a", "b"]));
        assert_eq!(state.index, 0);
        state.follow(&networks(&["x", "y"]));
        assert_eq!(state.index, 0);
        press(&mut state, KeyCode::PageDown, &networks(&["x", "y"]));
        assert_eq!(state.index, 1);
        state.follow(&networks(&[]));
        assert_eq!(state.index, 0);
        press(&mut state, KeyCode::Up, &networks(&[]));
        assert_eq!(state.index, 0);
    }

    #[test]
    fn letters_are_the_filters_while_it_is_typed() {
        let mut state = State::new(View::Nics, None, "");
        let none = lines([]);
        type_text(&mut state, "/qr1", &none);
        press(&mut state, KeyCode::Backspace, &none);
        press(&mut state, KeyCode::Enter, &none);
        assert_eq!((&*state.filter, state.is_typing, state.view), ("qr", false, View::Nics));
        press(&mut state, KeyCode::Esc, &none);
        assert_eq!((&*state.filter, state.view), ("", View::Nics));
        type_text(&mut state, "/x", &none);
        press(&mut state, KeyCode::Esc, &none);
        assert_eq!((&*state.filter, state.is_typing), ("", false));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        type_text(&mut state, "/x", &none);
        assert_eq!(state.press(interrupt, &none), Action::Leave);
    }

    #[test]
    fn each_view_has_an_order_of_its_own_texts_forwards_and_numbers_backwards() {
        let mut state = State::new(View::Networks, None, "");
        let none = lines([]);
        let sorted = |state: &State| (state.view.columns()[state.sort().column].name, state.sort().is_ascending);
        assert_eq!(sorted(&state), ("bits", false));
        press(&mut state, KeyCode::Right, &none);
        assert_eq!(sorted(&state), ("from_guest_bits", false));
        for _ in 0..4 {
            press(&mut state, KeyCode::Left, &none);
        }
        assert_eq!(sorted(&state), ("network", true));
        press(&mut state, KeyCode::Left, &none);
        assert_eq!(sorted(&state), ("drops", false));
        press(&mut state, KeyCode::Char('r'), &none);
        assert_eq!(sorted(&state), ("drops", true));
        press(&mut state, KeyCode::Char('3'), &none);
        assert_eq!((state.view, sorted(&state)), (View::Flows, ("bits", false)));
        press(&mut state, KeyCode::Char('1'), &none);
        assert_eq!(sorted(&state), ("drops", true));
    }
}
