//! Which of the host's devices matter to what is applied, and whether a change of one does.
//!
//! A hypervisor has devices that come and go without end. Only what `compile` looks at makes a plan worth its while: the
//! devices that the definitions name, taps with the MAC address of a NIC that names none, tunnel devices, and what is
//! enslaved to one of these or stands above it.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use netpath_common::Mac;

use crate::{
    compile,
    definitions::Zone,
    netlink::{Device, VxlanSettings, monitor::Event},
};

/// What a change calls for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// To work out what has to be done.
    pub(super) apply: bool,
    /// To look at every device again first.
    pub(super) look: bool,
}

/// What matters of the host.
#[derive(Debug, Default)]
pub(super) struct Interest {
    names: HashSet<String>,
    taps: HashSet<Mac>,
    uplinks: HashSet<String>,
    public: Vec<Ipv4Net>,
    groups: HashSet<Ipv4Addr>,
    known: HashMap<u32, Facts>,
}

/// What a plan depends on, of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    name: String,
    mac: Option<Mac>,
    mtu: u32,
    master: Option<u32>,
    vxlan: Option<VxlanSettings>,
    /// Of a tunnel device like netpath's own: it is up.
    is_up: bool,
    /// Of an uplink: it can send.
    is_running: bool,
    /// Of an uplink: it was told to take frames for everybody, and it does.
    takes_all: (bool, bool),
}

impl Interest {
    /// What `host`'s part of these zones is about.
    pub(super) fn of<'z>(zones: impl IntoIterator<Item = &'z Zone>, host: &str) -> Self {
        let mut interest = Self::default();
        for zone in zones {
            for nic in zone.networks.iter().flat_map(|network| &network.nics).filter(|nic| nic.is_on(host)) {
                match &nic.device {
                    Some(device) => drop(interest.names.insert(device.to_string())),
                    None => drop(interest.taps.insert(compile::tap_mac(*nic.mac))),
                }
            }
            interest.groups.extend(zone.networks.iter().filter_map(|network| zone.group(network)));
            interest.public.extend(zone.public_ranges.iter().map(|range| *range.cidr));
            if let Some(host) = zone.host(host) {
                interest.uplinks.extend(host.uplinks.iter().map(|(_, device)| device.to_string()));
            }
        }
        interest
    }

    /// Takes note of all devices at once.
    pub(super) fn look(&mut self, devices: &[Device]) {
        self.known.clear();
        // What is enslaved to a device that matters may come before it in the list.
        for _ in 0..2 {
            for device in devices {
                if self.matters(device) {
                    self.known.insert(device.index, self.facts(device));
                }
            }
        }
    }

    /// Takes note of a change; gives what it calls for, and the uplink that has come back to life by it, if one has.
    pub(super) fn note(&mut self, event: &Event) -> (Call, Option<u32>) {
        let apply = Call { apply: true, look: false };
        match event {
            // Of the host's addresses those matter that are a network's as well, and those that keep a group joined.
            Event::Address(address) => {
                let apply = self.groups.contains(address) || self.public.iter().any(|range| range.contains(address));
                (Call { apply, look: false }, None)
            }
            Event::Overflow => (Call { apply: true, look: true }, None),
            Event::Gone { index } => match self.known.remove(index) {
                Some(_) => (apply, None),
                None => (Call::default(), None),
            },
            Event::Device(device) if self.matters(device) => self.changed(device),
            // One that mattered under another name.
            Event::Device(device) => (Call { apply: self.known.remove(&device.index).is_some(), look: false }, None),
        }
    }

    fn changed(&mut self, device: &Device) -> (Call, Option<u32>) {
        let facts = self.facts(device);
        let before = self.known.insert(device.index, facts.clone());
        let returns = facts.is_running && before.as_ref().is_some_and(|before| !before.is_running);
        let is_same = |before: &Facts| Facts { is_running: facts.is_running, ..before.clone() } == facts;
        let apply = !before.as_ref().is_some_and(is_same);
        (Call { apply, look: false }, (returns && self.is_uplink(&facts)).then_some(device.index))
    }

    fn matters(&self, device: &Device) -> bool {
        self.names.contains(&device.name)
            || self.uplinks.contains(&device.name)
            || device.vxlan.is_some()
            || device.mac.is_some_and(|mac| self.taps.contains(&mac))
            || device.master.is_some_and(|master| self.known.get(&master).is_some_and(|above| self.is_uplink(above)))
            || self.stands_above(device)
    }

    /// Whether an uplink is a port or slave of it: only bridges, bonds and their like are asked about, for it is a walk.
    fn stands_above(&self, device: &Device) -> bool {
        matches!(device.kind.as_deref(), Some("bridge" | "bond" | "team" | "openvswitch"))
            && self.known.values().any(|below| below.master == Some(device.index) && self.is_uplink(below))
    }

    fn is_uplink(&self, facts: &Facts) -> bool {
        self.uplinks.contains(&facts.name)
    }

    /// Whether a guest's device is up is the guest's affair.
    fn facts(&self, device: &Device) -> Facts {
        let is_uplink = self.uplinks.contains(&device.name);
        Facts {
            name: device.name.clone(),
            mac: device.mac,
            mtu: device.mtu,
            master: device.master,
            vxlan: device.vxlan,
            is_up: device.is_up && device.vxlan.is_some_and(|vxlan| vxlan.external),
            is_running: is_uplink && device.is_running,
            takes_all: (is_uplink && device.is_promiscuous, is_uplink && device.promiscuity > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions;

    const ZONE: &str = "
zone: z
physical_networks: [{name: guest, isolation: vlan, vlans: 100-199, traffic: [guest]}]
hosts: [{name: kvm1, uplinks: {guest: bond0}}]
networks:
  - name: web
    physical_network: guest
    segment: 100
    nics:
      - {instance: named, mac: 02:00:00:00:00:01, host: kvm1, device: vnet0}
      - {instance: tap, mac: 02:00:00:00:00:02, host: kvm1}
";

    fn interest(devices: &[Device]) -> Interest {
        let zone = definitions::parse("zone", ZONE).unwrap();
        let mut interest = Interest::of([&zone], "kvm1");
        interest.look(devices);
        interest
    }

    const APPLY: Call = Call { apply: true, look: false };
    const NOTHING: Call = Call { apply: false, look: false };

    #[test]
    fn a_guests_device_that_comes_and_goes_calls_for_an_apply() {
        let mut interest = interest(&[]);
        let named = Device::hardware(7, "vnet0");
        assert_eq!(interest.note(&Event::Device(named.clone())), (APPLY, None));
        assert_eq!(interest.note(&Event::Device(named.clone())), (NOTHING, None), "nothing about it changed");
        let up = Device { is_running: false, is_up: false, ..named.clone() };
        assert_eq!(interest.note(&Event::Device(up)), (NOTHING, None), "the guest's affair");
        assert_eq!(interest.note(&Event::Device(Device { mtu: 9000, ..named })), (APPLY, None));
        assert_eq!(interest.note(&Event::Gone { index: 7 }), (APPLY, None));
        assert_eq!(interest.note(&Event::Gone { index: 7 }), (NOTHING, None));
    }

    #[test]
    fn a_tap_is_known_by_its_mac_address_once_it_has_it() {
        let mut interest = interest(&[]);
        let tap = Device::hardware(9, "tap9");
        assert_eq!(interest.note(&Event::Device(tap.clone())), (NOTHING, None));
        let tap = Device { mac: Some(Mac([0xfe, 0, 0, 0, 0, 2])), ..tap };
        assert_eq!(interest.note(&Event::Device(tap.clone())), (APPLY, None));
        assert_eq!(interest.note(&Event::Device(Device { mac: None, ..tap })), (APPLY, None), "it matters no more");
    }

    #[test]
    fn devices_of_others_call_for_nothing() {
        let mut interest = interest(&[Device::hardware(2, "bond0")]);
        for stranger in
            [Device::hardware(20, "veth1"), Device { kind: Some("bridge".into()), ..Device::hardware(21, "docker0") }]
        {
            assert_eq!(interest.note(&Event::Device(stranger)), (NOTHING, None));
        }
        let of_the_host = Event::Address(std::net::Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(interest.note(&of_the_host), (NOTHING, None), "no network has it");
        assert_eq!(interest.note(&Event::Overflow), (Call { apply: true, look: true }, None));
    }

    #[test]
    fn an_address_that_keeps_a_networks_group_joined_calls_for_an_apply_when_it_goes() {
        let group = Event::Address(std::net::Ipv4Addr::new(239, 0, 19, 137));
        for (replication, call) in [("multicast", APPLY), ("head_end", NOTHING)] {
            let physical = format!("guest, isolation: vxlan, vnis: 5000-5999, replication: {replication}");
            let text = ZONE
                .replace("guest, isolation: vlan, vlans: 100-199", &physical)
                .replace("{name: kvm1,", "{name: kvm1, tunnel_address: 192.0.2.11,")
                .replace("segment: 100", "segment: 5001");
            let mut interest = Interest::of([&definitions::parse("zone", &text).unwrap()], "kvm1");
            assert_eq!(interest.note(&group), (call, None), "{replication}");
        }
    }

    #[test]
    fn a_tunnel_device_that_is_taken_down_calls_for_an_apply_and_one_of_the_kernels_does_not() {
        let vxlan = |external| VxlanSettings { port: 4789, vni: 0, external };
        for (external, call) in [(true, APPLY), (false, NOTHING)] {
            let tunnel = Device { vxlan: Some(vxlan(external)), ..Device::hardware(9, "np4789") };
            let mut interest = interest(std::slice::from_ref(&tunnel));
            assert_eq!(interest.note(&Event::Device(tunnel.clone())), (NOTHING, None));
            let down = Device { is_up: false, is_running: false, ..tunnel };
            assert_eq!(interest.note(&Event::Device(down)), (call, None));
        }
    }

    #[test]
    fn an_uplinks_slaves_and_the_bridge_above_it_matter() {
        let uplink = Device { master: Some(30), ..Device::hardware(2, "bond0") };
        let slave = Device { master: Some(2), ..Device::hardware(3, "eth0") };
        // As the kernel lists them: the slave first.
        let mut interest = interest(&[slave.clone(), uplink]);
        assert_eq!(interest.note(&Event::Device(slave)), (NOTHING, None), "it was seen");
        assert_eq!(interest.note(&Event::Gone { index: 3 }), (APPLY, None));
        let bridge = Device { kind: Some("bridge".into()), ..Device::hardware(30, "cloudbr0") };
        assert_eq!(interest.note(&Event::Device(bridge)), (APPLY, None));
    }

    #[test]
    fn an_uplink_that_takes_its_own_frames_only_calls_for_an_apply_and_a_guests_device_does_not() {
        let promiscuous = |device: Device| Device { is_promiscuous: true, promiscuity: 1, ..device };
        let (uplink, guest) = (Device::hardware(2, "bond0"), Device::hardware(7, "vnet0"));
        let mut interest = interest(&[promiscuous(uplink.clone()), promiscuous(guest.clone())]);
        assert_eq!(interest.note(&Event::Device(guest)), (NOTHING, None));
        assert_eq!(interest.note(&Event::Device(uplink)), (APPLY, None));
    }

    #[test]
    fn an_uplink_that_comes_back_to_life_is_told_by_its_index() {
        let mut interest = interest(&[Device::hardware(2, "bond0")]);
        let down = Device { is_running: false, ..Device::hardware(2, "bond0") };
        assert_eq!(interest.note(&Event::Device(down)), (NOTHING, None));
        assert_eq!(interest.note(&Event::Device(Device::hardware(2, "bond0"))), (NOTHING, Some(2)));
    }
}
