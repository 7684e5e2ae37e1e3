//! What a check says of a fault.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; the host is healthy.
    Note,
    /// Something is slower, or weaker, than it should be, or is about to fail.
    Warning,
    /// Somebody's packets are lost, or nothing is applied while it lasts.
    Error,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A fault that a check found, and who found it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The check.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: `uplink eth1`, `network acme-web`, `map FLOWS`.
    pub object: String,
    /// What was found, with its figures.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it, or what to do where no command does.
    pub mend: String,
}

/// A fault, before it is said which check found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) severity: Severity,
    pub(crate) object: String,
    pub(crate) found: String,
    pub(crate) why: &'static str,
    pub(crate) mend: String,
}

impl Fault {
    /// A fault that costs somebody's packets.
    pub(super) fn error(object: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Error, object.into(), found.into())
    }

    /// A fault that costs speed, or will cost packets.
    pub(super) fn warning(object: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Warning, object.into(), found.into())
    }

    /// What is worth knowing.
    pub(super) fn note(object: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Severity::Note, object.into(), found.into())
    }

    /// Why it matters.
    pub(super) fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    /// What to do about it.
    pub(super) fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: mend.into(), ..self }
    }

    fn new(severity: Severity, object: String, found: String) -> Self {
        Self { severity, object, found, why: "", mend: String::new() }
    }

    /// The finding of the check with this id.
    pub(super) fn by(self, id: &'static str) -> Finding {
        let Self { severity, object, found, why, mend } = self;
        Finding { id, severity, object, found, why, mend }
    }
}

/// So many of a kind are told one by one.
const SHOWN: usize = 20;

/// A fault for each of the first objects and what was found of them, and one for all others.
pub(super) fn few(all: Vec<(String, String)>, fault: impl Fn(String, String) -> Fault) -> Vec<Fault> {
    let more = all.len().saturating_sub(SHOWN);
    let shown = all.into_iter().take(SHOWN).map(|(object, found)| fault(object, found));
    let mut faults: Vec<Fault> = shown.collect();
    if more > 0 {
        faults.push(fault(format!("{more} more"), "the like".to_owned()));
    }
    faults
}

/// So many of something, by its word for one, which has an `s` for more.
pub(super) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

/// Words in a row: `a`, `a and b`, `a, b and c`.
pub(super) fn listed(words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match &words[..] {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        words => words.concat(),
    }
}
