//! An agent that runs, as the service manager starts and ends it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;

use crate::{guest::PATIENCE, runner::Netpath};

/// How often is looked whether what is waited for has come.
const LOOK: Duration = Duration::from_millis(20);

/// `netpath agent`, killed when this goes out of scope.
#[derive(Debug)]
pub struct Agent {
    netpath: Netpath,
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts one on definitions.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn start(netpath: &Netpath, definitions: &Path) -> Self {
        Self::start_with(netpath, definitions, &[])
    }

    /// The same with further options.
    pub fn start_with(netpath: &Netpath, definitions: &Path, options: &[&str]) -> Self {
        Self::spawn(netpath, Self::command(netpath, definitions, options))
    }

    /// The command that is one, for whoever gives it surroundings of its own.
    pub fn command(netpath: &Netpath, definitions: &Path, options: &[&str]) -> Command {
        let mut command =
            netpath.command(["agent", "-f", &definitions.display().to_string(), "--host", netpath.host()]);
        command.args(options);
        command
    }

    /// Starts one by its [`Agent::command`].
    pub fn spawn(netpath: &Netpath, mut command: Command) -> Self {
        let log = netpath.state_dir().join("agent.log");
        let stderr = File::options().create(true).append(true).open(&log).expect("the state folder is writable");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().expect("the binary can be started");
        Self { netpath: netpath.clone(), child, log }
    }

    /// Starts one, and waits until its definitions are in force.
    #[track_caller]
    pub fn in_force(netpath: &Netpath, definitions: &Path) -> Self {
        let mut agent = Self::start(netpath, definitions);
        agent.comes_into_force();
        agent
    }

    /// Waits until its definitions are in force.
    #[track_caller]
    pub fn comes_into_force(&mut self) {
        self.until("its definitions are in force", |agent| {
            !agent["last_apply"].is_null() && agent["last_error"].is_null()
        });
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it (SIGSTOP) at a moment when it holds no lock that others would wait for.
    ///
    /// # Panics
    /// When there is no such moment within [`PATIENCE`].
    #[track_caller]
    pub fn stop_at_rest(&self) {
        until("the agent is stopped at rest", || {
            self.signal(Signal::STOP);
            until("it is stopped", || self.is_stopped());
            let is_free = [self.netpath.history().folder(), self.netpath.root()].into_iter().all(|folder| {
                let folder = File::open(folder).expect("the agent has made it");
                flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
            });
            if !is_free {
                self.signal(Signal::CONT);
            }
            is_free
        });
    }

    /// Whether all of its threads are stopped.
    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the agent is there");
        threads.flatten().all(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("the agent is there");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait().expect("the agent is ours") {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "the agent does not end\n{}", self.log()),
            }
            thread::sleep(LOOK);
        }
    }

    /// What it has logged, as far as somebody wants to read that. (A test's log may be a device without an end.)
    pub fn log(&self) -> String {
        let mut text = Vec::new();
        let _ = File::open(&self.log).and_then(|log| log.take(1 << 20).read_to_end(&mut text));
        String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
    }

    /// Waits until what `netpath status` says of it is as wanted.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.netpath.run(["status", "-o", "json"]);
            let agent =
                serde_json::from_str(&status.stdout).map_or(Value::Null, |status: Value| status["agent"].clone());
            if agent["pid"] == self.pid() && is_so(&agent) {
                return agent;
            }
            let is_gone = self.child.try_wait().expect("the agent is ours").is_some();
            let gave_up = is_gone || Instant::now() > deadline;
            assert!(!gave_up, "waited until {what}: {agent}\n{}\n{}", status.stderr, self.log());
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until something is so.
///
/// # Panics
/// When it is not within [`PATIENCE`].
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited until {what}");
        thread::sleep(LOOK);
    }
}
