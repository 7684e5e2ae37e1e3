//! Why a packet was refused: one table.

/// Declares the table once: the enum, its labels and its sentences all come from the same rows.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal => $label:literal,)+) => {
        /// Why a packet was refused. Codes are append-only: a retired row keeps its place.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl DropReason {
            /// Every row, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in counters and metrics, in snake case.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// One sentence for whoever looks at the counter at three in the morning.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Whether there was no room for the packet's connection: in a table, in a limit, or at a public address.
            #[inline(always)]
            pub const fn is_exhaustion(self) -> bool {
                let (first, last) = (Self::PortsExhausted as u32, Self::BindingTableFull as u32);
                first <= self as u32 && self as u32 <= last
            }

            /// The row with this code.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

drop_reasons! {
    /// The frame is too short for the headers that it claims to have.
    MalformedFrame = 1 => "malformed_frame",
    /// The device has a netpath program but no definition.
    UnknownPort = 2 => "unknown_port",
    /// The guest sent from a MAC address that its definition does not give it.
    SpoofedMac = 3 => "spoofed_mac",
    /// The guest sent from an IPv4 address that its definition does not give it.
    SpoofedIpv4 = 4 => "spoofed_ipv4",
    /// The guest sent from an IPv6 address that its definition does not give it.
    SpoofedIpv6 = 5 => "spoofed_ipv6",
    /// The guest's ARP names a sender that its definition does not give it.
    SpoofedArp = 6 => "spoofed_arp",
    /// The guest's neighbour discovery message claims an address that its definition does not give it.
    SpoofedNd = 7 => "spoofed_nd",
    /// The guest answered as a DHCP server, which only a trusted NIC may.
    DhcpServer = 8 => "dhcp_server",
    /// The guest sent an IPv6 router advertisement or redirect, which only a trusted NIC may.
    RouterAdvertisement = 9 => "router_advertisement",
    /// The ARP packet is not Ethernet and IPv4, or is cut short.
    MalformedArp = 10 => "malformed_arp",
    /// The IPv4 header has a wrong version, header length or total length.
    MalformedIpv4 = 11 => "malformed_ipv4",
    /// The IPv6 header has a wrong version or length, or its extension headers hide what it carries.
    MalformedIpv6 = 12 => "malformed_ipv6",
    /// The frame has a VLAN tag where its network has no place for one.
    TaggedFrame = 13 => "tagged_frame",
    /// The packet is larger than its network's MTU or than what the underlay carries; the sender was told where it can be.
    PacketTooBig = 14 => "packet_too_big",
    /// The frame is for 01:80:c2:00:00:00-0f (spanning tree, LACP, LLDP), which never crosses between ports.
    LinkLocalGroup = 15 => "link_local_group",
    /// The VXLAN header has no valid VNI: its I flag is not set.
    VxlanNoVni = 16 => "vxlan_no_vni",
    /// The tunnel packet is cut short: no whole VXLAN header with an Ethernet frame in it.
    VxlanMalformed = 17 => "vxlan_malformed",
    /// The tunnel packet's VNI belongs to no network on this host.
    UnknownSegment = 18 => "unknown_segment",
    /// The tunnel packet comes from an address that is no host of its physical network.
    UnknownEndpoint = 19 => "unknown_endpoint",
    /// The underlay marked congestion on a packet whose flow cannot be told (RFC 6040 §4.2).
    CongestionNotEcn = 20 => "congestion_not_ecn",
    /// The frame came from the wire for a MAC address that does not live on this host.
    NotOnThisHost = 21 => "not_on_this_host",
    /// The frame is for the gateway, and no route takes it on.
    NoRoute = 22 => "no_route",
    /// The host has no route, or no neighbour yet, for the other end of the tunnel.
    UnderlayUnresolved = 23 => "underlay_unresolved",
    /// The kernel refused to make room for the tunnel header or to take it off.
    EncapsulationRefused = 24 => "encapsulation_refused",
    /// The frame has the reserved VLAN id 4095.
    ReservedVlan = 25 => "reserved_vlan",
    /// The frame's destination is the port that it came from.
    SamePort = 26 => "same_port",
    /// The IPv4 header's checksum is wrong.
    BadIpv4Checksum = 27 => "bad_ipv4_checksum",
    /// The packet's source is an address that no packet is routed from (RFC 1812 §5.3.7), or none that can be where it came from.
    MartianSource = 28 => "martian_source",
    /// The packet's destination is an address that nothing is routed to: loopback, link-local, class E, a broadcast, a group.
    MartianDestination = 29 => "martian_destination",
    /// The packet's time to live ended at the gateway; the sender was told where it may be.
    TtlExpired = 30 => "ttl_expired",
    /// The firewall's egress rules, or the offering's default, do not let the connection out.
    EgressDenied = 31 => "egress_denied",
    /// No ingress rule of the firewall lets the connection in to the public address.
    IngressDenied = 32 => "ingress_denied",
    /// The ACL of a network does not allow the connection.
    AclDenied = 33 => "acl_denied",
    /// The packet is for a public address and port that lead nowhere.
    Unsolicited = 34 => "unsolicited",
    /// The packet is for a mapped port, from somebody whom the guest has not sent to.
    UnsolicitedSource = 35 => "unsolicited_source",
    /// The public address of the guest has no free port of the kind that is wanted.
    PortsExhausted = 36 => "ports_exhausted",
    /// The network has as many connections as it may have, or as many public ports, those that rest among them.
    ConnectionLimit = 37 => "connection_limit",
    /// The host's flow table is full of live connections.
    FlowTableFull = 38 => "flow_table_full",
    /// The host's table of bindings is full of live ones.
    BindingTableFull = 39 => "binding_table_full",
    /// A fragment came before the first one of its packet, or long after it.
    FragmentBeforeFirst = 40 => "fragment_before_first",
    /// The next hop has not answered ARP, or no definition tells its MAC address.
    NeighbourUnresolved = 41 => "neighbour_unresolved",
    /// The packet is for the outside, and its network has no public address.
    NoPublicAddress = 42 => "no_public_address",
    /// The ICMP error quotes a packet of no connection.
    IcmpErrorUnmatched = 43 => "icmp_error_unmatched",
    /// The ICMP message is cut short, or a checksum of it or of what it quotes is wrong.
    MalformedIcmp = 44 => "malformed_icmp",
    /// The packet is for the gateway itself, which answers ping and nothing else.
    GatewayClosed = 45 => "gateway_closed",
    /// The protocol has no ports, so that guests cannot share a public address for it.
    NatProtocol = 46 => "nat_protocol",
    /// The packet has gone from one public address of this host to the next too often.
    RoutedTooOften = 47 => "routed_too_often",
    /// The gateway does not route IPv6.
    Ipv6NotRouted = 48 => "ipv6_not_routed",
    /// The transport header is cut short.
    MalformedTransport = 49 => "malformed_transport",
    /// A public port's source list does not have the sender.
    ForwardDenied = 50 => "forward_denied",
    /// Another station of a public link claims a public address of this host; it was not believed.
    AddressConflict = 51 => "address_conflict",
    /// The NIC's rate is used up.
    NicRate = 52 => "nic_rate",
    /// The rate that the NICs of the network share is used up.
    NetworkRate = 53 => "network_rate",
    /// The rate that the NICs of the account share is used up.
    AccountRate = 54 => "account_rate",
    /// The rate of the public address is used up.
    AddressRate = 55 => "address_rate",
    /// Behind its translation the new connection would be the same as a live one, which keeps its packets.
    ConnectionClash = 56 => "connection_clash",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, vec::Vec};

    #[test]
    fn codes_count_up_from_one_without_gaps_and_labels_differ() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index + 1);
            assert_eq!(DropReason::from_code(*reason as u32), Some(*reason));
            assert!(reason.sentence().ends_with('.'), "{}", reason.sentence());
        }
        let labels: BTreeSet<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
    }

    #[test]
    fn four_reasons_say_that_there_is_no_room() {
        use DropReason::{BindingTableFull, ConnectionLimit, FlowTableFull, PortsExhausted};
        let found: Vec<_> = DropReason::ALL.iter().filter(|reason| reason.is_exhaustion()).collect();
        assert_eq!(found, [&PortsExhausted, &ConnectionLimit, &FlowTableFull, &BindingTableFull]);
    }
}
