//! Fields that take one word of a few.

use std::fmt;

use serde_json::{Value, json};

use super::{Problem, problem};
use crate::definitions::decode::{Scalar, nearest};

macro_rules! choice {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident { $( $(#[doc = $row_doc:literal])* $row:ident = $word:literal, )+ }
    )+) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[doc = $row_doc])* $row, )+
        }

        impl $name {
            /// Its word in the document.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$row => $word, )+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Scalar for $name {
            const STAND_IN: Self = [$(Self::$row),+][0];

            fn parse(text: &str) -> Result<Self, Problem> {
                const WORDS: &[&str] = &[$($word),+];
                match text {
                    $( $word => Ok(Self::$row), )+
                    _ => unknown_word(text, WORDS),
                }
            }

            fn schema() -> Value {
                json!({"enum": [$($word),+]})
            }
        }
    )+};
}

fn unknown_word<T>(text: &str, words: &[&str]) -> Result<T, Problem> {
    match nearest(text, words) {
        Some(word) => problem("unknown word", format!("did you mean `{word}`? (one of {})", words.join(", "))),
        None => problem("unknown word", format!("use one of {}", words.join(", "))),
    }
}

choice! {
    /// What tells the networks on a physical network apart.
    Isolation {
        /// IEEE 802.1Q tags.
        Vlan = "vlan",
        /// VXLAN tunnels (RFC 7348).
        Vxlan = "vxlan",
    }
    /// What a physical network carries.
    Traffic {
        /// Tenant networks.
        Guest = "guest",
        /// Public addresses.
        Public = "public",
    }
    /// How a VXLAN network's broadcast, unknown unicast and multicast reach the other hosts.
    Replication {
        /// One copy to each host that has members.
        HeadEnd = "head_end",
        /// One copy to the group 239.a.b.c, a.b.c being the VNI's 24 bits: CloudStack's multicast mode.
        Multicast = "multicast",
    }
    /// Where frames from an uplink are taken.
    UplinkMode {
        /// Native XDP where the device has it, else TC.
        Auto = "auto",
        /// XDP.
        Xdp = "xdp",
        /// TC.
        Tc = "tc",
    }
    /// What becomes of packets towards the wire that are above a rate.
    Pacing {
        /// They wait for their time where the uplink's queueing discipline is fq, and are dropped elsewhere.
        Auto = "auto",
        /// The same, and fq is installed on uplinks that have the kernel's default.
        Fq = "fq",
        /// They are dropped.
        Off = "off",
    }
    /// What becomes of a guest's frame that no definition covers.
    OnMiss {
        /// It is dropped and counted.
        Drop = "drop",
        /// It goes on to the bridge that the guest's device is a port of.
        Pass = "pass",
    }
    /// Who is the network's gateway.
    GatewayMode {
        /// netpath, on every host.
        Netpath = "netpath",
        /// A machine in the network, for example a CloudStack virtual router.
        External = "external",
    }
    /// What becomes of a new outbound flow that no egress rule names; egress rules invert it.
    EgressDefault {
        /// It passes.
        Allow = "allow",
        /// It is dropped.
        Deny = "deny",
    }
    /// Which way an ACL row looks, as CloudStack names it.
    Direction {
        /// Towards the network's guests.
        Ingress = "ingress",
        /// From the network's guests.
        Egress = "egress",
    }
    /// What an ACL row does.
    Action {
        /// The flow passes.
        Allow = "allow",
        /// The flow is dropped.
        Deny = "deny",
    }
    /// Whose packets a source-NAT binding lets in (RFC 4787 section 5).
    Filtering {
        /// Only those of the address and port that the guest has talked to.
        AddressAndPortDependent = "address_and_port_dependent",
        /// Anybody's.
        EndpointIndependent = "endpoint_independent",
    }
}

/// The protocol that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Every protocol.
    All,
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
    /// ICMP for IPv4, number 1.
    Icmp,
    /// Another one, by its IANA number.
    Number(u8),
}

impl Protocol {
    /// Whether it has ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl Scalar for Protocol {
    const STAND_IN: Self = Self::All;

    fn parse(text: &str) -> Result<Self, Problem> {
        match text {
            "all" => Ok(Self::All),
            "tcp" | "6" => Ok(Self::Tcp),
            "udp" | "17" => Ok(Self::Udp),
            "icmp" | "1" => Ok(Self::Icmp),
            _ => match text.parse() {
                Ok(number) => Ok(Self::Number(number)),
                Err(_) => problem("unknown protocol", "use tcp, udp, icmp, all, or the protocol's number (0 to 255)"),
            },
        }
    }

    fn schema() -> Value {
        let numbers = json!({"type": "integer", "minimum": 0, "maximum": 255});
        json!({"anyOf": [{"enum": ["tcp", "udp", "icmp", "all"]}, numbers]})
    }
}
