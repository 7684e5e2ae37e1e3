//! What Prometheus scrapes is what passed, and the port answers nothing else.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
};

use netpath_tests::{
    packet::{guest, mac_text},
    runner::Netpath,
    topology::{NetNs, TwoHypervisors},
};

use crate::scene::{A, B, C, delivers, raw_guests};

/// A server that ends with the test.
struct Server {
    child: Child,
    ns: NetNs,
    address: SocketAddr,
}

impl Server {
    fn start(netpath: &Netpath, ns: &NetNs) -> Self {
        let mut command = netpath.command(["metrics", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
        let address = address.unwrap_or_else(|| panic!("no address in {line}")).parse().unwrap();
        Self { child, ns: ns.clone(), address }
    }

    /// The status and the body.
    fn ask(&self, request: &str) -> (String, String) {
        self.ns.run(|| {
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line<'t>(text: &'t str, sample: &str) -> &'t str {
    let found = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {sample} in {text}"))
}

#[test]
fn what_passed_and_what_was_refused_is_counted_and_named() {
    let topology = raw_guests();
    let (a, c) = (topology.raw("blue", 11), topology.raw("blue", 13));
    for _ in 0..3 {
        delivers(a, c, &guest(A).to(C));
    }
    a.send(guest(A).from(B.ip).to(C).build());
    delivers(c, a, &guest(C).to(A));
    let netpath = &topology.hosts[0].netpath;
    let text = netpath.succeed(["metrics"]).stdout;
    let port = |of: &str, number: u8, mac| {
        format!("netpath_port_{of}{{network=\"blue-web\",guest=\"blue-{number}\",mac=\"{}\"}}", mac_text(mac))
    };
    assert_eq!(line(&text, &port("transmit_packets_total", 11, A.mac)), "3");
    assert_eq!(line(&text, &port("receive_packets_total", 11, A.mac)), "1");
    assert_eq!(line(&text, &port("receive_packets_total", 13, C.mac)), "3");
    assert_eq!(line(&text, "netpath_drops_total{network=\"blue-web\",reason=\"spoofed_ipv4\"}"), "1");
    let counters = netpath.json(["show", "counters"]);
    let blue = counters["networks"].as_array().unwrap().iter().find(|row| row["network"] == "blue-web").unwrap();
    let sent = line(&text, "netpath_network_transmit_bytes_total{network=\"blue-web\"}");
    assert_eq!(sent, blue["from_guest_bytes"].to_string());
    assert_eq!(line(&text, "netpath_ports{state=\"in_force\"}"), "4");
    assert_eq!(line(&text, "netpath_attachments{state=\"broken\"}"), "0");
    let maps = netpath.json(["map", "list"]);
    for map in maps.as_array().unwrap() {
        let rows = format!("netpath_map_rows{{map=\"{}\"}}", map["name"].as_str().unwrap());
        if let Some(found) = text.lines().find_map(|line| line.strip_prefix(&rows)) {
            assert_eq!(found.trim(), map["rows"].to_string(), "{rows}");
        }
    }
}

#[test]
fn the_port_answers_metrics_and_nothing_else_with_and_without_anything_applied() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    let server = Server::start(&host.netpath, &host.ns);
    let (status, body) = server.ask("GET /metrics");
    assert_eq!((status.as_str(), line(&body, "netpath_applied")), ("200", "0"));
    for (request, wanted) in [("GET /", "404"), ("POST /metrics", "405"), ("GET /metrics/../etc/passwd", "404")] {
        assert_eq!(server.ask(request), (wanted.to_owned(), String::new()), "{request}");
    }
    topology.apply(&topology.vxlan_definitions());
    let applied = Server::start(&host.netpath, &host.ns).ask("GET /metrics").1;
    assert_eq!((line(&applied, "netpath_applied"), line(&applied, "netpath_networks")), ("1", "2"));
}
