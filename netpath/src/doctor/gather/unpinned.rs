//! Programs that rows in force ask for, and that nothing is pinned for: their pins were removed, and the kernel took them off.

use std::collections::BTreeSet;

use netpath_common::maps::uplink_flags;

use super::Applied;
use crate::{
    apply,
    compile::Rows,
    datapath::{self, Attachment, Hook, Programs, Tables},
    doctor::host::Host,
    error::Error,
    netlink::{self, Device},
};

/// By device. An apply writes rows before it attaches programs, so what is missing is looked at again when nobody edits.
pub(super) fn unpinned(applied: &Applied, rows: &Rows, host: &Host) -> Result<Vec<(String, Hook)>, Error> {
    // Below Linux 6.6 the pin of a renamed device does not say what it is called now.
    let is_lost = |(device, _): &(String, Hook)| !host.renamed.values().any(|name| name == device);
    if !missing(rows, &host.devices, &host.attachments).iter().any(is_lost) {
        return Ok(Vec::new());
    }
    // Whoever works under the root for longer than is waited for, or has removed it meanwhile, leaves it in another state.
    let Ok(_lock) = applied.root.lock() else { return Ok(Vec::new()) };
    let Ok(tables) = Tables::open(&applied.root) else { return Ok(Vec::new()) };
    let devices = netlink::devices()?;
    let programs = Programs::pinned(&applied.root).ok().flatten();
    let attachments = datapath::attachments(&applied.root, programs.as_ref(), &devices)?;
    let missing = missing(&apply::rows_in_force(&tables)?, &devices, &attachments);
    Ok(missing.into_iter().filter(is_lost).collect())
}

/// What rows ask for on devices that are there, and no pin stands for.
fn missing(rows: &Rows, devices: &[Device], attachments: &[Attachment]) -> Vec<(String, Hook)> {
    let has_pin = |device: &str, hook| attachments.iter().any(|a| a.device == device && a.hook == hook);
    let guests = rows.ports.keys().map(|ifindex| (*ifindex, Hook::FromGuest));
    let uplinks = uplinks(rows, devices).into_iter().map(|ifindex| (ifindex, Hook::FromUplink));
    let wanted = guests.chain(uplinks).chain(tunnel_devices(rows).map(|ifindex| (ifindex, Hook::FromTunnel)));
    let there = wanted.filter_map(|(ifindex, hook)| Some((device(devices, ifindex)?.name.clone(), hook)));
    there.filter(|(device, hook)| !has_pin(device, *hook)).collect()
}

/// Uplinks, each of which has the program of TC, beside XDP or alone. Slaves of bonds have rows and no program, for as long as
/// they are slaves and afterwards.
fn uplinks(rows: &Rows, devices: &[Device]) -> BTreeSet<u32> {
    let own = || rows.uplinks.iter().filter(|(_, row)| row.flags & uplink_flags::TUNNEL_DEVICE == 0);
    let is_bond =
        |ifindex| device(devices, ifindex).is_some_and(|d| matches!(d.kind.as_deref(), Some("bond" | "team")));
    let networks = rows.networks.values().map(|network| network.uplink);
    let tunnels = rows.tunnels.values().map(|tunnel| tunnel.egress);
    let led_to: BTreeSet<u32> =
        networks.chain(tunnels).chain(rows.upstreams.values().map(|link| link.ifindex)).collect();
    let may_be_slave = |ifindex: u32| {
        let is_slave = device(devices, ifindex).and_then(|device| device.master).is_some_and(is_bond);
        let alike =
            |ifindex| own().filter(move |(key, _)| key.ifindex == ifindex).map(|(key, row)| (key.udp_port, row.local));
        let of_bond = || own().filter(|(key, _)| key.ifindex != ifindex && is_bond(key.ifindex));
        is_slave || of_bond().any(|(bond, row)| alike(ifindex).any(|own| own == (bond.udp_port, row.local)))
    };
    let found = own().map(|(key, _)| key.ifindex);
    found.filter(|ifindex| led_to.contains(ifindex) || !may_be_slave(*ifindex)).collect()
}

/// netpath's own.
fn tunnel_devices(rows: &Rows) -> impl Iterator<Item = u32> {
    let own = rows.uplinks.iter().filter(|(_, row)| row.flags & uplink_flags::TUNNEL_DEVICE != 0);
    own.map(|(key, _)| key.ifindex).collect::<BTreeSet<_>>().into_iter()
}

fn device(devices: &[Device], ifindex: u32) -> Option<&Device> {
    devices.iter().find(|device| device.index == ifindex)
}

#[cfg(test)]
mod tests {
    use netpath_common::maps::{Network, Port, Uplink, UplinkKey};

    use super::*;
    use crate::datapath::AttachState;

    fn attached(device: &str, hook: Hook) -> Attachment {
        Attachment { device: device.into(), former: None, hook, state: AttachState::Current, program: 7 }
    }

    fn uplink(ifindex: u32, udp_port: u32, flags: u32) -> (UplinkKey, Uplink) {
        (UplinkKey { ifindex, udp_port }, Uplink { flags, ..Uplink::default() })
    }

    #[test]
    fn ports_uplinks_and_tunnel_devices_want_their_program_where_they_are_there() {
        let devices = [(2, "eth1"), (7, "np4789"), (11, "vnet0"), (12, "vnet1")];
        let devices = devices.map(|(index, name)| Device::hardware(index, name));
        let rows = Rows {
            ports: [11, 12, 13].map(|ifindex| (ifindex, Port::default())).into(),
            uplinks: [uplink(2, 4789, 0), uplink(7, 4789, uplink_flags::TUNNEL_DEVICE)].into(),
            ..Rows::default()
        };
        let (guest, other) = (attached("vnet0", Hook::FromGuest), attached("vnet1", Hook::FromGuest));
        let (eth1, tunnel) = (attached("eth1", Hook::FromUplink), attached("np4789", Hook::FromTunnel));
        let all = [guest, other, eth1, tunnel];
        assert_eq!(missing(&rows, &devices, &all), [], "XDP may be absent, and vnet2 is not there yet");
        assert_eq!(
            missing(&rows, &devices, &all[..1]),
            [
                ("vnet1".to_owned(), Hook::FromGuest),
                ("eth1".to_owned(), Hook::FromUplink),
                ("np4789".to_owned(), Hook::FromTunnel),
            ]
        );
        assert_eq!(missing(&Rows::default(), &devices, &[]), []);
    }

    #[test]
    fn of_a_bond_and_its_slaves_the_bond_alone_wants_a_program() {
        let slave = |index, name| Device { master: Some(9), ..Device::hardware(index, name) };
        let bond = Device { kind: Some("bond".into()), ..Device::hardware(9, "bond0") };
        let mut devices = [bond, slave(2, "eth1"), slave(3, "eth2")];
        let mut rows = Rows { uplinks: [2, 3, 9].map(|ifindex| uplink(ifindex, 0, 0)).into(), ..Rows::default() };
        let on = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Hook::FromUplink)).collect::<Vec<_>>();
        assert_eq!(missing(&rows, &devices, &[]), on(&["bond0"]));
        devices[2].master = None;
        assert_eq!(missing(&rows, &devices, &[]), on(&["bond0"]), "the next apply takes its rows away");
        rows.networks.insert(1, Network { uplink: 3, ..Network::default() });
        assert_eq!(missing(&rows, &devices, &[]), on(&["eth2", "bond0"]));
    }
}
