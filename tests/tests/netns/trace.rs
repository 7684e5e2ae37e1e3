//! What `netpath trace` says of a packet is what then becomes of it, and it leaves nothing behind.

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use netpath_tests::{
    guest::{PATIENCE, bind_when_free, raw::contains, raw::marker},
    packet::{BROADCAST, guest},
    runner::Netpath,
    topology::{
        TwoHypervisors,
        internet::{INTERNET, PUBLIC_UPLINK},
        two_hypervisors::UPLINK,
    },
};
use serde_json::Value;

use crate::{
    gateway::online,
    scene::{A, B, C, STRANGER, UPLINK_MODES, delivers, in_mode, moves_drops, raw_guests, refuses},
};

/// The devices of blue's NICs 11 and 13 on the first host.
const DEVICE_A: &str = "vnet11";
const DEVICE_C: &str = "vnet13";

fn trace(netpath: &Netpath, from: &str, packet: &str) -> Value {
    netpath.json(["trace", "--from", from, packet])
}

fn says(traced: &Value, step: &str) -> Vec<String> {
    let steps = traced["steps"].as_array().unwrap().iter().filter(|row| row["step"] == step);
    steps.map(|row| row["says"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_frame_for_a_neighbour_goes_where_its_trace_said() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let (from, to) = (DEVICE_A, DEVICE_C);
    let traced = trace(netpath, from, "udp 10.1.1.11:1 -> 10.1.1.13:2");
    assert_eq!((&traced["verdict"], &traced["out"]), (&"forwarded".into(), &to.into()), "{traced:#}");
    assert!(traced["to"].as_str().unwrap().starts_with("blue-web/"));
    delivers(topology.raw("blue", 11), topology.raw("blue", 13), &guest(A).to(C));

    // Once, so that the neighbour on the underlay is known.
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let traced = trace(netpath, from, "udp 10.1.1.11:1 -> 10.1.1.12:2");
    assert_eq!((&traced["verdict"], &traced["after"]["vni"]), (&"forwarded".into(), &5001.into()), "{traced:#}");
    assert_eq!(traced["after"]["inside"]["destination"], "10.1.1.12");
    assert!(traced["to"].as_str().unwrap().ends_with("/hv2"), "{traced:#}");
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
}

#[test]
fn a_refused_frame_is_refused_for_the_reason_that_its_trace_gave() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let traced = trace(netpath, DEVICE_A, "udp 10.1.1.99:1 -> 10.1.1.13:2");
    assert_eq!((&traced["verdict"], &traced["reason"]), (&"dropped".into(), &"spoofed_ipv4".into()), "{traced:#}");
    assert!(traced["explanation"].as_str().unwrap().starts_with("The guest sent from an IPv4 address"));
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    moves_drops(netpath, &[("blue-web", "spoofed_ipv4", 1)], || {
        refuses(a, c, &[guest(A).from(STRANGER.ip).to(C).udp(1, 2).build()], &guest(A).to(C));
    });
}

#[test]
fn arp_for_the_gateway_or_a_neighbour_is_answered_as_its_trace_said() {
    let topology = raw_guests();
    let from = DEVICE_A;
    let traced = trace(&topology.hosts[0].netpath, from, "arp who-has 10.1.1.12 tell 10.1.1.11");
    assert_eq!((&traced["verdict"], &traced["after"]["protocol"]), (&"answered".into(), &"reply".into()), "{traced:#}");
    let a = topology.raw("blue", 11);
    a.send(guest(A).arp_request(B.ip).build());
    a.expect("the reply", |frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]);
}

#[test]
fn the_first_packet_of_a_connection_is_translated_as_its_trace_said() {
    let topology = online("tc");
    let netpath = &topology.hosts[0].netpath;
    let from = DEVICE_A;
    let traced = trace(netpath, from, "udp 10.1.1.11:5000 -> 198.51.100.7:53");
    assert_eq!(traced["verdict"], "forwarded", "{traced:#}");
    assert_eq!(traced["out"], PUBLIC_UPLINK);
    let [connection] = &says(&traced, "connection")[..] else { panic!("{traced:#}") };
    assert!(connection.contains("a port of source NAT is chosen when the packet is sent"), "{connection}");

    let server = topology.internet().host.ns().run(|| bind_when_free(|| UdpSocket::bind((INTERNET.ip, 53)))).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = topology.kernel("blue", 11).ns().run(|| UdpSocket::bind("10.1.1.11:5000")).unwrap();
    client.send_to(b"?", (INTERNET.ip, 53)).unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
    let after = &traced["after"];
    assert_eq!(
        (after["source"].as_str(), after["source_port"].as_u64()),
        (Some(&*peer.ip().to_string()), Some(peer.port().into()))
    );

    // Now it is known, and needs no rule.
    let traced = trace(netpath, from, "udp 10.1.1.11:5000 -> 198.51.100.7:53");
    assert_eq!((says(&traced, "flow").len(), says(&traced, "connection").len()), (1, 0), "{traced:#}");
}

#[test]
fn a_connection_from_outside_meets_the_rule_that_its_trace_named() {
    let topology = online("tc");
    let netpath = &topology.hosts[0].netpath;
    let traced = trace(netpath, PUBLIC_UPLINK, "tcp 198.51.100.7:40000 -> 203.0.113.10:2222");
    assert_eq!(traced["verdict"], "forwarded", "{traced:#}");
    assert_eq!(
        (&traced["after"]["destination"], &traced["after"]["destination_port"]),
        (&"10.1.1.13".into(), &22.into())
    );
    let rules = says(&traced, "rule");
    assert!(
        rules.iter().any(|rule| rule.contains("ingress of 203.0.113.10 (blue-web)") && rule.ends_with(": let pass")),
        "{rules:?}"
    );
    let _listener =
        topology.kernel("blue", 13).ns().run(|| bind_when_free(|| TcpListener::bind("10.1.1.13:22"))).unwrap();
    let internet = topology.internet().host.ns();
    internet.run(|| TcpStream::connect_timeout(&"203.0.113.10:2222".parse().unwrap(), PATIENCE)).unwrap();

    let traced = trace(netpath, PUBLIC_UPLINK, "tcp 198.51.100.7:40000 -> 203.0.113.10:23");
    assert_eq!(traced["verdict"], "dropped", "{traced:#}");
    let reason = traced["reason"].as_str().unwrap().to_owned();
    let count = || netpath.drops().get(&("blue-web".to_owned(), reason.clone())).copied().unwrap_or(0);
    let before = count();
    let refused =
        internet.run(|| TcpStream::connect_timeout(&"203.0.113.10:23".parse().unwrap(), Duration::from_secs(1)));
    assert!(refused.is_err() && count() > before, "{reason}");
}

/// Every row of every map but STAGES, in hexadecimal.
fn maps(netpath: &Netpath) -> BTreeMap<String, Value> {
    let list = netpath.json(["map", "list"]);
    let names = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned());
    names.map(|name| (name.clone(), netpath.json(["map", "dump", &name, "--raw"]))).collect()
}

#[test]
fn a_trace_changes_no_map_and_sends_nothing() {
    let topology = online("tc");
    let netpath = &topology.hosts[0].netpath;
    let from = DEVICE_A;
    // The guests' kernels say something of their own now and then; a trace that wrote would be seen every time.
    let unchanged = (0..10).any(|_| {
        let before = maps(netpath);
        for (device, packet) in [
            (from, "tcp 10.1.1.11:40000 -> 198.51.100.7:443"),
            (from, "icmp echo 10.1.1.11 -> 198.51.100.7"),
            (from, "udp 10.1.1.99:1 -> 10.1.1.13:2"),
            (from, "arp who-has 10.1.1.200 tell 10.1.1.11"),
            (PUBLIC_UPLINK, "tcp 198.51.100.7:40000 -> 203.0.113.10:2222"),
        ] {
            trace(netpath, device, packet);
        }
        maps(netpath) == before
    });
    assert!(unchanged);
}

#[test]
fn a_traced_flood_reaches_nobody() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let from = DEVICE_A;
    let payload = marker();
    let frame = guest(A).to(C).to_mac(BROADCAST).udp(1, 2).payload(&payload).build();
    let file = topology.scratch().write("flood.pcap", "").unwrap();
    std::fs::write(&file, pcap(&frame)).unwrap();
    let traced = netpath.json(["trace", "--from", from, "--pcap", &file.display().to_string()]);
    assert_eq!(traced["verdict"], "flooded", "{traced:#}");
    assert!(traced["copies"].as_array().unwrap().contains(&DEVICE_C.into()), "{traced:#}");
    let last = marker();
    topology.raw("blue", 11).send(guest(A).to(C).payload(&last).build());
    topology.raw("blue", 13).expect_none_before(|frame| contains(frame, &payload), |frame| contains(frame, &last));
}

#[test]
fn a_frame_that_its_capture_has_cut_is_traced_as_what_is_forwarded() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.scratch().write("cut.pcap", "").unwrap();
    let traced = |frame: &[u8], kept: usize| {
        let mut bytes = pcap(frame);
        bytes.truncate(40 + kept);
        bytes[32..36].copy_from_slice(&(kept as u32).to_le_bytes());
        std::fs::write(&file, bytes).unwrap();
        ["trace", "--from", DEVICE_A, "--pcap", &file.display().to_string()].map(str::to_owned)
    };
    for (data, kept, how) in [(1000, 96, "padded"), (40_000, 2048, "shortened"), (40_000, 96, "shortened")] {
        let frame = guest(A).to(C).tcp(40_000, 443, 0x10).payload(vec![7; data]).build();
        let report = netpath.json(traced(&frame, kept));
        assert_eq!((&report["verdict"], &report["out"]), (&"forwarded".into(), &DEVICE_C.into()), "{report:#}");
        assert_eq!(report["cut"], serde_json::json!({"kept": kept, "length": frame.len(), "how": how}));
        let said = netpath.succeed(traced(&frame, kept)).stdout;
        assert!(said.contains(&format!("The file has {kept} of the frame's {} bytes", frame.len())), "{said}");
    }
    let frame = guest(A).to(C).udp(1, 2).payload(vec![7; 1000]).build();
    let refused = netpath.run(traced(&frame, 30));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("was cut to 30 of 1042 bytes"), "{}", refused.stderr);
}

#[test]
fn a_frame_that_is_too_short_for_the_kernel_is_said_to_be() {
    let topology = raw_guests();
    let netpath = &topology.hosts[0].netpath;
    let file = topology.scratch().write("short.pcap", "").unwrap();
    std::fs::write(&file, pcap(&[2; 13])).unwrap();
    let refused = netpath.run(["trace", "--from", DEVICE_A, "--pcap", &file.display().to_string()]);
    assert_eq!(refused.code, 1);
    let says = "a frame of 13 bytes cannot be traced: the kernel wants an Ethernet header, 14 bytes";
    assert!(refused.stderr.contains(says) && !refused.stderr.contains("Invalid argument"), "{}", refused.stderr);
    // Newer kernels want the header of IP, too; an error is in words either way.
    std::fs::write(&file, pcap(&guest(A).to(C).udp(1, 2).build()[..20])).unwrap();
    let short = netpath.run(["trace", "--from", DEVICE_A, "--pcap", &file.display().to_string()]);
    assert!(short.code == 0 || short.stderr.contains("the headers of Ethernet and IPv4, 34 bytes"), "{}", short.stderr);
}

#[test]
fn a_tunnel_on_a_port_of_the_definitions_own_is_looked_into() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = topology.vxlan_definitions();
    definitions["vxlan_port"] = 4790.into();
    topology.apply(&definitions);
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let traced = trace(&topology.hosts[0].netpath, DEVICE_A, "udp 10.1.1.11:1 -> 10.1.1.12:2");
    assert_eq!(
        (&traced["after"]["destination_port"], &traced["after"]["vni"]),
        (&4790.into(), &5001.into()),
        "{traced:#}"
    );
    assert!(traced["to"].as_str().unwrap().ends_with("/hv2"), "{traced:#}");
}

#[test]
fn a_packet_from_another_hosts_guest_goes_where_its_trace_from_the_uplink_said() {
    for mode in UPLINK_MODES {
        let topology = TwoHypervisors::builder().build().unwrap();
        for definitions in [topology.vxlan_definitions(), topology.vlan_definitions()] {
            topology.apply(&in_mode(definitions, mode));
            let netpath = &topology.hosts[0].netpath;
            for packet in
                ["udp 10.1.1.12:1 -> 10.1.1.11:2", "tcp 10.1.1.12 -> 10.1.1.11:80", "icmp 10.1.1.12 -> 10.1.1.11"]
            {
                let traced = netpath.json(["trace", "--from", UPLINK, "--network", "blue-web", packet]);
                let (verdict, out) = (&traced["verdict"], &traced["out"]);
                assert_eq!((verdict, out), (&"forwarded".into(), &DEVICE_A.into()), "{mode}, {packet}: {traced:#}");
                assert_eq!(traced["after"]["destination"], "10.1.1.11");
            }
            delivers(topology.raw("blue", 12), topology.raw("blue", 11), &guest(B).to(A));
            let both = netpath.run(["trace", "--from", UPLINK, "udp 10.1.1.12:1 -> 10.1.1.11:2"]);
            assert!(both.code == 1 && both.stderr.contains("--network: blue-web, green-web"), "{both:?}");
            let stranger = netpath.run(["trace", "--from", UPLINK, "udp 10.1.1.99:1 -> 10.1.1.11:2"]);
            assert!(stranger.code == 1 && stranger.stderr.contains("no station of a network"), "{stranger:?}");
        }
    }
}

/// A capture file of one frame.
fn pcap(frame: &[u8]) -> Vec<u8> {
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1, 0, 0, frame.len() as u32, frame.len() as u32];
    [header.map(u32::to_le_bytes).concat(), frame.to_vec()].concat()
}
