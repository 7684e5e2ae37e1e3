//! What the loader tells the data path of gateways: routes, rules, public addresses and links.

use bytemuck::{Pod, Zeroable};

use crate::Mac;

/// The most public addresses that one network's source NAT has.
pub const POOL_ADDRESSES: usize = 8;

/// A network's gateway. Row of GATEWAYS, by network index; the epoch outlives the network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Gateway {
    /// Counts up with every change of policy, routes, NAT or stations; flows of an older one are judged again. It is
    /// written last, alone, after the rest of the row. Never 0 where the gateway is netpath's.
    pub epoch: u32,
    /// [`gateway_flags`].
    pub flags: u32,
    /// Rules for connections to the public side (the firewall's egress rules); none matched: the default.
    pub egress: RuleList,
    /// Rules for connections to this network's stations, after destination NAT (an ACL's ingress rules); none matched: deny.
    pub acl_ingress: RuleList,
    /// Rules for connections from this network's stations (an ACL's egress rules); none matched: go on.
    pub acl_egress: RuleList,
    /// The network's IPv4 prefix.
    pub prefix: [u8; 4],
    /// Its mask.
    pub mask: [u8; 4],
    /// Where source NAT is done: [`nat_place`].
    pub nat_place: u32,
    /// By `nat_place`: a row of TUNNELS, or the ifindex of the network's uplink.
    pub nat_target: u32,
    /// The MAC address of the NAT host on a VLAN or untagged network, for [`nat_place::UPLINK`].
    pub nat_mac: Mac,
    /// What routed frames are sent from on a VLAN or untagged network's wire: this host's own address there.
    pub wire_mac: Mac,
    /// Addresses of `pool` in use.
    pub pool_count: u32,
    /// The most rows of FLOWS that the network may have.
    pub flow_limit: u32,
    /// The public addresses of source NAT, for [`nat_place::HERE`].
    pub pool: [PoolAddress; POOL_ADDRESSES],
    /// When idle connections end.
    pub timeouts: Timeouts,
    /// Zero.
    pub pad: [u8; 4],
}

impl Gateway {
    /// Whether the network's bindings let in whoever sends to them.
    #[inline(always)]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.flags & gateway_flags::ENDPOINT_INDEPENDENT != 0
    }
}

/// Bits of [`Gateway::flags`].
pub mod gateway_flags {
    /// netpath is the gateway: packets to its MAC address are routed.
    pub const ROUTES: u32 = 1;
    /// Connections to the public side that no egress rule matches pass; those that one matches do not, whatever it says.
    pub const EGRESS_ALLOW: u32 = 2;
    /// A binding lets in whoever sends to it (endpoint-independent filtering).
    pub const ENDPOINT_INDEPENDENT: u32 = 4;
    /// The network has an ACL: it is judged by that, and not by the firewall's egress rules.
    pub const ACL: u32 = 8;
    /// Packets from the public side keep a binding and its flows alive (RFC 4787 §4.3); absent: only the inside's do.
    pub const INBOUND_REFRESH: u32 = 16;
    /// Some network of its router has an ACL: a connection that another host has routed here is noted, so that its replies
    /// are known for what they are.
    pub const TIER: u32 = 32;
    /// ROUTES has no row of the network: none is looked for.
    pub const NO_ROUTES: u32 = 64;
    /// STATIC_NAT has no row of the network: none is looked for.
    pub const NO_STATIC_NAT: u32 = 128;
    /// One of the network's public addresses is a host's tunnel address: what its guests send to a tunnel would be believed, and
    /// is refused where FORWARDS says that a host uses the port.
    pub const TUNNEL_ADDRESS: u32 = 256;
    /// The loader is changing what belongs to the gateway, and counts the epoch up when it has. A killed apply leaves it set,
    /// and the next one counts. The data path does not look at it.
    pub const CHANGING: u32 = 1 << 31;
}

/// Where a network's source NAT is done: [`Gateway::nat_place`] and [`StaticNat::place`].
pub mod nat_place {
    /// Nowhere.
    pub const NONE: u32 = 0;
    /// On this host.
    pub const HERE: u32 = 1;
    /// On another host, to which a tunnel leads.
    pub const TUNNEL: u32 = 2;
    /// On another host, which is a station of the VLAN or untagged network.
    pub const UPLINK: u32 = 3;
}

/// A public address of source NAT.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PoolAddress {
    /// Its side: [`super::PUBLIC_SIDE`] and the index of its public link.
    pub side: u32,
    /// The address.
    pub address: [u8; 4],
    /// Its index in PORT_BLOCKS, in units of [`super::POOL_PROTOCOLS`] times [`super::BLOCKS`] words.
    pub pool: u32,
}

/// Idle times in seconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts {
    /// UDP, and every protocol that has no time of its own.
    pub udp: u32,
    /// UDP while no reply has been seen.
    pub udp_one_way: u32,
    /// TCP, established (RFC 5382 REQ-5: at least 7440).
    pub tcp_established: u32,
    /// TCP while it opens, or first seen in its middle (RFC 5382 REQ-5: at least 240).
    pub tcp_opening: u32,
    /// TCP after FINs both ways, or a reset.
    pub tcp_closing: u32,
    /// ICMP queries (RFC 5508 REQ-2: at least 60).
    pub icmp: u32,
}

/// Consecutive rows of RULES, in the order in which they are asked. One aligned word, so that a list is changed at once.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RuleList {
    /// The first row.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// One rule. Row of RULES.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// Source prefix.
    pub source: [u8; 4],
    /// Its mask; zero is any.
    pub source_mask: [u8; 4],
    /// Destination prefix.
    pub destination: [u8; 4],
    /// Its mask; zero is any.
    pub destination_mask: [u8; 4],
    /// First destination port of TCP or UDP.
    pub first_port: u16,
    /// Last destination port; 0 with `first_port` 0 is any.
    pub last_port: u16,
    /// IP protocol number, or [`Rule::ANY`].
    pub protocol: u16,
    /// ICMP type, or [`Rule::ANY`].
    pub icmp_type: u16,
    /// ICMP code, or [`Rule::ANY`].
    pub icmp_code: u16,
    /// 1: what matches passes. 0: it is refused.
    pub allow: u16,
    /// The rule's number in the definitions: an ACL rule's own, a firewall rule's place from 1.
    pub number: u32,
}

impl Rule {
    /// Any protocol, ICMP type or ICMP code.
    pub const ANY: u16 = 0xffff;

    /// The first rule of a list, which lets everything pass.
    pub const EVERYTHING: Self = Self {
        source: [0; 4],
        source_mask: [0; 4],
        destination: [0; 4],
        destination_mask: [0; 4],
        first_port: 0,
        last_port: 0,
        protocol: Self::ANY,
        icmp_type: Self::ANY,
        icmp_code: Self::ANY,
        allow: 1,
        number: 1,
    };
}

/// Data of a key of ROUTES; the network index is always matched whole.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct RouteKey {
    /// The network that the packet comes from, in network byte order.
    pub network: [u8; 4],
    /// The destination.
    pub address: [u8; 4],
}

/// Where a prefix is: in another network of the same router, or behind a station.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Route {
    /// The network that the packet goes into.
    pub network: u32,
    /// The station there that takes it on; zero where the destination itself is a station.
    pub via: [u8; 4],
}

/// Key of PUBLIC_ADDRESS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct PublicKey {
    /// [`super::PUBLIC_SIDE`] and the index of the public link.
    pub side: u32,
    /// The address.
    pub address: [u8; 4],
}

/// A public address that lives on this host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PublicAddress {
    /// What may come in: judged before destination NAT; none matched: deny.
    pub ingress: RuleList,
    /// The key's side again.
    pub side: u32,
    /// The network whose address it is.
    pub network: u32,
    /// The guest that has it, for [`public_flags::STATIC`].
    pub inside: [u8; 4],
    /// [`public_flags`].
    pub flags: u32,
    /// Its row of PUBLIC_COUNTERS and PUBLIC_METERS; 0: it is not counted.
    pub index: u16,
    /// Zero.
    pub pad: [u8; 6],
}

/// Bits of [`PublicAddress::flags`].
pub mod public_flags {
    /// It belongs to one guest, with every protocol and port.
    pub const STATIC: u32 = 1;
    /// The host uses it too: what no connection and no rule claims is passed to the kernel.
    pub const HOST: u32 = 2;
    /// An ACL decides, and there are no ingress rules of the firewall.
    pub const ACL: u32 = 4;
}

/// Key of STATIC_NAT: a guest with a public address of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct StaticKey {
    /// Network index.
    pub network: u32,
    /// The guest's address.
    pub address: [u8; 4],
}

/// The public address of a guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct StaticNat {
    /// The key's network again.
    pub network: u32,
    /// The address's side.
    pub side: u32,
    /// The address.
    pub address: [u8; 4],
    /// Where it is done: [`nat_place`].
    pub place: u32,
    /// As [`Gateway::nat_target`].
    pub target: u32,
    /// As [`Gateway::nat_mac`].
    pub mac: Mac,
    /// Zero.
    pub pad: [u8; 2],
}

/// Data of a key of FORWARDS; a prefix of it covers a range of ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct ForwardKey {
    /// The public address's side, in network byte order.
    pub side: [u8; 4],
    /// The public address.
    pub address: [u8; 4],
    /// IP protocol number, and zero.
    pub protocol: [u8; 2],
    /// The public port, in network byte order.
    pub port: [u8; 2],
}

/// Where a public port leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Forward {
    /// From whom; an empty list is from anywhere.
    pub sources_start: u32,
    /// Rows of the list.
    pub sources_count: u32,
    /// The network.
    pub network: u32,
    /// The guest.
    pub address: [u8; 4],
    /// The guest's port; 0 keeps the public one.
    pub port: u16,
    /// [`forward_flags`].
    pub flags: u16,
}

/// Bits of [`Forward::flags`].
pub mod forward_flags {
    /// The host itself uses the port: it leads nowhere, and is never given out. On side 0 the address is any host's, and the port
    /// that of its tunnels.
    pub const RESERVED: u16 = 1;
}

/// A public link of this host: a public range's VLAN on an uplink. Row of UPSTREAMS, by its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Upstream {
    /// The uplink's ifindex; 0 for a free row.
    pub ifindex: u32,
    /// The prefix on the link.
    pub prefix: [u8; 4],
    /// Its mask.
    pub mask: [u8; 4],
    /// The upstream router.
    pub gateway: [u8; 4],
    /// The VLAN id; 0 for untagged.
    pub vlan: u16,
    /// The largest IP packet in bytes.
    pub mtu: u16,
    /// The uplink's MAC address, which the public addresses of this host answer with.
    pub mac: Mac,
    /// [`upstream_flags`].
    pub flags: u16,
}

/// Bits of [`Upstream::flags`].
pub mod upstream_flags {
    /// The uplink's device sends nothing that XDP hands it.
    pub const NOT_FROM_XDP: u16 = 1;
    /// The uplink's device keeps packets until their time of departure: its queueing discipline is fq.
    pub const PACED: u16 = 2;
}

/// Who has an address on a public link, as the data path has learned. Row of UPSTREAM_MACS (the router, by the link's
/// index) and of ON_LINK (anybody, by [`PublicKey`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Resolved {
    /// The MAC address in the low 48 bits, as the bytes of a little-endian number, and [`Resolved::KNOWN`]: one word, so
    /// that no reader sees half of it. 0 where nobody has answered yet.
    pub mac: u64,
    /// When it was last confirmed, in seconds of the monotonic clock.
    pub confirmed: u32,
    /// When it was last asked for.
    pub asked: u32,
    /// When it was first asked for without an answer; 0 where nothing is outstanding.
    pub waiting_since: u32,
    /// Zero.
    pub pad: u32,
}

impl Resolved {
    /// The bit of [`Self::mac`] that says that there is one.
    pub const KNOWN: u64 = 1 << 63;

    /// `mac` as a word.
    #[inline(always)]
    pub const fn word(Mac([a, b, c, d, e, f]): Mac) -> u64 {
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0]) | Self::KNOWN
    }

    /// The MAC address; `None` where nobody has answered yet.
    #[inline(always)]
    pub const fn known(&self) -> Option<Mac> {
        if self.mac & Self::KNOWN == 0 {
            return None;
        }
        let [a, b, c, d, e, f, ..] = self.mac.to_le_bytes();
        Some(Mac([a, b, c, d, e, f]))
    }
}

/// Programs that a TC program hands a packet on to: rows of STAGES.
pub mod stage {
    /// A packet to be routed: looked up in FLOWS, rewritten, sent.
    pub const GATEWAY: u32 = 0;
    /// The first packet of a connection: judged, translated, installed, and handed back to the gateway.
    pub const CONNECT: u32 = 1;
    /// An ICMP error about a connection: translated.
    pub const ICMP_ERROR: u32 = 2;
    /// A packet that becomes its own answer: an ICMP error, an echo reply.
    pub const ANSWER: u32 = 3;
    /// The first packet of a connection that there is no room for: room is made, and it is handed back to `connect`.
    pub const SWEEP: u32 = 4;
    /// A packet that another host has routed into a network of this one: its connection is noted, and it is delivered.
    pub const ADMIT: u32 = 5;
    /// A guest's frame for everybody, or for somebody unknown: copied to the members of its network.
    pub const FLOOD: u32 = 6;
    /// How many there are.
    pub const COUNT: usize = 8;
    /// Each row that is in use, and the program's name in the object.
    pub const PROGRAMS: [(u32, &str); 7] = [
        (GATEWAY, "gateway"),
        (CONNECT, "connect"),
        (ICMP_ERROR, "icmp_error"),
        (ANSWER, "answer"),
        (SWEEP, "sweep"),
        (ADMIT, "admit"),
        (FLOOD, "flood"),
    ];
    /// What no connection is known of in XDP: judged, and sent if it may. The one row of STAGES_XDP.
    pub const CONNECT_XDP: u32 = 0;
    /// Rows of STAGES_XDP: each one, and the program's name in the object.
    pub const XDP_PROGRAMS: [(u32, &str); 1] = [(CONNECT_XDP, "connect_xdp")];
}

/// Words of SCRATCH: 2048 bytes of a packet and what is read behind them.
pub const SCRATCH_WORDS: usize = 288;
