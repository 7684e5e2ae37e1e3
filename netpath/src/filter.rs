//! Which frames are wanted: `tcp and host 10.1.1.11 and not port 22`.
//!
//! ```text
//!   any   = all { "or" all }
//!   all   = one { "and" one }
//!   one   = "not" one | "(" any ")" | term
//!   term  = "tcp" | "udp" | "icmp" | "icmp6" | "arp" | "ip" | "ip6" | "dropped"
//!         | ["src" | "dst"] "host" ADDRESS | ["src" | "dst"] "net" PREFIX | ["src" | "dst"] "port" NUMBER
//!         | "ether" MAC | "vlan" ID | "vni" ID
//! ```
//!
//! A frame is looked at with what is in it: behind a tunnel's headers, and in what an ICMP error quotes.

use std::{iter::Peekable, net::IpAddr, str::FromStr, vec};

use ipnet::IpNet;
use netpath_common::Mac;

use crate::headers::Headers;

/// Most words of an expression, which bounds how deep it is.
const MOST_WORDS: usize = 200;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All of these; none of them is any frame.
    All(Vec<Filter>),
    /// One of these at least.
    Any(Vec<Filter>),
    /// What this is not.
    Not(Box<Filter>),
    /// One property.
    Is(Term),
}

/// A property of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// A protocol that IP carries.
    Protocol(&'static str),
    /// An address family, or ARP.
    Family(&'static str),
    /// An address in a prefix, on one side or either.
    Net(Side, IpNet),
    /// A port, or the identifier of an ICMP query.
    Port(Side, u16),
    /// A MAC address, on either side.
    Mac(Mac),
    /// A VLAN id.
    Vlan(u16),
    /// A VXLAN network identifier.
    Vni(u32),
    /// Refused.
    Dropped,
}

/// Which side of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
    /// Either.
    Either,
}

impl Filter {
    /// Whether a frame is wanted; `is_dropped` says whether it was refused.
    #[must_use]
    pub fn wants(&self, headers: &Headers, is_dropped: bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.wants(headers, is_dropped)),
            Self::Any(parts) => parts.iter().any(|part| part.wants(headers, is_dropped)),
            Self::Not(part) => !part.wants(headers, is_dropped),
            Self::Is(Term::Dropped) => is_dropped,
            Self::Is(term) => headers.all().any(|headers| term.is_of(headers)),
        }
    }
}

impl Term {
    fn is_of(&self, headers: &Headers) -> bool {
        match self {
            Self::Protocol(name) => headers.protocol.as_deref() == Some(name) && headers.family.starts_with("ip"),
            Self::Family(name) => headers.family == *name,
            Self::Net(side, net) => {
                side.of(headers.source, headers.destination).into_iter().flatten().any(|address| net.contains(&address))
            }
            Self::Port(side, port) => side.of(headers.source_port, headers.destination_port).contains(&Some(*port)),
            Self::Mac(mac) => [headers.source_mac, headers.destination_mac].contains(&Some(*mac)),
            Self::Vlan(id) => headers.vlans.contains(id),
            Self::Vni(id) => headers.vni == Some(*id),
            Self::Dropped => false,
        }
    }
}

impl Side {
    fn of<T>(self, source: Option<T>, destination: Option<T>) -> [Option<T>; 2] {
        match self {
            Self::Source => [source, None],
            Self::Destination => [None, destination],
            Self::Either => [source, destination],
        }
    }
}

type Words = Peekable<vec::IntoIter<String>>;

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if words.len() > MOST_WORDS {
            return Err(format!("a filter has {MOST_WORDS} words at most"));
        }
        if words.is_empty() {
            return Ok(Self::All(Vec::new()));
        }
        let mut words = words.into_iter().peekable();
        let filter = any(&mut words)?;
        match words.next() {
            None => Ok(filter),
            Some(word) => Err(format!("`{word}` is not expected in the filter; `and`, `or` or its end is")),
        }
    }
}

fn any(words: &mut Words) -> Result<Filter, String> {
    let mut parts = vec![all(words)?];
    while words.next_if(|word| word == "or" || word == "||").is_some() {
        parts.push(all(words)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::Any(parts) })
}

fn all(words: &mut Words) -> Result<Filter, String> {
    let mut parts = vec![one(words)?];
    while words.next_if(|word| word == "and" || word == "&&").is_some() {
        parts.push(one(words)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Filter::All(parts) })
}

fn one(words: &mut Words) -> Result<Filter, String> {
    let word = next(words)?;
    match word.as_str() {
        "not" | "!" => return Ok(Filter::Not(Box::new(one(words)?))),
        "(" => {
            let filter = any(words)?;
            return match words.next().as_deref() {
                Some(")") => Ok(filter),
                _ => Err("a `(` in the filter is not closed".to_owned()),
            };
        }
        _ => {}
    }
    let side = match word.as_str() {
        "src" => Side::Source,
        "dst" => Side::Destination,
        _ => Side::Either,
    };
    let word = if side == Side::Either { word } else { next(words)? };
    term(&word, side, words).map(Filter::Is)
}

fn next(words: &mut Words) -> Result<String, String> {
    words.next().ok_or_else(|| "the filter ends where a condition is expected".to_owned())
}

fn term(word: &str, side: Side, words: &mut Words) -> Result<Term, String> {
    let named = match word {
        "tcp" => Term::Protocol("tcp"),
        "udp" => Term::Protocol("udp"),
        "icmp" => Term::Protocol("icmp"),
        "icmp6" => Term::Protocol("icmpv6"),
        "arp" => Term::Family("arp"),
        "ip" => Term::Family("ipv4"),
        "ip6" => Term::Family("ipv6"),
        "dropped" => Term::Dropped,
        "host" => Term::Net(side, read::<IpAddr>(words, "an address")?.into()),
        "net" => Term::Net(side, read(words, "a prefix, as 10.1.0.0/16")?),
        "port" => Term::Port(side, read(words, "a port")?),
        "ether" => Term::Mac(read(words, "a MAC address")?),
        "vlan" => Term::Vlan(read(words, "a VLAN id")?),
        "vni" => Term::Vni(read(words, "a VNI")?),
        other => {
            return Err(format!(
                "`{other}` is no condition of a filter; they are tcp, udp, icmp, icmp6, arp, ip, ip6, dropped, host, net, port \
                 (with src or dst before them), ether, vlan and vni"
            ));
        }
    };
    match (&named, side) {
        (Term::Net(..) | Term::Port(..), _) | (_, Side::Either) => Ok(named),
        _ => Err(format!("`src` and `dst` stand before host, net and port, not before `{word}`")),
    }
}

fn read<T: FromStr>(words: &mut Words, what: &str) -> Result<T, String> {
    let word = next(words)?;
    word.parse().map_err(|_| format!("`{word}` in the filter is not {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment() -> Headers {
        Headers {
            family: "ipv4".to_owned(),
            protocol: Some("tcp".to_owned()),
            source: Some([10, 1, 1, 11].into()),
            source_port: Some(40000),
            destination: Some([198, 51, 100, 7].into()),
            destination_port: Some(443),
            ..Headers::default()
        }
    }

    fn wants(filter: &str, headers: &Headers) -> bool {
        filter.parse::<Filter>().unwrap().wants(headers, false)
    }

    #[test]
    fn conditions_are_of_either_side_unless_one_is_named() {
        for (filter, wanted) in [
            ("", true),
            ("tcp and host 10.1.1.11 and port 443", true),
            ("src host 10.1.1.11", true),
            ("dst host 10.1.1.11", false),
            ("net 10.1.0.0/16 and not port 22", true),
            ("udp or (tcp and dst port 443)", true),
            ("udp or tcp and dst port 22", false),
            ("arp", false),
            ("! ip6 && ip", true),
            ("dropped", false),
        ] {
            assert_eq!(wants(filter, &segment()), wanted, "{filter}");
        }
        assert!("dropped".parse::<Filter>().unwrap().wants(&segment(), true));
    }

    #[test]
    fn what_is_in_a_tunnel_is_looked_at_too() {
        let outer =
            Headers { vni: Some(5001), vlans: vec![7], inside: Some(Box::new(segment())), ..Headers::default() };
        for filter in ["vni 5001", "port 443", "vlan 7 and host 10.1.1.11"] {
            assert!(wants(filter, &outer), "{filter}");
        }
        assert!(!wants("vni 5002", &outer));
    }

    #[test]
    fn a_wrong_filter_is_explained() {
        for (filter, said) in [
            ("tcp and", "ends where a condition is expected"),
            ("port x", "`x` in the filter is not a port"),
            ("(tcp", "is not closed"),
            ("tcp udp", "`udp` is not expected"),
            ("greater 5", "`greater` is no condition"),
            ("src tcp", "stand before host, net and port"),
        ] {
            let error = filter.parse::<Filter>().unwrap_err();
            assert!(error.contains(said), "{filter}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_explained(words in proptest::collection::vec("[a-z0-9.()/!&|]{0,8}", 0..300)) {
            let _ = words.join(" ").parse::<Filter>();
        }

        #[test]
        fn any_order_of_words_is_a_filter_or_explained(
            words in proptest::collection::vec(proptest::sample::select(vec!["not", "(", ")", "and", "or", "tcp", "host", "10.0.0.1"]), 0..250)
        ) {
            if let Ok(filter) = words.join(" ").parse::<Filter>() {
                let _ = filter.wants(&segment(), false);
            }
        }
    }
}
