//! Runs the `netpath` binary as an operator would, inside a hypervisor's namespace.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    os::fd::AsFd,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use netpath::history::History;
use rustix::{
    fs::{Mode, OFlags, open},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use serde_json::Value;

use crate::topology::NetNs;

/// One instance of netpath on one hypervisor: a namespace, a pin root, a state folder and a host name.
#[derive(Clone, Debug)]
pub struct Netpath {
    ns: NetNs,
    root: PathBuf,
    state_dir: PathBuf,
    host: String,
    build: Build,
    /// A copy of the program that is run instead.
    copy: Option<PathBuf>,
    /// Seconds that its clocks are ahead of the machine's.
    ahead: i64,
}

/// Which build of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// This tree's.
    Current,
    /// The same with another ABI (feature `abi-next`).
    Next,
}

/// What a run of the binary gave.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<process::Output> for Output {
    fn from(output: process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Netpath {
    /// An instance with its pins at `root` (on a bpffs) and its state in `state_dir`.
    pub fn new(ns: &NetNs, root: PathBuf, state_dir: PathBuf, host: &str) -> Self {
        Self { ns: ns.clone(), root, state_dir, host: host.to_owned(), build: Build::Current, copy: None, ahead: 0 }
    }

    /// The same instance, as another build sees it.
    pub fn of(&self, build: Build) -> Self {
        Self { build, ..self.clone() }
    }

    /// The same instance, its commands in a time namespace whose clocks (but for the time of day, which no namespace has) are
    /// ahead of the machine's by as many seconds, or behind.
    pub fn with_clock(&self, ahead: i64) -> Self {
        Self { ahead, ..self.clone() }
    }

    /// The same instance by a copy of the program in a folder that everybody may enter, which the place where it is built need not be.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copied_to(&self, folder: &Path) -> Self {
        let copy = folder.join("netpath");
        fs::copy(binary(self.build), &copy).expect("the program can be copied");
        Self { copy: Some(copy), ..self.clone() }
    }

    /// The host whose part of the definitions this instance takes.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where what it keeps lies.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Where its maps and links are pinned.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What it keeps of the documents that were applied.
    pub fn history(&self) -> History {
        History::open(&self.state_dir, &self.root)
    }

    /// The command with its global options, ready to run inside the namespace.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let ns = self.ns.fd().try_clone_to_owned().expect("a namespace's descriptor can be duplicated");
        let mut command = Command::new(self.copy.as_deref().unwrap_or_else(|| binary(self.build)));
        command.arg("--root").arg(&self.root).arg("--state-dir").arg(&self.state_dir).args(args).stdin(Stdio::null());
        // SAFETY: setns is one system call and touches no memory of the forked child.
        unsafe {
            command.pre_exec(move || {
                move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
            });
        }
        if self.ahead != 0 {
            let offsets = format!("monotonic {0} 0\nboottime {0} 0\n", self.ahead);
            // SAFETY: four system calls, which touch no memory of the forked child; it has one thread, as they ask for.
            unsafe {
                command.pre_exec(move || {
                    unshare_unsafe(UnshareFlags::NEWTIME)?;
                    let file = open(c"/proc/self/timens_offsets", OFlags::RDWR, Mode::empty())?;
                    rustix::io::write(file, offsets.as_bytes())?;
                    Ok(())
                });
            }
        }
        command
    }

    /// Runs a verb to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let output = self.command(args).output();
        output.unwrap_or_else(|error| panic!("running {:?}: {error}", binary(self.build))).into()
    }

    /// Runs a verb that must succeed.
    pub fn succeed<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        let output = self.run(args);
        assert_eq!(output.code, 0, "netpath on {}: {}\n{}", self.host, output.stderr, output.stdout);
        output
    }

    /// Runs a verb with `-o json` that must succeed, and parses what it printed.
    pub fn json<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Value {
        let all: Vec<_> =
            args.into_iter().map(|arg| arg.as_ref().to_owned()).chain(["-o".into(), "json".into()]).collect();
        let output = self.succeed(all);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", output.stdout))
    }

    /// `apply` of a definitions file for this host, which must succeed.
    pub fn apply(&self, definitions: &Path) -> Output {
        self.succeed(self.apply_args(definitions))
    }

    /// The arguments of `apply` for this host.
    pub fn apply_args(&self, definitions: &Path) -> Vec<String> {
        let file = definitions.display().to_string();
        ["apply", "-f", &file, "--host", &self.host].map(str::to_owned).to_vec()
    }

    /// Whether a plan finds nothing to do.
    #[track_caller]
    pub fn is_converged(&self, definitions: &Path) -> bool {
        self.left_to_do(definitions).is_none()
    }

    /// The plan, if it finds something to do.
    #[track_caller]
    pub fn left_to_do(&self, definitions: &Path) -> Option<String> {
        let file = definitions.display().to_string();
        let plan = self.run(["plan", "-f", &file, "--host", self.host(), "--detailed-exitcode"]);
        assert!(matches!(plan.code, 0 | 2), "{}", plan.stderr);
        (plan.code == 2).then_some(plan.stdout)
    }

    /// Starts an apply and kills it after `delay`, if it has not ended before.
    pub fn killed_apply(&self, definitions: &Path, delay: Duration) {
        self.killed_after(self.apply_args(definitions), delay);
    }

    /// Starts a verb and kills it after `delay`; what it gave, if it has ended before.
    pub fn killed_after<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, delay: Duration) -> Option<Output> {
        let until = Instant::now() + delay;
        self.killed_when(args, || Instant::now() >= until)
    }

    /// Starts a verb and kills it as soon as something is so; what it gave, if it has ended before.
    pub fn killed_when<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        is_so: impl Fn() -> bool,
    ) -> Option<Output> {
        let mut command = self.command(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary can be started");
        while !is_so() && child.try_wait().expect("the verb is ours").is_none() {
            thread::yield_now();
        }
        let _ = child.kill();
        let output = child.wait_with_output().expect("the verb is ours");
        output.status.code().map(|_| output.into())
    }

    /// The drop counters that are not zero: (network, reason) → packets; the network is empty where none was known.
    pub fn drops(&self) -> BTreeMap<(String, String), u64> {
        let rows = self.json(["show", "drops"]);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        rows.as_array()
            .unwrap_or_else(|| panic!("`show drops -o json` is no list: {rows}"))
            .iter()
            .map(|row| ((text(row, "network"), text(row, "reason")), row["packets"].as_u64().expect("a count")))
            .filter(|(_, packets)| *packets != 0)
            .collect()
    }
}

/// The program: `NETPATH_BIN`, or what `cargo build -p netpath` leaves beside the test's own target folder; `NETPATH_NEXT_BIN` for
/// the one with another ABI.
pub fn binary(build: Build) -> &'static Path {
    static BINARIES: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
    let (binary, variable) = match build {
        Build::Current => (&BINARIES[0], "NETPATH_BIN"),
        Build::Next => (&BINARIES[1], "NETPATH_NEXT_BIN"),
    };
    binary.get_or_init(|| match (env::var_os(variable), build) {
        (Some(path), _) => PathBuf::from(path),
        (None, Build::Current) => built(),
        (None, Build::Next) => panic!("{variable} names no program; `cargo xtask test netns` builds it"),
    })
}

fn built() -> PathBuf {
    let test = env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "-p", "netpath"]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if profile.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "cargo build -p netpath: {status}");
    profile.join("netpath")
}
