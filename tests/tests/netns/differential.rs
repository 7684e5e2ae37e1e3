//! netpath against Linux routing and nftables, ruled by the same definitions: the same random packets through both.
//!
//! Whatever differs is a bug, or one of [`Deviation`]'s, each with its argument and with what must hold for a packet to be
//! an instance of it.

use std::{collections::BTreeMap, fmt::Write as _};

use netpath_tests::{
    oracle::{
        Arrival, Place, Routers, Site, Subject, System,
        compare::{Ports, Seen, pool},
        draw::definitions,
        routers::has_nftables,
        subject::stay_on_one_processor,
        traffic::{Case, Traffic},
    },
    pace::paced,
    packet::mutate::Random,
    skip_unless,
    topology::Scratch,
};

/// Documents of each test.
const DOCUMENTS: u64 = 8;
/// Packets of each document.
const CASES: usize = 800;

/// Where the two differ by design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// A protocol without ports is not taken through source NAT: its replies could not be told apart, and a second guest's packets
    /// to the same host would go to the first. Linux translates the address of whoever comes first.
    NatProtocol,
    /// Linux looks at the time to live before the filter, netpath after it: of a packet that would be refused anyway nobody is told.
    RefusedBeforeExpiry,
    /// A definition opens the network's bindings to everybody (RFC 4787 REQ-8); conntrack knows connections only.
    EndpointIndependent,
    /// netpath gives no connection a public port that a rule forwards; Linux does, and the port means both then.
    ForwardedPort,
    /// A public port is one guest's, whoever it talks to (RFC 4787 REQ-3); Linux gives it to several, for different remote ends.
    PortOverloading,
    /// An ICMP connection is named by its identifier (RFC 5508 §3.1); for conntrack by the kind of query too, so that the same
    /// identifier can be two guests', and an answer of the other kind is nobody's.
    OtherQuery,
    /// A remote end that talks to a guest's port by two public names, from one port of its own, is given another port for the second
    /// by Linux. netpath changes no remote end's port: it refuses the second while the first lives, and lets it take the first one's
    /// place once that is closing.
    SecondName,
    /// Conntrack does not begin a connection with a segment that none begins with, and calls some segments invalid in a state;
    /// netpath takes on what is in its middle, since it outlives migrations and restarts.
    ConntrackInvalid,
}

impl Deviation {
    /// The deviation that a difference is, by what must hold of it.
    fn of(scene: &mut Scene, case: &Case, arrived: &[Vec<Arrival>; 2]) -> Option<Self> {
        let [netpath, linux] = arrived;
        if let ([theirs], Place::Wire) = (&linux[..], case.from) {
            let seen = Seen::read(&theirs.packet);
            match &netpath[..] {
                [ours] if is_renamed(case, &Seen::read(&ours.packet), &seen) => {
                    return (ours.at == theirs.at).then_some(Self::SecondName);
                }
                [] if has_another_port(case, &seen) => return Some(Self::SecondName),
                _ => {}
            }
        }
        let public = case.tuples.map(|tuple| tuple.dst);
        if netpath.is_empty() && case.ttl < 64 && is_expiry(linux) {
            return Self::refused_anyway(scene, case);
        }
        if netpath.is_empty() && !matches!(case.protocol, 1 | 6 | 17) {
            let source_nat = |arrival: &Arrival| scene.site.is_source_nat(Seen::read(&arrival.packet).tuple.src.0);
            let translated = linux.iter().any(source_nat) || scene.site.is_source_nat(public[1].0);
            return translated.then_some(Self::NatProtocol);
        }
        let open = scene.site.is_endpoint_independent(public[0].0);
        if case.from == Place::Wire {
            let forwarded = public.map(|port| scene.site.is_forwarded(case.protocol, port));
            let taken = scene.ports.other_name(1, pool(case.protocol, case.what), public[1], case.tuples[1].src);
            match (forwarded, taken) {
                ([false, true], _) if netpath.is_empty() || open => return Some(Self::ForwardedPort),
                (_, Some(taken)) if taken != public[0] => return Some(Self::PortOverloading),
                _ => {}
            }
        }
        if linux.is_empty() && case.from == Place::Wire && open {
            return Some(Self::EndpointIndependent);
        }
        if linux.is_empty() && case.protocol == 1 && case.from == Place::Wire {
            let (one, other) = (pool(1, case.what), if pool(1, case.what).1 == 8 { (1, 13) } else { (1, 8) });
            let talks = |pool| scene.ports.other_name(0, pool, public[0], case.tuples[0].src).is_some();
            return (!talks(one) && talks(other)).then_some(Self::OtherQuery);
        }
        if linux.is_empty() && case.protocol == 6 && scene.routers.calls_invalid(case.from, &case.packets[1]) {
            return Some(Self::ConntrackInvalid);
        }
        None
    }

    /// Whether netpath refuses a packet that Linux lets expire first, however long it may live: as Linux does, or as it deviates.
    fn refused_anyway(scene: &mut Scene, case: &Case) -> Option<Self> {
        let mut again = case.clone();
        again.ttl = 64;
        again.packets = again.packets.map(|packet| packet.ttl(64));
        let arrived = scene.exchange(&again);
        let same = arrived.iter().all(Vec::is_empty);
        (same || arrived[0].is_empty() && Self::of(scene, &again, &arrived).is_some())
            .then_some(Self::RefusedBeforeExpiry)
    }
}

/// Whether all that differs is that Linux has given the remote end another port.
fn is_renamed(case: &Case, ours: &Seen, theirs: &Seen) -> bool {
    let mut same = theirs.clone();
    same.tuple.src.1 = ours.tuple.src.1;
    same == *ours && ours.tuple.src == case.tuples[0].src && theirs.tuple.src.1 != ours.tuple.src.1
}

/// Whether Linux has given the remote end another port.
fn has_another_port(case: &Case, theirs: &Seen) -> bool {
    let (sent, arrived) = (case.tuples[1].src, theirs.tuple.src);
    arrived.0 == sent.0 && arrived.1 != sent.1
}

/// Whether one packet came, which says that another has expired.
fn is_expiry(arrived: &[Arrival]) -> bool {
    matches!(arrived, [arrival] if Seen::read(&arrival.packet).icmp() == Some((11, 0)))
}

struct Scene {
    site: Site,
    subject: Subject,
    routers: Routers,
    ports: Ports,
}

impl Scene {
    fn build(random: &mut Random) -> Self {
        let site = Site::read(definitions(random));
        let scratch = Scratch::new().unwrap();
        let routers = Routers::build(&site, &scratch).unwrap();
        let subject = Subject::build(&site, scratch).unwrap();
        Self { site, subject, routers, ports: Ports::default() }
    }

    /// What has come of a packet on both.
    fn exchange(&mut self, case: &Case) -> [Vec<Arrival>; 2] {
        let [ours, theirs] = &case.packets;
        [self.subject.exchange(case.from, ours), self.routers.exchange(case.from, theirs)]
    }
}

/// Compares the two on the documents of some seeds.
fn compare(seeds: impl Iterator<Item = u64>) {
    stay_on_one_processor();
    let given = std::env::var("NETPATH_SEED").ok().and_then(|text| text.parse().ok());
    let seeds: Vec<u64> = given.map_or_else(|| seeds.collect(), |seed| vec![seed]);
    let mut totals: BTreeMap<Deviation, usize> = BTreeMap::new();
    let (mut sent, mut delivered) = (0, 0);
    let mut failures = Vec::new();
    for seed in seeds {
        let mut random = Random::of(seed);
        let mut scene = Scene::build(&mut random);
        let mut traffic = Traffic::new(&scene.site);
        for number in 0..paced(CASES) {
            let case = traffic.draw(&mut random);
            let arrived = scene.exchange(&case);
            sent += 1;
            delivered += usize::from(!arrived[0].is_empty());
            if scene.ports.agree(&scene.site, &case, &arrived) {
                traffic.note(&case, [&arrived[0], &arrived[1]]);
                continue;
            }
            traffic.forget(&case);
            match Deviation::of(&mut scene, &case, &arrived) {
                Some(deviation) => {
                    if let (Deviation::SecondName, [later]) = (deviation, &arrived[0][..]) {
                        traffic.supersede(&Seen::read(&later.packet));
                    }
                    *totals.entry(deviation).or_default() += 1;
                }
                None => failures.push(report(seed, number, &case, &arrived)),
            }
        }
    }
    println!("{sent} packets, {delivered} of them delivered; by design: {totals:?}");
    let count = failures.len();
    assert!(failures.is_empty(), "{count} differences\n{}", failures.into_iter().take(40).collect::<String>());
}

fn report(seed: u64, number: usize, case: &Case, arrived: &[Vec<Arrival>; 2]) -> String {
    let mut text = format!(
        "NETPATH_SEED={seed} case {number}: {:?} from {:?}, protocol {}, ",
        case.kind, case.from, case.protocol
    );
    let _ = writeln!(text, "{:#x}, ttl {}", case.what, case.ttl);
    for tuple in case.tuples {
        let _ = writeln!(text, "  {}:{} → {}:{}", tuple.src.0, tuple.src.1, tuple.dst.0, tuple.dst.1);
    }
    for (system, arrivals) in ["netpath", "linux"].iter().zip(arrived) {
        let _ = writeln!(text, "  {system}:");
        for arrival in arrivals {
            let _ = writeln!(text, "    at {:?}: {}", arrival.at, Seen::read(&arrival.packet));
        }
    }
    text
}

#[test]
fn random_packets_fare_as_with_nftables() {
    skip_unless!(has_nftables(), "no nft that can set a ruleset here");
    compare(1..=DOCUMENTS);
}
