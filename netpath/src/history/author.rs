//! Who runs this process.

use std::{env, fs};

use rustix::process::getuid;

/// Longer than any login name.
const NAME_MAX: usize = 64;

/// Who applied a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Whoever became root by sudo; else whoever logged in; else the process's user.
    pub user: String,
    /// The process's user.
    pub uid: u32,
}

impl Author {
    /// Whoever runs this process.
    #[must_use]
    pub fn current() -> Self {
        let uid = getuid().as_raw();
        let sudo = || env::var("SUDO_USER").ok().filter(|name| uid == 0 && !name.is_empty());
        let user = sudo().unwrap_or_else(|| named(login().unwrap_or(uid)));
        Self { user: printable(&user), uid }
    }
}

/// The user that the session's login was for, which outlives `su`; `None` in services, and where nothing audits.
fn login() -> Option<u32> {
    let text = fs::read_to_string("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX)
}

/// The name of a user, or the number where /etc/passwd has none.
fn named(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((name, fields.nth(1)?.parse::<u32>().ok()?))
    });
    users.find(|(_, number)| *number == uid).map_or_else(|| uid.to_string(), |(name, _)| name.to_owned())
}

/// A name comes from the environment and ends on a terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_write_to_the_terminal_beyond_itself() {
        assert_eq!(printable("al\u{1b}[2Jice\n"), "al\u{fffd}[2Jice\u{fffd}");
        assert_eq!(printable(&"x".repeat(1000)).len(), NAME_MAX);
    }

    #[test]
    fn root_has_a_name_and_a_stranger_is_a_number() {
        assert_eq!(named(0), "root");
        assert_eq!(named(4_000_000_000), "4000000000");
    }
}
