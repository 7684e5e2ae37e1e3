//! Earlier readings of the counters, for `show usage --since`: a line each in a file of its own for each root.
//!
//! A sample is written by every apply, whoever makes it, and by the agent as time passes, once a minute at most; and by each `show usage`.
//! Where there is no room for a new one, older ones are thinned out.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::Usage;
use crate::{error::Error, history::instance_folder, when};

/// Bytes of them that are kept.
const KEPT: u64 = 64 << 20;
/// No two samples that nobody asked for are nearer than this.
const INTERVAL: Duration = Duration::from_secs(60);

/// The samples of one root.
pub(crate) struct Samples {
    folder: PathBuf,
}

/// What the samples know of a time.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest that is as old as that.
    pub(crate) sample: Option<Usage>,
    /// When the oldest of all was taken.
    pub(crate) oldest: Option<String>,
}

/// What is looked at of a sample before the rest of it.
#[derive(Deserialize)]
struct Head {
    at: String,
    counted_since: String,
}

impl Samples {
    /// Those in `state_dir` of the instance whose pins are under `root`.
    pub(crate) fn of(state_dir: &Path, root: &Path) -> Self {
        Self { folder: instance_folder(state_dir, root).join("usage") }
    }

    /// The file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("samples.jsonl")
    }

    /// The newest sample that was taken at `time`, in seconds since 1970, or before, of those that count since the same moment. A
    /// line that a kill has torn is none.
    pub(crate) fn newest_at(&self, time: u64, counted_since: &str) -> Result<Found, Error> {
        let path = self.path();
        let unreadable = |source| Error::State { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            file => file.map_err(unreadable)?,
        };
        let (mut found, mut oldest) = (None, None);
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(unreadable)?;
            let Ok(head) = serde_json::from_slice::<Head>(&line) else { continue };
            let at = when::parse(&head.at, SystemTime::UNIX_EPOCH).map(when::seconds);
            if head.counted_since != counted_since {
                continue;
            }
            oldest.get_or_insert(head.at);
            if at.is_some_and(|at| at <= time) {
                found = Some(line);
            }
        }
        let sample = found.and_then(|line| serde_json::from_slice(&line).ok());
        Ok(Found { sample, oldest })
    }

    /// Whether a minute has passed since the last one.
    pub(super) fn is_due(&self) -> bool {
        self.are_apart(INTERVAL)
    }

    /// Whether the last one is so old. One of the future, after the clock was set back, is not waited for.
    fn are_apart(&self, interval: Duration) -> bool {
        let last = fs::metadata(self.path()).and_then(|data| data.modified());
        last.map_or(true, |last| last.elapsed().map_or(true, |age| age >= interval))
    }

    /// Adds a reading, if one is due; that it cannot be is no failure of what is being done.
    pub(super) fn add(&self, usage: &Usage) {
        self.add_after(INTERVAL, usage);
    }

    /// Adds a reading that somebody asked for, who may ask for what was counted since: due or not.
    pub(crate) fn add_asked(&self, usage: &Usage) {
        self.add_after(Duration::ZERO, usage);
    }

    fn add_after(&self, interval: Duration, usage: &Usage) {
        if let Err(error) = self.try_add(interval, usage) {
            tracing::warn!("no sample of what was counted is kept in {}: {error}", self.folder.display());
        }
    }

    fn try_add(&self, interval: Duration, usage: &Usage) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Two commands at a time: the file is replaced when it is full, so the lock is another one. It ends with this function.
        let lock = OpenOptions::new().append(true).create(true).mode(0o600).open(self.folder.join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        if self.are_apart(interval) { append(&self.path(), &serde_json::to_string(usage)?, KEPT) } else { Ok(()) }
    }
}

/// Adds a line to a file of at most `kept` bytes.
fn append(path: &Path, line: &str, kept: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let len = file.metadata()?.len();
    if len + line.len() as u64 + 1 > kept {
        file = thinned(path, file, kept)?;
    }
    // What a kill has torn ends before the next one begins.
    let torn = if is_torn(&mut file)? { "\n" } else { "" };
    file.write_all(format!("{torn}{line}\n").as_bytes())
}

/// Whether the last line has no end.
fn is_torn(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A line of the file.
struct Line {
    start: u64,
    len: u64,
    /// Seconds since 1970.
    at: u64,
}

/// Puts a file in the place of this one that has three quarters of `kept` bytes at most: the older a time is, the further apart are the
/// readings of it. Those that count since another moment than the newest are nobody's any more.
fn thinned(path: &Path, file: File, kept: u64) -> io::Result<File> {
    let mut old = BufReader::new(file);
    let lines = lines(&mut old)?;
    let fresh = path.with_extension("new");
    let new = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let mut writer = BufWriter::new(&new);
    for line in chosen(&lines, kept / 4 * 3) {
        old.seek(SeekFrom::Start(line.start))?;
        io::copy(&mut old.by_ref().take(line.len), &mut writer)?;
    }
    writer.flush()?;
    drop(writer);
    fs::rename(fresh, path)?;
    Ok(new)
}

/// The whole lines that count since the same moment as the newest.
fn lines(file: &mut BufReader<File>) -> io::Result<Vec<Line>> {
    file.rewind()?;
    let (mut lines, mut since) = (Vec::new(), String::new());
    let (mut text, mut start) = (Vec::new(), 0);
    loop {
        text.clear();
        let len = file.read_until(b'\n', &mut text)? as u64;
        if len == 0 {
            return Ok(lines);
        }
        let head = serde_json::from_slice::<Head>(&text).ok().filter(|_| text.ends_with(b"\n"));
        if let Some(head) = head {
            if head.counted_since != since {
                (lines, since) = (Vec::new(), head.counted_since);
            }
            let at = when::parse(&head.at, SystemTime::UNIX_EPOCH).map_or(0, when::seconds);
            lines.push(Line { start, len, at });
        }
        start += len;
    }
}

/// The first of all, and of the others each that is further from the one before it than a part of its age; the largest part that leaves
/// no more than so many bytes.
fn chosen(lines: &[Line], most: u64) -> Vec<&Line> {
    let now = lines.last().map_or(0, |line| line.at);
    let by_part = |part: u64| {
        let mut last: Option<u64> = None;
        let is_apart = |line: &&Line| {
            let apart = last.is_none_or(|last| line.at.saturating_sub(last) * part >= now.saturating_sub(line.at));
            last = if apart { Some(line.at) } else { last };
            apart
        };
        lines.iter().filter(is_apart).collect::<Vec<_>>()
    };
    let bytes = |lines: &[&Line]| lines.iter().map(|line| line.len).sum::<u64>();
    let fitting = (0..16).rev().map(|bits| by_part(1 << bits)).find(|lines| bytes(lines) <= most);
    // So few have room that only the newest do.
    fitting.unwrap_or_else(|| {
        let mut room = most;
        let has_room = |line: &&Line| room.checked_sub(line.len).inspect(|left| room = *left).is_some();
        let mut newest: Vec<_> = lines.iter().rev().take_while(has_room).collect();
        newest.reverse();
        newest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: u64, since: &str) -> String {
        let at = when::text(SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        serde_json::to_string(&Usage { at, counted_since: since.into(), ..Usage::default() }).unwrap()
    }

    #[test]
    fn older_ones_are_further_apart_for_room_and_what_is_torn_ends_before_the_next() {
        let folder = std::env::temp_dir().join(format!("netpath-samples-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("samples.jsonl");
        let times = || -> Vec<u64> {
            let text = fs::read_to_string(&path).unwrap();
            let heads = text.lines().filter_map(|line| serde_json::from_str::<Head>(line).ok());
            heads.map(|head| when::seconds(when::parse(&head.at, SystemTime::UNIX_EPOCH).unwrap())).collect()
        };
        let kept = 100 * (sample(0, "now").len() as u64 + 1);
        append(&path, &sample(7, "before"), kept).unwrap();
        // A minute apart for a day, and at its end somebody asks every second.
        let asked = (1440 * 60..1440 * 60 + 600).map(|second| 1000 + second);
        for at in (0..1440).map(|minute| 1000 + minute * 60).chain(asked) {
            append(&path, &sample(at, "now"), kept).unwrap();
        }
        let (times, len) = (times(), fs::metadata(&path).unwrap().len());
        assert!(len <= kept && times.len() > 40 && times.is_sorted(), "{len} of {kept}: {times:?}");
        assert_eq!((times[0], *times.last().unwrap()), (1000, 1000 + 1440 * 60 + 599));
        let end = *times.last().unwrap();
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] <= 120 + (end - pair[0]) / 2, "{pair:?} of {times:?}");
        }
        fs::write(&path, "torn").unwrap();
        append(&path, "whole", kept).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "torn\nwhole\n");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_newest_sample_that_is_old_enough_is_found_among_those_that_count_since_the_same_moment() {
        let state_dir = std::env::temp_dir().join(format!("netpath-found-{}", std::process::id()));
        let samples = Samples::of(&state_dir, Path::new("/sys/fs/bpf/netpath"));
        fs::create_dir_all(samples.path().parent().unwrap()).unwrap();
        let began = "1970-01-01T00:00:00Z";
        let lines =
            [sample(50, "another"), sample(60, began), sample(120, began), "{\"at\":".into(), sample(180, began)];
        fs::write(samples.path(), lines.join("\n")).unwrap();
        let at = |time| {
            let found = samples.newest_at(time, began).unwrap();
            (found.sample.map(|sample| sample.at), found.oldest.unwrap())
        };
        let oldest = || "1970-01-01T00:01:00Z".to_owned();
        assert_eq!(at(59), (None, oldest()));
        assert_eq!(at(150), (Some("1970-01-01T00:02:00Z".into()), oldest()));
        assert_eq!(at(200), (Some("1970-01-01T00:03:00Z".into()), oldest()));
        assert!(samples.newest_at(200, "never").unwrap().oldest.is_none());
        fs::remove_dir_all(state_dir).unwrap();
    }
}
