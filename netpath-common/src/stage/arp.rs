//! ARP (RFC 826): what a guest asks, and the answer that spares the other hosts the question.

use network_types::{arp::ArpHdr, eth::EthHdr};

use crate::{DropReason, Frame, Mac, Packet, frame::EtherType};

/// An ARP packet over Ethernet and IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Operation: 1 asks, 2 answers.
    pub operation: u16,
    /// Who sends.
    pub sender: Mac,
    /// The sender's address; zero in a probe (RFC 5227 §1.1).
    pub sender_address: [u8; 4],
    /// The address asked for.
    pub target_address: [u8; 4],
}

/// Operation of a request.
pub const REQUEST: u16 = 1;
/// Operation of a reply.
pub const REPLY: u16 = 2;

/// Reads the ARP packet of a frame.
///
/// # Errors
/// [`DropReason::MalformedArp`] where it is short, not for Ethernet and IPv4, or of another operation.
#[inline(always)]
pub fn parse<P: Packet + ?Sized>(pkt: &P, frame: &Frame) -> Result<Arp, DropReason> {
    parse_at(pkt, frame.l3)
}

/// Reads the ARP packet at `offset` bytes.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_at<P: Packet + ?Sized>(pkt: &P, offset: usize) -> Result<Arp, DropReason> {
    let arp = pkt.header::<ArpHdr>(offset).ok_or(DropReason::MalformedArp)?;
    let operation = u16::from_be_bytes(arp.oper);
    let ethernet_and_ipv4 = arp.htype == [0, 1] && arp.ptype == [8, 0] && arp.hlen == 6 && arp.plen == 4;
    if !ethernet_and_ipv4 || (operation != REQUEST && operation != REPLY) {
        return Err(DropReason::MalformedArp);
    }
    Ok(Arp { operation, sender: Mac(arp.sha), sender_address: arp.spa, target_address: arp.tpa })
}

impl Arp {
    /// Whether somebody is asked for: a request that is not an announcement (RFC 5227 §3).
    #[inline(always)]
    pub fn asks(&self) -> bool {
        self.operation == REQUEST && self.target_address != self.sender_address
    }

    /// The reply that says `owner` has the address asked for, with its Ethernet header.
    #[inline(always)]
    pub fn reply(&self, owner: Mac) -> (EthHdr, ArpHdr) {
        packet(REPLY, (owner, self.target_address), (self.sender, self.sender_address), self.sender)
    }
}

/// The request of `sender` for who has `target`, with its Ethernet header: to everybody, or to the one station that had
/// the address last (RFC 1122 §2.3.2.1).
#[inline(always)]
pub fn request(sender: (Mac, [u8; 4]), target: [u8; 4], to: Mac) -> (EthHdr, ArpHdr) {
    packet(REQUEST, sender, (Mac::ZERO, target), to)
}

#[inline(always)]
fn packet(operation: u16, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4]), to: Mac) -> (EthHdr, ArpHdr) {
    let eth = EthHdr { dst_addr: to.0, src_addr: sender.0.0, ether_type: EtherType::ARP.0.to_be() };
    let arp = ArpHdr {
        htype: [0, 1],
        ptype: [8, 0],
        hlen: 6,
        plen: 4,
        oper: operation.to_be_bytes(),
        sha: sender.0.0,
        spa: sender.1,
        tha: target.0.0,
        tpa: target.1,
    };
    (eth, arp)
}
