//! Every metric that there is, in the order in which they are printed.

/// A metric of Prometheus: its samples differ in their labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Whether it only counts up.
    pub kind: Kind,
    /// The names of its labels. `instance` is Prometheus's own, for who was scraped: a NIC's instance is its `guest`.
    pub labels: &'static [&'static str],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Counts up, and begins at zero again after a purge.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: &Family =
            &Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// Every metric.
        pub const FAMILIES: &[&Family] = &[$($constant),*];
    };
}

families! {
    BUILD_INFO = Gauge "netpath_build_info" ["version", "abi"] "The netpath that answers; always 1.";
    APPLIED = Gauge "netpath_applied" [] "Definitions are applied under the pin root.";
    NETWORKS = Gauge "netpath_networks" [] "Networks with a member on this host.";
    PORTS = Gauge "netpath_ports" ["state"] "Guest ports of this host, in force or waiting for their device.";
    ATTACHMENTS = Gauge "netpath_attachments" ["state"]
        "Programs on devices: of this build, outdated, or broken because their device is gone.";
    PORT_TRANSMIT_PACKETS = Counter "netpath_port_transmit_packets_total" ["network", "guest", "mac"]
        "Frames that the guest sent and netpath accepted.";
    PORT_TRANSMIT_BYTES = Counter "netpath_port_transmit_bytes_total" ["network", "guest", "mac"]
        "Bytes of the frames that the guest sent and netpath accepted.";
    PORT_RECEIVE_PACKETS = Counter "netpath_port_receive_packets_total" ["network", "guest", "mac"]
        "Frames delivered to the guest.";
    PORT_RECEIVE_BYTES = Counter "netpath_port_receive_bytes_total" ["network", "guest", "mac"]
        "Bytes of the frames delivered to the guest.";
    NETWORK_TRANSMIT_PACKETS = Counter "netpath_network_transmit_packets_total" ["network"]
        "Frames that guests on this host sent, those that are gone included.";
    NETWORK_TRANSMIT_BYTES = Counter "netpath_network_transmit_bytes_total" ["network"]
        "Bytes of the frames that guests on this host sent.";
    NETWORK_RECEIVE_PACKETS = Counter "netpath_network_receive_packets_total" ["network"]
        "Frames delivered to guests on this host, those that are gone included.";
    NETWORK_RECEIVE_BYTES = Counter "netpath_network_receive_bytes_total" ["network"]
        "Bytes of the frames delivered to guests on this host.";
    ACCOUNT_TRANSMIT_PACKETS = Counter "netpath_account_transmit_packets_total" ["account"]
        "Frames that guests of the account on this host sent, those that are gone included.";
    ACCOUNT_TRANSMIT_BYTES = Counter "netpath_account_transmit_bytes_total" ["account"]
        "Bytes of the frames that guests of the account on this host sent.";
    ACCOUNT_RECEIVE_PACKETS = Counter "netpath_account_receive_packets_total" ["account"]
        "Frames delivered to guests of the account on this host, those that are gone included.";
    ACCOUNT_RECEIVE_BYTES = Counter "netpath_account_receive_bytes_total" ["account"]
        "Bytes of the frames delivered to guests of the account on this host.";
    ADDRESS_TRANSMIT_PACKETS = Counter "netpath_address_transmit_packets_total" ["link", "address", "network"]
        "Frames that guests sent through a public address of this host.";
    ADDRESS_TRANSMIT_BYTES = Counter "netpath_address_transmit_bytes_total" ["link", "address", "network"]
        "Bytes of the frames that guests sent through a public address of this host.";
    ADDRESS_RECEIVE_PACKETS = Counter "netpath_address_receive_packets_total" ["link", "address", "network"]
        "Frames delivered to guests through a public address of this host.";
    ADDRESS_RECEIVE_BYTES = Counter "netpath_address_receive_bytes_total" ["link", "address", "network"]
        "Bytes of the frames delivered to guests through a public address of this host.";
    LIMIT = Gauge "netpath_limit_bytes_per_second" ["object", "name", "direction"]
        "The rate of a limit: of a NIC, a network, an account or a public address.";
    LIMIT_PASSED_BYTES = Counter "netpath_limit_passed_bytes_total" ["object", "name", "direction"]
        "Bytes that a limit has let pass; not of NICs, whose ports are counted.";
    LIMIT_DROPPED_PACKETS = Counter "netpath_limit_dropped_packets_total" ["object", "name", "direction"]
        "Packets dropped because of a limit; of a NIC once something has happened to one.";
    LIMIT_DROPPED_BYTES = Counter "netpath_limit_dropped_bytes_total" ["object", "name", "direction"]
        "Bytes of the packets dropped because of a limit.";
    LIMIT_MARKED_PACKETS = Counter "netpath_limit_marked_packets_total" ["object", "name", "direction"]
        "Packets marked as having met congestion (ECN) because of a limit.";
    LIMIT_MARKED_BYTES = Counter "netpath_limit_marked_bytes_total" ["object", "name", "direction"]
        "Bytes of the packets marked because of a limit.";
    LIMIT_DELAYED_PACKETS = Counter "netpath_limit_delayed_packets_total" ["object", "name", "direction"]
        "Packets given a later time of departure because of a limit.";
    LIMIT_DELAYED_BYTES = Counter "netpath_limit_delayed_bytes_total" ["object", "name", "direction"]
        "Bytes of the packets given a later time of departure because of a limit.";
    DROPS = Counter "netpath_drops_total" ["network", "reason"]
        "Refused packets; the network is empty where it was not known yet.";
    FLOWS = Gauge "netpath_flows" ["network"] "Rows of the flow table, two for each connection.";
    FLOW_LIMIT = Gauge "netpath_flow_limit" ["network"] "Rows of the flow table that the network may have.";
    BINDINGS = Gauge "netpath_bindings" ["network"] "Inside addresses and ports that have a public port.";
    NAT_PORTS_USED = Gauge "netpath_nat_ports_used" ["address", "protocol"]
        "Ports of a public address that source NAT has given out.";
    MAP_ROWS = Gauge "netpath_map_rows" ["map"] "Rows of a map.";
    MAP_CAPACITY = Gauge "netpath_map_capacity" ["map"] "Rows that a map has room for.";
    SAMPLES_OMITTED = Gauge "netpath_samples_omitted" [] "Samples of NICs that are left out because there are too many.";
    COLLECT_SECONDS = Gauge "netpath_collect_duration_seconds" [] "How long reading the maps took.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for (number, family) in FAMILIES.iter().enumerate() {
            let Family { name, kind, labels, help } = family;
            assert!(name.starts_with("netpath_") && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_')), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
            assert!(labels.iter().all(|label| !["le", "quantile", "job", "instance"].contains(label)), "{name}");
            assert!(FAMILIES[..number].iter().all(|other| other.name != *name), "{name} is there twice");
        }
    }
}
