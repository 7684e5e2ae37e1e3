//! What others' rules say of devices, asked of the tools that list them.

use std::{
    collections::HashSet,
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where the tools that list others' rules are looked for, whatever PATH says.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// For so long each of them may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A chain of nftables that frames of devices walk through before any bridge or address is looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NetdevChain {
    table: String,
    name: String,
    /// `ingress` or `egress`.
    hook: String,
    /// Those that it is hooked on.
    pub(super) devices: HashSet<String>,
}

impl fmt::Display for NetdevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nftables chain netdev {} {} at {}", self.table, self.name, self.hook)
    }
}

/// The names that bridge-level rules speak of (nwfilter writes such), by the tool that lists them, where it is installed.
pub(super) fn of_bridges() -> Vec<(&'static str, HashSet<String>)> {
    let tools: [(&str, &str, &[&[&str]]); 2] = [
        ("nftables", "nft", &[&["list", "ruleset", "bridge"]]),
        ("ebtables", "ebtables-legacy", &[&["-t", "nat", "-L"], &["-t", "filter", "-L"], &["-t", "broute", "-L"]]),
    ];
    let listed = tools.into_iter().map(|(name, tool, listings)| {
        let program = installed(tool);
        let texts =
            program.iter().flat_map(|program| listings.iter().filter_map(move |listing| output(program, listing)));
        (name, texts.flat_map(|text| words(&text)).collect())
    });
    listed.filter(|(_, words): &(_, HashSet<String>)| !words.is_empty()).collect()
}

/// The chains of the netdev family that are hooked on devices.
pub(super) fn netdev_chains() -> Vec<NetdevChain> {
    let listed = installed("nft").and_then(|nft| output(&nft, &["list", "chains", "netdev"]));
    listed.map_or_else(Vec::new, |text| hooked(&text))
}

/// The chains of a listing. As JSON it has no devices (nftables 1.0.6).
fn hooked(listing: &str) -> Vec<NetdevChain> {
    let (mut table, mut name, mut chains) = ("", "", Vec::new());
    for line in listing.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["table", "netdev", found, ..] => table = found,
            ["chain", found, ..] => name = found,
            ["type", _, "hook", hook, "device" | "devices", ..] => {
                let devices = line.split_once(" priority ").map_or(line, |(hooked, _)| hooked);
                let devices = devices.split_once(" device").map_or("", |(_, devices)| devices.trim_start_matches('s'));
                let devices = words(devices).into_iter().filter(|word| word != "=").collect();
                chains.push(NetdevChain { table: table.into(), name: name.into(), hook: hook.into(), devices });
            }
            _ => {}
        }
    }
    chains
}

/// Where a tool is.
fn installed(tool: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(tool)).find(|program| program.exists())
}

/// What a program prints, where it succeeds and does so in time: an apply, which holds the root's lock, waits for it.
fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let command = command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut stdout = child.stdout.take()?;
    let read = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().ok()? {
            Some(status) => break Some(status),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            None => break None,
        }
    };
    if status.is_none() {
        tracing::warn!(
            "{} did not end within {PATIENCE:?}: what rules say of guests' devices is not known",
            program.display()
        );
        let _ = child.kill();
        let _ = child.wait();
        // What it has begun may hold its output open for longer.
        return None;
    }
    let text = read.join().ok()?.ok()?;
    status.filter(ExitStatus::success).map(|_| String::from_utf8_lossy(&text).into_owned())
}

/// What stands between blanks and quotes.
fn words(text: &str) -> HashSet<String> {
    let split = text.split(|c: char| c.is_whitespace() || "\"',{};".contains(c));
    split.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_hangs_is_given_up_and_one_that_fails_says_nothing() {
        let shell = Path::new("/bin/sh");
        assert_eq!(output(shell, &["-c", "echo vnet0; echo $PATH$HOME >&2"]).as_deref(), Some("vnet0\n"));
        assert_eq!(output(shell, &["-c", "echo vnet0; exit 1"]), None);
        assert_eq!(output(shell, &["-c", "echo vnet0; exec sleep 60"]), None);
    }

    #[test]
    fn device_names_are_found_in_bridge_rules() {
        let listing = "chain x { iifname \"vnet0\" drop; }\n-i vnet1 -j I-vnet1-mac";
        let words = words(listing);
        assert!(words.contains("vnet0") && words.contains("vnet1") && !words.contains("vnet"));
    }

    #[test]
    fn chains_of_the_netdev_family_say_what_they_are_hooked_on() {
        let listing = "table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"vnet0\" priority filter; policy accept;\n\t}\n\tchain d {\n\t\ttype filter hook egress devices = { vnet0, vnet1 } priority filter + 10; policy accept;\n\t}\n\tchain f {\n\t}\n}\n";
        let chain = |name: &str, hook: &str, devices: &[&str]| NetdevChain {
            table: "t".into(),
            name: name.into(),
            hook: hook.into(),
            devices: devices.iter().map(|device| (*device).to_owned()).collect(),
        };
        let chains = hooked(listing);
        assert_eq!(chains, [chain("c", "ingress", &["vnet0"]), chain("d", "egress", &["vnet0", "vnet1"])]);
        assert_eq!(chains[0].to_string(), "nftables chain netdev t c at ingress");
    }
}
