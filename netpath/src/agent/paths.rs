//! What has to stay as it is for a path to mean what it means: the names in folders that are looked up on the way to it,
//! those that symbolic links lead to among them.
//!
//! ```text
//! /etc/netpath/zone.yaml ─► (/, etc) (/etc, netpath) (/etc/netpath, zone.yaml) ─ a link to ..data/zone.yaml
//!                                ─► (/etc/netpath, ..data) ─ a link to ..7 ─► (/etc/netpath, ..7) (/etc/netpath/..7, zone.yaml)
//! ```
//!
//! Whoever watches all of these sees a file that is written, one that is renamed over another, and a link that is swapped
//! anywhere on the way.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::definitions;

/// The files of which the definitions at `path` are made, a file or a folder of them.
pub(super) fn files_of(path: &Path) -> Vec<PathBuf> {
    match path.is_dir() {
        true => definitions::documents_in(path).unwrap_or_default(),
        false => vec![path.to_owned()],
    }
}

/// As many links as the kernel follows (`MAXSYMLINKS`).
const LINKS_MAX: u32 = 40;

/// The names that matter, by the folder that they are in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lookups {
    names: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// A folder of documents, where every document's name matters.
    documents: Option<PathBuf>,
}

impl Lookups {
    /// What the definitions at `path`, a file or a folder of them, depend on. What does not exist yet is looked up as far as
    /// there is something.
    ///
    /// # Errors
    /// When the working directory is gone, from which a relative path begins.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut lookups = Self::default();
        let Some(found) = lookups.follow(&std::path::absolute(path)?) else { return Ok(lookups) };
        if found.is_dir() {
            for document in definitions::documents_in(&found).unwrap_or_default() {
                lookups.follow(&document);
            }
            lookups.names.entry(found.clone()).or_default();
            lookups.documents = Some(found);
        }
        Ok(lookups)
    }

    /// The folders to watch.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.names.keys().map(PathBuf::as_path)
    }

    /// Whether what happens to `name` in `folder` matters.
    pub(super) fn concerns(&self, folder: &Path, name: &OsStr) -> bool {
        let is_looked_up = self.names.get(folder).is_some_and(|names| names.contains(name));
        is_looked_up || self.documents.as_deref() == Some(folder) && definitions::is_document(name)
    }

    /// Walks to an absolute path; where it leads, if anywhere.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut links = 0;
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = parts(path).collect();
        while let Some(part) = ahead.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            self.names.entry(here.clone()).or_default().insert(part.clone());
            let next = here.join(&part);
            if fs::symlink_metadata(&next).ok()?.is_symlink() {
                links += 1;
                if links > LINKS_MAX {
                    return None;
                }
                let target = fs::read_link(&next).ok()?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                parts(&target).rev().for_each(|part| ahead.push_front(part));
            } else {
                here = next;
            }
        }
        Some(here)
    }
}

/// The names of a path, and `..`.
fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::agent::scratch::Scratch;

    #[test]
    fn a_file_depends_on_every_name_on_the_way_to_it() {
        let scratch = Scratch::new("paths-file");
        let file = scratch.path().join("zone.yaml");
        let before = Lookups::of(&file).unwrap();
        assert!(before.concerns(scratch.path(), OsStr::new("zone.yaml")), "a file that is yet to come");
        fs::write(&file, "zone: a").unwrap();
        let lookups = Lookups::of(&file).unwrap();
        assert!(lookups.concerns(scratch.path(), OsStr::new("zone.yaml")));
        assert!(lookups.concerns(scratch.path().parent().unwrap(), scratch.path().file_name().unwrap()));
        assert!(!lookups.concerns(scratch.path(), OsStr::new("zone.yaml.swp")));
    }

    #[test]
    fn every_link_on_the_way_is_seen_and_what_it_leads_to() {
        let scratch = Scratch::new("paths-links");
        let here = scratch.path();
        fs::create_dir(here.join("..7")).unwrap();
        fs::write(here.join("..7/zone.yaml"), "zone: a").unwrap();
        symlink("..7", here.join("..data")).unwrap();
        symlink("..data/zone.yaml", here.join("zone.yaml")).unwrap();
        let lookups = Lookups::of(&here.join("zone.yaml")).unwrap();
        for (folder, name) in [(here, "zone.yaml"), (here, "..data"), (here, "..7"), (&here.join("..7"), "zone.yaml")] {
            assert!(lookups.concerns(folder, OsStr::new(name)), "{name} in {}", folder.display());
        }
        symlink("circle", here.join("circle")).unwrap();
        assert!(Lookups::of(&here.join("circle")).unwrap().concerns(here, OsStr::new("circle")));
    }

    #[test]
    fn of_a_folder_every_document_matters_also_one_that_is_yet_to_come() {
        let scratch = Scratch::new("paths-folder");
        fs::write(scratch.path().join("a.yaml"), "zone: a").unwrap();
        let lookups = Lookups::of(scratch.path()).unwrap();
        assert!(lookups.concerns(scratch.path(), OsStr::new("b.yml")));
        assert!(!lookups.concerns(scratch.path(), OsStr::new(".a.yaml.swp")));
        assert!(!lookups.concerns(scratch.path(), OsStr::new("notes.txt")));
    }
}
