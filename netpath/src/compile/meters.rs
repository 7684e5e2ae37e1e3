//! LIMITS and who is under them: meters of NICs, networks, accounts and public addresses; and what is counted for whom.
//!
//! A meter belongs to a name, so a rate that changes is a row of LIMITS for each direction and nothing else. What has no limit
//! has no meter.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use netpath_common::maps::{FROM_GUEST, NameKey, PortMeters, TO_GUEST, meter_row, name_kind};

use super::{Compiler, FairQueues, presence::LocalAddress};
use crate::{definitions::RateLimit, netlink::fq};

impl<'z> Compiler<'z, '_> {
    /// LIMITS, PORT_METERS and PUBLIC_METERS of what is on the host.
    pub(super) fn meters(&mut self) {
        let zone = self.zone;
        let host = self.host.name.as_str();
        let mut accounts = HashMap::new();
        for network in &zone.networks {
            let mut nics = network.nics.iter().filter(|nic| nic.is_on(host)).peekable();
            if nics.peek().is_none() {
                continue;
            }
            let offering = zone.offering_of(network);
            let name = &network.name.value;
            let of_network = self.meter(format_args!("network {name}"), zone.network_limit(network, offering));
            let of_account = network.account.as_ref().map_or(0, |account| {
                let account = account.as_str();
                *accounts
                    .entry(account)
                    .or_insert_with(|| self.meter(format_args!("account {account}"), zone.account_limit(account)))
            });
            for nic in nics {
                let limit = zone.nic_limit(network, offering, nic);
                if limit.is_none() && (of_network, of_account) == (0, 0) {
                    continue;
                }
                let title = format!("{name}/{}/{}", nic.instance.value, nic.mac.value);
                let slot = self.indices.ports.index(&title, &mut self.compiled.rows);
                let port = self.meter(format_args!("nic {title}"), limit);
                let row = PortMeters { port, network: of_network, account: of_account, pad: 0 };
                self.compiled.rows.port_meters.insert(slot, row);
            }
        }
        for local in self.presence.addresses().collect::<Vec<_>>() {
            self.address_meter(&local);
        }
    }

    /// PUBLIC_METERS of an address, and the limit.
    fn address_meter(&mut self, local: &LocalAddress<'z>) {
        let limit = self.zone.address_limit(local.network, local.address);
        let Some(title) = limit.and_then(|_| self.address_title(local.address)) else { return };
        let meter = self.meter(format_args!("address {title}"), limit);
        let index = self.indices.public_addresses.index(&title, &mut self.compiled.rows);
        self.compiled.rows.public_meters.insert(index, meter);
    }

    /// The meter of that name, whose limit goes into LIMITS; 0 where there is none.
    fn meter(&mut self, name: std::fmt::Arguments<'_>, limit: Option<RateLimit>) -> u32 {
        let Some(limit) = limit else { return 0 };
        let meter = self.indices.meters.index(&name.to_string(), &mut self.compiled.rows);
        // Only towards a wire anything waits.
        for (direction, room) in [(FROM_GUEST, self.room()), (TO_GUEST, 0)] {
            self.compiled.rows.limits.insert(meter_row(meter, direction), limit.row(room));
        }
        meter
    }

    /// How many bytes of a limit the uplinks of the host that keep packets until their time of departure all have room for; 0
    /// where none does.
    fn room(&self) -> u64 {
        let FairQueues { present, possible } = self.surroundings.fair_queues;
        let own = possible.iter().map(|_| fq::wanted().bytes());
        present.values().copied().chain(own).min().unwrap_or(0)
    }

    /// The index of a public address that is counted.
    pub(super) fn counted(&mut self, address: Ipv4Addr) -> Option<u32> {
        let title = self.address_title(address)?;
        Some(self.indices.public_addresses.index(&title, &mut self.compiled.rows))
    }

    /// `link/address`.
    fn address_title(&self, address: Ipv4Addr) -> Option<String> {
        let range = self.zone.public_range(address)?;
        Some(format!("{}/{}/{address}", range.physical_network.value, *range.vlan))
    }

    /// To which account a network belongs. An account that has been here keeps its index, and so what it has been counted, for as
    /// long as the zone has it.
    pub(super) fn owners(&mut self, indices: &HashMap<&'z str, u32>) {
        let zone = self.zone;
        for (_, network) in self.presence.networks(zone) {
            let Some((account, index)) = network.account.as_ref().zip(indices.get(network.name.as_str())) else {
                continue;
            };
            self.indices.accounts.index(account, &mut self.compiled.rows);
            let key = NameKey { kind: name_kind::OWNER, index: *index };
            self.compiled.rows.names.insert(key, account.to_string());
        }
        let owners = zone.networks.iter().filter_map(|network| network.account.as_ref());
        let known: HashSet<&str> =
            owners.chain(zone.accounts.iter().map(|account| &account.name)).map(|name| name.as_str()).collect();
        let accounts =
            NameKey { kind: name_kind::ACCOUNT, index: 0 }..=NameKey { kind: name_kind::ACCOUNT, index: u32::MAX };
        let kept = self.surroundings.existing.names.range(accounts).filter(|(_, name)| known.contains(name.as_str()));
        self.compiled.rows.names.extend(kept.map(|(key, name)| (*key, name.clone())));
    }
}
