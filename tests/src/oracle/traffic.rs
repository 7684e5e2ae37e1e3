//! Random packets: connections from every side, what follows on them, and what does not belong anywhere.

use std::net::Ipv4Addr;

use super::{
    Arrival, OUTSIDE, Place, Site,
    compare::{Seen, Tuple},
    draw::{PORTS, chance},
};
use crate::packet::{Body, Checksum, Packet, mutate::Random};

/// TCP flags.
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Ends a connection at once.
    pub const RST: u8 = 4;
    /// Data that is not to wait.
    pub const PSH: u8 = 8;
    /// Acknowledges.
    pub const ACK: u8 = 16;
}
use tcp::{ACK, FIN, PSH, RST, SYN};

/// None of them is in [`PORTS`]: conntrack takes a packet from a public port to the same one for its own reply, and one that goes against
/// a connection between two public ports for that one's.
const GUEST_PORTS: [u16; 7] = [54, 500, 1007, 2000, 6000, 40_000, 40_001];
const OUTSIDE_PORTS: [u16; 4] = [33_000, 33_001, 53, 443];
/// Identifiers of ICMP queries with a code.
const ODD_QUERIES: [u16; 2] = [6000, 33_001];
/// The most connections that are kept in mind.
const MOST_FLOWS: usize = 200;

/// What a packet is to the connections before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may begin one.
    Opens,
    /// It is of one, by its index and the end that sends.
    Continues(usize, usize),
    /// TCP of a connection that nobody has seen the beginning of.
    MidStream,
    /// From elsewhere to a public port that source NAT has given out.
    Stray,
    /// An ICMP error about the last packet of one, by its index and the end that sends.
    Error(usize, usize),
}

/// A packet for both systems: the same one, but for a public port that source NAT has given out.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub kind: Kind,
    /// Where it goes in.
    pub from: Place,
    /// IP protocol number.
    pub protocol: u8,
    /// Addresses and ports on each system.
    pub tuples: [Tuple; 2],
    /// The packet for each system.
    pub packets: [Packet; 2],
    /// TCP flags, or ICMP type.
    pub what: u8,
    /// ICMP code.
    pub code: u8,
    /// Time to live.
    pub ttl: u8,
}

/// A connection that both systems have let through.
#[derive(Clone, Debug)]
struct Flow {
    protocol: u8,
    ends: [Place; 2],
    /// Addresses and ports as each end sends them, on each system.
    sends: [[Tuple; 2]; 2],
    /// The last packet that each end has seen, on each system.
    last: [Option<[Vec<u8>; 2]>; 2],
    icmp_type: u8,
    icmp_code: u8,
    /// Next sequence numbers, and how far the connection has come.
    seq: [u32; 2],
    stage: Stage,
    fins: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opened,
    Answered,
    Established,
    Over,
}

/// Draws packets, and remembers what has come of them.
#[derive(Debug)]
pub struct Traffic {
    site: Site,
    flows: Vec<Flow>,
    serial: u32,
}

/// The parts of a packet that are drawn besides its addresses.
struct Dress {
    protocol: u8,
    what: u8,
    code: u8,
    seq: u32,
    ack: u32,
    ttl: u8,
    tos: u8,
    whole: bool,
    sum: Checksum,
    payload: Vec<u8>,
}

impl Traffic {
    /// Nothing has been sent yet.
    pub fn new(site: &Site) -> Self {
        Self { site: site.clone(), flows: Vec::new(), serial: 0 }
    }

    /// The next packet.
    pub fn draw(&mut self, random: &mut Random) -> Case {
        loop {
            let drawn = match random.below(100) {
                0..30 => Some(self.guest_begins(random, SYN)),
                30..52 => Some(self.outside_begins(random, SYN)),
                52..82 => self.continued(random),
                82..88 => self.stray(random),
                88..94 => self.error(random),
                _ => {
                    let flags = *random.pick(&[ACK, ACK | PSH, SYN | ACK, FIN | ACK, RST, RST | ACK]);
                    Some(if chance(random, 50) {
                        self.guest_begins(random, flags)
                    } else {
                        self.outside_begins(random, flags)
                    })
                }
            };
            if let Some(case) = drawn {
                return case;
            }
        }
    }

    fn dress(&mut self, random: &mut Random, protocol: u8, what: u8) -> Dress {
        self.serial += 1;
        let mut payload = format!("netpath-case-{:08}", self.serial).into_bytes();
        payload.resize(payload.len() + random.below(40), b'.');
        Dress {
            protocol,
            what,
            code: 0,
            seq: 1000,
            ack: if protocol == 6 && what & ACK != 0 { 1000 } else { 0 },
            ttl: *random.pick(&[64, 64, 64, 64, 64, 64, 255, 128, 2, 1]),
            tos: *random.pick(&[0, 0, 0, 0xb8, 0x02]),
            whole: chance(random, 50),
            sum: if protocol == 17 && chance(random, 10) { Checksum::Zero } else { Checksum::Right },
            payload,
        }
    }

    /// A protocol, and a TCP SYN or an ICMP query of it; `flags` other than SYN are TCP's alone.
    fn protocol(random: &mut Random, flags: u8) -> (u8, u8) {
        match random.below(100) {
            _ if flags != SYN => (6, flags),
            0..45 => (6, SYN),
            45..75 => (17, 0),
            75..90 => (1, 8),
            90..93 => (1, 13),
            93..97 => (253, 0),
            _ => (50, 0),
        }
    }

    fn opened(&mut self, random: &mut Random, from: Place, flags: u8, src: Ipv4Addr, dst: Ipv4Addr) -> Case {
        let (protocol, what) = Self::protocol(random, flags);
        let own = if from == Place::Wire { &OUTSIDE_PORTS[..] } else { &GUEST_PORTS[..] };
        let ports = match protocol {
            6 | 17 => (*random.pick(own), *random.pick(&PORTS)),
            1 => (*random.pick(own), 0),
            _ => (0, 0),
        };
        let tuple = Tuple { src: (src, ports.0), dst: (dst, ports.1) };
        let mut dress = self.dress(random, protocol, what);
        // No query has another code than 0, but rules ask for it. Conntrack takes an answer for one only if it has the same.
        if protocol == 1 && ODD_QUERIES.contains(&ports.0) {
            dress.code = 3;
        }
        let kind = if flags == SYN { Kind::Opens } else { Kind::MidStream };
        case(kind, from, [tuple; 2], &dress)
    }

    fn guest_begins(&mut self, random: &mut Random, flags: u8) -> Case {
        let index = random.below(self.site.guests.len());
        let guest = self.site.guests[index].clone();
        let dst = match random.below(100) {
            0..50 => *random.pick(&OUTSIDE),
            50..75 => random.pick(&self.site.public).0,
            75..92 => {
                let others =
                    self.site.guests.iter().filter(|other| other.tenant == guest.tenant && other.ip != guest.ip);
                random.pick(&others.collect::<Vec<_>>()).ip
            }
            92..96 => {
                let own = self.site.guests.iter().filter(|other| other.tenant == guest.tenant);
                random.pick(&own.collect::<Vec<_>>()).gateway
            }
            _ => Ipv4Addr::new(192, 168, 7, 7),
        };
        self.opened(random, Place::Guest(index), flags, guest.ip, dst)
    }

    fn outside_begins(&mut self, random: &mut Random, flags: u8) -> Case {
        let (src, dst) = (*random.pick(&OUTSIDE), random.pick(&self.site.public).0);
        self.opened(random, Place::Wire, flags, src, dst)
    }

    fn continued(&mut self, random: &mut Random) -> Option<Case> {
        let index = self.pick_flow(random)?;
        let flow = self.flows[index].clone();
        let (end, what) = match flow.protocol {
            6 => match flow.stage {
                Stage::Opened => (1, SYN | ACK),
                Stage::Answered => (0, ACK),
                _ => {
                    let end = random.below(2);
                    match random.below(20) {
                        0 => (end, RST | ACK),
                        1..5 => (end, FIN | ACK),
                        _ => (end, ACK | PSH),
                    }
                }
            },
            1 => {
                let end = random.below(2);
                (end, if end == 0 { flow.icmp_type } else { if flow.icmp_type == 8 { 0 } else { flow.icmp_type + 1 } })
            }
            _ => (random.below(2), 0),
        };
        let mut dress = self.dress(random, flow.protocol, what);
        dress.code = flow.icmp_code;
        (dress.seq, dress.ack) = (flow.seq[end], if what & ACK != 0 { flow.seq[1 - end] } else { 0 });
        if flow.protocol == 6 && flow.stage != Stage::Established {
            dress.ttl = 64;
        }
        Some(case(Kind::Continues(index, end), flow.ends[end], flow.sends[end], &dress))
    }

    fn stray(&mut self, random: &mut Random) -> Option<Case> {
        let index = self.pick_flow(random)?;
        let flow = &self.flows[index];
        if flow.ends[1] != Place::Wire || !self.site.is_source_nat(flow.sends[1][0].dst.0) {
            return None;
        }
        let (protocol, mut tuples, icmp_type, code) = (flow.protocol, flow.sends[1], flow.icmp_type, flow.icmp_code);
        let src = (*random.pick(&OUTSIDE), if protocol == 1 { 0 } else { 33_333 });
        tuples.iter_mut().for_each(|tuple| tuple.src = src);
        let what = match protocol {
            6 => SYN,
            1 => u8::from(icmp_type == 13) * 14,
            _ => 0,
        };
        let mut dress = self.dress(random, protocol, what);
        dress.code = code;
        Some(case(Kind::Stray, Place::Wire, tuples, &dress))
    }

    fn error(&mut self, random: &mut Random) -> Option<Case> {
        let index = self.pick_flow(random)?;
        let end = random.below(2);
        let flow = &self.flows[index];
        let last = flow.last[end].clone()?;
        let from = flow.ends[end];
        let tuples = flow.sends[end];
        let quote = 28 + 8 * random.below(4);
        let (kind, code) = *random.pick(&[(3, 1), (3, 3), (3, 4), (11, 0)]);
        let src = match from {
            Place::Wire => *random.pick(&[tuples[0].src.0, OUTSIDE[0], OUTSIDE[4]]),
            Place::Guest(_) => tuples[0].src.0,
        };
        let rest = if code == 4 { [0, 0, 5, 0] } else { [0; 4] };
        let packets = [0, 1].map(|system: usize| {
            let payload = last[system][..quote.min(last[system].len())].to_vec();
            Packet::between([0; 6], [0; 6], src.into(), tuples[system].dst.0.into()).body(Body::Icmp {
                kind,
                code,
                rest,
                payload,
            })
        });
        Some(Case { kind: Kind::Error(index, end), from, protocol: 1, tuples, packets, what: kind, code, ttl: 64 })
    }

    fn pick_flow(&self, random: &mut Random) -> Option<usize> {
        let alive: Vec<_> = (0..self.flows.len()).filter(|index| self.flows[*index].stage != Stage::Over).collect();
        (!alive.is_empty()).then(|| *random.pick(&alive))
    }

    /// Takes in what has come of a packet on both systems, which agreed.
    pub fn note(&mut self, case: &Case, arrivals: [&[Arrival]; 2]) {
        let ([one], [other]) = (arrivals[0], arrivals[1]) else { return };
        let seen = [Seen::read(&one.packet), Seen::read(&other.packet)];
        if seen[0].is_error() {
            return;
        }
        let last = [one.packet.clone(), other.packet.clone()];
        match case.kind {
            Kind::Continues(index, end) => self.flows[index].advance(case.what, end, last),
            Kind::Opens | Kind::MidStream if one.at != case.from => {
                let flow = Flow {
                    protocol: case.protocol,
                    ends: [case.from, one.at],
                    sends: [case.tuples, [seen[0].tuple.reversed(), seen[1].tuple.reversed()]],
                    last: [None, Some(last)],
                    icmp_type: case.what,
                    icmp_code: case.code,
                    seq: [1100, 1000],
                    stage: if case.kind == Kind::Opens { Stage::Opened } else { Stage::Over },
                    fins: [false; 2],
                };
                self.remember(flow);
            }
            _ => {}
        }
    }

    /// A packet of a connection had different fates: what follows would be compared in vain.
    pub fn forget(&mut self, case: &Case) {
        if let Kind::Continues(index, _) | Kind::Error(index, _) = case.kind {
            self.flows[index].stage = Stage::Over;
        }
    }

    /// A guest has the same remote end by two public names: its answers go to the later one.
    pub fn supersede(&mut self, later: &Seen) {
        let answers = later.tuple.reversed();
        let earlier =
            self.flows.iter_mut().filter(|flow| flow.protocol == later.protocol && flow.sends[1][0] == answers);
        earlier.for_each(|flow| flow.stage = Stage::Over);
    }

    fn remember(&mut self, flow: Flow) {
        let same =
            |known: &Flow| (known.protocol, known.ends, known.sends[0]) == (flow.protocol, flow.ends, flow.sends[0]);
        self.flows.retain(|known| !same(known));
        if self.flows.len() == MOST_FLOWS {
            self.flows.remove(0);
        }
        self.flows.push(flow);
    }
}

impl Flow {
    fn advance(&mut self, what: u8, end: usize, last: [Vec<u8>; 2]) {
        self.last[1 - end] = Some(last);
        if self.protocol != 6 {
            return;
        }
        self.seq[end] += 100;
        self.fins[end] |= what & FIN != 0;
        self.stage = match self.stage {
            _ if what & RST != 0 || self.fins == [true; 2] => Stage::Over,
            Stage::Opened => Stage::Answered,
            Stage::Answered => Stage::Established,
            stage => stage,
        };
    }
}

fn case(kind: Kind, from: Place, tuples: [Tuple; 2], dress: &Dress) -> Case {
    let packets = tuples.map(|tuple| {
        let packet = Packet::between([0; 6], [0; 6], tuple.src.0.into(), tuple.dst.0.into());
        let packet = packet.body(dress.body(&tuple)).ttl(dress.ttl).tos(dress.tos).checksum(dress.sum);
        if dress.whole { packet.dont_fragment() } else { packet }
    });
    Case { kind, from, protocol: dress.protocol, tuples, packets, what: dress.what, code: dress.code, ttl: dress.ttl }
}

impl Dress {
    fn body(&self, tuple: &Tuple) -> Body {
        let payload = self.payload.clone();
        let (src, dst) = (tuple.src.1, tuple.dst.1);
        match self.protocol {
            6 => Body::Tcp { src, dst, seq: self.seq, ack: self.ack, flags: self.what, payload },
            17 => Body::Udp { src, dst, payload },
            1 => {
                let [a, b] = (if matches!(self.what, 8 | 13) { src } else { dst }).to_be_bytes();
                Body::Icmp { kind: self.what, code: self.code, rest: [a, b, 0, 1], payload }
            }
            protocol => Body::Ip { protocol, payload },
        }
    }
}
