//! What systemd is told, and when it wants to be told (sd_notify(3)): lines of `NAME=value` in a datagram.

use std::{
    env, io,
    os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr, unix::net::UnixDatagram},
    time::Duration,
};

/// The service manager's socket; none where the agent was not started by one.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'t> {
    /// The agent works.
    Ready,
    /// It reads its definitions again, and says [`Message::Ready`] when it has.
    Reloading,
    /// It ends.
    Stopping,
    /// What it does, for people.
    Status(&'t str),
    /// It is alive.
    Watchdog,
}

impl Notify {
    /// Finds the socket that `NOTIFY_SOCKET` names.
    ///
    /// # Errors
    /// When there is no such socket to be had.
    pub(super) fn from_env() -> io::Result<Self> {
        match env::var("NOTIFY_SOCKET") {
            Ok(name) => Self::to(&name),
            Err(_) => Ok(Self { socket: None }),
        }
    }

    fn to(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read is not waited for.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)) })
    }

    /// Tells it; that it cannot be told is no reason to stop.
    pub(super) fn tell(&self, message: Message<'_>) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(text(message, now_us()).as_bytes(), address) {
            tracing::debug!(%error, "the service manager cannot be told {message:?}");
        }
    }
}

/// How often the service manager wants to hear [`Message::Watchdog`]; `None`: it does not.
pub(super) fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    interval(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), std::process::id())
}

/// A third of the time after which it takes the agent for hung.
fn interval(limit_us: Option<u64>, pid: Option<u64>, own: u32) -> Option<Duration> {
    let is_meant = pid.is_none_or(|pid| pid == u64::from(own));
    limit_us.filter(|limit| *limit > 0 && is_meant).map(|limit| Duration::from_micros(limit) / 3)
}

fn text(message: Message<'_>, now_us: u64) -> String {
    match message {
        Message::Ready => "READY=1".into(),
        // The manager tells by the time which READY is the answer to this.
        Message::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={now_us}"),
        Message::Stopping => "STOPPING=1".into(),
        // One line: a second one would be another field.
        Message::Status(text) => {
            // An error of a file says in its second line where and what.
            let lines: Vec<_> = text.lines().map(str::trim).take(2).collect();
            format!("STATUS={}", lines.join(" "))
        }
        Message::Watchdog => "WATCHDOG=1".into(),
    }
}

fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::scratch::Scratch;

    #[test]
    fn datagrams_are_what_sd_notify_says() {
        assert_eq!(text(Message::Ready, 7), "READY=1");
        assert_eq!(text(Message::Reloading, 7), "RELOADING=1\nMONOTONIC_USEC=7");
        assert_eq!(text(Message::Status("broken\nREADY=1"), 7), "STATUS=broken READY=1");
        assert_eq!(text(Message::Stopping, 7), "STOPPING=1");
        assert_eq!(text(Message::Watchdog, 7), "WATCHDOG=1");
    }

    #[test]
    fn a_datagram_arrives_at_a_path_and_at_an_abstract_name() {
        let scratch = Scratch::new("notify");
        let path = scratch.path().join("socket");
        let name = format!("netpath-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (server, given) in [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}")),
        ] {
            Notify::to(&given).unwrap().tell(Message::Ready);
            let mut buffer = [0; 64];
            let len = server.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"READY=1");
        }
        Notify { socket: None }.tell(Message::Ready);
    }

    #[test]
    fn the_watchdog_is_fed_three_times_as_often_as_asked_and_only_by_whom_it_watches() {
        assert_eq!(interval(Some(30_000_000), None, 1), Some(Duration::from_secs(10)));
        assert_eq!(interval(Some(30_000_000), Some(1), 1), Some(Duration::from_secs(10)));
        assert_eq!(interval(Some(30_000_000), Some(2), 1), None);
        assert_eq!(interval(Some(0), None, 1), None);
        assert_eq!(interval(None, None, 1), None);
    }
}
