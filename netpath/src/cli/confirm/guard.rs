//! Apply's side of a confirmation: starts the process that waits, and tells it how the apply ended.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use super::{
    super::Global,
    wait::{APPLIED, READY, TAKEN_BACK},
};
use crate::{
    datapath::{DatapathError, Root},
    error::Error,
    history::{Draft, History, HistoryError, Restores, Standing},
};

/// This very program, also when its file has been replaced.
const PROGRAM: &str = "/proc/self/exe";

/// The process that restores what was in force before, unless it is told not to.
#[derive(Debug)]
pub(in crate::cli) struct Guard {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts it, and waits until it is ready. `None` where there is nothing to restore, because the document is in force.
    ///
    /// The history's lock is held by the caller.
    pub(in crate::cli) fn start(
        history: &History,
        draft: &Draft<'_>,
        revision: u64,
        within: Duration,
        global: &Global,
    ) -> Result<Option<Self>, Error> {
        let Some(restores) = restores(history, draft, &global.root)? else {
            tracing::warn!(
                "this document is in force already, and nothing takes it back by itself; `netpath rollback` does"
            );
            return Ok(None);
        };
        let failed = |said: String| HistoryError::NoWatch { said };
        let mut child = spawn(history, revision, restores, within, global).map_err(|e| failed(e.to_string()))?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".to_owned()).into());
        };
        let mut guard = Self { to, from: BufReader::new(from) };
        if guard.answer().as_deref() == Some(READY) {
            return Ok(Some(guard));
        }
        drop(guard);
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let said = fs::read_to_string(history.watch_log()).unwrap_or_default();
        Err(failed(format!("{status}: {}", said.trim())).into())
    }

    /// It is applied: the time begins. Says until when it can be confirmed, in seconds since 1970.
    pub(in crate::cli) fn begin_waiting(mut self) -> Option<u64> {
        let until = self.tell(APPLIED).ok().and_then(|()| self.answer()).and_then(|until| until.parse().ok());
        if until.is_none() {
            tracing::warn!("the process that waits for the confirmation is gone: what was applied stays");
        }
        until
    }

    /// Nothing was done, or all was taken back.
    pub(in crate::cli) fn stand_down(mut self) {
        if self.tell(TAKEN_BACK).is_ok() {
            // Its end: the file is gone then.
            let _ = self.answer();
        }
    }

    fn tell(&mut self, word: &str) -> io::Result<()> {
        writeln!(self.to, "{word}").and_then(|()| self.to.flush())
    }

    /// One line of it; `None` when it has ended.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.from.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

fn spawn(history: &History, revision: u64, restores: Restores, within: Duration, global: &Global) -> io::Result<Child> {
    let log = File::options().write(true).create(true).truncate(true).mode(0o600).open(history.watch_log())?;
    Command::new(PROGRAM)
        // It leaves this process's folder.
        .arg("--root")
        .arg(std::path::absolute(&global.root)?)
        .arg("--state-dir")
        .arg(std::path::absolute(&global.state_dir)?)
        .args(["-v", "await-confirmation", "--revision", &revision.to_string()])
        .args(["--restores", &serde_json::to_string(&restores)?, "--within", &format!("{}s", within.as_secs())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
}

/// What is in force now, and so would be restored; `None` when it is the draft itself.
fn restores(history: &History, draft: &Draft<'_>, root: &Path) -> Result<Option<Restores>, Error> {
    match Root::open(root) {
        // Where its maps are gone, what is attached goes on all the same.
        Err(DatapathError::NothingApplied { .. }) if Root::at(root).link_pins()?.is_empty() => {
            return Ok(Some(Restores::Nothing));
        }
        Err(DatapathError::NothingApplied { .. }) => {}
        // What another build has applied is in the history all the same.
        Err(DatapathError::OtherAbi { .. } | DatapathError::Unfinished { .. }) => {}
        Err(error) => return Err(error.into()),
        Ok(root) if root.link_pins()?.is_empty() => return Ok(Some(Restores::Detached)),
        Ok(_) => {}
    }
    match history.standing()? {
        Standing::Revision(before) if before.is(draft.document, draft.host) => Ok(None),
        Standing::Revision(before) => Ok(Some(Restores::Revision(before.meta.number))),
        Standing::Nothing | Standing::Unknown => {
            Err(HistoryError::UnknownBefore { folder: history.folder().to_owned() }.into())
        }
    }
}
