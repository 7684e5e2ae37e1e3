//! netpath as the gateway: the binary, applied as an operator applies it.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use netpath::datapath::{DatapathError, Root, Tables};
use netpath_common::maps::MapShape;
use serde_json::{Value, json};

use super::{
    plan::{FIRST_VNI, GATEWAY_MAC, GUESTS, NETWORKS, PUBLIC_UPLINK, ROUTER, gateway, guest, guest_mac, pool},
    site::{Direction, Load, Site, Work},
};
use crate::{
    bench::{
        lab::UPLINK,
        stations::{HERE, THERE},
        subject::{UplinkMode, instance},
    },
    packet::mac_text,
    runner::Netpath,
    topology::Scratch,
};

/// Attempts until the router has answered for its address.
const GREETINGS: u32 = 50;

/// netpath applied on a site.
pub struct Subject {
    /// Where it is at work.
    pub site: Site,
    netpath: Netpath,
    _scratch: Scratch,
}

/// What its definitions say.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Which programs take the frames.
    pub mode: UplinkMode,
    /// Egress rules of each network, none of which concerns the traffic.
    pub rules: u16,
    /// Room for this many connections.
    pub connections: u32,
}

impl Subject {
    /// Applies it, and sees to it that the router's MAC address is known.
    ///
    /// # Errors
    /// What netpath said when it refused, or when no packet passes.
    pub fn new(floor: &Path, definition: Definition) -> Result<Self> {
        let site = Site::new(floor, Work::Gateway, Direction::Out)?;
        let in_driver = definition.mode == UplinkMode::Xdp;
        site.count(in_driver)?;
        if !in_driver {
            site.polls()?;
        }
        let scratch = Scratch::new()?;
        let netpath = instance(&scratch, &site.host)?;
        let file = scratch.write("zone.yaml", &zone(definition).to_string())?;
        let output = netpath.run(netpath.apply_args(&file));
        ensure!(output.code == 0, "netpath apply: {}{}", output.stdout, output.stderr);
        let subject = Self { site, netpath, _scratch: scratch };
        subject.greet()?;
        Ok(subject)
    }

    /// The first packet has the router asked for.
    fn greet(&self) -> Result<()> {
        for _ in 0..GREETINGS {
            if self.site.attempt(&Load::new(Direction::Out, 1, 1), false).is_ok() {
                return Ok(());
            }
        }
        anyhow::bail!("no packet passes: {}", self.drops())
    }

    /// Measures established connections.
    ///
    /// # Errors
    /// When frames are lost, with what netpath refused.
    pub fn run(&self, load: &Load) -> Result<f64> {
        self.site.run(load).with_context(|| self.drops())
    }

    /// What netpath has refused so far, for messages.
    pub fn drops(&self) -> String {
        self.netpath.run(["show", "drops"]).stdout
    }

    fn root(&self) -> Result<Root> {
        Ok(Root::open(self.netpath.root())?)
    }

    /// Takes every connection and binding away.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self) -> Result<()> {
        let mut tables = Tables::open(&self.root()?)?;
        for (key, _) in tables.flows.rows()? {
            tables.flows.delete(&key)?;
        }
        for (key, _) in tables.bindings.rows()? {
            tables.bindings.delete(&key)?;
        }
        let claimed = indices(|visit| tables.port_blocks.visit(visit), |word| *word != 0)?;
        for index in claimed {
            tables.port_blocks.put(index, &0)?;
        }
        let counted = indices(|visit| tables.gateway_state.visit(visit), |state| state.flows != 0)?;
        for index in counted {
            let state = tables.gateway_state.get(index)?.unwrap_or_default();
            tables.gateway_state.put(index, &netpath_common::maps::GatewayState { flows: 0, bindings: 0, ..state })?;
        }
        self.site.forgotten();
        Ok(())
    }

    /// Bytes of kernel memory that two rows of a map take: all its memory by its rows, to a tenth of a byte.
    ///
    /// # Errors
    /// When the map is not there.
    pub fn bytes_of_two_rows(&self, shape: &MapShape) -> Result<f64> {
        let map = MapData::from_pin(self.root()?.map(shape.name))?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let field = |name: &str| -> Result<f64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            Ok(line.with_context(|| format!("no {name} in {info}"))?.trim().parse()?)
        };
        Ok((20.0 * field("memlock:")? / field("max_entries:")?).round() / 10.0)
    }
}

/// The rows of an array that are `wanted`.
fn indices<V>(
    rows: impl FnOnce(&mut dyn FnMut(u32, &V)) -> Result<(), DatapathError>,
    wanted: impl Fn(&V) -> bool,
) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    rows(&mut |index, value| {
        if wanted(value) {
            found.push(index);
        }
    })?;
    Ok(found)
}

fn zone(definition: Definition) -> Value {
    let rows = 2 * definition.connections;
    let capacities = json!({"flows": rows, "bindings": rows});
    let mut here = json!({
        "name": "hv1",
        "tunnel_address": HERE,
        "uplinks": {"guest": UPLINK, "public": PUBLIC_UPLINK},
        "capacities": capacities,
    });
    match definition.mode {
        UplinkMode::Auto => {}
        UplinkMode::Xdp => here["uplink_mode"] = json!("xdp"),
        UplinkMode::Tc => here["uplink_mode"] = json!("tc"),
    }
    json!({
        "zone": "zone1",
        "physical_networks": [
            {"name": "guest", "isolation": "vxlan", "vnis": "5000-9999", "traffic": ["guest"]},
            {"name": "public", "isolation": "vlan", "vlans": "900-999", "traffic": ["public"]},
        ],
        "hosts": [here, {"name": "hv2", "tunnel_address": THERE, "uplinks": {"guest": UPLINK}}],
        "offerings": [{"name": "standard", "egress_default": "allow"}],
        "public_ranges":
            [{"physical_network": "public", "vlan": "untagged", "cidr": "203.0.113.0/24", "gateway": ROUTER}],
        "networks": (0..NETWORKS).map(|index| network(index, definition)).collect::<Vec<_>>(),
    })
}

fn network(index: u8, definition: Definition) -> Value {
    let nics: Vec<_> = (0..GUESTS)
        .map(|number| {
            json!({
                "instance": format!("guest-{index}-{number}"),
                "mac": mac_text(guest_mac(index, number)),
                "ip": guest(index, number),
                "host": "hv2",
                "device": format!("vnet{index}-{number}"),
            })
        })
        .collect();
    let rules: Vec<_> = (0..definition.rules)
        .map(|number| json!({"protocol": "udp", "ports": super::peer::blocked_port(number).to_string()}))
        .collect();
    json!({
        "name": format!("tenant-{index}"),
        "account": format!("tenant-{index}"),
        "physical_network": "guest",
        "segment": FIRST_VNI + u32::from(index),
        "cidr": format!("10.{}.0.0/16", 1 + index),
        "gateway": gateway(index),
        "gateway_mac": mac_text(GATEWAY_MAC),
        "offering": "standard",
        "nat_host": "hv1",
        "source_nat": pool(index).collect::<Vec<_>>(),
        "connection_limit": definition.connections,
        "firewall": {"egress": rules},
        "nics": nics,
    })
}
