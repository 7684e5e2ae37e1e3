//! Which definitions an agent has taken up last, for the agent that comes after it.

use std::io;

use serde::{Deserialize, Serialize};

use super::{History, HistoryError, Writer, revision::sha256, store::Contents};

/// The file's name.
const TAKEN: &str = "taken-by-agent";
/// A longer one is none of ours, in bytes.
const SIZE_MAX: u64 = 1024;

/// Definitions that an agent brought into force, or found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The host whose part is meant.
    pub host: String,
    /// The document's checksum.
    pub sha256: String,
    /// The newest revision then: what came after it, others have brought. Zero where there was none.
    pub revision: u64,
}

impl Taken {
    /// Is it this document, for this host?
    #[must_use]
    pub fn is(&self, document: &str, host: &str) -> bool {
        self.host == host && self.sha256 == sha256(document.as_bytes())
    }
}

impl History {
    /// What an agent has taken up last. `None` where nothing says so.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn taken(&self) -> Result<Option<Taken>, HistoryError> {
        match self.folder.read(TAKEN, SIZE_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.unreadable(source)),
            Ok(Contents::Bytes(bytes)) => Ok(serde_json::from_slice(&bytes).ok()),
            Ok(Contents::TooLong | Contents::NoFile) => Ok(None),
        }
    }
}

impl Writer<'_> {
    /// An agent has taken up this document.
    pub fn take(&self, document: &str, host: &str) {
        let history = self.history;
        let written = history.folder.slots().and_then(|slots| {
            let revision = slots.last().map_or(0, |slot| slot.number);
            let taken = Taken { host: host.to_owned(), sha256: sha256(document.as_bytes()), revision };
            match history.taken() {
                Ok(Some(before)) if before == taken => Ok(()),
                _ => history.folder.put(TAKEN, &serde_json::to_vec(&taken)?),
            }
        });
        self.tell(written);
    }
}
