//! MAC and IP addresses and prefixes.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::{Problem, problem};
use crate::definitions::decode::Scalar;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it names a group instead of a station (IEEE 802: the first octet's lowest bit).
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether every octet is zero, which names nobody.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

const MAC_EXPECTED: &str = "write six hexadecimal octets: 02:00:0a:01:01:0b";

impl Scalar for Mac {
    const STAND_IN: Self = Self([0; 6]);

    fn parse(text: &str) -> Result<Self, Problem> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = match part.map(|part| u8::from_str_radix(part, 16)) {
                Some(Ok(octet)) => octet,
                _ => return problem("not a MAC address", MAC_EXPECTED),
            };
        }
        if parts.next().is_some() {
            return problem("not a MAC address", MAC_EXPECTED);
        }
        let mac = Self(octets);
        if mac.is_zero() {
            return problem("the zero MAC address, which names nobody", "give the address of the interface");
        }
        if mac.is_multicast() {
            let odd = format!("a multicast MAC address (the first octet {:02x} is odd)", octets[0]);
            return problem(odd, "give a unicast address, its first octet even");
        }
        Ok(mac)
    }

    fn schema() -> Value {
        json!({"type": "string", "pattern": "^[0-9A-Fa-f][02468ACEace]([:-][0-9A-Fa-f]{2}){5}$"})
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
