//! The zone: what a definitions document says, typed. Fields are the document's fields, in its vocabulary.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netpath_common::Mac;

use super::{
    capacities::Capacities,
    decode::{At, Policy, Several, object},
    per_network::{ByNetwork, PerNetwork},
    values::{
        Action, Burst, DeviceName, Direction, EgressDefault, Filtering, GatewayMode, Ids, Int, Isolation, Name, OnMiss,
        Pacing, Ports, Protocol, Rate, Replication, Segment, Traffic, UplinkMode,
    },
};

/// A UDP port.
pub type Port = Int<1, 65535>;
/// An MTU in bytes, from IPv4's least (RFC 791) on.
pub type Mtu = Int<68, 65535>;
/// A number of connections; a host has room for half as many as its `flows`.
pub type Connections = Int<1, 8_388_608>;
/// A time in seconds, up to a week.
pub type Seconds = Int<1, 604_800>;

/// VXLAN's UDP port (RFC 7348 section 8).
const VXLAN_PORT: At<Port> = At::default_of(Port::new(4789));
/// Ethernet's MTU.
const MTU: At<Mtu> = At::default_of(Mtu::new(1500));

object! {
    #[what = "the zone"]
    /// A zone: its physical networks, its hosts and the tenants' networks.
    pub struct Zone {
        /// The zone's name.
        pub zone: At<Name>,
        /// The rate of a NIC whose network and offering name none: 200Mbps, 1Gbps, a number in Mbit/s; 0 or -1 is unlimited.
        pub default_rate: At<Rate> = At::default_of(Rate::Unlimited),
        /// The UDP port of VXLAN on physical networks that name none. CloudStack's multicast mode uses 8472.
        pub vxlan_port: At<Port> = VXLAN_PORT,
        /// The networks between the hosts that tenant networks are segments of.
        pub physical_networks: Vec<PhysicalNetwork>,
        /// The hypervisors.
        pub hosts: Vec<Host>,
        /// What networks are offered with.
        pub offerings: Vec<Offering>,
        /// What the networks of an account may have together; an account without a limit need not be here.
        pub accounts: Vec<Account>,
        /// The public addresses of the zone.
        pub public_ranges: Vec<PublicRange>,
        /// The tenants' networks.
        pub networks: Vec<Network>,
    }
}

object! {
    #[what = "a physical network"]
    /// A network between the hosts whose segments are tenant networks or public VLANs.
    pub struct PhysicalNetwork {
        /// The name that hosts and networks refer to.
        pub name: At<Name>,
        /// What tells its networks apart: vlan or vxlan.
        pub isolation: At<Isolation>,
        /// The VLAN ids it has, for isolation vlan: a range like 100-199, or several with commas.
        pub vlans: Option<At<Ids>>,
        /// The VNIs it has, for isolation vxlan: a range like 5000-9999, or several with commas.
        pub vnis: Option<At<Ids>>,
        /// What it carries: guest, public.
        pub traffic: Vec<At<Traffic>>,
        /// Its UDP port, where it is not the zone's.
        pub vxlan_port: Option<At<Port>>,
        /// How a VXLAN network's broadcast reaches the other hosts: head_end (default), or multicast as CloudStack does.
        pub replication: At<Replication> = At::default_of(Replication::HeadEnd),
    }
}

object! {
    #[what = "a host"]
    /// A hypervisor.
    pub struct Host {
        /// Its host name, by which `netpath apply` finds its part.
        pub name: At<Name>,
        /// The address of its VXLAN tunnels: one for all, or a map from physical network to address.
        pub tunnel_address: PerNetwork<Ipv4Addr>,
        /// Its device on each physical network.
        pub uplinks: ByNetwork<DeviceName>,
        /// Where frames from its uplinks are taken: auto (default), xdp or tc; or a map from physical network to one.
        pub uplink_mode: PerNetwork<UplinkMode>,
        /// Whether packets towards the wire that are above a rate wait in the uplink's fq: auto (default) where there is one,
        /// fq has one installed, off never.
        pub pacing: At<Pacing> = At::default_of(Pacing::Auto),
        /// How many entries its maps have room for, where the defaults do not do.
        pub capacities: Capacities,
    }
}

object! {
    #[what = "an offering"]
    /// What networks are offered with.
    pub struct Offering {
        /// The name that networks refer to.
        pub name: At<Name>,
        /// The rate of each NIC and direction: 200Mbps, 1Gbps, a number in Mbit/s; 0 or -1 is unlimited.
        pub network_rate: Option<At<Rate>>,
        /// How many bytes a NIC may send or get at once beyond its rate: 64KiB, 1MB, a number of bytes.
        pub network_burst: Option<At<Burst>>,
        /// The rate of all NICs of a network on a host together, in each direction.
        pub aggregate_rate: Option<At<Rate>>,
        /// The burst of that rate.
        pub aggregate_burst: Option<At<Burst>>,
        /// What becomes of a new outbound flow that no egress rule names: allow or deny. Egress rules invert it.
        pub egress_default: At<EgressDefault> = At::default_of(EgressDefault::Deny),
    }
}

object! {
    #[what = "an account"]
    /// An account, as far as its networks have a limit in common.
    pub struct Account {
        /// The name that networks refer to.
        pub name: At<Name>,
        /// The rate of all NICs of its networks on a host together, in each direction; 0 or -1 is unlimited.
        pub aggregate_rate: Option<At<Rate>>,
        /// The burst of that rate.
        pub aggregate_burst: Option<At<Burst>>,
    }
}

object! {
    #[what = "a public range"]
    /// Public addresses and the VLAN they are reached on.
    pub struct PublicRange {
        /// The physical network, which carries public traffic.
        pub physical_network: At<Name>,
        /// The VLAN id, or untagged.
        pub vlan: At<Segment>,
        /// The prefix on the link.
        pub cidr: At<Ipv4Net>,
        /// The upstream router.
        pub gateway: At<Ipv4Addr>,
    }
}

object! {
    #[what = "a network"]
    /// A tenant's network: one segment of a physical network.
    pub struct Network {
        /// Its name, unique in the zone.
        pub name: At<Name>,
        /// The account that owns it.
        pub account: Option<At<Name>>,
        /// The physical network that it is a segment of.
        pub physical_network: At<Name>,
        /// Its VLAN id or VNI; untagged is legal on a physical network with isolation vlan.
        pub segment: At<Segment>,
        /// Its IPv4 prefix. Absent: IPv4 is not looked at beyond anti-spoofing.
        pub cidr: Option<At<Ipv4Net>>,
        /// Its IPv4 gateway, an address of the prefix.
        pub gateway: Option<At<Ipv4Addr>>,
        /// Its IPv6 prefix.
        pub cidr6: Option<At<Ipv6Net>>,
        /// Its IPv6 gateway.
        pub gateway6: Option<At<Ipv6Addr>>,
        /// Who is the gateway: netpath (default), or external, a machine in the network.
        pub gateway_mode: At<GatewayMode> = At::default_of(GatewayMode::Netpath),
        /// The gateway's MAC address. Absent: 02:6e:70 and the segment's 24 bits, for gateway_mode netpath.
        pub gateway_mac: Option<At<Mac>>,
        /// The MTU of its guests' interfaces in bytes, 1500 by default.
        pub mtu: At<Mtu> = MTU,
        /// What becomes of a guest's frame that no definition covers: drop (default), or pass to the bridge.
        pub on_miss: At<OnMiss> = At::default_of(OnMiss::Drop),
        /// The offering that it is made from.
        pub offering: Option<At<Name>>,
        /// The rate of each of its NICs in each direction, where it is not the offering's.
        pub network_rate: Option<At<Rate>>,
        /// The burst of that rate.
        pub network_burst: Option<At<Burst>>,
        /// The rate of all its NICs on a host together, in each direction, where it is not the offering's.
        pub aggregate_rate: Option<At<Rate>>,
        /// The burst of that rate.
        pub aggregate_burst: Option<At<Burst>>,
        /// Rates of its public addresses.
        pub public_rates: Vec<PublicRate>,
        /// The networks with the same router are routed to each other; they belong to one account.
        pub router: Option<At<Name>>,
        /// The host that does its NAT, and that of the networks of its router. Absent: one of those with an uplink to its
        /// public addresses.
        pub nat_host: Option<At<Name>>,
        /// Its guests' interfaces.
        pub nics: Vec<Nic>,
        /// The public address that outbound flows take, or a list of up to 8: each guest keeps to one of them.
        pub source_nat: Several<Ipv4Addr>,
        /// Public addresses that belong to one NIC each.
        pub static_nat: Vec<StaticNat>,
        /// Ports of public addresses that lead to a NIC.
        pub port_forwarding: Vec<PortForward>,
        /// Rules for public addresses and for outbound flows.
        pub firewall: Option<Firewall>,
        /// Numbered rules of a VPC tier; the lowest number that matches decides. An empty list lets nobody in.
        pub acl: Option<Policy<AclRule>>,
        /// Prefixes that are reached through an address of the network.
        pub static_routes: Vec<StaticRoute>,
        /// Whose packets a source-NAT binding lets in: address_and_port_dependent (default) or endpoint_independent.
        pub filtering: At<Filtering> = At::default_of(Filtering::AddressAndPortDependent),
        /// When idle flows end.
        pub timeouts: Option<Timeouts>,
        /// Whether packets from the public side keep a flow alive as those of the guest do: true by default.
        pub inbound_refresh: At<bool> = At::default_of(true),
        /// The most connections that it may have on a host. Absent: half of those that the host has room for.
        pub connection_limit: Option<At<Connections>>,
    }
}

object! {
    #[what = "a NIC"]
    /// A guest's interface in a network.
    pub struct Nic {
        /// The guest; a rule of the network refers to the NIC by it.
        pub instance: At<Name>,
        /// The interface's MAC address, as the guest has it.
        pub mac: At<Mac>,
        /// Its IPv4 address.
        pub ip: Option<At<Ipv4Addr>>,
        /// Its IPv6 address.
        pub ip6: Option<At<Ipv6Addr>>,
        /// Further addresses of either kind that the guest may use.
        pub secondary_ips: Vec<At<IpAddr>>,
        /// The host that the guest runs on. Absent: it runs nowhere now.
        pub host: Option<At<Name>>,
        /// The host's device of it. Absent: found by the MAC address, as libvirt names and numbers taps.
        pub device: Option<At<DeviceName>>,
        /// Whether the guest may send from any address: a virtual router, keepalived.
        pub trusted: At<bool> = At::default_of(false),
        /// Its rate in each direction, where it is not its network's.
        pub network_rate: Option<At<Rate>>,
        /// The burst of that rate.
        pub network_burst: Option<At<Burst>>,
    }
}

object! {
    #[what = "a public rate"]
    /// The rate of a public address, in each direction, on the host where it lives.
    pub struct PublicRate {
        /// The public address, one that the network uses.
        pub public: At<Ipv4Addr>,
        /// Its rate; 0 or -1 is unlimited.
        pub rate: At<Rate>,
        /// The burst of that rate.
        pub burst: Option<At<Burst>>,
    }
}

object! {
    #[what = "a static NAT"]
    /// A public address that belongs to one NIC, for every protocol and both directions.
    pub struct StaticNat {
        /// The public address.
        pub public: At<Ipv4Addr>,
        /// The instance of the NIC.
        pub nic: At<Name>,
    }
}

object! {
    #[what = "a port forwarding"]
    /// Ports of a public address that lead to a NIC.
    pub struct PortForward {
        /// The public address.
        pub public: At<Ipv4Addr>,
        /// tcp or udp.
        pub protocol: At<Protocol>,
        /// The public port, or a range.
        pub ports: At<Ports>,
        /// The instance of the NIC.
        pub to: At<Name>,
        /// The NIC's port, for a single public port. A range keeps its ports.
        pub to_ports: Option<At<Ports>>,
        /// Where from. Absent or empty: anywhere.
        pub cidrs: Vec<At<Ipv4Net>>,
    }
}

object! {
    #[what = "a firewall"]
    /// Rules for public addresses and for outbound flows.
    pub struct Firewall {
        /// What may come in: judged on the public address and port, before port forwarding. Default deny.
        pub ingress: Vec<IngressRule>,
        /// Exceptions from the offering's egress_default.
        pub egress: Vec<EgressRule>,
    }
}

object! {
    #[what = "an ingress rule"]
    /// What may come in to a public address.
    pub struct IngressRule {
        /// The public address.
        pub public: At<Ipv4Addr>,
        /// tcp, udp, icmp, all, or a protocol number.
        pub protocol: At<Protocol>,
        /// The public ports of tcp or udp. Absent: any.
        pub ports: Option<At<Ports>>,
        /// Where from. Absent or empty: anywhere.
        pub cidrs: Vec<At<Ipv4Net>>,
        /// The ICMP type; -1 or absent is any.
        pub icmp_type: Option<At<IcmpField>>,
        /// The ICMP code; -1 or absent is any.
        pub icmp_code: Option<At<IcmpField>>,
    }
}

/// An ICMP type or code; -1 is any.
pub type IcmpField = Int<-1, 255>;

object! {
    #[what = "an egress rule"]
    /// Outbound flows that are an exception from the default.
    pub struct EgressRule {
        /// tcp, udp, icmp, all, or a protocol number.
        pub protocol: At<Protocol>,
        /// The destination ports of tcp or udp. Absent: any.
        pub ports: Option<At<Ports>>,
        /// The guests' addresses it is about. Absent or empty: all.
        pub cidrs: Vec<At<IpNet>>,
        /// Where to. Absent or empty: anywhere.
        pub destination_cidrs: Vec<At<IpNet>>,
        /// The ICMP type; -1 or absent is any.
        pub icmp_type: Option<At<IcmpField>>,
        /// The ICMP code; -1 or absent is any.
        pub icmp_code: Option<At<IcmpField>>,
    }
}

object! {
    #[what = "an ACL rule"]
    /// A row of a VPC tier's access list.
    pub struct AclRule {
        /// Its place in the order, unique for its direction.
        pub number: At<Int<1, 65535>>,
        /// ingress or egress, seen from the network.
        pub direction: At<Direction>,
        /// allow or deny.
        pub action: At<Action>,
        /// tcp, udp, icmp, all, or a protocol number.
        pub protocol: At<Protocol>,
        /// The destination ports of tcp or udp; 0 or absent is any.
        pub ports: Option<At<Ports>>,
        /// The other side's addresses. Absent or empty: any.
        pub cidrs: Vec<At<IpNet>>,
        /// The ICMP type; -1 or absent is any.
        pub icmp_type: Option<At<IcmpField>>,
        /// The ICMP code; -1 or absent is any.
        pub icmp_code: Option<At<IcmpField>>,
    }
}

object! {
    #[what = "a static route"]
    /// A prefix that is reached through an address of the network.
    pub struct StaticRoute {
        /// The prefix.
        pub cidr: At<IpNet>,
        /// The next hop, an address of the network.
        pub via: At<IpAddr>,
    }
}

object! {
    #[what = "a network's timeouts"]
    /// When idle flows end, in seconds.
    pub struct Timeouts {
        /// UDP seen in both directions: 300 by default.
        pub udp: Option<At<Seconds>>,
        /// UDP seen in one direction only: 120 by default.
        pub udp_one_way: Option<At<Seconds>>,
        /// TCP established: 7440 by default.
        pub tcp_established: Option<At<Seconds>>,
        /// TCP opening: 240 by default.
        pub tcp_opening: Option<At<Seconds>>,
        /// TCP closing: 240 by default.
        pub tcp_closing: Option<At<Seconds>>,
        /// ICMP queries: 60 by default.
        pub icmp: Option<At<Seconds>>,
    }
}

impl Network {
    /// Whether netpath routes IPv4 for it.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        *self.gateway_mode == GatewayMode::Netpath && self.gateway.is_some() && self.cidr.is_some()
    }

    /// Whether an address is its gateway's, and netpath is that.
    #[must_use]
    pub fn is_gateway_here(&self, address: IpAddr) -> bool {
        let gateways = [self.gateway.map(|at| IpAddr::V4(*at)), self.gateway6.map(|at| IpAddr::V6(*at))];
        *self.gateway_mode == GatewayMode::Netpath && gateways.contains(&Some(address))
    }

    /// The rules of its ACL; none, too, where it has no ACL.
    #[must_use]
    pub fn acl_rules(&self) -> &[AclRule] {
        self.acl.as_deref().unwrap_or_default()
    }
}
