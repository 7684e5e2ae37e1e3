//! What `monitor` and `capture` have in common: until when they go on, and the words for an event.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use netpath_common::maps::{Event, Watch, event_hook};

use super::{applied::Applied, terms};
use crate::error::Error;

/// Which part of the host is watched.
#[derive(Debug, clap::Args)]
pub(super) struct Only {
    /// Only of this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Only what comes in on this device, or is sent out of it
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl Only {
    /// What the data path is to tell: of the network and the device, by their indices.
    pub(super) fn watch(&self, applied: &Applied) -> Result<Watch, Error> {
        Ok(Watch {
            network: self.network.as_deref().map_or(Ok(0), |name| network(applied, name))?,
            ifindex: self.device.as_deref().map_or(Ok(0), |name| device(applied, name))?,
            ..Watch::default()
        })
    }
}

/// When to end.
#[derive(Debug, clap::Args)]
pub(super) struct Until {
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// End after so long: 10s, 5m, 1h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(super) longest: Option<Duration>,
    /// Most events of each processor in a second; the kernel counts the others
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<u32>,
}

impl Until {
    /// How long there is left.
    pub(super) fn left(&self, begun: Instant) -> Duration {
        self.longest.map_or(Duration::MAX, |longest| longest.saturating_sub(begun.elapsed()))
    }

    /// Whether so many are enough.
    pub(super) fn is_enough(&self, seen: u64) -> bool {
        self.count.is_some_and(|count| seen >= count)
    }
}

/// A time as `10s`, `5m`, `1h` or `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let found = units.iter().find_map(|(unit, ms)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*ms)
    });
    found.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is no time; write 500ms, 10s, 5m or 1h"))
}

/// Signals to be waited for instead of being ended by.
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// Those that ask a command to end.
    pub(super) const ENDING: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

    pub(super) fn catch(signals: &[libc::c_int]) -> Result<Self, Error> {
        // SAFETY: the set is initialised before it is used, and the descriptor is nobody else's.
        let fd = unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => return Err(Error::Signals(io::Error::last_os_error())),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Self(fd))
    }

    /// The next one that has come; `None` where none has.
    pub(super) fn take(&self) -> Option<libc::c_int> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let read = rustix::io::read(&self.0, &mut info).ok()?;
        // The signal's number is its first field (signalfd(2)).
        (read == info.len()).then(|| i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the monotonic clock lacks to the time of day, in nanoseconds.
pub(super) fn clock_offset() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() as u64).saturating_sub(terms::now_ns())
}

/// A time of day as RFC 3339 has it, in UTC: `2026-03-01T12:00:00.000001Z`.
pub(super) fn timestamp(ns: u64) -> String {
    let (seconds, micros) = (ns / 1_000_000_000, ns % 1_000_000_000 / 1000);
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Days to a date of the Gregorian calendar, by eras of 400 years that begin in March.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{micros:06}Z", second % 60)
}

/// The index of a network by its name.
pub(super) fn network(applied: &Applied, name: &str) -> Result<u32, Error> {
    let all = applied.names.all(netpath_common::maps::name_kind::NETWORK);
    let found = all.iter().find(|(_, known)| *known == name).map(|(index, _)| *index);
    found.ok_or_else(|| {
        let next = format!("the networks are {}", all.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", "));
        Error::NotFound { what: "network", name: name.to_owned(), next }
    })
}

/// The index of a device by its name.
pub(super) fn device(applied: &Applied, name: &str) -> Result<u32, Error> {
    let found = applied.devices.iter().find(|device| device.name == name).map(|device| device.index);
    found.ok_or_else(|| Error::NotFound {
        what: "device",
        name: name.to_owned(),
        next: "`netpath status` prints those that programs are attached to".to_owned(),
    })
}

/// The network that an event is of: as the data path says, or as the guest's device tells where it was not known yet.
pub(super) fn network_of(applied: &Applied, event: &Event) -> Result<u32, Error> {
    if event.network != 0 {
        return Ok(event.network);
    }
    Ok(applied.tables.ports.get(&event.ifindex)?.map_or(0, |port| port.network))
}

/// The program that told an event.
pub(super) fn hook(event: &Event) -> &'static str {
    event_hook::NAMES.get(usize::from(event.hook)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_a_date() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(951_782_400_000_000_000), "2000-02-29T00:00:00.000000Z");
        assert_eq!(timestamp(1_796_083_199_123_456_789), "2026-11-30T23:59:59.123456Z");
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["10", "s", "-1s", "99999999999999999999h", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
