//! The Linux side: a router namespace for each tenant, ruled by nftables, and the switch that connects them.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use super::{Arrival, OUTSIDE, Place, Site, System, ipv4, outside_mac, ruleset::ruleset, site::items};
use crate::{
    guest::RawGuest,
    packet::{Endpoint, Mac, Packet, dissect, guest},
    topology::{Link, NetNs, Offloads, Scratch, Tap, netns::sysctl},
};

/// How often a packet may come back to a router from the public link.
const MOST_TURNS: usize = 8;

/// The tenants' routers.
#[derive(Debug)]
pub struct Routers {
    site: Site,
    routers: Vec<Router>,
}

#[derive(Debug)]
struct Router {
    tenant: String,
    /// Networks of the document with the tap that all their guests are on.
    inside: Vec<(usize, Line)>,
    outside: Line,
    /// The router's own address on the public link.
    address: Ipv4Addr,
    mac: Mac,
    ns: NetNs,
}

/// A tap, and what was read from it while an answer was waited for.
#[derive(Debug)]
struct Line {
    tap: RawGuest,
    read: RefCell<Vec<Vec<u8>>>,
}

impl Line {
    fn new(name: &str, tap: Tap) -> Self {
        Self { tap: RawGuest::on_tap(name, tap), read: RefCell::default() }
    }

    /// Asks for the router's address and waits for the answer: all that was sent before has been dealt with then.
    fn settle(&self, mac: Mac, ip: Ipv4Addr, target: Ipv4Addr) {
        let asker = Endpoint { mac, ip, ip6: Ipv6Addr::UNSPECIFIED };
        self.tap.send(guest(asker).arp_request(target).build());
        self.tap.expect("the router's ARP reply", |frame| {
            let answers = dissect(frame).and_then(|parts| parts.arp()).is_some_and(|arp| arp.0 == 2);
            if !answers {
                self.read.borrow_mut().push(frame.to_vec());
            }
            answers
        });
    }

    /// All that has come.
    fn drain(&self) -> Vec<Vec<u8>> {
        self.tap.until(Instant::now(), |frame| {
            self.read.borrow_mut().push(frame.to_vec());
            false
        });
        self.read.take()
    }
}

/// Whether there is an `nft` that can set a ruleset here.
pub fn has_nftables() -> bool {
    let Ok(ns) = NetNs::new("nft-probe") else { return false };
    let rule = "add chain ip probe nat { type nat hook postrouting priority 100 ; }";
    let script = format!("add table ip probe; {rule}; add rule ip probe nat ct state new snat to 192.0.2.1");
    ns.run(|| Command::new("nft").arg(script).output()).is_ok_and(|output| output.status.success())
}

impl Routers {
    /// Builds them as the definitions say.
    ///
    /// # Errors
    /// What the kernel or nft refused.
    pub fn build(site: &Site, scratch: &Scratch) -> Result<Self> {
        let tenants = site.tenants();
        let routers =
            tenants.iter().enumerate().map(|(index, tenant)| Router::build(site, scratch, tenant, index as u8));
        Ok(Self { site: site.clone(), routers: routers.collect::<Result<_>>()? })
    }

    fn router(&self, tenant: &str) -> &Router {
        self.routers.iter().find(|router| router.tenant == tenant).expect("a router for each tenant")
    }

    /// Whatever the routers have sent: what the switch takes back to a router, and what has arrived.
    fn collect(&self, arrivals: &mut Vec<Arrival>) -> Vec<(Ipv4Addr, Vec<u8>)> {
        let mut returned = Vec::new();
        for router in &self.routers {
            for (network, tap) in &router.inside {
                for frame in tap.drain() {
                    let Some((packet, _, dst)) = ipv4(&frame) else { continue };
                    let to = dissect(&frame).map(|parts| parts.dst_mac);
                    let mut guests = self.site.guests.iter();
                    let at =
                        guests.position(|guest| guest.network == *network && Some(guest.mac) == to && guest.ip == dst);
                    let at = Place::Guest(at.unwrap_or_else(|| panic!("a packet to nobody: {frame:02x?}")));
                    arrivals.push(Arrival { at, packet });
                }
            }
            for frame in router.outside.drain() {
                let Some((packet, _, dst)) = ipv4(&frame) else { continue };
                match self.site.owner(dst) {
                    Some(_) => returned.push((dst, frame)),
                    None => arrivals.push(Arrival { at: Place::Wire, packet }),
                }
            }
        }
        returned
    }
}

impl Routers {
    /// Whether a packet that does not get through is one that conntrack calls invalid: it is sent again, and the rule that says
    /// so counts it.
    pub fn calls_invalid(&mut self, from: Place, packet: &Packet) -> bool {
        let before = self.invalid();
        self.exchange(from, packet).is_empty() && self.invalid() > before
    }

    fn invalid(&self) -> u64 {
        self.routers.iter().map(Router::invalid).sum()
    }
}

impl System for Routers {
    fn exchange(&mut self, from: Place, packet: &Packet) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut pending = Vec::new();
        match from {
            Place::Guest(index) => {
                let sender = &self.site.guests[index];
                let frame = packet.clone().from_mac(sender.mac).to_mac(sender.gateway_mac).build();
                let router = self.router(&sender.tenant);
                let tap = router.inside.iter().find(|(network, _)| *network == sender.network).map(|(_, tap)| tap);
                let tap = tap.expect("a tap for each network");
                tap.tap.send(frame);
                tap.settle(sender.mac, sender.ip, sender.gateway);
                pending = self.collect(&mut arrivals);
            }
            Place::Wire => {
                let frame = packet.clone().build();
                let (_, src, dst) = ipv4(&frame).expect("an IPv4 packet");
                pending.push((dst, packet.clone().from_mac(outside_mac(src)).build()));
            }
        }
        for _ in 0..MOST_TURNS {
            for (to, mut frame) in std::mem::take(&mut pending) {
                let router = self.router(self.site.owner(to).expect("an address that leads somewhere"));
                frame[..6].copy_from_slice(&router.mac);
                router.outside.tap.send(frame);
                router.outside.settle(outside_mac(OUTSIDE[0]), OUTSIDE[0], router.address);
            }
            pending = self.collect(&mut arrivals);
            if pending.is_empty() {
                return arrivals;
            }
        }
        panic!("a packet goes round in circles: {packet:?}");
    }
}

impl Router {
    /// Packets that conntrack has called invalid.
    fn invalid(&self) -> u64 {
        let list = || Command::new("nft").args(["-j", "list", "counter", "ip", "oracle", "invalid"]).output();
        let output = self.ns.run(list).expect("nft runs");
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("nft prints JSON");
        items(&listed["nftables"]).filter_map(|row| row["counter"]["packets"].as_u64()).sum()
    }

    fn build(site: &Site, scratch: &Scratch, tenant: &str, index: u8) -> Result<Self> {
        let ns = NetNs::new(&format!("vr-{tenant}"))?;
        let address = Ipv4Addr::new(198, 51, 100, 240 + index);
        let mac = [0x02, 0x00, 0xc6, 0x33, 0x64, 240 + index];
        let (inside, outside) = ns.run(|| -> Result<_> {
            for (key, value) in [
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
                ("net/ipv4/conf/all/send_redirects", "0"),
                ("net/ipv4/conf/default/send_redirects", "0"),
                ("net/ipv4/icmp_ratemask", "0"),
            ] {
                sysctl(key, value)?;
            }
            let mut inside = Vec::new();
            for (network, row) in items(&site.definitions["networks"]).enumerate() {
                if row["account"] == tenant {
                    inside.push((network, inner(site, network)?));
                }
            }
            Ok((inside, outer(site, address, mac)?))
        })?;
        let rules = scratch.write(&format!("{tenant}.nft"), &ruleset(&site.definitions, tenant))?;
        let output = ns.run(|| Command::new("nft").arg("-f").arg(&rules).output()).context("running nft")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft refuses the ruleset of {tenant}: {said}");
        // netpath does not look at windows, and conntrack is told not to, after its first rule has made it present here. What is
        // short-lived there outlives a slow run.
        let settings = [
            ("tcp_be_liberal", "1"),
            ("tcp_ignore_invalid_rst", "1"),
            ("icmp_timeout", "600"),
            ("udp_timeout", "600"),
            ("tcp_timeout_close", "600"),
        ];
        let set = |(key, value)| sysctl(&format!("net/netfilter/nf_conntrack_{key}"), value);
        ns.run(|| settings.into_iter().try_for_each(set))?;
        Ok(Self { tenant: tenant.to_owned(), inside, outside, address, mac, ns })
    }
}

/// The tap towards the guests of a network.
fn inner(site: &Site, network: usize) -> Result<Line> {
    let name = format!("in{network}");
    let tap = Tap::new(&name, Offloads::None)?;
    let link = Link::named(&name);
    let guests: Vec<_> = site.guests.iter().filter(|guest| guest.network == network).collect();
    let first = guests.first().context("a network without guests")?;
    // A change of the MAC address takes the neighbours away.
    link.mac(first.gateway_mac)?;
    link.address(first.gateway, 24)?;
    guests.iter().try_for_each(|guest| link.neighbour(guest.ip, guest.mac))?;
    Ok(Line::new(&name, tap))
}

/// The tap towards the public link.
fn outer(site: &Site, address: Ipv4Addr, mac: Mac) -> Result<Line> {
    let tap = Tap::new("out", Offloads::None)?;
    let link = Link::named("out");
    link.mac(mac)?;
    link.address(address, 24)?;
    link.route(Ipv4Addr::UNSPECIFIED, 0, Some(IpAddr::V4(OUTSIDE[0])))?;
    for station in OUTSIDE.into_iter().chain(site.public.iter().map(|(address, _)| *address)) {
        link.neighbour(station, outside_mac(station))?;
    }
    Ok(Line::new("out", tap))
}
