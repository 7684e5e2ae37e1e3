//! What Prometheus scrapes is what passed, and the port answers nothing else.

use std::time::Instant;

use netpath_tests::{
    guest::{Load, PATIENCE},
    metrics::Server,
    packet::{guest, mac_text},
    topology::{TwoHypervisors, internet::INTERNET},
};
use serde_json::json;

use crate::{
    gateway::online,
    scene::{A, B, C, delivers, in_mode, raw_guests},
};

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

#[test]
fn limits_accounts_and_public_addresses_are_as_show_has_them() {
    let topology = online("tc");
    let mut definitions = in_mode(topology.gateway_definitions(), "tc");
    definitions["offerings"][0]["network_rate"] = "1Mbps".into();
    definitions["networks"][0]["aggregate_rate"] = "300Mbps".into();
    definitions["accounts"] = json!([{"name": "blue", "aggregate_rate": "400Mbps"}]);
    topology.apply(&definitions);
    let netpath = &topology.hosts[0].netpath;
    let blue = topology.kernel("blue", 11);
    let nic = format!("blue-web/blue-11/{}", mac_text(A.mac));
    let limit = |object: &str, name: &str| {
        let rows = netpath.json(["show", "limits"]);
        let mut found = rows.as_array().unwrap().iter().filter(|row| row["object"] == object && row["name"] == name);
        found.find(|row| row["direction"] == "from_guest").unwrap_or_else(|| panic!("{object} {name}: {rows}")).clone()
    };
    let load = Load::udp(blue.ns(), topology.internet().host.ns(), (INTERNET.ip, 9000).into(), 8_000_000).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while limit("nic", &nic)["dropped_packets"] == 0 {
        assert!(Instant::now() < deadline, "nothing is dropped above the rate");
    }
    drop(load);
    // What is under way when the load ends, and whatever else the guests' stacks say, may be counted between two looks.
    let deadline = Instant::now() + PATIENCE;
    let (usage, text) = loop {
        let look = || (netpath.json(["show", "usage"]), limit("nic", &nic), limit("account", "blue"));
        let (before, text, after) = (look(), netpath.succeed(["metrics"]).stdout, look());
        if ["networks", "accounts", "addresses"].iter().all(|list| before.0[list] == after.0[list])
            && (&before.1["dropped_packets"], &before.2["dropped_packets"])
                == (&after.1["dropped_packets"], &after.2["dropped_packets"])
        {
            break (after.0, text);
        }
        assert!(Instant::now() < deadline, "the counters do not come to rest");
    };
    let account = &usage["accounts"].as_array().unwrap().iter().find(|row| row["account"] == "blue").unwrap();
    let addresses = usage["addresses"].as_array().unwrap();
    let address = &addresses.iter().find(|row| row["address"] == "203.0.113.10").unwrap();
    let through = "link=\"public/untagged\",address=\"203.0.113.10\",network=\"blue-web\"";
    for (of, row, labels) in [("account", account, "account=\"blue\""), ("address", address, through)] {
        for (way, field) in [("transmit", "from_guest"), ("receive", "to_guest")] {
            for unit in ["packets", "bytes"] {
                let sample = format!("netpath_{of}_{way}_{unit}_total{{{labels}}}");
                assert_eq!(line(&text, &sample), row[format!("{field}_{unit}")].to_string(), "{sample}");
            }
        }
    }
    assert!(address["from_guest_packets"].as_u64().unwrap() > 0, "{address}");
    let sample = |of: &str, object: &str, name: &str| {
        format!("netpath_limit_{of}{{object=\"{object}\",name=\"{name}\",direction=\"from_guest\"}}")
    };
    assert_eq!(line(&text, &sample("bytes_per_second", "nic", &nic)), "125000");
    assert_eq!(line(&text, &sample("bytes_per_second", "network", "blue-web")), "37500000");
    let passed: u64 = line(&text, &sample("passed_bytes_total", "account", "blue")).parse().unwrap();
    assert!(passed > 0);
    for (object, name) in [("nic", &*nic), ("account", "blue")] {
        let row = limit(object, name);
        for of in ["dropped_packets", "dropped_bytes", "marked_packets", "marked_bytes", "delayed_packets"] {
            assert_eq!(
                line(&text, &sample(&format!("{of}_total"), object, name)),
                row[of].to_string(),
                "{object} {of}"
            );
        }
    }
    // What nothing has happened to has no samples of it, where there may be thousands.
    let quiet = format!("blue-web/blue-13/{}", mac_text(C.mac));
    assert_eq!(line(&text, &sample("bytes_per_second", "nic", &quiet)), "125000");
    assert!(!text.contains(&sample("dropped_packets_total", "nic", &quiet)), "{text}");
    assert!(!text.contains(&sample("passed_bytes_total", "nic", &nic)));
}
