//! Which frames are wanted: `tcp and host 10.1.1.11 and not port 22`.
//!
//! ```text
//!   any   = all { "or" all }
//!   all   = one { "and" one }
//!   one   = "not" one | "(" any ")" | kind [end] | end | term
//!   kind  = "tcp" | "udp" | "icmp" | "icmp6" | "arp" | "ip" | "ip6" | "proto" NUMBER
//!   end   = ["src" | "dst"] ("host" ADDRESS | "net" PREFIX | "port" NUMBER | "portrange" FIRST "-" LAST)
//!         | ("src" | "dst") ADDRESS or PREFIX
//!   term  = "ether" ["src" | "dst"] ["host"] MAC | "vlan" [ID] | "vni" [ID]
//!         | "sent" | "passed" | "consumed" | "dropped" | "reason" NAME
//! ```
//!
//! A frame is looked at with what is in it: behind a tunnel's headers, and in what an ICMP error quotes.

use std::{fmt, iter::Peekable, net::IpAddr, str::FromStr, vec};

use ipnet::IpNet;
use netpath_common::{DropReason, Mac};

use crate::headers::Headers;

/// Most words of an expression, which bounds how deep it is.
const MOST_WORDS: usize = 200;
/// A tag has 12 bits for the id.
const VLAN_MAX: u16 = 0xfff;
/// A VXLAN header has 24 bits for it.
const VNI_MAX: u32 = 0xff_ffff;

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
    Protocol(String),
    /// An address family, or ARP.
    Family(&'static str),
    /// An address in a prefix, on one side or either.
    Net(Side, IpNet),
    /// Ports, or the identifier of an ICMP query, from the first to the last.
    Ports(Side, u16, u16),
    /// A MAC address.
    Mac(Side, Mac),
    /// A VLAN id, or any tag.
    Vlan(Option<u16>),
    /// A VXLAN network identifier, or any tunnel.
    Vni(Option<u32>),
    /// What became of it: `sent`, `passed`, `consumed`, `dropped`.
    Verdict(&'static str),
    /// Refused for this reason.
    Reason(DropReason),
}

/// What has become of a frame; nothing yet of one that comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// `sent`, `passed`, `consumed`, `dropped`.
    pub verdict: Option<&'static str>,
    /// Why it was refused.
    pub reason: Option<DropReason>,
}

/// The verdicts that an [`Outcome`] may have.
const VERDICTS: [&str; 4] = ["sent", "passed", "consumed", "dropped"];

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
    /// Whether a frame is wanted, with what has become of it.
    #[must_use]
    pub fn wants(&self, headers: &Headers, outcome: Outcome) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.wants(headers, outcome)),
            Self::Any(parts) => parts.iter().any(|part| part.wants(headers, outcome)),
            Self::Not(part) => !part.wants(headers, outcome),
            Self::Is(Term::Verdict(verdict)) => outcome.verdict == Some(verdict),
            Self::Is(Term::Reason(reason)) => outcome.reason == Some(*reason),
            Self::Is(term) => headers.all().any(|headers| term.is_of(headers)),
        }
    }

    /// Whether it asks what has become of a frame: then nothing is known of one that comes in.
    #[must_use]
    pub fn asks_outcome(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::asks_outcome),
            Self::Not(part) => part.asks_outcome(),
            Self::Is(term) => matches!(term, Term::Verdict(_) | Term::Reason(_)),
        }
    }
}

impl Term {
    fn is_of(&self, headers: &Headers) -> bool {
        match self {
            Self::Protocol(name) => {
                headers.protocol.as_deref() == Some(name.as_str()) && headers.family.starts_with("ip")
            }
            Self::Family(name) => headers.family == *name,
            Self::Net(side, net) => {
                side.of(headers.source, headers.destination).into_iter().flatten().any(|address| net.contains(&address))
            }
            Self::Ports(side, first, last) => {
                let ports = side.of(headers.source_port, headers.destination_port);
                ports.into_iter().flatten().any(|port| (*first..=*last).contains(&port))
            }
            Self::Mac(side, mac) => side.of(headers.source_mac, headers.destination_mac).contains(&Some(*mac)),
            Self::Vlan(id) => id.map_or(!headers.vlans.is_empty(), |id| headers.vlans.contains(&id)),
            Self::Vni(id) => headers.vni.is_some_and(|vni| id.is_none_or(|id| id == vni)),
            Self::Verdict(_) | Self::Reason(_) => false,
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
    if words.peek().is_some_and(|word| is_end(word)) {
        return end(words).map(Filter::Is);
    }
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
    let Some(kind) = kind(&word, words)? else { return term(&word, words).map(Filter::Is) };
    let kind = Filter::Is(kind);
    // As in `tcp port 443`.
    if words.peek().is_some_and(|word| is_end(word)) {
        return Ok(Filter::All(vec![kind, Filter::Is(end(words)?)]));
    }
    Ok(kind)
}

fn next(words: &mut Words) -> Result<String, String> {
    words.next().ok_or_else(|| "the filter ends where a condition is expected".to_owned())
}

/// What a packet is; `None` where the word says something else.
fn kind(word: &str, words: &mut Words) -> Result<Option<Term>, String> {
    Ok(Some(match word {
        "tcp" | "udp" | "icmp" => Term::Protocol(word.to_owned()),
        "icmp6" | "icmpv6" => Term::Protocol("icmpv6".to_owned()),
        "proto" => Term::Protocol(match read::<u8>(words, "a protocol's number")? {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            58 => "icmpv6".to_owned(),
            other => other.to_string(),
        }),
        "arp" => Term::Family("arp"),
        "ip" => Term::Family("ipv4"),
        "ip6" => Term::Family("ipv6"),
        _ => return Ok(None),
    }))
}

/// Whether a condition on one side of a packet, or on either, begins with the word.
fn is_end(word: &str) -> bool {
    ["src", "dst", "host", "net", "port", "portrange"].contains(&word)
}

fn side(words: &mut Words) -> Side {
    match words.next_if(|word| word == "src" || word == "dst").as_deref() {
        None => Side::Either,
        Some("src") => Side::Source,
        Some(_) => Side::Destination,
    }
}

fn end(words: &mut Words) -> Result<Term, String> {
    let side = side(words);
    let word = next(words)?;
    Ok(match word.as_str() {
        "host" => Term::Net(side, read::<IpAddr>(words, "an address")?.into()),
        "net" => Term::Net(side, read(words, "a prefix, as 10.1.0.0/16")?),
        "port" => {
            let port = read(words, "a port")?;
            Term::Ports(side, port, port)
        }
        "portrange" => {
            let word = next(words)?;
            let range = word.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
            let (first, last) = range.ok_or_else(|| wrong(&word, "a range of ports, as 8000-8007"))?;
            if first > last {
                return Err(format!("`{word}` in the filter has no port in it; write {last}-{first}"));
            }
            Term::Ports(side, first, last)
        }
        // As in `src 10.1.1.11`.
        other => match other.parse::<IpAddr>().map(IpNet::from).or_else(|_| other.parse()) {
            Ok(net) => Term::Net(side, net),
            Err(_) => return Err(wrong(other, "host, net, port or an address, which stand behind src and dst")),
        },
    })
}

/// What is neither a kind of packet nor a side of it.
fn term(word: &str, words: &mut Words) -> Result<Term, String> {
    if let Some(verdict) = VERDICTS.iter().find(|verdict| **verdict == word) {
        return Ok(Term::Verdict(verdict));
    }
    Ok(match word {
        "ether" => {
            let side = side(words);
            words.next_if(|word| word == "host");
            Term::Mac(side, read(words, "a MAC address")?)
        }
        "vlan" => Term::Vlan(id(words, "a VLAN id", VLAN_MAX)?),
        "vni" => Term::Vni(id(words, "a VNI", VNI_MAX)?),
        "reason" => {
            let label = next(words)?;
            let found = DropReason::ALL.iter().find(|reason| reason.label() == label);
            Term::Reason(*found.ok_or_else(|| wrong(&label, "a reason, as `netpath show drops` names them"))?)
        }
        other => {
            return Err(format!(
                "`{other}` is no condition of a filter; they are tcp, udp, icmp, icmp6, proto, arp, ip, ip6, host, net, port, portrange \
                 (with src or dst before them), ether, vlan, vni, {} and reason",
                VERDICTS.join(", ")
            ));
        }
    })
}

/// A number up to the last that there is, where a number stands there.
fn id<T: FromStr + PartialOrd + fmt::Display>(words: &mut Words, what: &str, last: T) -> Result<Option<T>, String> {
    let Some(word) = words.next_if(|word| word.bytes().all(|byte| byte.is_ascii_digit())) else { return Ok(None) };
    let number = word.parse().ok().filter(|number| *number <= last);
    number.map(Some).ok_or_else(|| format!("`{word}` in the filter is not {what}; the last one is {last}"))
}

fn read<T: FromStr>(words: &mut Words, what: &str) -> Result<T, String> {
    let word = next(words)?;
    word.parse().map_err(|_| wrong(&word, what))
}

fn wrong(word: &str, what: &str) -> String {
    format!("`{word}` in the filter is not {what}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment() -> Headers {
        Headers {
            family: "ipv4".to_owned(),
            source_mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            protocol: Some("tcp".to_owned()),
            source: Some([10, 1, 1, 11].into()),
            source_port: Some(40000),
            destination: Some([198, 51, 100, 7].into()),
            destination_port: Some(443),
            ..Headers::default()
        }
    }

    fn wants(filter: &str, headers: &Headers) -> bool {
        filter.parse::<Filter>().unwrap().wants(headers, Outcome::default())
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
            ("tcp port 443", true),
            ("udp port 443", false),
            ("tcp src port 443", false),
            ("ip host 10.1.1.11 and tcp dst portrange 440-450", true),
            ("src 10.1.1.11 and dst 198.51.100.0/24", true),
            ("dst 10.1.1.11", false),
            ("proto 6 and not proto 47", true),
            ("ether src 02:00:00:00:00:01 and ether host 02:00:00:00:00:01", true),
            ("ether dst 02:00:00:00:00:01", false),
            ("vlan", false),
            ("not vlan and not vni", true),
            ("not vlan 4095 and not vni 16777215 and portrange 443-443", true),
        ] {
            assert_eq!(wants(filter, &segment()), wanted, "{filter}");
        }
    }

    #[test]
    fn what_became_of_a_frame_is_asked_when_it_is_known() {
        let spoofed = Outcome { verdict: Some("dropped"), reason: Some(DropReason::SpoofedIpv4) };
        let sent = Outcome { verdict: Some("sent"), reason: None };
        for (filter, of_spoofed, of_sent) in [
            ("dropped", true, false),
            ("tcp and not dropped", false, true),
            ("reason spoofed_ipv4", true, false),
            ("not reason spoofed_ipv4", false, true),
            ("sent or passed", false, true),
        ] {
            let filter: Filter = filter.parse().unwrap();
            assert!(filter.asks_outcome());
            assert_eq!([spoofed, sent].map(|outcome| filter.wants(&segment(), outcome)), [of_spoofed, of_sent]);
        }
        assert!(!"tcp or not vlan 7".parse::<Filter>().unwrap().asks_outcome());
    }

    #[test]
    fn what_is_in_a_tunnel_is_looked_at_too() {
        let outer =
            Headers { vni: Some(5001), vlans: vec![7], inside: Some(Box::new(segment())), ..Headers::default() };
        for filter in ["vni 5001", "vni", "vlan and tcp", "port 443", "vlan 7 and host 10.1.1.11"] {
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
            ("src tcp", "stand behind src and dst"),
            ("portrange 5", "not a range of ports"),
            ("tcp dst portrange 5-2", "`5-2` in the filter has no port in it; write 2-5"),
            ("vlan 5000", "`5000` in the filter is not a VLAN id; the last one is 4095"),
            ("vlan 70000 and tcp", "`70000` in the filter is not a VLAN id"),
            ("vni 99999999", "`99999999` in the filter is not a VNI; the last one is 16777215"),
            ("reason spoofed", "as `netpath show drops` names them"),
            ("ether src port", "not a MAC address"),
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
                let _ = filter.wants(&segment(), Outcome::default());
            }
        }
    }
}
