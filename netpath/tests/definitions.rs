//! What definitions are refused for, and how that is said.

use std::fs;

use netpath::definitions::{self, DefinitionsError, parse};

/// The document of the docs with every kind of object in it.
const ZONE: &str = include_str!("zone.yaml");

fn findings(text: &str) -> Vec<String> {
    match parse("zone.yaml", text) {
        Ok(_) => Vec::new(),
        Err(error) => error.findings().iter().map(ToString::to_string).collect(),
    }
}

/// Edits the zone and expects each finding, in order and no other: where it is (as the text that begins there) and a
/// part of what it says.
fn refused(edits: &[(&str, &str)], expected: &[(&str, &str)]) {
    let mut text = ZONE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "the zone has no {from:?}");
        text = text.replacen(from, to, 1);
    }
    let error = parse("zone.yaml", &text).expect_err("the zone is refused");
    let said: Vec<String> = error.findings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), expected.len(), "{edits:?}: {said:#?}");
    for (finding, (begins, says)) in error.findings().iter().zip(expected) {
        let line = text.lines().nth(finding.at.line as usize - 1).unwrap();
        let rest: String = line.chars().skip(finding.at.column as usize - 1).collect();
        assert!(rest.starts_with(begins), "{finding} points at {rest:?}, not at {begins:?}");
        assert!(finding.to_string().contains(says), "{finding} does not say {says:?}");
    }
}

#[test]
fn the_zone_is_accepted() {
    assert_eq!(findings(ZONE), [""; 0]);
}

#[test]
fn all_errors_of_a_file_come_at_once_by_line() {
    refused(
        &[
            ("vnis: 5000-9999", "vnis: 5000-99999999"),
            ("host: kvm1, device: vnet0", "host: kvm9, device: vnet0"),
            ("ip: 10.1.1.12", "ip: 10.2.1.12"),
            ("mtu: 1450", "mtoo: 1450"),
            ("gateway: 10.1.2.1", "gateway: 10.1.2.11"),
        ],
        &[
            ("5000-99999999", "a VNI has 24 bits; use ids from 1 to 16777215"),
            ("mtoo", "unknown field of a network; did you mean `mtu`?"),
            ("kvm9", "unknown host; did you mean `kvm1`?"),
            ("10.2.1.12", "outside the cidr of network acme-web; use an address of 10.1.1.0/24"),
            ("10.1.2.11", "an IP address used twice in network acme-db, first in line"),
        ],
    );
}

#[test]
fn segments_are_legal_and_used_once() {
    refused(
        &[("segment: 5002", "segment: 5001")],
        &[("5001", "two networks in one segment of `guest`, first in line")],
    );
    refused(&[("segment: 5002", "segment: 4999")], &[("4999", "outside the vnis of `guest`; use one of 5000-9999")]);
    refused(&[("segment: 5002", "segment: 0")], &[("0", "no usable VNI")]);
    refused(&[("segment: 5002", "segment: 16777216")], &[("16777216", "no usable VNI")]);
    refused(&[("segment: 5002", "segment: untagged")], &[("untagged", "give a VNI")]);
    refused(&[("segment: 101", "segment: 0")], &[("0", "no usable VLAN id: they go from 1 to 4094")]);
    refused(&[("segment: 101", "segment: 4095")], &[("4095", "no usable VLAN id")]);
    refused(&[("segment: 101", "segment: 200")], &[("200", "outside the vlans of `trunk`; use one of 100-199")]);
    refused(&[("segment: 101", "segment: x")], &[("x", "not a segment")]);
    refused(&[("vlans: 100-199", "vlans: 0-199")], &[("0-199", "VLAN ids 0 and 4095 are reserved")]);
    refused(
        &[("vlans: 100-199", "vnis: 100-199")],
        &[("100-199", "`vnis` of a physical network with isolation vlan; use `vlans`")],
    );
    refused(&[("vlans: 100-199", "vlans: 199-100")], &[("199-100", "ends before it begins; write 100-199")]);
}

#[test]
fn an_untagged_network_on_a_trunk_is_legal_once() {
    assert_eq!(findings(&ZONE.replacen("segment: 101", "segment: untagged", 1)), [""; 0]);
}

#[test]
fn physical_networks_that_share_a_device_or_port_have_ids_of_their_own() {
    refused(
        &[("vlans: 900-910", "vlans: 199-910"), ("public: eth3", "public: eth2")],
        &[("199-910", "the ids 199 to 199 are also those of `trunk`")],
    );
    let other = "vlans: 900-910,  traffic: [public]}\n  - {name: more, isolation: vxlan, vnis: 9000-9001}";
    refused(
        &[("vlans: 900-910,  traffic: [public]}", other), ("public: eth3", "public: eth3, more: eth9")],
        &[("9000-9001", "which shares UDP port 4789 of host kvm1")],
    );
}

#[test]
fn addresses_are_unique_in_a_network_and_inside_it() {
    refused(&[("mac: 02:00:0a:01:01:0c", "mac: 02:00:0a:01:01:0b")], &[("02:00:0a:01:01:0b", "used twice")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.11")], &[("10.1.1.11", "used twice in network acme-web")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.50")], &[("10.1.1.50", "used twice in network acme-web")]);
    refused(&[("ip6: 2001:db8:1::12", "ip6: 2001:db8:1::11")], &[("2001:db8:1::11", "used twice")]);
    refused(&[("ip6: 2001:db8:1::12", "ip6: 2001:db8:2::12")], &[("2001:db8:2::12", "outside the cidr6")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.0")], &[("10.1.1.0", "the network or broadcast address")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.255")], &[("10.1.1.255", "the network or broadcast address")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.1")], &[("10.1.1.1", "used twice")]);
    refused(&[("ip: 10.1.1.12", "ip: 10.1.1.300")], &[("10.1.1.300", "not an IPv4 address")]);
    refused(&[("gateway: 10.1.1.1", "gateway: 10.1.9.1")], &[("10.1.9.1", "a gateway outside the network's cidr")]);
    refused(&[("cidr: 10.1.1.0/24", "cidr: 10.1.1.7/24")], &[("10.1.1.7/24", "write 10.1.1.0/24")]);
}

#[test]
fn a_mac_address_names_one_station() {
    let edit = |mac| [("mac: 02:00:0a:01:01:0c", mac)];
    refused(&edit("mac: 01:00:5e:00:00:01"), &[("01:00:5e:00:00:01", "a multicast MAC address")]);
    refused(&edit("mac: 00:00:00:00:00:00"), &[("00:00:00:00:00:00", "the zero MAC address")]);
    refused(&edit("mac: 02:00:0a"), &[("02:00:0a", "not a MAC address; write six hexadecimal octets")]);
}

#[test]
fn a_device_is_used_once_on_a_host() {
    refused(&[("host: kvm1, device: vnet2", "host: kvm1, device: vnet0")], &[("vnet0", "used twice on host kvm1")]);
    refused(&[("host: kvm1, device: vnet2", "host: kvm1, device: eth1")], &[("eth1", "used twice on host kvm1")]);
    refused(
        &[("host: kvm1, device: vnet2", "host: kvm1, device: a-name-of-16-byt")],
        &[("a-name-of-16-byt", "a device name of 16 characters")],
    );
}

#[test]
fn hosts_have_mac_addresses_of_their_own_on_vlans() {
    let name = |n: u32| format!("h{n}");
    let mac = |n: u32| {
        let text = format!("zone: z\nhosts: [{{name: {}}}]\n", name(n));
        parse("zone.yaml", &text).unwrap().hosts[0].wire_mac()
    };
    // Of 20 000 names some share their 24 bits (a birthday of 2^24 takes some 5 000).
    let mut seen = std::collections::HashMap::new();
    let (a, b) = (0..20_000).find_map(|n| Some((seen.insert(mac(n), n)?, n))).expect("two names with one MAC address");
    let text = format!("zone: z\nhosts: [{{name: {}}}, {{name: {}}}]\n", name(a), name(b));
    let said = findings(&text);
    assert!(said.len() == 1 && said[0].contains("like another host's, first in line 2"), "{said:?}");
}

#[test]
fn hosts_can_reach_their_networks() {
    refused(
        &[("tunnel_address: 192.0.2.12", "tunnel_address: 192.0.2.11")],
        &[("192.0.2.11", "the tunnel address of two hosts, first in line")],
    );
    refused(&[("tunnel_address: 192.0.2.12, ", "")], &[("kvm2", "but no tunnel_address on `guest`")]);
    refused(
        &[("192.0.2.12, uplinks: {guest: eth1, ", "192.0.2.12, uplinks: {")],
        &[("kvm2", "has NICs of network acme-web but no uplink on `guest`; add `guest: DEVICE` to its `uplinks`")],
    );
    refused(
        &[
            ("cidr: 10.1.2.0/24", "cidr: 10.1.2.0/24\n    router: acme-vpc"),
            ("192.0.2.12, uplinks: {guest: eth1, trunk: eth2, ", "192.0.2.12, uplinks: {guest: eth1, "),
        ],
        &[(
            "kvm2",
            "has NICs of network acme-web, whose router leads to network acme-db, but no uplink on `trunk`; add",
        )],
    );
    refused(
        &[("uplinks: {guest: eth1, ", "uplinks: {gest: eth1, guest: eth1, ")],
        &[("gest", "unknown physical network; did you mean `guest`?")],
    );
    refused(
        &[("tunnel_address: 192.0.2.12", "tunnel_address: {trunk: 192.0.2.12, guest: 192.0.2.13}")],
        &[("192.0.2.12", "whose isolation is vlan")],
    );
}

#[test]
fn names_refer_to_something() {
    refused(&[("offering: standard", "offering: standart")], &[("standart", "did you mean `standard`?")]);
    refused(&[("physical_network: trunk", "physical_network: x")], &[("x", "unknown physical network")]);
    refused(
        &[("physical_network: trunk", "physical_network: public")],
        &[("public", "a physical network without guest traffic"), ("101", "outside the vlans of `public`")],
    );
    refused(&[("name: globex-web", "name: acme-web")], &[("acme-web", "a second network of this name")]);
    refused(&[("name: globex-web", "name: globex web")], &[("globex web", "a name with ' ' in it")]);
    let long = "n".repeat(49);
    refused(&[("name: globex-web", &format!("name: {long}"))], &[(&long, "a name of 49 characters")]);
    refused(&[("nic: web-2", "nic: web-7")], &[("web-7", "unknown NIC of the network; did you mean")]);
}

#[test]
fn public_addresses_have_one_use() {
    let source_nat = ("source_nat: 203.0.113.10", "source_nat: 203.0.113.11");
    refused(&[source_nat], &[("203.0.113.11", "the address of the source NAT of network acme-web")]);
    refused(
        &[("source_nat: 203.0.113.10", "source_nat: 198.51.100.1")],
        &[("198.51.100.1", "in no public range; use an address of 203.0.113.0/24")],
    );
    refused(&[("source_nat: 203.0.113.10", "source_nat: 203.0.113.1")], &[("203.0.113.1", "the gateway of")]);
    refused(&[("source_nat: 203.0.113.10", "source_nat: 203.0.113.255")], &[("203.0.113.255", "broadcast")]);
    refused(&[("vlan: 900", "vlan: 911")], &[("911", "outside the vlans of `public`")]);
    let twice = "public_ranges:\n  - {physical_network: public, vlan: 901, cidr: 203.0.112.0/23, gateway: 203.0.112.1}";
    refused(&[("public_ranges:", twice)], &[("203.0.113.0/24", "overlaps 203.0.112.0/23 in line")]);
}

#[test]
fn a_port_is_forwarded_once_and_a_range_keeps_its_ports() {
    let rule = "port_forwarding:\n";
    let add = |row: &str| format!("{rule}      - {{public: 203.0.113.10, to: web-1, {row}}}\n");
    refused(
        &[(rule, &add("protocol: tcp, ports: 2000-3000"))],
        &[("2222", "tcp 2000-3000 of 203.0.113.10 is forwarded")],
    );
    refused(
        &[(rule, &add("protocol: tcp, ports: 80-90, to_ports: 180-190"))],
        &[("180-190", "a range keeps its ports")],
    );
    refused(&[(rule, &add("protocol: icmp, ports: 80"))], &[("icmp", "a protocol without ports")]);
    refused(&[(rule, &add("protocol: tcp, ports: 0"))], &[("0", "port 0")]);
    assert_eq!(findings(&ZONE.replacen(rule, &add("protocol: udp, ports: 2222"), 1)), [""; 0]);
}

#[test]
fn rates_mtu_and_choices_are_read_strictly() {
    refused(&[("network_rate: 200Mbps", "network_rate: 200Mb")], &[("200Mb", "not a rate; write it like 200Mbps")]);
    refused(&[("mtu: 1450", "mtu: 67")], &[("67", "out of range; use 68 to 65535")]);
    refused(&[("mtu: 1450", "mtu: 1279")], &[("1279", "an MTU too small for IPv6")]);
    refused(&[("gateway_mode: external", "gateway_mode: extern")], &[("extern", "did you mean `external`?")]);
    refused(&[("gateway_mode: external", "on_miss: forward")], &[("forward", "use one of drop, pass")]);
    refused(
        &[("network_rate: 200Mbps", "network_rate: 100MBps")],
        &[(
            "100MBps",
            "which is bytes, and rates are in bits; write 800Mbps where bytes are meant, 100Mbps where bits are",
        )],
    );
    for rate in ["1Gbps", "0", "-1", "200", "512kbps", "10 Gbps"] {
        assert_eq!(findings(&ZONE.replacen("200Mbps, network_burst: 2MB", rate, 1)), [""; 0], "{rate}");
    }
}

#[test]
fn a_key_given_twice_is_an_error() {
    refused(&[("segment: 5001", "segment: 5001\n    segment: 5003")], &[("segment", "given twice, first in line")]);
}

#[test]
fn a_missing_field_is_named_with_its_object() {
    refused(&[("mac: 02:00:0a:01:01:0c, ", "")], &[("{", "`mac`: missing in a NIC; add `mac:`")]);
}

#[test]
fn source_nat_takes_one_address_or_up_to_eight() {
    let with = |addresses: &str| ZONE.replacen("source_nat: 203.0.113.10", &format!("source_nat: {addresses}"), 1);
    assert_eq!(findings(&with("[203.0.113.10, 203.0.113.77]")), [""; 0]);
    refused(
        &[("source_nat: 203.0.113.10", "source_nat: [203.0.113.10, 203.0.113.10]")],
        &[("203.0.113.10]", "an address twice in one source NAT, first in line")],
    );
    let nine: Vec<String> = (10..19).filter(|n| *n != 11).chain([30]).map(|n| format!("203.0.113.{n}")).collect();
    assert_eq!(findings(&with(&format!("[{}]", nine[..8].join(", ")))), [""; 0]);
    let nine = format!("source_nat: [{}]", nine.join(", "));
    refused(&[("source_nat: 203.0.113.10", &nine)], &[("203.0.113.30", "more than 8 addresses of one source NAT")]);
}

#[test]
fn public_addresses_want_a_gateway_that_translates() {
    let fields = [
        ("source_nat: 203.0.113.20", "source_nat"),
        ("static_nat: [{public: 203.0.113.20, nic: db-1}]", "static_nat"),
        ("port_forwarding: [{public: 203.0.113.20, protocol: tcp, ports: 80, to: db-1}]", "port_forwarding"),
    ];
    for (field, name) in fields {
        let says = format!(
            "`{name}` of network acme-db, which has no `gateway`: nothing would be translated; add `gateway:` with an address \
             of 10.1.2.0/24, or leave the field out"
        );
        refused(&[("gateway: 10.1.2.1", field)], &[("203.0.113.20", &says)]);
        let with_gateway = format!("gateway: 10.1.2.1\n    {field}");
        assert_eq!(findings(&ZONE.replacen("gateway: 10.1.2.1", &with_gateway, 1)), [""; 0], "{name}");
    }
    let without_prefix = "gateway_mode: netpath\n    source_nat: 203.0.113.20";
    refused(&[("gateway_mode: external", without_prefix)], &[("203.0.113.20", "add `cidr:` and `gateway:`")]);
    // An address that is not there has no place where it could be wrong too.
    let no_address = "port_forwarding: [{protocol: tcp, ports: 80, to: db-1}]";
    let missing = ("{protocol", "`public`: missing in a port forwarding");
    refused(&[("gateway: 10.1.2.1", no_address)], &[missing]);
    let external = format!("gateway_mode: external\n    {no_address}");
    refused(&[("gateway_mode: external", &external)], &[missing, ("db-1", "unknown NIC of the network")]);
}

#[test]
fn a_nat_host_can_do_what_it_is_named_for() {
    refused(
        &[("trunk: eth2, public: eth3}, capacities", "trunk: eth2}, capacities")],
        &[("kvm1", "a NAT host without an uplink on `public`, where 203.0.113.10 is reached; add `public: DEVICE`")],
    );
    let none = [
        ("    nat_host: kvm1\n", ""),
        ("trunk: eth2, public: eth3}, cap", "trunk: eth2}, cap"),
        ("trunk: eth2, public: eth3}, up", "trunk: eth2}, up"),
    ];
    refused(&none, &[("203.0.113.10", "no host has an uplink on `public` and reaches network acme-web")]);
    refused(
        &[(
            "cidr: 10.1.2.0/24",
            "router: acme-vpc\n    nat_host: kvm2\n    source_nat: 203.0.113.20\n    cidr: 10.1.2.0/24",
        )],
        &[("kvm2", "another NAT host of the same router is kvm1, in line")],
    );
    refused(
        &[
            ("cidr: 10.1.2.0/24", "router: acme-vpc\n    source_nat: 203.0.113.20\n    cidr: 10.1.2.0/24"),
            ("eth1, trunk: eth2, public: eth3}, capacities", "eth1, public: eth3}, capacities"),
            ("host: kvm1, device: vnet3", "host: kvm2, device: vnet3"),
        ],
        &[
            ("kvm1", "has NICs of network acme-web, whose router leads to network acme-db, but no uplink on `trunk`"),
            ("203.0.113.20", "the NAT host of its router, kvm1, has no way to it or to network acme-db"),
        ],
    );
}

#[test]
fn a_file_that_is_no_document_is_one_clear_error() {
    let dir = std::env::temp_dir().join(format!("netpath-definitions-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let said = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        definitions::load(&path).unwrap_err().to_string()
    };
    assert!(said("empty", b" \n").contains("is empty; write"));
    assert!(said("binary", b"zone: \x00").contains("is not UTF-8 text (byte 6 is 0x00)"));
    assert!(said("latin", b"zone: \xe4").contains("is not UTF-8 text (byte 6 is 0xe4)"));
    assert!(said("large", &vec![b'#'; 10 << 20]).contains("larger than the limit of 8 MiB"));
    assert!(said("comment", b"# nothing\n").contains("no definitions in the document"));
    assert!(said("word", b"hello\n").contains("not the fields of the zone"));
    let truncated = said("truncated", &ZONE.as_bytes()[..ZONE.find("vnet0").unwrap()]);
    assert!(truncated.contains("has 1 error") && truncated.contains("not YAML"), "{truncated}");
    assert!(said("two", b"zone: a\n---\nzone: b\n").contains("a second document"));
    let missing = definitions::load(&dir.join("none")).unwrap_err();
    assert!(matches!(missing, DefinitionsError::Missing { .. }), "{missing}");
    let directory = definitions::load(&dir).unwrap_err().to_string();
    assert!(directory.contains("holds no definitions"), "{directory}");
    let device = definitions::load(std::path::Path::new("/dev/null")).unwrap_err().to_string();
    assert!(device.contains("is a device or socket"), "{device}");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_has_been_in_force_with_a_rate_in_bytes_is_brought_back_as_it_was() {
    let of = |unit: &str| {
        let text = ZONE.replacen("network_rate: 200Mbps", &format!("network_rate: 200{unit}"), 1);
        definitions::parse_applied("revision 7", &text).unwrap().offerings[0].network_rate.unwrap().value
    };
    assert_eq!(of("MBps"), of("Mbps"));
}

#[test]
fn a_fifo_is_refused_at_once_alone_and_in_a_folder_and_a_link_to_a_file_is_read() {
    let dir = std::env::temp_dir().join(format!("netpath-fifo-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (fifo, link) = (dir.join("fifo.yaml"), dir.join("link.yaml"));
    fs::write(dir.join("zone"), ZONE).unwrap();
    std::os::unix::fs::symlink(dir.join("zone"), &link).unwrap();
    assert!(definitions::load(&link).is_ok());
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for path in [&fifo, &dir] {
        let (told, said) = std::sync::mpsc::channel();
        let path = path.clone();
        std::thread::spawn(move || told.send(definitions::load(&path).unwrap_err().to_string()));
        let said = said.recv_timeout(std::time::Duration::from_secs(10)).expect("nobody is waited for");
        assert!(said.contains(&format!("{} is a FIFO, not a file", fifo.display())), "{said}");
    }
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_document_cannot_exhaust_stack_or_memory() {
    // Brackets run into the parser's own limit, which looks ahead.
    for deep in ["[".repeat(1 << 20), "{a: ".repeat(1 << 18), "- ".repeat(1 << 18)] {
        let said = findings(&deep);
        assert!(said[0].contains("nested more than 64 levels") || said[0].contains("recursion limit"), "{}", said[0]);
    }
    let blocks: String = (0..100).map(|depth| format!("{:depth$}a:\n", "")).collect();
    assert!(findings(&blocks)[0].contains("nested more than 64 levels"));
    let mut bomb = "zone: a\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for i in 1..12 {
        let aliases = vec![format!("*x{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("x{i}: &x{i} [{aliases}]\n"));
    }
    assert!(findings(&bomb).iter().any(|finding| finding.contains("unfolds to more than")), "{:?}", findings(&bomb));
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let text = ZONE.replacen("cidr: 10.1.1.0/24", "cidr: &web 10.1.1.0/24", 1);
    let text = text.replacen("cidr: 10.1.1.0/24", "cidr: *web", 1);
    assert_eq!(findings(&text), [""; 0]);
}

#[test]
fn json_is_yaml() {
    let text = r#"{"zone": "z", "hosts": [{"name": "a", "uplinks": {"p": "eth0"}}], "networks": [
	{"name": "n", "physical_network": "p", "segment": 7, "nics": [{"instance": "i", "mac": "02:00:00:00:00:01"}]}],
	"physical_networks": [{"name": "p", "isolation": "vlan", "vlans": "7"}]}"#;
    assert_eq!(findings(text), [""; 0]);
}

#[test]
fn a_burst_stands_beside_a_rate_and_is_one() {
    let burst = |to| [("network_burst: 2MB", to)];
    refused(&burst("network_burst: 2Mb/s"), &[("2Mb/s", "not a burst; write it in bytes, like 30000, 64KiB or 1MB")]);
    refused(&burst("network_burst: 1513"), &[("1513", "a burst smaller than a frame; use 1514 bytes or more")]);
    let slow = [("network_rate: 200Mbps, network_burst: 2MB", "network_rate: 64kbps, network_burst: 1 mb")];
    refused(&slow, &[("1 mb", "`1 mb`: a burst of more than 60 s at its rate of 64kbps")]);
    refused(
        &[("network_rate: 200Mbps, network_burst: 2MB", "network_burst: 30000")],
        &[("30000", "`30000`: a burst without a rate")],
    );
    refused(&burst("network_burst: 2GB"), &[("2GB", "not a burst")]);
    refused(&burst("network_burst: 2000MB"), &[("2000MB", "a burst beyond any use; use at most 1024MiB")]);
    refused(
        &[("network_rate: 200Mbps, network_burst: 2MB", "network_burst: 2MB")],
        &[("2MB", "a burst without a rate; add `network_rate` beside it")],
    );
    refused(
        &[("network_rate: 200Mbps", "network_rate: -1")],
        &[("2MB", "the burst of an unlimited rate; leave the burst out")],
    );
    refused(
        &[("network_rate: 200Mbps", "network_rate: 64kbps")],
        &[("2MB", "a burst of more than 60 s at its rate of 64kbps; use at most 480000 bytes")],
    );
    refused(&[("    aggregate_rate: 400Mbps\n", "")], &[("1000000", "add `aggregate_rate` beside it")]);
    refused(&[("aggregate_rate: 1Gbps, ", "")], &[("4MiB", "add `aggregate_rate` beside it")]);
    refused(&[("network_rate: 0}", "network_burst: 64KiB}")], &[("64KiB", "add `network_rate` beside it")]);
}

#[test]
fn a_public_rate_is_of_an_address_of_its_network_once() {
    let address = |to| [("public_rates: [{public: 203.0.113.10", to)];
    refused(
        &address("public_rates: [{public: 203.0.113.12"),
        &[("203.0.113.12", "an address that network acme-web has not; name an address of its source_nat")],
    );
    let twice = "public_rates: [{public: 203.0.113.11, rate: 10Mbps}, {public: 203.0.113.11";
    refused(&address(twice), &[("203.0.113.11", "a second rate of this public address, first in line")]);
    let of_another = "    public_rates: [{public: 203.0.113.10, rate: 1Mbps}]\n    segment: 5002";
    refused(
        &[("    segment: 5002", of_another)],
        &[
            ("203.0.113.10", "a second rate of this public address"),
            ("203.0.113.10", "an address of network acme-web, not of network globex-web"),
        ],
    );
    refused(&[("rate: 100Mbps, burst", "burst")], &[("{public", "missing in a public rate; add `rate:`")]);
}

#[test]
fn an_account_is_listed_once_and_as_networks_write_it() {
    refused(&[("name: initech}", "name: acme}")], &[("acme", "a second account of this name")]);
    refused(&[("name: initech}", "name: Globex}")], &[("Globex", "the account of no network; did you mean `globex`?")]);
    let numbered = ZONE.replacen("name: initech}", "name: globe}", 1);
    assert_eq!(findings(&numbered), [""; 0], "another account that has no network yet");
}

#[test]
fn the_rate_that_is_nearest_to_a_nic_holds_with_the_burst_beside_it() {
    let zone = parse("zone.yaml", ZONE).unwrap();
    let limit = |network: usize, nic: usize| {
        let network = &zone.networks[network];
        let limit = zone.nic_limit(network, zone.offering_of(network), &network.nics[nic]);
        limit.map(|limit| (limit.bits_per_second, limit.burst))
    };
    assert_eq!(limit(0, 0), Some((200_000_000, 2_000_000)), "the offering's");
    assert_eq!(limit(0, 1), None, "the NIC's own, which is 0");
    assert_eq!(limit(1, 0), Some((1_000_000_000, 12_500_000)), "the zone's, with the burst of 100 ms");
    let own = ZONE.replacen("network_rate: 0}", "network_rate: 1Mbps}", 1);
    let own = parse("zone.yaml", &own).unwrap();
    let network = &own.networks[0];
    let limit = own.nic_limit(network, own.offering_of(network), &network.nics[1]).unwrap();
    assert_eq!((limit.bits_per_second, limit.burst), (1_000_000, 30_000), "the offering's burst is for another rate");
    let of_network = zone.network_limit(&zone.networks[0], zone.offering_of(&zone.networks[0])).unwrap();
    assert_eq!((of_network.bits_per_second, of_network.burst), (400_000_000, 1_000_000));
    assert_eq!(zone.network_limit(&zone.networks[1], None), None);
    assert_eq!(zone.account_limit("acme").map(|limit| limit.burst), Some(4 << 20));
    assert_eq!(zone.account_limit("initech"), None);
    let address = |last| zone.address_limit(&zone.networks[0], std::net::Ipv4Addr::new(203, 0, 113, last));
    assert_eq!(address(10).map(|limit| limit.burst), Some(65_536));
    assert_eq!(address(11), None);
}
