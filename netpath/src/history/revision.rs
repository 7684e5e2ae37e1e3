//! One revision: what is known about an applied document, and the document, as bytes with a checksum.
//!
//! ```text
//! # netpath-revision 1 sha256 <of all that follows this line>
//! # {"number":12,"time":"2026-11-29T05:38:45Z","user":"alice",…}
//! zone: zone1                       the document, byte for byte
//! ```
//!
//! Both lines are comments of YAML: the file itself is a definitions file.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::definitions;

/// The form of the file that this build writes and reads.
const FORMAT: u32 = 1;
const HEAD: &str = "# netpath-revision ";

/// How bringing a revision into force ended. It is the ending of the file's name: it changes by a rename, which takes no
/// room on a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A step failed, and those before it were taken back.
    Failed,
    /// The process ended in the middle; what it had done is still there.
    Interrupted,
    /// It is being brought into force.
    Pending,
    /// It came into force.
    Applied,
    /// It came into force, nobody confirmed it, and what was before it was restored.
    Unconfirmed,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Failed, Self::Interrupted, Self::Pending, Self::Applied, Self::Unconfirmed];

    /// As it is written everywhere.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// Why a document was brought into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// `netpath apply`.
    Apply,
    /// `netpath agent` saw it change.
    Agent,
    /// `netpath rollback`.
    Rollback,
    /// A revision was not confirmed in time.
    Unconfirmed,
}

/// What is known about a revision beside its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its number, from one.
    pub number: u64,
    /// When it was to come into force, RFC 3339 in UTC.
    pub time: String,
    /// Who brought it: by sudo, by login, or the process's user.
    pub user: String,
    /// The process's user.
    pub uid: u32,
    /// The host whose part was meant.
    pub host: String,
    /// The file it came from.
    pub source: String,
    /// Why it was brought into force.
    pub cause: Cause,
    /// The revision whose document it brought back.
    pub rollback_of: Option<u64>,
    /// The revision that it replaces because that was not confirmed.
    pub unconfirmed: Option<u64>,
    /// The document's bytes.
    pub bytes: u64,
    /// The document's SHA-256, as sha256sum prints it.
    pub sha256: String,
}

/// A revision, read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// What is known about it.
    pub meta: Meta,
    /// The document, as it was applied.
    pub document: String,
}

impl Revision {
    /// What errors call the document.
    #[must_use]
    pub fn name(&self) -> String {
        format!("revision {}", self.meta.number)
    }

    /// Is this the same document for the same host?
    #[must_use]
    pub fn is(&self, document: &str, host: &str) -> bool {
        self.meta.host == host && definitions::is_same_text(&self.document, document)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let body = format!("# {}\n{}", serde_json::to_string(&self.meta)?, self.document);
        Ok(format!("{HEAD}{FORMAT} sha256 {}\n{body}", sha256(body.as_bytes())).into_bytes())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let text = std::str::from_utf8(bytes).map_err(|_| Damage::Checksum)?;
        let (head, body) = text.split_once('\n').ok_or(Damage::Torn)?;
        let (format, checksum) =
            head.strip_prefix(HEAD).and_then(|rest| rest.split_once(" sha256 ")).ok_or(Damage::Head)?;
        match format.parse() {
            Ok(FORMAT) => {}
            Ok(newer) => return Err(Damage::Format(newer)),
            Err(_) => return Err(Damage::Head),
        }
        if sha256(body.as_bytes()) != checksum {
            return Err(Damage::Checksum);
        }
        let (meta, document) = body.strip_prefix("# ").and_then(|rest| rest.split_once('\n')).ok_or(Damage::Head)?;
        let meta = serde_json::from_str(meta).map_err(|_| Damage::Head)?;
        Ok(Self { meta, document: document.to_owned() })
    }
}

/// What is wrong with a revision's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It ends before its first line does.
    #[error("its file ends before its first line does")]
    Torn,
    /// Its first lines are not those of a revision.
    #[error("its file does not begin as a revision's does")]
    Head,
    /// What it holds is not what was written.
    #[error("its checksum is not that of its contents")]
    Checksum,
    /// Another version of netpath wrote it.
    #[error("its file has format {0}, and this netpath knows {FORMAT}")]
    Format(u32),
    /// It is larger than any revision.
    #[error("its file is larger than definitions may be")]
    Size,
    /// There is something else by its name.
    #[error("by its name there is no file, but a folder or something else")]
    NoFile,
}

/// SHA-256 as sha256sum prints it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision() -> Revision {
        let document = "zone: zone1\n# last line without an end".to_owned();
        let meta = Meta {
            number: 7,
            time: "2026-11-29T05:38:45Z".into(),
            user: "alice".into(),
            uid: 0,
            host: "kvm1".into(),
            source: "zone.yaml".into(),
            cause: Cause::Rollback,
            rollback_of: Some(5),
            unconfirmed: None,
            bytes: document.len() as u64,
            sha256: sha256(document.as_bytes()),
        };
        Revision { meta, document }
    }

    #[test]
    fn a_revision_reads_back_byte_for_byte() {
        let revision = revision();
        assert_eq!(Revision::decode(&revision.encode().unwrap()), Ok(revision));
    }

    #[test]
    fn every_flipped_bit_and_every_torn_end_is_noticed() {
        let whole = revision().encode().unwrap();
        for at in 0..whole.len() {
            assert!(Revision::decode(&whole[..at]).is_err(), "torn at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(Revision::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_format_of_tomorrow_is_named() {
        let text = String::from_utf8(revision().encode().unwrap()).unwrap();
        let newer = text.replacen("revision 1 ", "revision 2 ", 1);
        assert_eq!(Revision::decode(newer.as_bytes()), Err(Damage::Format(2)));
    }

    #[test]
    fn the_checksum_is_that_of_sha256sum() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
