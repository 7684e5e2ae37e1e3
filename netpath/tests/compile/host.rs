//! A host to compile for: its devices, and what `apply` would make of them.

use netpath::{
    compile::{
        CompileError, Compiled, FairQueues, Rows, Surroundings, TunnelDevice, compile, tunnel_device_name,
        tunnel_devices,
    },
    definitions::{Zone, parse},
    netlink::{Device, VxlanSettings, XdpSupport},
};

/// A device that has native XDP, up.
pub fn device(index: u32, name: &str, kind: Option<&str>) -> Device {
    Device {
        name: name.into(),
        index,
        kind: kind.map(Into::into),
        mac: Some(netpath_common::Mac([2, 0, 0, 0, 0, index as u8])),
        mtu: 1500,
        master: None,
        parent: None,
        is_up: true,
        is_running: true,
        promiscuity: 0,
        is_promiscuous: false,
        xdp_program: None,
        xdp_is_generic: false,
        vxlan: None,
        xdp: XdpSupport::Native { transmits: true, fragments: true },
    }
}

/// A tap, as libvirt makes it for a guest's interface.
pub fn tap(index: u32, name: &str, guest: &str) -> Device {
    let mut mac: netpath_common::Mac = guest.parse().unwrap();
    mac.0[0] = 0xfe;
    Device { mac: Some(mac), ..device(index, name, Some("tun")) }
}

/// netpath's own tunnel device, or a foreign one of that name.
pub fn vxlan(index: u32, name: &str, port: u16) -> Device {
    Device { vxlan: Some(VxlanSettings { port, vni: 0, external: true }), ..device(index, name, Some("vxlan")) }
}

/// eth1, eth2 and eth3 as 1, 2 and 3, the guests' devices from 10 on, np4789 as 9.
pub fn devices() -> Vec<Device> {
    let mut devices: Vec<Device> = (1..=3).map(|index| device(index, &format!("eth{index}"), None)).collect();
    devices.push(vxlan(9, &tunnel_device_name(4789), 4789));
    devices.extend((0..4).map(|n| device(10 + n, &format!("vnet{n}"), Some("tun"))));
    devices
}

pub fn zone(text: &str) -> Zone {
    parse("zone.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

/// Compiles for `host`, every tunnel device of the right name being its own.
pub fn try_compile(zone: &Zone, host: &str, devices: &[Device], existing: &Rows) -> Result<Compiled, CompileError> {
    compile_with(zone, host, devices, existing, &FairQueues::default())
}

/// The same on a host whose uplinks can keep packets until their time of departure.
pub fn compile_with(
    zone: &Zone,
    host: &str,
    devices: &[Device],
    existing: &Rows,
    fair_queues: &FairQueues,
) -> Result<Compiled, CompileError> {
    let tunnel_devices = &tunnel_devices(zone, host, devices, |_| true);
    let (host_addresses, reserved) = (&[], &[]);
    compile(
        zone,
        host,
        Surroundings { devices, tunnel_devices, existing, host_addresses, reserved, ephemeral: None, fair_queues },
    )
}

pub fn compiled(zone: &Zone, host: &str, devices: &[Device], existing: &Rows) -> Compiled {
    try_compile(zone, host, devices, existing).unwrap_or_else(|error| panic!("{error}"))
}

/// What listens on VXLAN's port.
pub fn tunnel_device(zone: &Zone, devices: &[Device], is_own: bool) -> Option<TunnelDevice> {
    tunnel_devices(zone, "kvm1", devices, |_| is_own).remove(&4789)
}

pub const TWO_TENANTS: &str = include_str!("../../../examples/two-tenants.yaml");

pub const GATEWAY: &str = include_str!("../../../examples/gateway.yaml");

/// Adds `row` to the rows of an object of `text`, below the line that is `after`.
pub fn with(text: &str, after: &str, row: &str) -> String {
    assert!(text.contains(after), "the document has no {after:?}");
    text.replacen(after, &format!("{after}\n{row}"), 1)
}

/// The index of what is called `name`.
pub fn index(rows: &Rows, kind: u32, name: &str) -> u32 {
    let mut names = rows.names.iter().filter(|(key, known)| key.kind == kind && *known == name);
    names.next().unwrap_or_else(|| panic!("nothing is called {name}")).0.index
}
