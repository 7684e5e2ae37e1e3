//! A network namespace held by a file descriptor, and the way in and out of it.

use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, unshare_unsafe},
};

const RUN_NETNS: &str = "/run/netns";
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A network namespace. Clones share it; the last one to go removes its name, and the kernel the rest.
#[derive(Clone, Debug)]
pub struct NetNs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    fd: File,
    path: PathBuf,
}

impl NetNs {
    /// A fresh namespace with loopback up and IPv6 silent until an IPv6 address is added to a device.
    ///
    /// It is bound to `/run/netns/npt-<pid>-<serial>-<label>`, so that `nsenter --net=` finds it while the test runs.
    pub fn new(label: &str) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self::named(&format!("npt-{}-{serial}-{label}", std::process::id()))
    }

    /// As [`NetNs::new`], bound to `/run/netns/<name>`: for people, who come back to a name.
    pub fn named(name: &str) -> Result<Self> {
        let name = name.to_owned();
        let path = Path::new(RUN_NETNS).join(&name);
        fs::create_dir_all(RUN_NETNS)?;
        File::create(&path)?;
        let fd = thread::scope(|scope| {
            scope.spawn(|| create(&path)).join().expect("a thread that only makes a namespace does not panic")
        })
        .with_context(|| format!("making namespace {name}"))?;
        let ns = Self(Arc::new(Inner { name, fd, path }));
        ns.run(|| -> Result<()> {
            for (key, value) in [("disable_ipv6", "1"), ("accept_dad", "0"), ("router_solicitations", "0")] {
                sysctl(&format!("net/ipv6/conf/default/{key}"), value)?;
            }
            crate::topology::Link::named("lo").up()
        })?;
        Ok(ns)
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs `work` on a thread inside the namespace and hands back its result; a panic goes through.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` on a thread of its own inside the namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let ns = self.clone();
        thread::spawn(move || {
            ns.enter();
            work()
        })
    }

    /// The descriptor, for setns in a child process and for moving links here.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// The descriptor's number, for netlink's `IFLA_NET_NS_FD`.
    pub fn raw_fd(&self) -> i32 {
        self.0.fd.as_raw_fd()
    }

    fn enter(&self) {
        move_into_thread_name_spaces(self.fd(), ThreadNameSpaceType::NETWORK)
            .unwrap_or_else(|error| panic!("entering {}: {error}", self.name()));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nothing is left to do about a failure here: the name is only a handle for people.
        let _ = unmount(&self.path, UnmountFlags::DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a sysctl of the current thread's network namespace, `key` with slashes.
pub fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
}

fn create(path: &Path) -> Result<File> {
    // SAFETY: only this thread's network namespace changes; it holds no descriptor table or memory of its own.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET)? };
    let own = "/proc/thread-self/ns/net";
    mount_bind(own, path).with_context(|| format!("binding to {}", path.display()))?;
    Ok(File::open(own)?)
}
