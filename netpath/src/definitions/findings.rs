//! What is wrong with a document: findings with their places, collected so that all are reported at once.

use std::{collections::HashMap, fmt, io, path::PathBuf};

use serde::Serialize;

/// A place in a document, both counted from one. [`Pos::NONE`] is the place of what the document does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pos {
    /// Line, from one.
    pub line: u32,
    /// Column in characters, from one.
    pub column: u32,
}

impl Pos {
    /// No place: a default, or the stand-in for a value that could not be read.
    pub const NONE: Self = Self { line: 0, column: 0 };
    /// The document's first character.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One error of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file that the document is in, or this part of it.
    pub file: String,
    /// Where in the file.
    #[serde(flatten)]
    pub at: Pos,
    /// The offending value, as written.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, value, problem, expected } = self;
        write!(f, "{file}:{}:{}: `{value}`: {problem}; {expected}", at.line, at.column)
    }
}

/// Findings are worth reading up to here; a file that is no definitions at all would fill the screen otherwise.
const FINDINGS_MAX: usize = 1000;
/// An offending value is quoted up to here, in characters.
const VALUE_MAX: usize = 80;

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Finding>,
    /// What only a document that has not been in force is refused for.
    objections: Vec<Finding>,
    /// Values as they are written, where checks quote them.
    written: HashMap<Pos, String>,
    /// The files that the document is in, each with the lines of those before it: lines are counted through all of them.
    sources: Vec<(String, u32)>,
    lines: u32,
}

impl Findings {
    /// Findings of a document in `text`, or a part of it, are in `file` from here on.
    pub(super) fn open(&mut self, file: &str, text: &str) {
        self.sources.push((file.to_owned(), self.lines));
        let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
        // One more: what is missing at the end is missing behind the last line.
        self.lines = self.lines.saturating_add(lines).saturating_add(1);
    }

    /// The lines of the sources before the one that was opened last.
    pub(super) fn lines_before(&self) -> u32 {
        self.sources.last().map_or(0, |(_, before)| *before)
    }

    /// A line of the document for people: with its file, where there are several.
    pub(super) fn line(&self, at: Pos) -> String {
        let (file, at) = self.place(at);
        match self.sources.len() {
            0 | 1 => format!("line {}", at.line),
            _ => format!("line {} of {file}", at.line),
        }
    }

    /// The file and the place in it.
    fn place(&self, at: Pos) -> (&str, Pos) {
        let source = self.sources.iter().rev().find(|(_, before)| at.line > *before).or(self.sources.first());
        source.map_or(("", at), |(file, before)| (file, Pos { line: at.line - before.min(&at.line), ..at }))
    }

    /// Records that `value` at `at` has a `problem`, and what was `expected`.
    pub(super) fn add(
        &mut self,
        at: Pos,
        value: impl fmt::Display,
        problem: impl fmt::Display,
        expected: impl fmt::Display,
    ) {
        if !self.is_full() {
            self.found.push(finding(at, value, problem, expected));
        }
    }

    /// Records the same of a value that can be read: it counts from [`Findings::raise_objections`] on.
    pub(super) fn object(
        &mut self,
        at: Pos,
        value: impl fmt::Display,
        problem: impl fmt::Display,
        expected: impl fmt::Display,
    ) {
        if self.objections.len() < FINDINGS_MAX {
            self.objections.push(finding(at, value, problem, expected));
        }
    }

    /// What was objected to is found from here on.
    pub(super) fn raise_objections(&mut self) {
        let room = FINDINGS_MAX.saturating_sub(self.found.len());
        self.found.extend(std::mem::take(&mut self.objections).into_iter().take(room));
    }

    /// Keeps how the value at a place is written.
    pub(super) fn remember(&mut self, at: Pos, text: &str) {
        self.written.insert(at, text.to_owned());
    }

    /// How the value at a place is written, where that was kept.
    pub(super) fn written(&self, at: Pos) -> String {
        self.written.get(&at).cloned().unwrap_or_default()
    }

    /// Whether further findings are left out, and need not be worked out.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= FINDINGS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings by place, each once.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.found.sort();
        self.found.dedup();
        let mut found = std::mem::take(&mut self.found);
        for finding in &mut found {
            let (file, at) = self.place(finding.at);
            (finding.file, finding.at) = (file.to_owned(), at);
        }
        found
    }
}

fn finding(at: Pos, value: impl fmt::Display, problem: impl fmt::Display, expected: impl fmt::Display) -> Finding {
    Finding {
        file: String::new(),
        at,
        value: quoted(&value.to_string()),
        problem: problem.to_string(),
        expected: expected.to_string(),
    }
}

/// One line without control characters, and short enough to read.
fn quoted(value: &str) -> String {
    let clean = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut text: String = clean.clone().take(VALUE_MAX).collect();
    if clean.count() > VALUE_MAX {
        text.push('…');
    }
    text
}

impl DefinitionsError {
    /// Whether there was nothing to look at, for reasons of the file system: permissions and mounts may change.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Missing { .. } | Self::NoDocuments { .. })
    }
}

/// Why there is no zone.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// The file cannot be read.
    #[error("the definitions {path} cannot be read; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A folder without documents.
    #[error("{} holds no definitions: no file whose name ends with .yaml, .yml or .json", path.display())]
    NoDocuments {
        /// The folder.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("there is no file {path}; check the path")]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// The path is a FIFO, a socket or a device, or a directory within one of documents.
    #[error("{path} is {kind}, not a file; name a definitions file, or a folder of them, with -f")]
    NotAFile {
        /// The path as given.
        path: PathBuf,
        /// What it is: "a directory".
        kind: &'static str,
    },
    /// The file is too large to be definitions.
    #[error("{path} is larger than the limit of {limit_mib} MiB; check that it is the definitions file")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in MiB.
        limit_mib: u64,
    },
    /// The file is not text.
    #[error("{path} is not UTF-8 text (byte {offset} is {byte:#04x}); give a YAML or JSON document")]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where the first byte lies that is no text.
        offset: usize,
        /// That byte.
        byte: u8,
    },
    /// The file holds nothing.
    #[error("{path} is empty; write the definitions of a zone into it (docs/definitions.md begins with an example)")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The document has errors, all of them.
    #[error("{}", Listing { file, findings })]
    Findings {
        /// The file's name.
        file: String,
        /// Every error, by place.
        findings: Vec<Finding>,
    },
}

impl DefinitionsError {
    /// The errors of the document; empty when it could not even be read.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Findings { findings, .. } => findings,
            _ => &[],
        }
    }
}

struct Listing<'a> {
    file: &'a str,
    findings: &'a [Finding],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, findings } = self;
        match findings.len() {
            1 => write!(f, "{file} has 1 error")?,
            FINDINGS_MAX => write!(f, "{file} has {FINDINGS_MAX} errors or more")?,
            count => write!(f, "{file} has {count} errors")?,
        }
        for finding in *findings {
            write!(f, "\n{finding}")?;
        }
        Ok(())
    }
}
