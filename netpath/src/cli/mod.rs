//! The command line: global options, and one file per verb.
//!
//! A verb is a module with `Args` (clap's derive) and `run(&Args, &Global) -> Result<Exit, Error>`. To add one: write
//! the file, declare the module, add a row to `Verb` and one to `dispatch`.

mod agent;
mod agent_state;
mod apply;
mod capture;
mod change;
mod completions;
mod confirm;
mod detach;
mod doctor;
mod history;
mod host;
mod manual;
mod map;
mod metrics;
mod monitor;
mod output;
mod plan;
mod rollback;
mod schema;
mod show;
mod sink;
mod status;
mod stream;
mod table;
mod terms;
mod top;
mod trace;
mod validate;
mod watch;

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand, error::ErrorKind};
use tracing_subscriber::EnvFilter;

pub use self::output::Format;
use crate::{applied, apply::Instance, datapath::DEFAULT_ROOT, error::Error};

/// The eBPF/XDP fast path of tenant networks on this hypervisor.
#[derive(Debug, Parser)]
#[command(name = "netpath", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where the maps and links are pinned; one per instance
    #[arg(long, global = true, value_name = "PIN_ROOT", default_value = DEFAULT_ROOT, env = "NETPATH_ROOT",
        value_parser = whole_path)]
    pub root: PathBuf,
    /// Where applied documents and samples of usage are kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/netpath", env = "NETPATH_STATE_DIR")]
    pub state_dir: PathBuf,
    /// The form of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Log what is done (-v), in detail (-vv)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// The instance that is meant.
    fn instance(&self) -> Instance<'_> {
        Instance { root: &self.root, state_dir: &self.state_dir }
    }
}

/// The verbs, one file each.
#[derive(Debug, Subcommand)]
enum Verb {
    Validate(validate::Args),
    Schema(schema::Args),
    Plan(plan::Args),
    Apply(apply::Args),
    Agent(agent::Args),
    Status(status::Args),
    Confirm(confirm::Args),
    History(history::Args),
    Rollback(rollback::Args),
    Detach(detach::Args),
    Doctor(doctor::Args),
    Show(show::Args),
    Map(map::Args),
    Metrics(metrics::Args),
    Completions(completions::Args),
    #[command(name = "man")]
    Manual(manual::Args),
    #[command(hide = true)]
    AwaitConfirmation(confirm::WaitArgs),
    Top(top::Args),
    Monitor(monitor::Args),
    Trace(trace::Args),
    Capture(capture::Args),
}

/// A path from the file system's root, the same however it is written: an instance knows its devices by it.
fn whole_path(path: &str) -> io::Result<PathBuf> {
    Ok(std::path::absolute(path)?.components().collect())
}

fn dispatch(cli: &Cli) -> Result<Exit, Error> {
    let global = &cli.global;
    match &cli.verb {
        Verb::Validate(args) => validate::run(args, global),
        Verb::Schema(args) => schema::run(args, global),
        Verb::Plan(args) => plan::run(args, global),
        Verb::Apply(args) => apply::run(args, global),
        Verb::Agent(args) => agent::run(args, global),
        Verb::Status(args) => status::run(args, global),
        Verb::Confirm(args) => confirm::run(args, global),
        Verb::History(args) => history::run(args, global),
        Verb::Rollback(args) => rollback::run(args, global),
        Verb::Detach(args) => detach::run(args, global),
        Verb::Doctor(args) => doctor::run(args, global),
        Verb::Show(args) => show::run(args, global),
        Verb::Map(args) => map::run(args, global),
        Verb::Metrics(args) => metrics::run(args, global),
        Verb::Completions(args) => completions::run(args, global),
        Verb::Manual(args) => manual::run(args, global),
        Verb::AwaitConfirmation(args) => confirm::wait(args, global),
        Verb::Top(args) => top::run(args, global),
        Verb::Monitor(args) => monitor::run(args, global),
        Verb::Trace(args) => trace::run(args, global),
        Verb::Capture(args) => capture::run(args, global),
    }
}

/// How a verb ended, as the process's exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// Failed, and what failed has been said: 1.
    Failed,
    /// `plan --detailed-exitcode` found edits to make: 2.
    Changes,
    /// The command line is wrong: 3.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Failed => ExitCode::from(1),
            Exit::Changes => ExitCode::from(2),
            Exit::Usage => ExitCode::from(3),
        }
    }
}

/// Runs the verb that the process's arguments name. A wrong command line is explained and is [`Exit::Usage`].
///
/// # Errors
/// Whatever the verb fails with, for `main` to print.
pub fn run() -> Result<Exit, Error> {
    run_with(std::env::args_os())
}

fn run_with(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Error> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to fail over a help text.
            let _ = error.print();
            return Ok(match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            });
        }
    };
    init_logs(&cli);
    dispatch(&cli)
}

/// Logs go to standard error; `NETPATH_LOG` overrides what `-v` chooses. An agent has more to say than a command. How the BPF object is put
/// together is told with everything else only.
fn init_logs(cli: &Cli) {
    let agent = if let Verb::Agent(args) = &cli.verb { Some(args.log) } else { None };
    let level = usize::from(cli.global.verbose) + usize::from(agent.is_some());
    let level = ["warn", "info", "debug,aya=info,aya_obj=info", "trace"][level.min(3)];
    let filter = EnvFilter::try_from_env("NETPATH_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // It would be said on standard error too, where a disk that is full makes it a panic.
    let log = log.log_internal_errors(false);
    // Only a test that runs two verbs in one process finds a subscriber in place already.
    let _ = match agent {
        Some(agent::LogForm::Json) => log.json().flatten_event(true).try_init(),
        _ => log.without_time().with_ansi(io::stderr().is_terminal()).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_root_is_the_same_however_it_is_written() {
        let root = |path: &str| Cli::try_parse_from(["netpath", "--root", path, "status"]).unwrap().global.root;
        for path in ["/sys/fs/bpf/netpath/", "/sys/fs//bpf/netpath", "/sys/fs/bpf/./netpath"] {
            assert_eq!(root(path).as_os_str(), "/sys/fs/bpf/netpath", "{path}");
        }
        assert!(root("bpf").is_absolute());
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for args in [&["netpath", "validate"][..], &["netpath", "no-such-verb"], &["netpath"]] {
            let exit = run_with(args.iter().map(OsString::from)).unwrap();
            assert_eq!(exit, Exit::Usage, "{args:?}");
        }
    }
}
