//! What a service manager hears of a service that it has started: the datagrams of sd_notify(3).

use std::{
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use crate::guest::PATIENCE;

/// A service manager, until it is dropped.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    socket: UnixDatagram,
    heard: Receiver<String>,
}

impl ServiceManager {
    /// Listens on a socket at a path. It reads at once what it is told: services do not wait for it.
    ///
    /// # Panics
    /// When there can be no socket.
    pub fn listen(path: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).expect("the folder is writable");
        let (own, (says, heard)) = (socket.try_clone().expect("a socket can be duplicated"), mpsc::channel());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A datagram without a word is its own, and the last one.
            while let Ok(len @ 1..) = own.recv(&mut buffer) {
                if says.send(String::from_utf8_lossy(&buffer[..len]).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { path, socket, heard }
    }

    /// Tells a service where to tell it, and within which time it wants to hear that the service is alive.
    pub fn introduce(&self, command: &mut Command, watchdog: Duration) {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
    }

    /// The next thing that it is told.
    ///
    /// # Panics
    /// When it is told nothing within [`PATIENCE`].
    #[track_caller]
    pub fn hears(&self) -> String {
        self.heard.recv_timeout(PATIENCE).expect("the service manager is told something")
    }

    /// All that it was told and has not been asked for yet.
    pub fn heard(&self) -> Vec<String> {
        self.heard.try_iter().collect()
    }

    /// All that it is told up to what is wanted, signs of life aside.
    #[track_caller]
    pub fn until(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let said = self.hears();
            let is_last = is_wanted(&said);
            if said != ALIVE {
                all.push(said);
            }
            if is_last {
                return all;
            }
        }
    }
}

/// A sign of life.
pub const ALIVE: &str = "WATCHDOG=1";

impl Drop for ServiceManager {
    fn drop(&mut self) {
        let _ = self.socket.send_to(&[], &self.path);
    }
}
