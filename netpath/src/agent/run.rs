//! The agent's loop: hears of what happens, has it worked on, and says what came of it.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::unix::AsyncFd,
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    task::{self, JoinHandle},
    time::{sleep_until, timeout},
};

use super::{
    Options, check,
    exhaustion::Exhaustion,
    files::Files,
    interest::{Call, Interest},
    memory,
    notify::{self, Message, Notify},
    quiet::Quiet,
    readable,
    record::{self, LastApply, LastError, Record},
    revisions::Revisions,
    sweep::Sweep,
    work::{Done, Order, Work, described},
    writers,
};
use crate::{
    apply,
    datapath::{DatapathError, Lock, Root},
    error::Error,
    history::History,
    netlink::monitor::{Event, Monitor},
    usage,
};

/// An apply that failed is tried again after this, and after twice as long each time.
const RETRY: Duration = Duration::from_secs(5);
/// The longest time between two tries.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Work that takes longer than this hangs, and so the service manager shall find.
const WORK_MAX: Duration = Duration::from_secs(180);
/// How long work may go on after the agent was told to end; a killed apply is finished by the next one.
const GRACE: Duration = Duration::from_secs(10);
/// After this much rest, memory that work has used is given back.
const REST: Duration = Duration::from_secs(2);
/// With nothing to wait for.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// [`crate::datapath::DatapathError::AgentRuns`] where the root has an agent; when the kernel refuses what it listens on.
/// That definitions are broken, or cannot be applied, is no error: it is said, and they are waited for.
pub fn run(options: Options) -> Result<(), Error> {
    memory::share_one_heap();
    let claim = Root::claim(&options.root)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| failed("start", source))?;
    #[cfg(feature = "log")]
    runtime.spawn(super::debug::tell(options.root.clone()));
    let result = runtime.block_on(async { Agent::start(options, claim)?.run().await });
    // Work that is still going on is crash-safe, and is not waited for.
    runtime.shutdown_background();
    result
}

fn failed(what: &str, source: io::Error) -> Error {
    Error::Agent { operation: what.to_owned(), source }
}

struct Agent {
    options: Options,
    /// That it is the root's one agent.
    claim: Lock,
    /// How many programs the last apply has left attached.
    attached: Option<usize>,
    files: Files,
    revisions: Revisions,
    monitor: AsyncFd<Monitor>,
    notify: Notify,
    record: Record,
    quiet: Quiet,
    /// What matters; `None` while that is not known, when everything does.
    interest: Option<Interest>,
    /// What is to be done next.
    next: Order,
    /// The work, while nobody does any.
    work: Option<Work>,
    running: Option<Running>,
    retry: Option<Instant>,
    patience: Duration,
    is_ready: bool,
    rest: Option<Instant>,
    sweep: Sweep,
    exhaustion: Exhaustion,
}

/// Work that is going on.
struct Running {
    since: Instant,
    order: Order,
    result: JoinHandle<(Work, Done)>,
}

impl Agent {
    fn start(options: Options, claim: Lock) -> Result<Self, Error> {
        let monitor = readable::register(Monitor::open()?).map_err(|e| failed("hear of network devices", e))?;
        let files = Files::watch(&options.definitions).map_err(|e| failed("watch the definitions", e))?;
        let revisions = Revisions::watch(History::open(&options.state_dir, &options.root));
        let notify = Notify::from_env().map_err(|e| failed("find the socket that NOTIFY_SOCKET names", e))?;
        let work = Work::new(&options.definitions, &options.host, &options.root, &options.state_dir);
        let record = Record {
            pid: std::process::id(),
            since: record::now(),
            definitions: options.definitions.clone(),
            keeps: None,
            last_apply: None,
            last_error: None,
        };
        tracing::info!(
            definitions = %options.definitions.display(), host = options.host, root = %options.root.display(), "agent started"
        );
        let exhaustion = Exhaustion::begin(&options.root);
        let mut agent = Self {
            options,
            claim,
            attached: None,
            files,
            revisions,
            monitor,
            notify,
            record,
            quiet: Quiet::default(),
            interest: None,
            next: Order::default(),
            work: Some(work),
            running: None,
            retry: None,
            patience: RETRY,
            is_ready: false,
            rest: None,
            sweep: Sweep::default(),
            exhaustion,
        };
        agent.note();
        agent.read_what_is_whole();
        Ok(agent)
    }

    async fn run(mut self) -> Result<(), Error> {
        let listen = |kind| signal(kind).map_err(|e| failed("listen to signals", e));
        let mut ends = [listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?];
        let mut reload = listen(SignalKind::hangup())?;
        let watchdog = notify::watchdog();
        let (mut feed, mut sweep, mut check) =
            (Instant::now(), Instant::now() + REST, Instant::now() + check::rest(Duration::ZERO));
        loop {
            self.begin();
            let [terminate, interrupt] = &mut ends;
            tokio::select! {
                _ = ended(terminate, interrupt) => break,
                _ = reload.recv() => self.reload(),
                changes = self.files.changes() => {
                    let now = Instant::now();
                    changes.map_err(|e| failed("watch the definitions", e))?.into_iter().for_each(|c| self.quiet.note(c, now));
                }
                news = self.revisions.changed() => {
                    news.map_err(|e| failed("hear of what others apply", e))?;
                    self.next.follow = true;
                }
                () = until(self.quiet.due()) => self.read_what_is_whole(),
                events = heard(&mut self.monitor) => events?.iter().for_each(|event| self.hear(event)),
                done = finished(&mut self.running) => self.finish(done),
                () = until(self.retry) => {
                    self.retry = None;
                    self.next.apply = true;
                }
                () = until(watchdog.map(|_| feed)) => {
                    feed = Instant::now() + watchdog.unwrap_or(NEVER);
                    self.feed();
                }
                () = until(Some(sweep)) => sweep = Instant::now() + self.sweep(),
                () = until(Some(check)) => {
                    let start = check::worked();
                    self.check()?;
                    check = Instant::now() + check::rest(check::worked() - start);
                }
                () = until(self.rest) => {
                    self.rest = None;
                    self.work.iter_mut().for_each(Work::compact);
                    memory::give_back();
                }
            }
        }
        self.end().await;
        Ok(())
    }

    /// Has the next order worked on, if there is one and nobody works.
    fn begin(&mut self) {
        if self.next.is_empty() {
            return;
        }
        let Some(mut work) = self.work.take() else { return };
        let mut order = std::mem::take(&mut self.next);
        // What is to be tried again is tried now: this order's end says nothing about it otherwise.
        order.apply |= self.retry.take().is_some();
        self.rest = None;
        let result = task::spawn_blocking(move || {
            let done = work.perform(order);
            (work, done)
        });
        self.running = Some(Running { since: Instant::now(), order, result });
    }

    /// Has the files read, unless there is somebody to wait for: what he has written so far may happen to be a document.
    fn read_what_is_whole(&mut self) {
        let writers = writers::being_written(&self.options.definitions);
        if self.quiet.wait_for(writers.iter().cloned(), Instant::now()) {
            tracing::info!(files = ?writers, "definitions are being written, and are read when their writers have closed them");
            return;
        }
        self.quiet.settle();
        self.next.read = true;
    }

    fn reload(&mut self) {
        tracing::info!("definitions are read again, as SIGHUP asks for");
        self.notify.tell(Message::Reloading);
        (self.next.read, self.next.is_awaited) = (true, true);
    }

    fn hear(&mut self, event: &Event) {
        let (call, returned) = match &mut self.interest {
            Some(interest) => interest.note(event),
            None => (Call { apply: true, look: false }, None),
        };
        // What new definitions are about is not known before they are read.
        let is_unknown = self.running.as_ref().is_some_and(|running| running.order.changes_interest());
        self.next.apply |= call.apply || is_unknown;
        self.next.look |= call.look;
        if call.apply {
            tracing::debug!(?event, "the host has changed");
        }
        if let Some(uplink) = returned {
            self.announce(uplink);
        }
    }

    /// Tells the public link behind an uplink again which addresses are here: meanwhile another host may have had them.
    fn announce(&self, uplink: u32) {
        match apply::announce_again(&self.options.root, uplink) {
            Ok(0) => {}
            Ok(addresses) => tracing::info!(uplink, addresses, "an uplink is back: public addresses are announced"),
            Err(error) => tracing::warn!(uplink, "public addresses are not announced: {}", described(&error)),
        }
    }

    fn finish(&mut self, (order, work, done): (Order, Work, Done)) {
        self.work = Some(work);
        self.next.apply |= done.again;
        if done.interest.is_some() {
            self.interest = done.interest;
        }
        if let Some(applied) = &done.applied {
            let (took_ms, edits) = (applied.took.as_millis() as u64, applied.edits);
            tracing::info!(edits, steps = applied.steps, waiting = applied.waiting, took_ms, "applied");
            self.record.last_apply = Some(LastApply {
                at: record::now(),
                edits,
                steps: applied.steps,
                waiting: applied.waiting,
                milliseconds: took_ms,
            });
        }
        if done.applied.is_some() {
            self.attached = check::count(&self.options.root).ok();
        } else if !done.keeps_any {
            self.attached = None;
        }
        if done.is_readable_again {
            if let Err(error) = self.files.look() {
                tracing::warn!("not all of what the definitions depend on is watched: {error}");
            }
            // Of a change before they were watched nothing was heard.
            self.read_what_is_whole();
        }
        // What is tried again and fails as before was said.
        let said = self.record.last_error.as_ref().map(|said| &said.message);
        if let Some(message) = done.error.as_ref().filter(|message| order.read || Some(*message) != said) {
            tracing::error!("{message}");
        }
        self.record.keeps = done.keeps;
        self.record.last_error = done.error.map(|message| LastError { at: record::now(), message });
        if done.retry {
            self.retry = Some(Instant::now() + self.patience);
            self.patience = (self.patience * 2).min(RETRY_MAX);
        } else {
            self.patience = RETRY;
        }
        self.rest = Some(Instant::now() + REST);
        self.note();
        let state = match (&self.record.last_error, &self.record.last_apply) {
            (Some(error), _) => error.message.clone(),
            (None, Some(apply)) => format!("definitions in force; NICs that wait for their device: {}", apply.waiting),
            (None, None) => "no definitions in force".to_owned(),
        };
        self.notify.tell(Message::Status(&state));
        let is_first = order.read && !std::mem::replace(&mut self.is_ready, true);
        if is_first || order.is_awaited {
            self.notify.tell(Message::Ready);
        }
    }

    /// Says how things stand, to `netpath status`.
    fn note(&self) {
        let path = Record::path(&self.options.state_dir, &self.options.root);
        if let Err(error) = self.record.write(&path) {
            tracing::warn!("{} cannot be written, and `netpath status` knows less: {error}", path.display());
        }
    }

    /// Sweeps for a moment; gives how long until it is to go on. What is counted is sampled after each pass, so that `show usage
    /// --since` knows of times when nothing was applied.
    fn sweep(&mut self) -> Duration {
        let Options { root, state_dir, .. } = &self.options;
        let rest = self.sweep.step(root).unwrap_or_else(|error| {
            tracing::warn!("idle connections are not swept: {}", described(&error.into()));
            Sweep::AFTER_FAILURE
        });
        if !self.sweep.is_under_way() {
            usage::sample(state_dir, root);
            self.rest = Some(Instant::now() + REST);
        }
        rest
    }

    /// Says what had no room, orders an apply where what it keeps is not in force any more, and claims its root again where that was made anew.
    fn check(&mut self) -> Result<(), Error> {
        let root = &self.options.root;
        if !Root::is_claimed_by(root, &self.claim) {
            match Root::claim(root) {
                Ok(claim) => self.claim = claim,
                Err(error @ DatapathError::AgentRuns { .. }) => return Err(error.into()),
                Err(error) => tracing::warn!("the root is not claimed: {}", described(&error.into())),
            }
        }
        if let Err(error) = self.exhaustion.look(root) {
            tracing::warn!("whether connections had room is not known: {}", described(&error));
        }
        let Some(attached) = self.attached.filter(|_| self.running.is_none() && self.retry.is_none()) else {
            return Ok(());
        };
        match check::missing(root, attached) {
            Ok(None) => {}
            Ok(Some(what)) => {
                tracing::warn!("{what}: what is kept in force is applied again");
                self.next.apply = true;
            }
            Err(error) => tracing::warn!("whether all is in force is not known: {}", described(&error)),
        }
        Ok(())
    }

    fn feed(&self) {
        if self.running.as_ref().is_none_or(|running| running.since.elapsed() < WORK_MAX) {
            self.notify.tell(Message::Watchdog);
        }
    }

    async fn end(mut self) {
        self.notify.tell(Message::Stopping);
        if let Some(running) = self.running.take()
            && timeout(GRACE, running.result).await.is_err()
        {
            tracing::warn!("work goes on after {} s, and is left to the next apply", GRACE.as_secs());
        }
        // A note that is left counts for nothing: its process is gone.
        let _ = std::fs::remove_file(Record::path(&self.options.state_dir, &self.options.root));
        tracing::info!("agent ended; what is applied stays in force");
    }
}

async fn ended(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for a time; for ever where there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until something happens to the host's devices.
async fn heard(monitor: &mut AsyncFd<Monitor>) -> Result<Vec<Event>, Error> {
    loop {
        let mut ready = monitor.readable_mut().await.map_err(|e| failed("hear of network devices", e))?;
        ready.clear_ready();
        let events = ready.get_inner_mut().events()?;
        if !events.is_empty() {
            return Ok(events);
        }
    }
}

/// Waits for the work that is going on; for ever where there is none.
async fn finished(running: &mut Option<Running>) -> (Order, Work, Done) {
    match running {
        Some(Running { order, result, .. }) => match result.await {
            Ok((work, done)) => {
                let order = *order;
                *running = None;
                (order, work, done)
            }
            // Only a defect gets here, and the service manager starts another agent.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        None => std::future::pending().await,
    }
}
