//! The side under test: a hypervisor that `netpath apply` has made the gateway, with raw guests and a raw public link.

use std::{cell::RefCell, collections::BTreeSet, net::Ipv4Addr, time::Instant};

use anyhow::Result;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use super::{Arrival, OUTSIDE, Place, Site, System, ipv4, outside_mac};
use crate::{
    guest::{PacketSocket, RawGuest},
    packet::{Endpoint, Mac, Packet, dissect, guest},
    runner::Netpath,
    topology::{Link, NetNs, Offloads, Scratch, Tap, two_hypervisors::wire_end},
};

/// How often a packet is sent again because the data path asked for a next hop instead of sending it.
const MOST_QUESTIONS: usize = 4;

/// Keeps the calling thread on the processor that it is on: what it sends stays in order then, see [`Subject`].
pub fn stay_on_one_processor() {
    let mut processors = CpuSet::new();
    processors.set(sched_getcpu());
    sched_setaffinity(None, &processors).expect("a thread may stay where it is");
}

/// hv1 of the definitions. Its [`System::exchange`] wants a thread that called [`stay_on_one_processor`].
#[derive(Debug)]
pub struct Subject {
    site: Site,
    guests: Vec<RawGuest>,
    wire: RawGuest,
    uplink_mac: Mac,
    netpath: Netpath,
    _namespaces: [NetNs; 2],
    _scratch: Scratch,
}

impl Subject {
    /// Builds the hypervisor and applies the definitions.
    ///
    /// # Errors
    /// What the kernel refused to make.
    ///
    /// # Panics
    /// When `netpath apply` fails.
    pub fn build(site: &Site, scratch: Scratch) -> Result<Self> {
        let (ns, outside) = (NetNs::new("hv1")?, NetNs::new("public")?);
        let uplink_mac = ns.run(|| -> Result<Mac> {
            for (uplink, peer) in [("eth1", "guest"), ("eth2", "public")] {
                wire_end(&Link::veth(uplink, peer, &outside)?, 1500)?;
            }
            Link::named("eth2").read_mac()
        })?;
        let wire = outside.run(|| -> Result<_> {
            wire_end(&Link::named("guest"), 1500)?;
            wire_end(&Link::named("public"), 1500)?;
            PacketSocket::open("public")
        })?;
        let guests = site.guests.iter().map(|guest| {
            let tap = ns.run(|| Tap::new(&guest.device, Offloads::None))?;
            Ok(RawGuest::on_tap(&guest.device, tap))
        });
        let guests = guests.collect::<Result<_>>()?;
        let state = scratch.path().join("state");
        std::fs::create_dir_all(&state)?;
        let netpath = Netpath::new(&ns, scratch.bpffs().join("hv1"), state, "hv1");
        netpath.apply(&scratch.write("zone.yaml", &site.definitions.to_string())?);
        Ok(Self {
            site: site.clone(),
            guests,
            wire: RawGuest::on_socket("the public link", wire),
            uplink_mac,
            netpath,
            _namespaces: [ns, outside],
            _scratch: scratch,
        })
    }

    /// Its netpath.
    pub fn netpath(&self) -> &Netpath {
        &self.netpath
    }

    fn tagged(&self, packet: Packet) -> Vec<u8> {
        match self.site.vlan {
            Some(vid) => packet.vlan(vid).build(),
            None => packet.build(),
        }
    }

    fn inject(&self, from: Place, packet: &Packet) {
        match from {
            Place::Guest(index) => {
                let guest = &self.site.guests[index];
                let frame = packet.clone().from_mac(guest.mac).to_mac(guest.gateway_mac).build();
                self.guests[index].send(frame);
            }
            Place::Wire => {
                let (_, src, _) = ipv4(&packet.clone().build()).expect("an IPv4 packet");
                let packet = packet.clone().from_mac(outside_mac(src)).to_mac(self.uplink_mac);
                self.wire.send(self.tagged(packet));
            }
        }
    }

    /// Waits until all that was sent has been dealt with, and answers what has arrived and which next hops were asked for.
    ///
    /// The public link's ARP request is behind every frame that this thread's processor still has to deliver: those from
    /// the uplink wait in the queue that its reply gets into too, and what goes to a tap goes there at once.
    fn settle(&self) -> (Vec<Arrival>, BTreeSet<Ipv4Addr>) {
        let router = Endpoint { mac: outside_mac(OUTSIDE[0]), ip: OUTSIDE[0], ip6: std::net::Ipv6Addr::UNSPECIFIED };
        let target = self.site.public.first().expect("a public address").0;
        self.wire.send(self.tagged(guest(router).arp_request(target)));
        let (mut arrivals, mut asked) = (Vec::new(), BTreeSet::new());
        let frames = RefCell::new(Vec::new());
        self.wire.expect("netpath's ARP reply", |frame| {
            frames.borrow_mut().push(frame.to_vec());
            dissect(frame)
                .and_then(|parts| parts.arp())
                .is_some_and(|arp| (arp.0, arp.2, arp.4) == (2, target, router.ip))
        });
        for frame in frames.take() {
            let Some(parts) = dissect(&frame) else { continue };
            let tags: Vec<_> = parts.tags.iter().map(|(_, tci)| *tci).collect();
            assert_eq!(tags, Vec::from_iter(self.site.vlan), "the tags of {frame:02x?}");
            match parts.arp() {
                // An announcement asks for its own sender.
                Some((1, _, sender, _, wanted)) if sender != wanted => _ = asked.insert(wanted),
                _ => self.note_wire(&frame, &mut arrivals),
            }
        }
        for (index, tap) in self.guests.iter().enumerate() {
            tap.until(Instant::now(), |frame| {
                self.note_tap(index, frame, &mut arrivals);
                false
            });
        }
        (arrivals, asked)
    }

    fn note_wire(&self, frame: &[u8], arrivals: &mut Vec<Arrival>) {
        let Some((packet, _, dst)) = ipv4(frame) else { return };
        assert_eq!((&frame[..6], &frame[6..12]), (&outside_mac(dst)[..], &self.uplink_mac[..]), "{frame:02x?}");
        arrivals.push(Arrival { at: Place::Wire, packet });
    }

    fn note_tap(&self, index: usize, frame: &[u8], arrivals: &mut Vec<Arrival>) {
        let Some((packet, _, dst)) = ipv4(frame) else { return };
        let guest = &self.site.guests[index];
        assert_eq!((&frame[..6], &frame[6..12]), (&guest.mac[..], &guest.gateway_mac[..]), "{frame:02x?}");
        assert_eq!(dst, guest.ip, "at {} came {frame:02x?}", guest.device);
        arrivals.push(Arrival { at: Place::Guest(index), packet });
    }

    /// Says who has an address on the public link.
    fn tell(&self, address: Ipv4Addr) {
        let station = Endpoint { mac: outside_mac(address), ip: address, ip6: std::net::Ipv6Addr::UNSPECIFIED };
        let (asker, _) = self.site.public.first().expect("a public address");
        let asker = Endpoint { mac: self.uplink_mac, ip: *asker, ip6: station.ip6 };
        self.wire.send(self.tagged(guest(station).arp_reply(asker)));
    }
}

impl System for Subject {
    fn exchange(&mut self, from: Place, packet: &Packet) -> Vec<Arrival> {
        for _ in 0..MOST_QUESTIONS {
            self.inject(from, packet);
            let (arrivals, asked) = self.settle();
            asked.iter().for_each(|address| self.tell(*address));
            if asked.is_empty() || !arrivals.is_empty() {
                return arrivals;
            }
        }
        panic!("netpath asks for a next hop again and again, and was always answered: {packet:?}");
    }
}
