//! Limits of up to ten thousand NICs in use at a time.
//!
//! ```text
//!   port1 ═ eth1 ─ netpath ─┬─ nic0        one network, a tap for each NIC; frames from the wire go to as many of them as
//!                           ├─ nic1        are to be in use, in scattered order
//!                           └─ … nic9999
//! ```
//!
//! Nobody listens behind the taps: what they have no room for goes. That netpath has sent every frame is what its own counters say.

use std::{cell::Cell, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use netpath::datapath::{Root, Tables};
use netpath_common::{floor::Traffic, maps::name_kind};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::PLENTY;
use crate::{
    bench::{
        experiment::{Bound, Comparison, Experiment, Variant},
        floor::{BATCH, Floor, Frames},
        lab::{Action, LONG, SHORT, UPLINK, WIRE_END, wire_end},
        stations::{HERE, REMOTE, THERE, THERE_MAC, VNI},
        subject::instance,
    },
    packet::{Checksum, Outer, Packet, checksum, mac_text},
    runner::Netpath,
    topology::{Link, NetNs, Offloads, Scratch, Tap},
};

/// The experiment.
pub const NAME: &str = "limits: NICs in use";
/// NICs of this host.
const NICS: u32 = 10_000;
/// The first one's number, and the last two octets of its addresses.
const FIRST: u32 = 1024;
/// Frames of one run.
const FRAMES: u32 = 1_000_000;
/// What writes them.
const GENERATOR: &str = "send_nics";
/// The group of the taps.
const GROUP: u32 = 7;
/// NICs in use, with the names of the variants without limits and with.
const IN_USE: [(u32, [&str; 2]); 4] = [
    (1, ["1 NIC", "1 NIC, limited"]),
    (100, ["100 NICs", "100 NICs, limited"]),
    (1000, ["1 000 NICs", "1 000 NICs, limited"]),
    (NICS, ["10 000 NICs", "10 000 NICs, limited"]),
];

/// A host with all of its NICs.
pub struct Many {
    hypervisor: NetNs,
    far: NetNs,
    programs: Floor,
    taps: Vec<Tap>,
    netpath: Netpath,
    scratch: Scratch,
    are_limited: Cell<bool>,
}

impl Many {
    /// Makes the taps, and applies netpath. `floor` is the object with the benchmark's own programs.
    ///
    /// # Errors
    /// When a device or a program is refused, and what netpath says when it refuses.
    pub fn new(floor: &Path) -> Result<Self> {
        let most = Rlimit { current: getrlimit(Resource::Nofile).maximum, ..getrlimit(Resource::Nofile) };
        setrlimit(Resource::Nofile, most).context("an open tap is a file: raising their number")?;
        let (hypervisor, far) = (NetNs::new("many")?, NetNs::new("far")?);
        let taps = hypervisor.run(|| -> Result<Vec<Tap>> {
            let uplink = Link::veth(UPLINK, WIRE_END, &far)?;
            wire_end(&uplink)?;
            uplink.address(HERE, 24)?;
            uplink.neighbour(THERE, THERE_MAC)?;
            (0..NICS).map(tap).collect()
        })?;
        far.run(|| wire_end(&Link::named(WIRE_END)))?;
        let programs = Floor::load(floor, &[("ACTION", Action::Send as u32)], &[])?;
        programs.prepare(&[GENERATOR])?;
        let scratch = Scratch::new()?;
        let netpath = instance(&scratch, &hypervisor)?;
        let many = Self { hypervisor, far, programs, taps, netpath, scratch, are_limited: Cell::new(false) };
        many.apply(false)?;
        Ok(many)
    }

    fn apply(&self, are_limited: bool) -> Result<()> {
        let file = self.scratch.write("zone.yaml", &zone(are_limited).to_string())?;
        let output = self.netpath.run(self.netpath.apply_args(&file));
        ensure!(output.code == 0, "netpath apply: {}{}", output.stdout, output.stderr);
        Ok(())
    }

    /// The experiment.
    pub fn experiment(&self) -> Experiment<'_> {
        let ratio = |name, numerator, denominator| Comparison {
            name,
            metric: 0,
            numerator,
            denominator: Some(denominator),
            bound: Bound::Shown,
        };
        let [one, hundred, thousand, all] = IN_USE.map(|(_, names)| names);
        let variants = IN_USE.into_iter().flat_map(|(nics, names)| {
            [false, true].into_iter().zip(names).map(move |(are_limited, name)| (nics, are_limited, name))
        });
        let variants =
            variants.map(|(nics, are_limited, name)| Variant::new(name, move || self.run(nics, are_limited))).collect();
        Experiment {
            name: NAME,
            metrics: &["ns/packet"],
            variants,
            comparisons: vec![
                ratio("cost of limits, 1 NIC in use", one[1], one[0]),
                ratio("cost of limits, 100 NICs", hundred[1], hundred[0]),
                ratio("cost of limits, 1 000 NICs", thousand[1], thousand[0]),
                ratio("cost of limits, 10 000 NICs", all[1], all[0]),
                ratio("10 000 limited NICs over one", all[1], one[1]),
                ratio("10 000 NICs over one, without limits", all[0], one[0]),
            ],
        }
    }

    fn run(&self, nics: u32, are_limited: bool) -> Result<f64> {
        if self.are_limited.replace(are_limited) != are_limited {
            self.apply(are_limited)?;
        }
        let before = self.sent()?;
        let nanoseconds = self.generate(nics)?;
        // What the last batch has set off.
        let start = Instant::now();
        while self.sent()? - before < u64::from(FRAMES) {
            ensure!(start.elapsed().as_secs() < 5, "of {FRAMES} frames {} were sent on", self.sent()? - before);
        }
        for tap in &self.taps {
            while tap.receive()?.is_some() {}
        }
        Ok(nanoseconds)
    }

    /// Frames that NICs have had, as netpath counts.
    fn sent(&self) -> Result<u64> {
        let tables = Tables::open(&Root::open(self.netpath.root())?)?;
        let rows = tables.names.rows()?.into_iter().filter(|(key, _)| key.kind == name_kind::PORT);
        let counts = rows.map(|(key, _)| Ok(tables.counters.sum(key.index)?.to_guest_packets));
        counts.sum()
    }

    /// Generates frames for this many NICs; nanoseconds a frame, with all that they set off on this CPU.
    fn generate(&self, nics: u32) -> Result<f64> {
        self.prepare(nics)?;
        let (ns, device) = (&self.far, WIRE_END);
        let frames = Frames { generator: GENERATOR, ns, device, len: LONG, count: FRAMES, batch: BATCH };
        Ok(self.programs.generate(frames)?.as_nanos() as f64 / f64::from(FRAMES))
    }

    /// Tells the generator what is to come: addresses end with zeros in the template, and the sum of its IP header is without the
    /// checksum.
    fn prepare(&self, nics: u32) -> Result<()> {
        const IP: usize = 64;
        let inner = Packet::between(REMOTE.mac, mac(0), REMOTE.ip.into(), ip(0).into());
        let inner = inner.dont_fragment().checksum(Checksum::Zero).udp(1000, 2000).payload([0x5a; SHORT - 42]).build();
        let uplink = self.hypervisor.run(|| Link::named(UPLINK).read_mac())?;
        let mut bytes = Outer::new(VNI, (THERE_MAC, THERE), (uplink, HERE)).wrap(&inner);
        bytes[IP + 10..IP + 12].fill(0);
        let ip_sum = u32::from(checksum::sum(&bytes[IP..IP + 20]));
        self.programs.template(bytes)?;
        self.programs.set("TRAFFIC", Traffic { mask: nics - 1, ip_sum, ..Traffic::default() })
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        // Closed one by one, they take minutes.
        if let Err(error) = self.hypervisor.run(|| Link::delete_group(GROUP)) {
            eprintln!("{error:#}");
        }
    }
}

fn device(nic: u32) -> String {
    format!("nic{nic}")
}

/// A NIC's device; what nobody reads shall hold no memory.
fn tap(nic: u32) -> Result<Tap> {
    let tap = Tap::new(&device(nic), Offloads::None)?;
    tap.link().queue_length(1)?;
    tap.link().group(GROUP)?;
    Ok(tap)
}

/// The MAC address with a number as its last two octets.
fn mac(number: u32) -> [u8; 6] {
    [0x02, 0, 0x0a, 1, (number >> 8) as u8, number as u8]
}

fn ip(number: u32) -> std::net::Ipv4Addr {
    [10, 1, (number >> 8) as u8, number as u8].into()
}

/// One network with all NICs, whose offering limits each of them or none.
fn zone(are_limited: bool) -> Value {
    let nic = |instance: String, mac, ip, host, device| json!({"instance": instance, "mac": mac_text(mac), "ip": ip, "host": host, "device": device});
    let mut nics = vec![nic("remote".into(), REMOTE.mac, REMOTE.ip, "hv2", device(NICS))];
    nics.extend((0..NICS).map(|n| nic(format!("i{n}"), mac(FIRST + n), ip(FIRST + n), "hv1", device(n))));
    let rate = if are_limited { json!(PLENTY) } else { json!(0) };
    let rows = ["ports", "addresses", "fdb", "floods", "names", "meters"].map(|map| (map.to_owned(), json!(8 * NICS)));
    let capacities: serde_json::Map<String, Value> = rows.into_iter().collect();
    json!({
        "zone": "zone1",
        "physical_networks": [{"name": "guest", "isolation": "vxlan", "vnis": "5000-9999", "traffic": ["guest"]}],
        "hosts": [
            {"name": "hv1", "tunnel_address": HERE, "uplinks": {"guest": UPLINK}, "uplink_mode": "xdp", "capacities": capacities},
            {"name": "hv2", "tunnel_address": THERE, "uplinks": {"guest": UPLINK}},
        ],
        "offerings": [{"name": "standard", "network_rate": rate, "egress_default": "allow"}],
        "networks": [{
            "name": "large",
            "account": "large",
            "physical_network": "guest",
            "segment": VNI,
            "cidr": "10.1.0.0/16",
            "gateway": "10.1.0.1",
            "offering": "standard",
            "nics": nics,
        }],
    })
}
