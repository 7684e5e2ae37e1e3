//! The loop: draw, wait for a key, a signal or the time, and read. However it ends, the terminal is given back.

use std::{
    io::{self, IsTerminal as _},
    mem::ManuallyDrop,
    os::fd::AsFd as _,
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{Clear, ClearType, EnterAlternateScreen, enable_raw_mode},
    },
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Signal, getpid, kill_process},
};

use super::{
    reading::Readings,
    rows::Lines,
    state::{Action, State},
    view,
};
use crate::{cli::watch::Signals, error::Error};

/// Rows of the flow table that are looked at in one reading: some thirty milliseconds' worth.
const ROWS_AT_ONCE: usize = 1 << 16;
/// Rows that a view has at most.
const SHOWN: usize = 1000;
/// The first rates are of a shorter time.
const FIRST: Duration = Duration::from_millis(250);
/// Signals that end it or stop it, and leave the terminal as it was.
const SIGNALS: [libc::c_int; 5] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP];

/// Shows readings until somebody leaves.
pub(super) fn run(mut readings: Readings<'_>, mut state: State, interval: Duration) -> Result<(), Error> {
    let refused = |what| Error::NoTerminal { what };
    for (is_terminal, what) in
        [(io::stdout().is_terminal(), "standard output"), (io::stdin().is_terminal(), "standard input")]
    {
        if !is_terminal {
            return Err(refused(what));
        }
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(refused("TERM=dumb"));
    }
    let signals = Signals::catch(&SIGNALS)?;
    readings.count()?;
    let mut screen = Screen::enter()?;
    let mut next = Instant::now() + interval.min(FIRST);
    loop {
        let lines = readings.last.rows(&state, SHOWN).lines();
        state.follow(&lines);
        screen.terminal.draw(|frame| view::draw(frame, &state, &readings.last, &lines)).map_err(Error::Terminal)?;
        let is_there = wait(&signals, next.saturating_duration_since(Instant::now()))?;
        let action = match signals.take() {
            None if !is_there => Action::Leave,
            None => pressed(&mut state, &lines)?,
            Some(libc::SIGTSTP) => Action::Suspend,
            Some(_) => Action::Leave,
        };
        let is_due = Instant::now() >= next;
        match action {
            Action::Leave => return Ok(()),
            Action::Suspend => screen.suspend()?,
            Action::Read | Action::Draw => {}
        }
        if is_due {
            next = Instant::now() + interval;
        }
        let is_counted = is_due && !state.is_paused;
        let read = match is_counted {
            true => readings.count().and_then(|()| readings.walk(&state, ROWS_AT_ONCE)),
            false if action == Action::Read => readings.walk(&state, ROWS_AT_ONCE),
            false => continue,
        };
        // What is applied may be taken away and come again meanwhile.
        readings.last.problem = read.err().map(|error| error.to_string());
    }
}

/// Waits for a key or a signal, so long at most; `false` when the terminal has gone.
fn wait(signals: &Signals, longest: Duration) -> Result<bool, Error> {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    let longest = Timespec { tv_sec: longest.as_secs() as i64, tv_nsec: longest.subsec_nanos().into() };
    match poll(&mut ends, Some(&longest)) {
        // Another size of the terminal is a signal, too.
        Ok(_) | Err(Errno::INTR) => Ok(!ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
        Err(error) => Err(Error::Terminal(error.into())),
    }
}

/// What the keys do that have been pressed, up to one that needs more than drawing.
fn pressed(state: &mut State, lines: &Lines) -> Result<Action, Error> {
    while event::poll(Duration::ZERO).map_err(Error::Terminal)? {
        if let Event::Key(key) = event::read().map_err(Error::Terminal)?
            && key.kind != KeyEventKind::Release
        {
            let action = state.press(key, lines);
            if action != Action::Draw {
                return Ok(action);
            }
        }
    }
    Ok(Action::Draw)
}

/// The terminal while it is ours.
struct Screen {
    /// Never dropped: that would write to standard error where it fails, and panic where that has gone with the terminal.
    terminal: ManuallyDrop<DefaultTerminal>,
}

impl Screen {
    fn enter() -> Result<Self, Error> {
        // This also has a panic give the terminal back before it is told.
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal: ManuallyDrop::new(terminal) }),
            Err(error) => {
                leave();
                Err(Error::Terminal(error))
            }
        }
    }

    /// Stops the process as its shell expects, and takes the terminal again when it goes on.
    fn suspend(&mut self) -> Result<(), Error> {
        leave();
        kill_process(getpid(), Signal::STOP).map_err(|error| Error::Terminal(error.into()))?;
        enable_raw_mode().map_err(Error::Terminal)?;
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All)).map_err(Error::Terminal)?;
        // A new one, which takes the screen to be empty; to clear the old one asks for the cursor's place and waits for the answer.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).map_err(Error::Terminal)?;
        self.terminal = ManuallyDrop::new(terminal);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if thread::panicking() {
            // The hook has left the screen, and what it says stands there now.
            let _ = execute!(io::stdout(), Show);
        } else {
            leave();
        }
    }
}

/// Gives the terminal back; one that has gone is no matter.
fn leave() {
    let _ = ratatui::try_restore();
    let _ = execute!(io::stdout(), Show);
}
