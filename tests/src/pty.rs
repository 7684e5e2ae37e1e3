//! A terminal of its own for a program that draws on one, and what stands on its screen.

use std::{
    fs::File,
    io::Read as _,
    io::Write as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::{guest::PATIENCE, process};

/// A program on a terminal. It is killed when this goes.
#[derive(Debug)]
pub struct Pty {
    child: Child,
    ours: File,
    theirs: OwnedFd,
    screen: Screen,
}

/// What stands where, of a terminal that knows as much as it takes to draw text: positions, clearing, the other screen.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    cells: Vec<char>,
    at: usize,
    /// The program has the other screen.
    pub is_other: bool,
    /// The cursor is hidden.
    pub is_hidden: bool,
    /// The beginning of a sequence whose end has not come yet.
    begun: String,
}

impl Pty {
    /// Starts a program on a terminal of this size.
    ///
    /// # Errors
    /// When the kernel gives no terminal, or the program does not start.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        tcsetwinsize(&ours, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs.try_clone()?);
        let controlling = theirs.try_clone()?;
        // SAFETY: two system calls that touch no memory of the forked child.
        unsafe {
            command.pre_exec(move || {
                setsid()?;
                Ok(ioctl_tiocsctty(controlling.as_fd())?)
            });
        }
        let child = command.env("TERM", "xterm").spawn().context("starting the program on a terminal")?;
        Ok(Self { child, ours: ours.into(), theirs, screen: Screen::new(columns.into(), rows.into()) })
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal takes nothing.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.ours.write_all(keys.as_bytes())?)
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// When it has gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Errors
    /// It does not become so; the error has what stands there.
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Screen) -> bool) -> Result<&Screen> {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.screen) {
            if Instant::now() > deadline {
                bail!("no {what} on the screen:\n{}", self.screen.lines().join("\n"));
            }
            self.read(Duration::from_millis(100))?;
        }
        Ok(&self.screen)
    }

    /// Waits for the program's end; gives how it ended and what is on the screen then.
    ///
    /// # Errors
    /// It does not end.
    pub fn end(&mut self) -> Result<(ExitStatus, &Screen)> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            self.read(Duration::from_millis(20))?;
            match self.child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => bail!("the program does not end"),
                None => {}
            }
        };
        while self.read(Duration::ZERO)? {}
        Ok((status, &self.screen))
    }

    /// Keeps the screen for so long.
    ///
    /// # Errors
    /// When the program has gone.
    pub fn watch(&mut self, long: Duration) -> Result<()> {
        let end = Instant::now() + long;
        while Instant::now() < end {
            self.read(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// The processor's time that the program has had.
    ///
    /// # Errors
    /// When it has gone.
    pub fn cpu(&self) -> Result<Duration> {
        process::cpu(self.child.id())
    }

    /// Waits until the program is stopped.
    ///
    /// # Errors
    /// It is not.
    pub fn stopped(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let state = format!("/proc/{}/stat", self.child.id());
        while !std::fs::read_to_string(&state)?.contains(") T ") {
            if Instant::now() > deadline {
                bail!("the program is not stopped");
            }
            self.read(Duration::from_millis(20))?;
        }
        while self.read(Duration::ZERO)? {}
        Ok(())
    }

    /// The screen as it was last read.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// How the terminal is set.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn modes(&self) -> Result<String> {
        let set = tcgetattr(&self.theirs)?;
        Ok(format!("{:?} {:?} {:?} {:?}", set.input_modes, set.output_modes, set.control_modes, set.local_modes))
    }

    /// Reads what comes within a time; `false` when nothing does.
    fn read(&mut self, longest: Duration) -> Result<bool> {
        let longest = Timespec { tv_sec: 0, tv_nsec: longest.subsec_nanos().into() };
        let mut ends = [PollFd::new(&self.ours, PollFlags::IN)];
        if poll(&mut ends, Some(&longest))? == 0 {
            return Ok(false);
        }
        let mut bytes = [0; 1 << 14];
        let read = self.ours.read(&mut bytes)?;
        self.screen.feed(&String::from_utf8_lossy(&bytes[..read]));
        Ok(true)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Self {
        let cells = vec![' '; columns * rows];
        Self { columns, cells, at: 0, is_other: false, is_hidden: false, begun: String::new() }
    }

    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        self.cells.chunks(self.columns).map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn feed(&mut self, text: &str) {
        for character in text.chars() {
            match (self.begun.is_empty(), character) {
                (true, '\x1b') => self.begun.push(character),
                (true, '\r') => self.at -= self.at % self.columns,
                (true, '\n') => self.at += self.columns,
                (true, printed) => {
                    if let Some(cell) = self.cells.get_mut(self.at) {
                        *cell = printed;
                    }
                    self.at += 1;
                }
                (false, character) => {
                    self.begun.push(character);
                    // ESC [ parameters letter, or ESC and another character (ECMA-48 §5.4).
                    if self.begun.len() > 2 && character.is_ascii_alphabetic()
                        || self.begun.len() == 2 && character != '['
                    {
                        let sequence = std::mem::take(&mut self.begun);
                        self.obey(&sequence[1..]);
                    }
                }
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        match sequence {
            "[?1049h" => self.is_other = true,
            "[?1049l" => self.is_other = false,
            "[?25l" => self.is_hidden = true,
            "[?25h" => self.is_hidden = false,
            "[2J" => self.cells.fill(' '),
            _ => {
                let place = sequence.strip_prefix('[').and_then(|rest| rest.strip_suffix('H'));
                if let Some((row, column)) = place.and_then(|place| place.split_once(';')) {
                    let number = |text: &str| text.parse::<usize>().unwrap_or(1).saturating_sub(1);
                    self.at = number(row) * self.columns + number(column);
                }
            }
        }
    }
}
