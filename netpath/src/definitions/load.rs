//! From a file or text to a checked zone.

use std::{
    ffi::OsStr,
    fs::{File, FileType},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{
    check,
    decode::Field as _,
    findings::{DefinitionsError, Findings, Pos},
    merge::merge,
    model::Zone,
    node::{self, Node},
};

/// What a document may have; definitions of 10 000 NICs take one MiB.
pub const LIMIT_MIB: u64 = 8;

/// The ends of the names of a folder's documents.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads, decodes and checks the definitions in `path`: a file, or a folder of files that are one document together.
///
/// # Errors
/// [`DefinitionsError::Findings`] with every error of the document; the other kinds when there is no document to
/// look at.
pub fn load(path: &Path) -> Result<Zone, DefinitionsError> {
    parse(&path.display().to_string(), &read(path)?)
}

/// Begins the line before each file of a folder, in the one text that the folder is read as: a comment to YAML.
const FILE_MARK: &str = "#% file: ";

/// Reads the text of the definitions in `path`; that of a folder is all of its files', each after a line with its name.
///
/// # Errors
/// [`DefinitionsError`] when there is no text to look at; never its findings.
pub fn read(path: &Path) -> Result<String, DefinitionsError> {
    if !path.is_dir() {
        return text(path, LIMIT_MIB << 20);
    }
    let files = documents_in(path).map_err(|source| DefinitionsError::Read { path: path.into(), source })?;
    if files.is_empty() {
        return Err(DefinitionsError::NoDocuments { path: path.into() });
    }
    let (mut together, mut room) = (String::new(), LIMIT_MIB << 20);
    for file in &files {
        let text = text(file, room)?;
        room -= text.len() as u64;
        together += &format!("{FILE_MARK}{}\n{text}", file.display());
        if !text.ends_with('\n') {
            together.push('\n');
        }
    }
    Ok(together)
}

/// The files of a folder's text, by name; `None` for the text of one file.
fn files_in(text: &str) -> Option<Vec<(&str, &str)>> {
    // A revision's file has comments of its own before it.
    let head: usize = text.split_inclusive('\n').take_while(|line| line.starts_with("# ")).map(str::len).sum();
    let text = &text[head..];
    text.starts_with(FILE_MARK).then(|| {
        let starts = text.match_indices(FILE_MARK).map(|(at, _)| at);
        let starts: Vec<_> = starts.filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n').collect();
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let parts = starts.iter().zip(ends).map(|(start, end)| &text[start + FILE_MARK.len()..end]);
        parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
    })
}

/// Do two texts, as [`read`] reads them, say the same? By which path a folder was named makes no difference.
#[must_use]
pub fn is_same_text(a: &str, b: &str) -> bool {
    let named = |text| {
        let files = files_in(text)?.into_iter().map(|(path, text)| (Path::new(path).file_name(), text));
        Some(files.collect::<Vec<_>>())
    };
    a == b || named(a).is_some_and(|files| Some(files) == named(b))
}

/// The documents of a folder, in the order of their names. What lies in folders within it is not among them.
///
/// # Errors
/// When the folder cannot be read.
pub fn documents_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = folder.join(entry?.file_name());
        // A symbolic link counts for what it leads to; one that leads nowhere is a document that is missing.
        if file.file_name().is_some_and(is_document) && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file of a folder of definitions is one of its documents: by the end of its name, and unless it is hidden, as
/// what editors leave behind is.
#[must_use]
pub fn is_document(name: &OsStr) -> bool {
    let is_hidden = name.as_encoded_bytes().starts_with(b".");
    !is_hidden && Path::new(name).extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known))
}

/// The text of a file that holds `limit` bytes at most.
fn text(path: &Path, limit: u64) -> Result<String, DefinitionsError> {
    let bytes = read_bytes(path, limit)?;
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
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, DefinitionsError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DefinitionsError::Missing { path: path.into() },
        _ => DefinitionsError::Read { path: path.into(), source },
    };
    let refused = |kind| DefinitionsError::NotAFile { path: path.into(), kind };
    // To open a device may do something to it, so it is looked at before; and nobody is waited for at a FIFO's other end.
    not_a_file(path, std::fs::metadata(path).map_err(failed)?.file_type()).map_or(Ok(()), |kind| Err(refused(kind)))?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    // What has been opened may be another file than what was looked at.
    let kind = file.metadata().map_err(failed)?.file_type();
    not_a_file(path, kind).map_or(Ok(()), |kind| Err(refused(kind)))?;
    if kind.is_fifo() {
        let flags = fcntl_getfl(&file).map_err(|error| failed(error.into()))?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(DefinitionsError::TooLarge { path: path.into(), limit_mib: LIMIT_MIB });
    }
    Ok(bytes)
}

/// What a path leads to, where that is no file to read definitions from. A pipe is one if the process was given it, as `| netpath
/// … -f /dev/stdin` and `-f <(…)` do; a FIFO may have nobody at its other end.
fn not_a_file(path: &Path, kind: FileType) -> Option<&'static str> {
    let is_given = path == Path::new("/dev/stdin") || OWN_DESCRIPTORS.iter().any(|at| path.starts_with(at));
    if kind.is_file() || kind.is_fifo() && is_given {
        return None;
    }
    Some(match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a FIFO",
        _ => "a device or socket",
    })
}

/// Where the process's own descriptors are.
const OWN_DESCRIPTORS: [&str; 2] = ["/dev/fd", "/proc/self/fd"];

/// Decodes and checks the definitions in `text`, as [`read`] reads it; `name` is how errors call the document.
///
/// # Errors
/// [`DefinitionsError::Findings`] with every error of the document.
pub fn parse(name: &str, text: &str) -> Result<Zone, DefinitionsError> {
    let mut findings = Findings::default();
    let zone = decoded(name, text, &mut findings);
    findings.raise_objections();
    if let Some(zone) = &zone {
        check::check(zone, &mut findings);
    }
    zone.filter(|_| findings.is_empty()).ok_or_else(|| refused(name, findings))
}

/// The same of a document that has been in force: what this build alone refuses of it is warned of. It is kept, or restored, as it was.
///
/// # Errors
/// [`DefinitionsError::Findings`] where it cannot be read.
pub fn parse_applied(name: &str, text: &str) -> Result<Zone, DefinitionsError> {
    let mut findings = Findings::default();
    let zone = decoded(name, text, &mut findings);
    let Some(zone) = zone.filter(|_| findings.is_empty()) else { return Err(refused(name, findings)) };
    findings.raise_objections();
    check::check(&zone, &mut findings);
    for finding in findings.into_sorted() {
        tracing::warn!("{name} has been in force, and would be refused now: {finding}");
    }
    Ok(zone)
}

fn refused(name: &str, mut findings: Findings) -> DefinitionsError {
    if findings.is_empty() {
        findings.add(Pos::START, "", "no definitions in the document", "begin with `zone: NAME`");
    }
    DefinitionsError::Findings { file: name.into(), findings: findings.into_sorted() }
}

fn decoded(name: &str, text: &str, findings: &mut Findings) -> Option<Zone> {
    let root = root(name, text, findings)?;
    Zone::decode(&root, findings)
}

fn root<'t>(name: &str, text: &'t str, findings: &mut Findings) -> Option<Rc<Node<'t>>> {
    let Some(files) = files_in(text) else {
        findings.open(name, text);
        return node::read(text, findings);
    };
    let mut roots = Vec::new();
    for (file, text) in files {
        findings.open(file, text);
        roots.extend(node::read(text, findings));
    }
    // What one file lacks because it is no YAML would be missed in all the others.
    if findings.is_empty() { merge(&roots, findings) } else { None }
}
