//! What an operator sees of NAT, connections and rules: all of it, what filters leave of it, and the maps below in words.

use std::net::{SocketAddr, TcpStream, UdpSocket};

use netpath::definitions::wire_mac;
use netpath_tests::{
    agent::until,
    runner::Netpath,
    topology::{TwoHypervisors, internet::INTERNET},
};
use serde_json::{Value, json};

use super::{connect, end, exchange, kernel_guests, meet_the_router, online, raw_online, shared};
use crate::scene::{in_mode, row, shown};

/// A server's port outside.
const DNS: u16 = 53;

/// A topology in which there are four connections: NIC 11 of both tenants has pinged the Internet, blue's NIC 12 on the other host has
/// sent a datagram and got one, and a connection to a forwarded port of NIC 13 is open.
struct Busy {
    topology: TwoHypervisors,
    /// NIC 12 as the Internet sees it.
    public: SocketAddr,
    /// Whoever has opened the connection.
    client: SocketAddr,
    _open: (TcpStream, TcpStream),
}

impl Busy {
    fn new() -> Self {
        let topology = online("tc");
        topology.kernel("green", 11).ping(INTERNET.ip).unwrap();
        let internet = topology.internet().host.ns();
        let (twelve, thirteen) = (topology.kernel("blue", 12), topology.kernel("blue", 13));
        let public = exchange(twelve.ns(), internet, (INTERNET.ip, DNS).into(), (INTERNET.ip, DNS).into(), b"query");
        let open = connect(internet, thirteen.ns(), (shared("blue"), 2222).into(), end(thirteen, 22));
        let client = open.0.local_addr().unwrap();
        Self { topology, public, client, _open: open }
    }

    /// The NAT host's program.
    fn netpath(&self) -> &Netpath {
        &self.topology.hosts[0].netpath
    }
}

/// A table's lines with one space between cells.
#[track_caller]
fn lines(netpath: &Netpath, args: &[&str]) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    shown(netpath, args).lines().map(words).collect()
}

/// A field of each row, in alphabetical order.
#[track_caller]
fn each(rows: &Value, field: impl Fn(&Value) -> String) -> Vec<String> {
    let mut fields: Vec<_> = rows.as_array().unwrap_or_else(|| panic!("no list: {rows}")).iter().map(field).collect();
    fields.sort();
    fields
}

/// What arguments after others leave of a view.
fn with<'a>(view: &[&'a str], filters: &'a str) -> Vec<&'a str> {
    view.iter().copied().chain(filters.split_whitespace()).collect()
}

#[test]
fn nat_is_shown_with_what_each_public_address_is_for_where_and_how_much_of_it_is_in_use() {
    let busy = Busy::new();
    let netpath = busy.netpath();
    let blue = [
        "NETWORK ADDRESS KIND HOST USE",
        "blue-web 203.0.113.10 port_forwarding hv1 tcp 2223 to 10.1.1.12:22",
        "blue-web 203.0.113.10 port_forwarding hv1 udp 2223 to 10.1.1.12:22",
        "blue-web 203.0.113.10 port_forwarding hv1 tcp 2222 to 10.1.1.13:22",
        "blue-web 203.0.113.10 port_forwarding hv1 tcp 8000-8007 to 10.1.1.13",
        "blue-web 203.0.113.10 port_forwarding hv1 udp 2222 to 10.1.1.13:22",
        "blue-web 203.0.113.10 source_nat hv1 ports given out: tcp 0, udp 1, icmp 1",
        "blue-web 203.0.113.11 static_nat hv1 all to 10.1.1.13",
        "",
        "NETWORK NAT HOST FLOWS LIMIT BINDINGS NO PORT OVER LIMIT",
        "blue-web hv1 6 65536 2 0 0",
    ];
    assert_eq!(lines(netpath, &["show", "nat", "--network", "blue-web"]), blue);
    let all = netpath.json(["show", "nat"]);
    let green = row(&all["networks"], "network", "green-web");
    assert_eq!((&green["flows"], &green["bindings"]), (&2.into(), &1.into()));
    let uses = |filters: &str| {
        let shown = netpath.json(with(&["show", "nat"], filters));
        assert_eq!(shown["bindings"], Value::Null);
        each(&shown["addresses"], |row| {
            let ports = row["ports"].as_str().unwrap_or("-");
            format!("{} {} {ports}", row["address"].as_str().unwrap(), row["kind"].as_str().unwrap())
        })
    };
    assert_eq!(uses("").len(), 14);
    assert_eq!(uses("--address 203.0.113.21"), ["203.0.113.21 static_nat -"]);
    assert_eq!(
        uses("--port 8005"),
        ["203.0.113.10", "203.0.113.20"].map(|at| format!("{at} port_forwarding 8000-8007"))
    );
    assert_eq!(uses("--network blue-web --port 22 --address 10.1.1.12"), ["203.0.113.10 port_forwarding 2223"; 2]);
    assert!(uses("--port 8008").is_empty() && uses("--address 203.0.113.99").is_empty());
}

#[test]
fn bindings_are_shown_where_they_are_asked_for_and_those_that_have_ended_with_all() {
    let busy = Busy::new();
    let bindings = |netpath: &Netpath, filters: &str| {
        let shown = netpath.json(with(&["show", "nat", "--bindings"], filters));
        shown["bindings"].as_array().unwrap().clone()
    };
    let here = busy.netpath();
    assert_eq!(bindings(here, "").len(), 3);
    let port = busy.public.port().to_string();
    for filters in [format!("--network blue-web --port {port}"), "--address 10.1.1.12".to_owned()] {
        let found = bindings(here, &filters);
        assert_eq!(found.len(), 1, "{filters}: {found:?}");
        let binding = &found[0];
        assert_eq!((&binding["address"], &binding["port"]), (&json!(busy.public.ip()), &json!(busy.public.port())));
        assert_eq!((&binding["inside"], &binding["protocol"]), (&"10.1.1.12".into(), &"udp".into()));
        assert!(binding["expires_seconds"].as_u64().unwrap() > 0, "{binding}");
        let text = lines(here, &with(&["show", "nat", "--bindings"], &filters));
        let wanted = format!("blue-web udp 10.1.1.12:{} {} ", binding["inside_port"], busy.public);
        assert!(text.iter().any(|line| line.starts_with(&wanted)), "{wanted} in {text:#?}");
    }
    assert!(bindings(here, "--address 10.1.1.13").is_empty());
    // As it will be when pings are no longer answered.
    let later = here.with_clock(200);
    assert_eq!(bindings(&later, "").len(), 1);
    let ended: Vec<_> = bindings(&later, "--all").iter().map(|row| row["expires_seconds"] == 0).collect();
    assert_eq!((ended.len(), ended.iter().filter(|has_ended| **has_ended).count()), (3, 2));
}

#[test]
fn a_host_that_is_not_the_nat_host_names_the_one_that_is() {
    let busy = Busy::new();
    let there = &busy.topology.hosts[1].netpath;
    let nat = [
        "NETWORK ADDRESS KIND HOST USE",
        "",
        "NETWORK NAT HOST FLOWS LIMIT BINDINGS NO PORT OVER LIMIT",
        "blue-web hv1 1 65536 0 0 0",
        "green-web hv1 0 65536 0 0 0",
    ];
    assert_eq!(lines(there, &["show", "nat"]), nat);
    let flows = there.json(["show", "flows"]);
    assert_eq!(flows.as_array().unwrap().len(), 1, "{flows}");
    let flow = &flows[0];
    assert_eq!(
        (&flow["state"], &flow["hop"], &flow["target"]),
        (&"transit".into(), &"tunnel".into(), &"guest/hv1".into())
    );
    // On a VLAN no tunnel says the host's name.
    let topology = TwoHypervisors::builder().with_internet().build().unwrap();
    topology.apply(&topology.vlan_gateway_definitions());
    for (host, name) in topology.hosts.iter().zip(["hv1".to_owned(), wire_mac("hv1").to_string()]) {
        let nat = host.netpath.json(["show", "nat"]);
        assert_eq!(row(&nat["networks"], "network", "blue-web")["nat_host"], name.as_str());
    }
}

/// A connection's first packet as it came, and as it left.
fn tuples(flow: &Value) -> String {
    let side = |tuple: &Value| {
        let end = |which: &str| tuple[which].as_str().unwrap().parse().unwrap();
        let port = |which: &str| tuple[which].as_u64().unwrap() as u16;
        let from = SocketAddr::new(end("source"), port("source_port"));
        format!("{from} > {}", SocketAddr::new(end("destination"), port("destination_port")))
    };
    format!("{} as {}", side(&flow["original"]), side(&flow["translated"]))
}

#[test]
fn connections_are_shown_with_state_addresses_and_what_passed_and_filters_pick_them_by_either_side() {
    let busy = Busy::new();
    let (netpath, public, client) = (busy.netpath(), busy.public, busy.client);
    let flows = |filters: &str| netpath.json(with(&["show", "flows"], filters));
    let all = flows("");
    let of = |protocol: &str| row(&all, "protocol", protocol);
    // The first datagram, and its answer: Ethernet, IPv4 and UDP before five bytes.
    let udp = of("udp");
    let passed =
        ["original_packets", "original_bytes", "reply_packets", "reply_bytes"].map(|field| udp[field].as_u64());
    assert_eq!(passed, [1, 47, 1, 47].map(Some), "{udp}");
    let inside = SocketAddr::new([10, 1, 1, 12].into(), udp["original"]["source_port"].as_u64().unwrap() as u16);
    assert_eq!(tuples(udp), format!("{inside} > 198.51.100.7:53 as {public} > 198.51.100.7:53"));
    assert_eq!((&udp["network"], &udp["begun"]), (&"blue-web".into(), &"inside".into()));
    assert_eq!((&udp["hop"], &udp["target"]), (&"upstream".into(), &"public/untagged".into()));
    let tcp = of("tcp");
    assert_eq!(tuples(tcp), format!("{client} > 203.0.113.10:2222 as {client} > 10.1.1.13:22"));
    assert_eq!(
        (&tcp["state"], &tcp["begun"], &tcp["hop"]),
        (&"established".into(), &"outside".into(), &"local".into())
    );
    let sides = [&tcp["original"]["side"], &tcp["translated"]["side"]];
    assert_eq!(sides, ["public:public/untagged", "blue-web"]);

    let (ping, datagram, open) = ("icmp".to_owned(), tuples(udp), tuples(tcp));
    let found = |filters: &str| {
        each(&flows(filters), |flow| match &flow["protocol"] {
            Value::String(icmp) if icmp == "icmp" => ping.clone(),
            _ => tuples(flow),
        })
    };
    let sorted = |mut flows: Vec<&String>| {
        flows.sort();
        flows.into_iter().cloned().collect::<Vec<_>>()
    };
    for (filters, wanted) in [
        ("", vec![&ping, &ping, &datagram, &open]),
        ("--network green-web", vec![&ping]),
        ("--network blue-web", vec![&ping, &datagram, &open]),
        ("--address 10.1.1.13", vec![&open]),
        ("--address 203.0.113.10", vec![&ping, &datagram, &open]),
        ("--address 203.0.113.11", vec![]),
        ("--port 22", vec![&open]),
        ("--port 2222", vec![&open]),
        ("--address 10.1.1.12 --port 53", vec![&datagram]),
        ("--address 10.1.1.13 --port 53", vec![]),
    ] {
        assert_eq!(found(filters), sorted(wanted), "{filters}");
    }
    let text = lines(netpath, &["show", "flows", "--port", "53"]);
    assert_eq!(text[0], "NETWORK PROTO STATE AGE IDLE PACKETS BYTES REPLIES BYTES");
    assert!(text[1].starts_with("blue-web udp answered ") && text[1].ends_with(" 1 47 1 47"), "{text:?}");
    assert_eq!(text[2..], [datagram]);
    assert_eq!(lines(netpath, &["show", "flows"]).len(), 1 + 2 * 4);
}

#[test]
fn a_connections_age_is_shown_and_those_that_have_been_idle_for_too_long_only_with_all() {
    const LATER: u64 = 100;
    let busy = Busy::new();
    let later = busy.netpath().with_clock(LATER as i64);
    let flows = later.json(["show", "flows"]);
    assert_eq!(each(&flows, |flow| flow["protocol"].to_string()), ["\"tcp\"", "\"udp\""]);
    for flow in flows.as_array().unwrap() {
        for field in ["age_seconds", "idle_seconds"] {
            let seconds = flow[field].as_u64().unwrap();
            assert!((LATER..2 * LATER).contains(&seconds), "{field} of {flow}");
        }
    }
    let all = later.json(["show", "flows", "--all"]);
    let expired = |flow: &&Value| flow["expired"] == true;
    let gone: Vec<_> = all.as_array().unwrap().iter().filter(expired).collect();
    assert!(gone.len() == 2 && gone.iter().all(|flow| flow["protocol"] == "icmp"), "{all}");
    let text = lines(&later, &["show", "flows", "--all"]);
    assert_eq!(text.iter().filter(|line| line.contains(" icmp expired ")).count(), 2, "{text:#?}");
}

#[test]
fn what_was_refused_for_want_of_a_port_or_of_room_is_counted_beside_its_network() {
    let topology = kernel_guests();
    let mut definitions = in_mode(topology.gateway_definitions(), "tc");
    let [blue, green] = definitions["networks"].as_array_mut().unwrap().first_chunk_mut().unwrap();
    blue["connection_limit"] = 1.into();
    // Every port of UDP is another's.
    green["port_forwarding"] =
        json!([{"public": shared("green"), "protocol": "udp", "ports": "1-65535", "to": "green-13"}]);
    topology.apply(&definitions);
    meet_the_router(&topology);
    let netpath = &topology.hosts[0].netpath;
    let counts = |network: &str| {
        let nat = netpath.json(["show", "nat"]);
        let row = row(&nat["networks"], "network", network);
        ["flows", "flow_limit", "ports_exhausted", "connection_limit"].map(|field| row[field].as_u64().unwrap())
    };
    // Blue has its one connection, which is NIC 11's ping.
    assert_eq!(counts("blue-web"), [2, 2, 0, 0]);
    assert_eq!(counts("green-web"), [0, 65536, 0, 0]);
    for (tenant, datagrams) in [("blue", 2), ("green", 3)] {
        for _ in 0..datagrams {
            let socket = topology.kernel(tenant, 11).ns().run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            socket.send_to(b"netpath", (INTERNET.ip, DNS)).unwrap();
        }
    }
    until("blue's are refused", || counts("blue-web") == [2, 2, 0, 2]);
    until("green's are refused", || counts("green-web") == [0, 65536, 3, 0]);
    let text = lines(netpath, &["show", "nat", "--port", "1"]);
    assert!(
        text.ends_with(&["blue-web hv1 2 2 1 0 2".to_owned(), "green-web hv1 0 65536 0 3 0".to_owned()]),
        "{text:#?}"
    );
}

#[test]
fn rules_are_shown_in_the_order_in_which_they_are_asked_and_filters_pick_those_that_may_match() {
    let topology = raw_online(|mut definitions| {
        let [blue, green] = definitions["networks"].as_array_mut().unwrap().first_chunk_mut().unwrap();
        let ping = json!({"public": shared("blue"), "protocol": "icmp", "icmp_type": 8, "cidrs": ["198.51.100.0/24"]});
        blue["firewall"]["ingress"].as_array_mut().unwrap().insert(0, ping);
        green.as_object_mut().unwrap().remove("firewall");
        green["acl"] = json!([
            {"number": 10, "direction": "ingress", "action": "allow", "protocol": "tcp", "ports": "5432", "cidrs": ["10.0.0.0/8"]},
            {"number": 20, "direction": "egress", "action": "deny", "protocol": "tcp", "ports": "25"},
        ]);
        definitions
    });
    let netpath = &topology.hosts[0].netpath;
    let rules = |filters: &str| {
        let mut lines = lines(netpath, &with(&["show", "rules"], filters));
        assert_eq!(lines.remove(0), "NETWORK LIST NUMBER ACTION PROTO SOURCE DESTINATION PORTS");
        lines
    };
    let all = [
        "blue-web egress 1 deny tcp any any 25",
        "blue-web egress end allow any any any any",
        "blue-web ingress 1 allow icmp 198.51.100.0/24 203.0.113.10 8/any",
        "blue-web ingress 2 allow tcp any 203.0.113.10 2222-2223",
        "blue-web ingress 3 allow udp any 203.0.113.10 2222-2223",
        "blue-web ingress 4 allow tcp any 203.0.113.10 8000-8007",
        "blue-web ingress end deny any any 203.0.113.10 any",
        "blue-web ingress 5 allow any any 203.0.113.11 any",
        "blue-web ingress end deny any any 203.0.113.11 any",
        "green-web acl_ingress 10 allow tcp 10.0.0.0/8 any 5432",
        "green-web acl_ingress end deny any any any any",
        "green-web acl_egress 20 deny tcp any any 25",
        "green-web acl_egress end continue any any any any",
    ];
    let picked = |places: &[usize]| places.iter().map(|place| all[*place]).collect::<Vec<_>>();
    assert_eq!(rules(""), all);
    assert_eq!(rules("--network green-web"), all[9..]);
    assert_eq!(rules("--address 203.0.113.10 --port 2222 --network blue-web"), picked(&[1, 3, 4, 6]));
    assert_eq!(rules("--port 25 --network blue-web"), picked(&[0, 1, 6, 7, 8]));
    assert_eq!(rules("--address 192.0.2.1 --network blue-web"), picked(&[0, 1, 3, 4, 5, 6, 7, 8]));
    assert_eq!(rules("--port 5433 --network green-web"), picked(&[10, 12]));
    let first = &netpath.json(["show", "rules", "--network", "green-web"])[0];
    let wanted = json!({
        "network": "green-web", "list": "acl_ingress", "address": null, "number": 10, "action": "allow", "protocol": "tcp",
        "source": "10.0.0.0/8", "destination": "any", "ports": "5432",
    });
    assert_eq!(*first, wanted);
}

/// The rows of a dump: a key, and lines of its value, which are indented.
fn dumped(text: &str) -> Vec<(&str, String)> {
    let mut rows: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            rows.push((line, String::new()));
        }
        rows.last_mut().expect("a key is before its value").1 += &format!("{line}\n");
    }
    rows
}

#[test]
fn maps_of_connections_are_dumped_in_words_and_each_row_is_found_by_its_key() {
    let busy = Busy::new();
    let (netpath, public) = (busy.netpath(), busy.public);
    let binding = &netpath.json(["show", "nat", "--bindings", "--address", "10.1.1.12"])["bindings"][0];
    let (inside, block) = (binding["inside_port"].clone(), public.port() / 64 * 64);
    for (map, key, words, rows) in [
        (
            "FLOWS",
            format!("public:public/untagged tcp {} {} 203.0.113.10 2222", busy.client.ip(), busy.client.port()),
            "network=blue-web source=198.51.100.7 destination=10.1.1.13 destination_port=22 hop=local flags=inward state=established",
            8,
        ),
        ("BINDINGS", format!("blue-web udp 10.1.1.12 {inside}"), "side=public:public/untagged address=203.0.113.10", 3),
        ("RULES", "0".to_owned(), "number=1 action=deny protocol=tcp source=any destination=any ports=25", 5),
        (
            "GATEWAYS",
            "blue-web".to_owned(),
            "flags=routes,egress_allow prefix=10.1.1.0/24 nat=here flow_limit=65536",
            2,
        ),
        ("PORT_BLOCKS", format!("203.0.113.10 udp {block}-{}", block + 63), "count=1", 3),
        (
            "PUBLIC_ADDRESS",
            "public:public/untagged 203.0.113.11".to_owned(),
            "network=blue-web inside=10.1.1.13 flags=static",
            4,
        ),
    ] {
        for raw in [&[][..], &["--raw"]] {
            let dump = netpath.succeed(["map", "dump", map].iter().chain(raw)).stdout;
            let all = dumped(&dump);
            assert_eq!(all.len(), rows, "{map}: {dump}");
            for (key, row) in &all {
                let key: Vec<_> = key.split(' ').collect();
                assert_eq!(netpath.succeed(["map", "get", map].iter().chain(&key).chain(raw)).stdout, *row);
            }
        }
        shown(netpath, &["map", "dump", map]);
        let found = shown(netpath, &[&["map", "get", map][..], &key.split(' ').collect::<Vec<_>>()].concat());
        for word in words.split(' ') {
            assert!(found.split_whitespace().any(|has| has.starts_with(word)), "{word} in {found}");
        }
    }
    let wrong = netpath.run(["map", "get", "BINDINGS", "blue-web", "udp", "10.1.1.99", "1"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("map dump BINDINGS"), "{wrong:?}");
}
