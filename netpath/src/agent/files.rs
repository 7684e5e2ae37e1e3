//! Hears of changes of the definitions' files.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;

use super::{paths::Lookups, quiet::Change, readable};

/// Folders come and go while they are looked at; after so many looks the rest is left to the next change.
const LOOKS_MAX: u32 = 5;

/// The definitions' files, and the folders on the way to them, watched.
pub(super) struct Files {
    path: PathBuf,
    inotify: AsyncFd<OwnedFd>,
    lookups: Lookups,
    /// Watched folders by their descriptors.
    folders: HashMap<i32, PathBuf>,
}

impl Files {
    /// Begins to watch what the definitions at `path` depend on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn watch(path: &Path) -> io::Result<Self> {
        let inotify = readable::register(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?)?;
        let mut files = Self { path: path.to_owned(), inotify, lookups: Lookups::default(), folders: HashMap::new() };
        files.look()?;
        Ok(files)
    }

    /// Waits until something has happened to the files.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) async fn changes(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let mut ready = self.inotify.readable().await?;
            ready.clear_ready();
            drop(ready);
            let changes = self.read()?;
            if !changes.is_empty() {
                // Where a link or a folder is another one, there is something else to watch.
                self.look()?;
                return Ok(changes);
            }
        }
    }

    /// Watches what the files depend on now, until nothing of it changed while it was looked at.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn look(&mut self) -> io::Result<()> {
        for _ in 0..LOOKS_MAX {
            let lookups = Lookups::of(&self.path)?;
            let mut folders = HashMap::new();
            for folder in lookups.folders() {
                match inotify::add_watch(&self.inotify, folder, WATCHED) {
                    Ok(watch) => drop(folders.insert(watch, folder.to_owned())),
                    // Gone again, or not ours to see: what is above it tells when it is there.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for watch in self.folders.keys().filter(|watch| !folders.contains_key(watch)) {
                // A folder that is gone has no watch any more.
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
            let is_same = lookups == self.lookups && folders == self.folders;
            (self.lookups, self.folders) = (lookups, folders);
            if is_same {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(changes),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let folder = self.folders.get(&event.wd());
            match (folder, name) {
                _ if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => changes.push(Change::Unknown),
                (Some(folder), Some(name)) if self.lookups.concerns(folder, name) => {
                    let path = folder.join(name);
                    let is_open = event.events().contains(ReadFlags::MODIFY);
                    changes.push(if is_open { Change::Written(path) } else { Change::Settled(path) });
                }
                // A watched folder itself is gone, or is elsewhere.
                (Some(_), None) if event.events().intersects(ELSEWHERE) => changes.push(Change::Unknown),
                _ => {}
            }
        }
    }
}

const WATCHED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
const ELSEWHERE: ReadFlags = ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT);

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
        time::Duration,
    };

    use super::*;
    use crate::agent::scratch::Scratch;

    /// Waits, within a deadline, until `path` is said to have settled; gives what was said before.
    async fn settles(files: &mut Files, path: &Path) -> Vec<Change> {
        let wanted = Change::Settled(path.to_owned());
        let mut heard = Vec::new();
        let hear = async {
            while !heard.contains(&wanted) {
                heard.extend(files.changes().await.unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(10), hear).await.expect("a change is heard of");
        heard
    }

    #[tokio::test]
    async fn a_file_is_heard_of_when_it_comes_is_written_and_is_replaced() {
        let scratch = Scratch::new("files-one");
        let path = scratch.path().join("zone.yaml");
        let mut files = Files::watch(&path).unwrap();
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(b"zone: a").unwrap();
        settles(&mut files, &path).await;
        drop(file);
        let heard = settles(&mut files, &path).await;
        assert!(!heard.contains(&Change::Written(path.clone())), "the file was written before that");
        fs::write(scratch.path().join("new"), "zone: b").unwrap();
        fs::rename(scratch.path().join("new"), &path).unwrap();
        assert_eq!(settles(&mut files, &path).await, [Change::Settled(path.clone())]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        settles(&mut files, &path).await;
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"c").unwrap();
        let heard = settles(&mut files, &path).await;
        assert_eq!(heard, [Change::Written(path.clone()), Change::Settled(path.clone())]);
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_takes_the_watch_along() {
        let scratch = Scratch::new("files-link");
        let here = scratch.path();
        for folder in ["..1", "..2"] {
            fs::create_dir(here.join(folder)).unwrap();
            fs::write(here.join(folder).join("zone.yaml"), "zone: a").unwrap();
        }
        symlink("..1", here.join("..data")).unwrap();
        symlink("..data/zone.yaml", here.join("zone.yaml")).unwrap();
        let mut files = Files::watch(&here.join("zone.yaml")).unwrap();
        symlink("..2", here.join("..next")).unwrap();
        fs::rename(here.join("..next"), here.join("..data")).unwrap();
        settles(&mut files, &here.join("..data")).await;
        fs::write(here.join("..2/zone.yaml"), "zone: b").unwrap();
        settles(&mut files, &here.join("..2/zone.yaml")).await;
    }

    #[tokio::test]
    async fn a_folder_that_comes_later_is_watched_then() {
        let scratch = Scratch::new("files-later");
        let folder = scratch.path().join("netpath");
        let mut files = Files::watch(&folder.join("zone.yaml")).unwrap();
        fs::create_dir(&folder).unwrap();
        settles(&mut files, &folder).await;
        fs::write(folder.join("zone.yaml"), "zone: a").unwrap();
        settles(&mut files, &folder.join("zone.yaml")).await;
    }

    #[tokio::test]
    async fn of_a_folder_a_new_document_is_heard_of_and_an_editors_own_file_is_not() {
        let scratch = Scratch::new("files-folder");
        fs::write(scratch.path().join("a.yaml"), "zone: a").unwrap();
        let mut files = Files::watch(scratch.path()).unwrap();
        fs::write(scratch.path().join(".b.yaml.swp"), "zone").unwrap();
        fs::write(scratch.path().join("b.yaml"), "zone: a").unwrap();
        let heard = settles(&mut files, &scratch.path().join("b.yaml")).await;
        assert!(!format!("{heard:?}").contains("swp"), "{heard:?}");
    }
}
