//! MAC and IP addresses and prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netpath_common::Mac;
use serde_json::{Value, json};

use super::{Problem, problem};
use crate::definitions::decode::Scalar;

const MAC_EXPECTED: &str = "write six hexadecimal octets: 02:00:0a:01:01:0b";

impl Scalar for Mac {
    const STAND_IN: Self = Self::ZERO;

    fn parse(text: &str) -> Result<Self, Problem> {
        match text.parse() {
            Ok(Self::ZERO) => problem("the zero MAC address, which names nobody", "give the address of the interface"),
            Ok(mac) if Self::is_group(mac) => {
                let expected = "give a unicast address: an even first octet";
                problem(format!("a multicast MAC address: its first octet, {:02x}, is odd", mac.0[0]), expected)
            }
            Ok(mac) => Ok(mac),
            Err(_) => problem("not a MAC address", MAC_EXPECTED),
        }
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$"})
    }
}

macro_rules! address {
    ($type:ty, $stand_in:expr, $what:literal, $expected:literal, $formats:expr) => {
        impl Scalar for $type {
            const STAND_IN: Self = $stand_in;

            fn parse(text: &str) -> Result<Self, Problem> {
                match text.parse() {
                    Ok(address) => Ok(address),
                    Err(_) if text.contains('/') => {
                        problem(concat!("a prefix where ", $what, " belongs"), "leave `/` and the length out")
                    }
                    Err(_) => problem(concat!("not ", $what), $expected),
                }
            }

            fn schema() -> Value {
                $formats
            }
        }
    };
}
address!(Ipv4Addr, Self::UNSPECIFIED, "an IPv4 address", "write four decimal octets: 10.1.1.11", ipv4());
address!(Ipv6Addr, Self::UNSPECIFIED, "an IPv6 address", "write it like 2001:db8::11", ipv6());
address!(
    IpAddr,
    Self::V4(Ipv4Addr::UNSPECIFIED),
    "an IP address",
    "write it like 10.1.1.11 or 2001:db8::11",
    json!({"anyOf": [ipv4(), ipv6()]})
);

fn ipv4() -> Value {
    json!({"type": "string", "format": "ipv4"})
}

fn ipv6() -> Value {
    json!({"type": "string", "format": "ipv6"})
}

macro_rules! prefix {
    ($type:ty, $stand_in:expr, $example:literal, $pattern:literal) => {
        impl Scalar for $type {
            const STAND_IN: Self = $stand_in;

            fn parse(text: &str) -> Result<Self, Problem> {
                let Ok(net) = text.parse::<Self>() else {
                    return problem("not a prefix", concat!("write address and length like ", $example));
                };
                let trunc = net.trunc();
                if net.addr() != trunc.addr() {
                    return problem("an address inside the prefix, not the prefix", format!("write {trunc}"));
                }
                Ok(net)
            }

            fn schema() -> Value {
                json!({"type": "string", "pattern": $pattern})
            }
        }
    };
}
prefix!(Ipv4Net, Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0), "10.1.1.0/24", "^[0-9.]+/[0-9]{1,2}$");
prefix!(Ipv6Net, Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0), "2001:db8::/64", "^[0-9A-Fa-f:.]+/[0-9]{1,3}$");
prefix!(
    IpNet,
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    "10.1.1.0/24 or 2001:db8::/64",
    "^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
);
