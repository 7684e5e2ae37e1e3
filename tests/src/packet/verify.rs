//! Every checksum of a frame, including those inside VXLAN: each frame a test receives goes through here.

use anyhow::{Context, Result, ensure};

use super::{
    checksum,
    dissect::{Dissected, Ip, dissect},
};

/// Checks the IPv4 header, TCP, UDP, ICMP and ICMPv6 checksums of a frame and of the frame inside it.
///
/// A UDP checksum of zero passes over IPv4, and over IPv6 only for a tunnel (RFC 6935). Fragments have no checksum
/// of their own; quotes inside ICMP errors are the sender's bytes and are left alone.
///
/// # Errors
/// The first checksum that is wrong, with its layer and both values.
pub fn verify_checksums(frame: &[u8]) -> Result<()> {
    let Some(parts) = dissect(frame) else { return Ok(()) };
    let Some(ip) = &parts.ip else {
        ensure!(!matches!(parts.ethertype, 0x0800 | 0x86dd), "an IP packet with an unreadable header: {frame:02x?}");
        return Ok(());
    };
    if ip.src.is_ipv4() {
        let found = checksum::sum(ip.header);
        ensure!(found == 0xffff, "IPv4 header {} → {} sums to {found:#06x}, not 0xffff", ip.src, ip.dst);
    }
    if ip.fragment == (0, false) {
        transport(&parts, ip)?;
    }
    if let Some((vni, _, inner)) = parts.vxlan() {
        verify_checksums(inner).with_context(|| format!("inside VNI {vni}"))?;
    }
    Ok(())
}

fn transport(parts: &Dissected, ip: &Ip) -> Result<()> {
    let sum = match ip.protocol {
        17 => {
            let zero = ip.message.get(6..8) == Some(&[0, 0]);
            if zero && (ip.src.is_ipv4() || parts.vxlan().is_some()) {
                return Ok(());
            }
            ensure!(!zero, "UDP over IPv6 {} → {} without a checksum", ip.src, ip.dst);
            !checksum::transport(ip.src, ip.dst, 17, ip.message)
        }
        6 | 58 => !checksum::transport(ip.src, ip.dst, ip.protocol, ip.message),
        1 => checksum::sum(ip.message),
        _ => return Ok(()),
    };
    ensure!(
        sum == 0xffff,
        "protocol {} of {} → {} ({} bytes) sums to {sum:#06x}, not 0xffff",
        ip.protocol,
        ip.src,
        ip.dst,
        ip.message.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::packet::{Checksum, Endpoint, Outer, Packet, guest};

    use super::*;

    const A: Endpoint = Endpoint::numbered(11);
    const B: Endpoint = Endpoint::numbered(12);

    fn each_kind() -> Vec<Packet> {
        let six = || guest(A).over_ipv6(A, B);
        vec![
            guest(A).to(B).udp(1, 2).payload([1, 2, 3]),
            guest(A).to(B).tcp(1, 2, 0x02).options(&[7, 3, 4]),
            guest(A).to(B).echo_request(1, 2),
            six().udp(1, 2),
            six().tcp(1, 2, 0x12).extension(60, &[0, 0, 1, 4, 0, 0, 0, 0]),
            six().echo_request(1, 2),
            guest(A).neighbour_solicitation(A.ip6, B.ip6),
        ]
    }

    #[test]
    fn what_is_built_right_verifies() {
        for packet in each_kind() {
            verify_checksums(&packet.build()).unwrap();
            verify_checksums(&packet.vlan(100).build()).unwrap();
        }
    }

    #[test]
    fn a_wrong_or_partial_checksum_is_found() {
        for packet in each_kind() {
            assert!(verify_checksums(&packet.clone().checksum(Checksum::Wrong).build()).is_err(), "{packet:?}");
        }
        assert!(verify_checksums(&guest(A).to(B).tcp(1, 2, 2).checksum(Checksum::Partial).build()).is_err());
    }

    #[test]
    fn a_wrong_ip_checksum_is_found_inside_a_tunnel() {
        let inner = guest(A).to(B).ip_checksum(Checksum::Wrong).build();
        let outer = Outer::new(5001, (A.mac, A.ip), (B.mac, B.ip));
        let error = verify_checksums(&outer.wrap(&inner)).unwrap_err();
        assert!(format!("{error:#}").contains("VNI 5001"), "{error:#}");
        verify_checksums(&outer.wrap(&guest(A).to(B).build())).unwrap();
    }

    #[test]
    fn udp_without_checksum_is_legal_over_ipv4_only() {
        verify_checksums(&guest(A).to(B).checksum(Checksum::Zero).build()).unwrap();
        assert!(verify_checksums(&guest(A).over_ipv6(A, B).checksum(Checksum::Zero).build()).is_err());
    }
}
