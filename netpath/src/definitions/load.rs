//! From a file or text to a checked zone.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
};

use super::{
    check,
    decode::Field as _,
    findings::{DefinitionsError, Findings, Pos},
    model::Zone,
    node,
};

/// What a document may have; definitions of 10 000 NICs take one MiB.
pub const LIMIT_MIB: u64 = 8;

/// Reads, decodes and checks the definitions in `path`.
///
/// # Errors
/// [`DefinitionsError::Findings`] with every error of the document; the other kinds when there is no document to
/// look at.
pub fn load(path: &Path) -> Result<Zone, DefinitionsError> {
    parse(&path.display().to_string(), &read(path)?)
}

/// Reads the text of the definitions in `path`.
///
/// # Errors
/// [`DefinitionsError`] when there is no text to look at; never its findings.
pub fn read(path: &Path) -> Result<String, DefinitionsError> {
    let bytes = read_bytes(path)?;
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(DefinitionsError::NotText { path: path.into(), offset, byte: 0 });
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err(DefinitionsError::Empty { path: path.into() }),
        Ok(text) => Ok(text),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let byte = error.as_bytes().get(offset).copied().unwrap_or_default();
            Err(DefinitionsError::NotText { path: path.into(), offset, byte })
        }
    }
}

/// The file's bytes, as many as definitions may have.
fn read_bytes(path: &Path) -> Result<Vec<u8>, DefinitionsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DefinitionsError::Missing { path: path.into() },
        _ => DefinitionsError::Read { path: path.into(), source },
    };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(DefinitionsError::NotAFile { path: path.into(), kind: "a directory" });
    }
    if !kind.is_file() && !kind.is_fifo() {
        return Err(DefinitionsError::NotAFile { path: path.into(), kind: "a device or socket" });
    }
    let limit = LIMIT_MIB << 20;
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(DefinitionsError::TooLarge { path: path.into(), limit_mib: LIMIT_MIB });
    }
    Ok(bytes)
}

/// Decodes and checks the definitions in `text`; `name` is how errors call the document.
///
/// # Errors
/// [`DefinitionsError::Findings`] with every error of the document.
pub fn parse(name: &str, text: &str) -> Result<Zone, DefinitionsError> {
    let mut findings = Findings::default();
    let root = node::read(text, &mut findings);
    let zone = root.as_ref().and_then(|root| Zone::decode(root, &mut findings));
    if let Some(zone) = &zone {
        check::check(zone, &mut findings);
    }
    match zone {
        Some(zone) if findings.is_empty() => Ok(zone),
        _ => {
            if findings.is_empty() {
                findings.add(Pos::START, "", "no definitions in the document", "begin with `zone: NAME`");
            }
            Err(DefinitionsError::Findings { file: name.into(), findings: findings.into_sorted() })
        }
    }
}
