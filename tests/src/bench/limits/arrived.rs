//! What has arrived at a guest, as the kernel counts it: frames of the wire, whether or not a program has read what is in them.
//!
//! A super-packet is one packet to the kernel, and its header is counted once. That it was several frames is in the counts of ECN,
//! which Linux keeps by segments.

use std::fs;

use anyhow::{Context, Result, bail};

use super::accuracy::Protocol;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;
/// Bytes of IPv4's header and UDP's.
const UDP: u64 = 28;
/// Bytes of IPv4's header and TCP's, with timestamps.
const TCP: u64 = 52;

/// IPv4 packets received in a namespace since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Packets, each super-packet as one.
    packets: u64,
    /// Packets of the wire.
    segments: u64,
    /// Bytes of packets, from their IP header on.
    octets: u64,
}

impl Arrived {
    /// Of the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn read() -> Result<Self> {
        let read = |file: &'static str| fs::read_to_string(file).context(file);
        Self::parse(&read("/proc/thread-self/net/snmp")?, &read("/proc/thread-self/net/netstat")?)
    }

    fn parse(snmp: &str, netstat: &str) -> Result<Self> {
        let by_ecn = ["InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts"];
        Ok(Self {
            packets: counter(snmp, "Ip: ", "InReceives")?,
            segments: by_ecn.iter().map(|name| counter(netstat, "IpExt: ", name)).sum::<Result<u64>>()?,
            octets: counter(netstat, "IpExt: ", "InOctets")?,
        })
    }

    /// Bytes of their Ethernet frames, if all of them are of one protocol.
    pub fn bytes(&self, protocol: Protocol) -> u64 {
        let headers = if protocol == Protocol::Tcp { TCP } else { UDP };
        self.octets + self.segments * ETHERNET + self.segments.saturating_sub(self.packets) * headers
    }
}

/// A counter by its group and name: a line of names, and then a line of numbers.
fn counter(text: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        bail!("the kernel says nothing of {group}");
    };
    let found = names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name);
    let (_, value) = found.with_context(|| format!("no {name} in {group}"))?;
    value.parse().with_context(|| format!("{name} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_segment_of_a_super_packet_has_its_headers() {
        let snmp = "Ip: Forwarding InReceives\nIp: 2 3\nUdp: InDatagrams\nUdp: 5\n";
        let netstat =
            "TcpExt: A\nTcpExt: 1\nIpExt: InOctets InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts\nIpExt: 7084 4 0 0 1\n";
        let arrived = Arrived::parse(snmp, netstat).unwrap();
        assert_eq!(arrived, Arrived { packets: 3, segments: 5, octets: 7084 });
        // Five datagrams of 1400 bytes in three packets.
        assert_eq!(arrived.octets, 3 * UDP + 5 * 1400);
        assert_eq!(arrived.bytes(Protocol::Udp), 7084 + 5 * 14 + 2 * 28);
        assert_eq!(arrived.bytes(Protocol::Tcp), 7084 + 5 * 14 + 2 * 52);
    }

    #[test]
    fn what_the_kernel_does_not_count_is_named() {
        let error = counter("Ip: A\nIp: 1\n", "Ip: ", "InReceives").unwrap_err();
        assert_eq!(error.to_string(), "no InReceives in Ip: ");
    }
}
