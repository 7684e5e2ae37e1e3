//! The peer: Linux as the gateway. vxlan devices, IP forwarding, connection tracking, and nftables with sets, tuned.
//!
//! There is no bridge between tunnel and routing, one namespace has all tenants (their addresses differ), the first rule
//! lets established connections pass, connection tracking sums no checksums, and its table has a bucket for each connection. Guests are spread over the public addresses so that all of them
//! find their own ports free.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{
    plan::{
        FIRST_VNI, GATEWAY_MAC, GUESTS, NETWORKS, PUBLIC_HERE, PUBLIC_UPLINK, ROUTER, ROUTER_MAC, SERVICE, gateway,
        guest, guest_mac, pool,
    },
    site::{Direction, Load, Site, Work},
};
use crate::{
    bench::stations::{HERE, PORT, THERE},
    topology::{Link, Vxlan, netns::sysctl},
};

/// Seconds until an idle connection ends: longer than any benchmark.
const TIMEOUT: &str = "7200";
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// How the filter finds what is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A set of this many ports.
    Set(u16),
    /// One rule after the other.
    Linear(u16),
}

/// Linux at work on a site.
pub struct Peer {
    /// Where it is at work.
    pub site: Site,
}

impl Peer {
    /// Builds it.
    ///
    /// # Errors
    /// When the kernel refuses a device or a rule.
    pub fn new(floor: &Path, filter: Filter) -> Result<Self> {
        let site = Site::new(floor, Work::Gateway, Direction::Out)?;
        site.count(false)?;
        site.polls()?;
        site.host.run(|| -> Result<()> {
            links()?;
            nft(&rules(filter))?;
            for (key, value) in [
                ("net/ipv4/ip_forward", "1"),
                ("net/netfilter/nf_conntrack_udp_timeout", TIMEOUT),
                ("net/netfilter/nf_conntrack_udp_timeout_stream", TIMEOUT),
                ("net/netfilter/nf_conntrack_checksum", "0"),
            ] {
                sysctl(key, value)?;
            }
            Ok(())
        })?;
        Ok(Self { site })
    }

    /// Measures established connections.
    ///
    /// # Errors
    /// When frames are lost.
    pub fn run(&self, load: &Load) -> Result<f64> {
        self.site.run(load)
    }

    /// Takes every connection away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self) -> Result<()> {
        self.site.forgotten();
        self.site.host.run(super::conntrack::flush)
    }
}

/// The connection-tracking table of the machine, large enough, and as it was when this is dropped.
pub struct Table {
    before: [(&'static str, String); 2],
}

impl Table {
    /// Makes room for this many connections.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn with_room(connections: u32) -> Result<Self> {
        let read = |path| -> Result<_> { Ok((path, fs::read_to_string(path)?.trim().to_owned())) };
        let table = Self { before: [read(HASH_SIZE)?, read(MOST)?] };
        fs::write(HASH_SIZE, connections.to_string()).with_context(|| format!("writing {HASH_SIZE}"))?;
        fs::write(MOST, (4 * connections).to_string()).with_context(|| format!("writing {MOST}"))?;
        Ok(table)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            if let Err(error) = fs::write(path, value) {
                eprintln!("{path} is not {value} again: {error}");
            }
        }
    }
}

fn links() -> Result<()> {
    for network in 0..NETWORKS {
        let vni = FIRST_VNI + u32::from(network);
        let settings = Vxlan { vni, port: PORT, local: HERE, remote: None, device: None, learning: false };
        let vxlan = Link::vxlan(&format!("vx{network}"), &settings)?;
        vxlan.mac(GATEWAY_MAC)?;
        vxlan.mtu(1500)?;
        vxlan.up()?;
        vxlan.address(gateway(network), 16)?;
        for number in 0..GUESTS {
            let mac = guest_mac(network, number);
            vxlan.neighbour(guest(network, number), mac)?;
            vxlan.fdb(mac, THERE)?;
        }
    }
    let public_link = Link::named(PUBLIC_UPLINK);
    public_link.address(PUBLIC_HERE, 24)?;
    for address in (0..NETWORKS).flat_map(pool) {
        public_link.address(address, 32)?;
    }
    public_link.neighbour(ROUTER, ROUTER_MAC)?;
    public_link.route(std::net::Ipv4Addr::UNSPECIFIED, 0, Some(ROUTER.into()))
}

/// A port that is refused, and that no traffic is for.
pub fn blocked_port(number: u16) -> u16 {
    20_000 + number
}

fn rules(filter: Filter) -> String {
    let mut text = "table ip gateway {\n set guests { type ipv4_addr; flags interval; elements = { ".to_owned();
    for network in 0..NETWORKS {
        let _ = write!(text, "10.{}.0.0/16, ", 1 + network);
    }
    text += "} }\n";
    let ports = |count: u16| (0..count).map(blocked_port);
    let mut refusals = String::new();
    match filter {
        Filter::Set(count) => {
            text += " set blocked { type inet_proto . inet_service; elements = { ";
            ports(count).for_each(|port| {
                let _ = write!(text, "udp . {port}, ");
            });
            text += "} }\n";
            refusals += "  meta l4proto . th dport @blocked drop\n";
        }
        Filter::Linear(count) => ports(count).for_each(|port| {
            let _ = writeln!(refusals, "  udp dport {port} drop");
        }),
    }
    let _ = write!(
        text,
        " set services {{ type inet_proto . inet_service; elements = {{ udp . {SERVICE}, tcp . 443 }} }}
 chain forward {{
  type filter hook forward priority filter; policy drop;
  ct state vmap {{ established : accept, related : accept, invalid : drop }}
{refusals}  oifname \"{PUBLIC_UPLINK}\" ip saddr @guests meta l4proto . th dport @services accept
 }}
 chain postrouting {{
  type nat hook postrouting priority srcnat;
"
    );
    for network in 0..NETWORKS {
        let _ = write!(text, "  oifname \"{PUBLIC_UPLINK}\" ip saddr 10.{}.0.0/16", 1 + network);
        text += " snat to ip saddr & 0.0.0.7 map { ";
        for (number, address) in pool(network).enumerate() {
            let _ = write!(text, "0.0.0.{number} : {address}, ");
        }
        text += "}\n";
    }
    text + " }\n}\n"
}

/// Has nft read rules in the current namespace.
///
/// # Errors
/// When it refuses them.
pub fn nft(ruleset: &str) -> Result<()> {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("cannot start nft")?;
    nft.stdin.take().context("no standard input")?.write_all(ruleset.as_bytes())?;
    let status = nft.wait()?;
    ensure!(status.success(), "nft refuses the rules: {status}");
    Ok(())
}
