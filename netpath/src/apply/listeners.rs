//! The ports that the host itself uses, which are no guest's where a public address is the host's too.

use std::{collections::BTreeSet, fs, io, net::Ipv4Addr, path::Path};

use crate::{definitions::Ports, error::Error};

/// The kernel's lists of sockets of the calling thread's namespace, and their protocol numbers.
const LISTS: [(&str, u8); 4] = [
    ("/proc/thread-self/net/tcp", 6),
    ("/proc/thread-self/net/tcp6", 6),
    ("/proc/thread-self/net/udp", 17),
    ("/proc/thread-self/net/udp6", 17),
];
/// `TCP_LISTEN`.
const LISTEN: &str = "0A";
/// `TCP_CLOSE`: a UDP socket that is not connected.
const UNCONNECTED: &str = "07";

/// The ports that the namespace's own connections begin from.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The ports that connections of the host begin from, unless they ask for one.
pub(super) fn ephemeral() -> Result<Ports, Error> {
    let failed = |source| Error::Listeners { path: Path::new(EPHEMERAL).to_owned(), source };
    let text = fs::read_to_string(EPHEMERAL).map_err(failed)?;
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok(Ports { first, last }),
        _ => Err(failed(io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is no range of ports", text.trim())))),
    }
}

/// Protocol numbers and ports that sockets of the host wait for strangers on, on any address or one of `addresses`.
pub(super) fn listeners(addresses: &[Ipv4Addr]) -> Result<Vec<(u8, u16)>, Error> {
    let mut found = BTreeSet::new();
    for (path, protocol) in LISTS {
        let text = match fs::read_to_string(path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(|source| Error::Listeners { path: Path::new(path).to_owned(), source })?,
        };
        let ports = text.lines().skip(1).filter_map(|line| port(line, addresses));
        found.extend(ports.map(|port| (protocol, port)));
    }
    Ok(found.into_iter().collect())
}

/// The port of a line such as `0: 0100007F:0035 00000000:0000 0A ...`: addresses are words of the host's order.
fn port(line: &str, addresses: &[Ipv4Addr]) -> Option<u16> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let (address, port) = local.split_once(':')?;
    // An IPv6 socket takes IPv4 as well where it is bound to no address, or to an IPv4 address of the form ::ffff:a.b.c.d.
    let (before, word) = address.split_at_checked(address.len().checked_sub(8)?)?;
    let address = Ipv4Addr::from(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
    let is_ipv4 =
        before.chars().all(|digit| digit == '0') || before.ends_with("FFFF0000") || before.ends_with("0000FFFF");
    let is_public = address.is_unspecified() || addresses.contains(&address) && !address.is_loopback();
    let waits = state == LISTEN || state == UNCONNECTED;
    (is_ipv4 && is_public && waits).then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_strangers_is_told_from_who_does_not() {
        let own = [Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::LOCALHOST];
        let word = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |local: &str, state| format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000");
        let port = |local: String, state| port(&line(&local, state), &own);
        assert_eq!(port("00000000:0016".into(), "0A"), Some(22));
        assert_eq!(port(word([192, 0, 2, 11]) + ":12B5", "07"), Some(4789));
        assert_eq!(port(word([127, 0, 0, 1]) + ":0035", "0A"), None);
        assert_eq!(port(word([192, 0, 2, 12]) + ":0035", "0A"), None);
        assert_eq!(port(word([192, 0, 2, 11]) + ":0016", "01"), None);
        assert_eq!(port("00000000000000000000000000000000:0016".into(), "0A"), Some(22));
        let mapped = format!("0000000000000000{}{}:0016", word([0, 0, 0xff, 0xff]), word([192, 0, 2, 11]));
        assert_eq!(port(mapped, "0A"), Some(22));
        let other = format!("{}0000000000000000{}:0016", word([0x20, 1, 0xd, 0xb8]), word([0, 0, 0, 1]));
        assert_eq!(port(other, "0A"), None);
    }
}
