//! The rows of the maps that the loader writes: what `compile` wants, and what is read back.

use std::{collections::BTreeMap, iter};

use netpath_common::maps::{
    AddressKey, Destination, Endpoint, EndpointKey, FdbKey, FloodKey, Forward, ForwardKey, Gateway, Limit, MapShape,
    NameKey, Neighbour, NeighbourKey, Network, Port, PortMeters, PublicAddress, PublicKey, Route, RouteKey, Rule,
    Segment, SegmentKey, StaticKey, StaticNat, Tunnel, Uplink, UplinkKey, Upstream, shape,
};

/// Key of a trie: how many bits of the data count, and the data, zero beyond them.
pub type Prefix<K> = (u32, K);

/// Declares [`Rows`], [`Row`] and [`Table`] from one list of maps, in the order in which rows come to depend on others.
macro_rules! tables {
    ($( $(#[doc = $doc:literal])* $field:ident, $table:ident, $shape:ident: $key:ty => $value:ty; )+) => {
        /// The rows of every map that the loader writes. Arrays have their rows in use only: those that are not zero.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Rows {
            $( $(#[doc = $doc])* pub $field: BTreeMap<$key, $value>, )+
        }

        /// A map that the loader writes. A row depends on rows of earlier maps only.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Table {
            $( $(#[doc = $doc])* $table, )+
        }

        impl Table {
            /// Every table, in the order in which rows are added.
            pub const ALL: &[Self] = &[$(Self::$table,)+];

            /// Its name, shape and default capacity.
            pub fn shape(self) -> &'static MapShape {
                match self { $( Self::$table => &shape::$shape, )+ }
            }
        }

        /// One row with its key.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Row {
            $( $(#[doc = $doc])* $table($key, $value), )+
        }

        impl Row {
            /// The map that it is a row of.
            pub fn table(&self) -> Table {
                match self { $( Self::$table(..) => Table::$table, )+ }
            }
        }

        impl Rows {
            /// How many rows a map needs room for.
            pub(crate) fn needed(&self, table: Table) -> usize {
                match table { $( Table::$table => tables!(@needed $shape self.$field), )+ }
            }

            /// Calls `visit` with each key of `table` that is in either, and its rows.
            pub(crate) fn compare(
                table: Table, before: &Self, after: &Self, mut visit: impl FnMut(Option<Row>, Option<Row>),
            ) {
                match table {
                    $( Table::$table => {
                        let row = |(key, value): (&$key, &$value)| Row::$table(key.clone(), value.clone());
                        let mut added = Vec::new();
                        let mut news = after.$field.iter().peekable();
                        for old in &before.$field {
                            added.extend(iter::from_fn(|| news.next_if(|new| new.0 < old.0)));
                            match news.next_if(|new| new.0 == old.0) {
                                Some(new) if new == old => {}
                                new => visit(Some(row(old)), new.map(row)),
                            }
                        }
                        added.into_iter().chain(news).for_each(|new| visit(None, Some(row(new))));
                    } )+
                }
            }

            /// Writes a row, as the loader does to the map.
            pub fn put(&mut self, row: Row) {
                match row { $( Row::$table(key, value) => drop(self.$field.insert(key, value)), )+ }
            }

            /// Deletes a row, as the loader does from the map: an array's row becomes zero.
            pub fn delete(&mut self, row: &Row) {
                match row { $( Row::$table(key, _) => drop(self.$field.remove(key)), )+ }
            }
        }
    };
    // An array needs room up to its highest index.
    (@needed TUNNELS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed NETWORKS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed GATEWAYS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed RULES $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed UPSTREAMS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed LIMITS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed PORT_METERS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed PUBLIC_METERS $rows:expr) => { $rows.last_key_value().map_or(0, |(index, _)| *index as usize + 1) };
    (@needed $shape:ident $rows:expr) => { $rows.len() };
}

tables! {
    /// What things are called; here as text.
    names, Names, NAMES: NameKey => String;
    /// Limits, by meter and direction.
    limits, Limits, LIMITS: u32 => Limit;
    /// The meters of a port, by slot.
    port_meters, PortMeters, PORT_METERS: u32 => PortMeters;
    /// The meter of a public address, by its index.
    public_meters, PublicMeters, PUBLIC_METERS: u32 => u32;
    /// Tunnel headers, by tunnel index.
    tunnels, Tunnels, TUNNELS: u32 => Tunnel;
    /// Hosts from which tunnel packets are accepted.
    endpoints, Endpoints, ENDPOINTS: EndpointKey => Endpoint;
    /// Networks, by network index.
    networks, Networks, NETWORKS: u32 => Network;
    /// Who has an address.
    neighbours, Neighbours, NEIGHBOURS: NeighbourKey => Neighbour;
    /// Where a station is.
    fdb, Fdb, FDB: FdbKey => Destination;
    /// Members of networks, for broadcast.
    floods, Floods, FLOODS: FloodKey => Destination;
    /// Further addresses of ports.
    addresses, Addresses, ADDRESSES: AddressKey => u32;
    /// Guest ports, by ifindex.
    ports, Ports, PORTS: u32 => Port;
    /// Public links, by index.
    upstreams, Upstreams, UPSTREAMS: u32 => Upstream;
    /// Rules of firewalls and ACLs, by place.
    rules, Rules, RULES: u32 => Rule;
    /// Guests with a public address of their own.
    static_nat, StaticNat, STATIC_NAT: StaticKey => StaticNat;
    /// Public ports that lead to a guest, or are the host's.
    forwards, Forwards, FORWARDS: Prefix<ForwardKey> => Forward;
    /// Prefixes beyond a network.
    routes, Routes, ROUTES: Prefix<RouteKey> => Route;
    /// Public addresses that live on the host.
    public_address, PublicAddress, PUBLIC_ADDRESS: PublicKey => PublicAddress;
    /// Gateways, by network index.
    gateways, Gateways, GATEWAYS: u32 => Box<Gateway>;
    /// Devices that tenants' frames arrive on.
    uplinks, Uplinks, UPLINKS: UplinkKey => Uplink;
    /// Which network a segment is.
    segments, Segments, SEGMENTS: SegmentKey => Segment;
}
