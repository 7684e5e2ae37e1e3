//! The hypervisors, wires and guests that a zone's definitions speak of, as namespaces.

mod build;
mod outside;
mod place;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netpath::netlink;
use serde_json::Value;

use self::place::Place;
pub use self::place::clean;
pub(super) use self::{build::Guest, outside::Outside};
use crate::{
    runner::{self, Netpath, Output},
    topology::NetNs,
};

/// One hypervisor.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name in the definitions.
    pub(super) name: String,
    /// Its namespace.
    pub(super) ns: NetNs,
    /// Its netpath.
    pub(super) netpath: Netpath,
    /// Its devices before any `apply`.
    pub(super) devices_before: Vec<String>,
    /// The names of its uplinks.
    uplinks: Vec<String>,
}

/// All of it; removed when dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Site {
    /// In the order of the definitions.
    pub(super) hosts: Vec<Host>,
    /// In the order of the definitions.
    pub(super) guests: Vec<Guest>,
    /// The Internet, where the zone has a public link for it.
    pub(super) outside: Option<Outside>,
    wires: Vec<NetNs>,
    place: Place,
}

impl Host {
    /// Runs netpath there, and shows command and output as a terminal would.
    pub(super) fn shown(&self, args: &[&str]) -> Output {
        println!("\n{}# netpath {}", self.name, args.join(" "));
        let output = self.netpath.run(args);
        print!("{}{}", output.stdout, output.stderr);
        output
    }

    /// The names of its devices.
    pub(super) fn devices(&self) -> Result<Vec<String>> {
        let devices = self.ns.run(netlink::devices).with_context(|| format!("listing the devices of {}", self.name))?;
        Ok(devices.into_iter().map(|device| device.name).collect())
    }

    /// A counter of `show drops`.
    pub(super) fn dropped(&self, network: &str, reason: &str) -> Result<u64> {
        let output = self.netpath.run(["show", "drops", "-o", "json"]);
        let rows: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("`netpath show drops -o json` says {}{}", output.stdout, output.stderr))?;
        let rows = rows.as_array().context("`netpath show drops -o json` is not a list")?;
        let row = rows.iter().find(|row| row["network"] == network && row["reason"] == reason);
        Ok(row.and_then(|row| row["packets"].as_u64()).unwrap_or(0))
    }
}

impl Site {
    /// The guests of a network.
    pub(super) fn guests_of<'s>(&'s self, network: &'s str) -> impl Iterator<Item = &'s Guest> {
        self.guests.iter().filter(move |guest| guest.network == network)
    }

    /// The names of the networks, in the order of the definitions.
    pub(super) fn networks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for guest in &self.guests {
            if !names.contains(&guest.network.as_str()) {
                names.push(&guest.network);
            }
        }
        names
    }

    /// The host of a guest.
    pub(super) fn host_of(&self, guest: &Guest) -> &Host {
        &self.hosts[guest.host]
    }

    /// A counter of `show drops`, of all hosts together.
    pub(super) fn dropped(&self, network: &str, reason: &str) -> Result<u64> {
        self.hosts.iter().map(|host| host.dropped(network, reason)).sum()
    }

    /// Writes a file beside the hosts' own, and gives its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.place.write(name, text)
    }

    /// What an operator looks at first, from every host.
    pub(super) fn explain(&self) {
        for host in &self.hosts {
            for args in [
                &["status"][..],
                &["show", "ports"],
                &["show", "fdb"],
                &["show", "nat"],
                &["show", "flows"],
                &["show", "drops"],
            ] {
                host.shown(args);
            }
        }
        println!();
    }

    /// What stands where, in plain text.
    pub(super) fn drawing(&self) -> String {
        let mut text = String::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let uplinks = host.uplinks.join(", ");
            text += &format!("\n  {} (uplinks {uplinks}; namespace {})\n", host.name, host.ns.name());
            for guest in self.guests.iter().filter(|guest| guest.host == index) {
                let Guest { network, instance, device, kernel, .. } = guest;
                let station = kernel.station();
                text += &format!("    {device:6} {:24} {}\n", format!("{network}/{instance}"), station.ip);
            }
        }
        if let Some(outside) = &self.outside {
            let (router, host) = (outside.router.name(), outside.host.ns().name());
            text += &format!("\n  {} (namespace {host}), behind a router ({router})\n", outside.host.station().ip);
        }
        text
    }

    /// Leaves everything up, and says how to use it and how to get rid of it.
    ///
    /// # Errors
    /// When the mark that it is kept cannot be written.
    pub(super) fn keep(self, file: &Path) -> Result<String> {
        self.place.mark_kept()?;
        let text = self.instructions(file, runner::binary(runner::Build::Current));
        // Namespaces, devices and pins outlive the process; the destructors would remove them.
        std::mem::forget(self);
        Ok(text)
    }

    fn instructions(&self, file: &Path, binary: &Path) -> String {
        let enter = |ns: &NetNs| format!("nsenter --net=/run/netns/{}", ns.name());
        let folder = binary.parent().unwrap_or(Path::new(".")).display();
        let mut text = String::from("The topology stays up. To play in it, as root:\n\n");
        for host in &self.hosts {
            let (root, state) = (host.netpath.root().display(), self.place.state(&host.name));
            text += &format!("  # {}, with its netpath\n  {} env ", host.name, enter(&host.ns));
            text += &format!("NETPATH_ROOT={root} NETPATH_STATE_DIR={} PATH={folder}:$PATH bash\n", state.display());
        }
        text += "\n  # in there\n  netpath status; netpath show ports; netpath show drops; netpath map dump FDB\n";
        text += &format!("  netpath plan -f {}\n", file.display());
        text += "\n  # guests\n";
        for guest in &self.guests {
            text += &format!("  {} bash\n", enter(guest.kernel.ns()));
        }
        if let Some(outside) = &self.outside {
            text += &format!("\n  # the Internet\n  {} bash\n", enter(outside.host.ns()));
        }
        if let [first, .., last] = &self.guests_of(self.networks()[0]).collect::<Vec<_>>()[..] {
            text += &format!("  {} ping {}\n", enter(first.kernel.ns()), last.kernel.station().ip);
        }
        let wires: String = self.wires.iter().map(|ns| format!("  {} bash\n", enter(ns))).collect();
        text + "\n  # the wires between the hosts, where outer headers and tags are seen\n"
            + &wires
            + "\nTo remove it: cargo xtask demo --clean"
    }
}
