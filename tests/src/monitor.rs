//! `netpath monitor` under way.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{guest::PATIENCE, runner::Netpath};

/// A monitor under way.
#[derive(Debug)]
pub struct Monitor {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Monitor {
    /// Begins, and waits until the data path is told so.
    pub fn begin(netpath: &Netpath, args: &[&str]) -> Self {
        Self::spawn(netpath, netpath.command(args))
    }

    /// The same by a command with surroundings of its own.
    pub fn spawn(netpath: &Netpath, mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary can be started");
        let deadline = Instant::now() + PATIENCE;
        while watcher(netpath) != Some(child.id().into()) {
            assert!(child.try_wait().expect("the monitor is ours").is_none(), "the monitor has ended");
            assert!(Instant::now() < deadline, "the monitor does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        let lines = BufReader::new(child.stdout.take().expect("its output is piped"));
        Self { child, lines }
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).expect("it prints text"), 0, "the monitor has ended");
        line
    }

    /// The next document that it prints.
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.line()).expect("it prints JSON")
    }

    /// What it prints to.
    pub fn output(&self) -> &ChildStdout {
        self.lines.get_ref()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the monitor is there");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the monitor is ours").is_some()
    }

    /// Waits until it has ended, whatever it prints until then.
    pub fn ends(&mut self) -> ExitStatus {
        self.ends_saying().0
    }

    /// The same, with what it has said on standard error.
    pub fn ends_saying(&mut self) -> (ExitStatus, String) {
        // A pipe that nobody reads from would hold it up.
        let _ = std::io::copy(&mut self.lines, &mut std::io::sink());
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            let _ = errors.read_to_string(&mut said);
        }
        (self.child.wait().expect("the monitor is ours"), said)
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that watches, by the row of WATCH.
pub fn watcher(netpath: &Netpath) -> Option<u64> {
    netpath.json(["map", "dump", "WATCH"])[0]["value"]["process"].as_u64()
}
