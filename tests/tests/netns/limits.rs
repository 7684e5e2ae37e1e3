//! Limits and what is counted, as plan, apply and the maps have them; that a limit holds is tested elsewhere.

use std::time::Instant;

use netpath::netlink::{
    fq::{self, Discipline},
    tc,
};
use netpath_tests::{
    agent::{self, Agent},
    guest::{PATIENCE, raw::marker},
    packet::{dissect, guest},
    runner::Netpath,
    skip_unless,
    topology::{
        Link, Offloads, Tap, TwoHypervisors,
        two_hypervisors::{Hypervisor, UPLINK},
    },
};
use serde_json::{Value, json};

use crate::scene::{A, B, C, delivers};

/// Raw guests on VXLAN networks: every NIC has 100 Mbit/s, blue's network 300, the account blue 400.
fn limited(topology: &TwoHypervisors) -> Value {
    let mut definitions = topology.vxlan_definitions();
    definitions["offerings"][0]["network_rate"] = "100Mbps".into();
    definitions["networks"][0]["aggregate_rate"] = "300Mbps".into();
    definitions["accounts"] = json!([{"name": "blue", "aggregate_rate": "400Mbps", "aggregate_burst": "1MiB"}]);
    definitions
}

/// The rows of LIMITS by name of the limit and direction: the rate.
fn limits(netpath: &Netpath) -> Vec<(String, u64)> {
    let rows = netpath.json(["map", "dump", "LIMITS"]);
    let text = |row: &Value| {
        format!("{} {}", row["key"]["limit"].as_str().unwrap(), row["key"]["direction"].as_str().unwrap())
    };
    rows.as_array().unwrap().iter().map(|row| (text(row), row["value"]["rate"].as_u64().unwrap())).collect()
}

#[test]
fn limits_are_in_the_maps_for_each_direction_and_applied_once() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let definitions = limited(&topology);
    topology.apply(&definitions);
    let netpath = &topology.hosts[0].netpath;
    assert!(netpath.is_converged(&topology.write("zone.yaml", &definitions)));
    let limits = limits(netpath);
    let rate = |name: &str| limits.iter().find(|(limit, _)| limit == name).map(|(_, rate)| *rate);
    let nic = format!("nic blue-web/blue-11/{}", netpath_tests::packet::mac_text(A.mac));
    for direction in ["from_guest", "to_guest"] {
        assert_eq!(rate(&format!("{nic} {direction}")), Some(100_000_000), "{limits:?}");
        assert_eq!(rate(&format!("network blue-web {direction}")), Some(300_000_000));
        assert_eq!(rate(&format!("account blue {direction}")), Some(400_000_000));
        assert_eq!(rate(&format!("network green-web {direction}")), None);
    }
    for map in ["PORT_METERS", "LIMITS", "NAMES"] {
        assert!(!netpath.succeed(["map", "dump", map]).stdout.is_empty(), "{map}");
    }
}

#[test]
fn a_changed_offering_edits_rows_of_limits_only_and_frames_go_on() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = limited(&topology);
    topology.apply(&definitions);
    let (a, b, c) = (topology.raw("blue", 11), topology.raw("blue", 12), topology.raw("blue", 13));
    delivers(a, b, &guest(A).to(B));
    definitions["offerings"][0]["network_rate"] = "500Mbps".into();
    let file = topology.write("zone.yaml", &definitions);
    let netpath = &topology.hosts[0].netpath;
    // Frames of another guest are under way while it changes.
    let frames: Vec<Vec<u8>> = (0..64).map(|_| guest(C).to(B).payload(marker()).build()).collect();
    let mut apply = netpath.command(netpath.apply_args(&file));
    let mut apply = apply.stdout(std::process::Stdio::piped()).spawn().unwrap();
    frames.iter().for_each(|frame| c.send(frame));
    assert!(apply.wait().unwrap().success());
    frames.iter().for_each(|frame| b.expect_frame(frame));
    assert!(netpath.is_converged(&file));
    delivers(a, b, &guest(A).to(B));
    assert!(limits(netpath).iter().any(|(_, rate)| *rate == 500_000_000));

    definitions["offerings"][0]["network_rate"] = "200Mbps".into();
    let file = topology.write("zone.yaml", &definitions).display().to_string();
    let plan = netpath.json(["plan", "-f", &file, "--host", netpath.host()]);
    for object in plan["objects"].as_array().unwrap() {
        assert_eq!(object["summary"], "500Mbps → 200Mbps", "{object}");
        assert!(object["edits"].as_array().unwrap().iter().all(|edit| edit["map"] == "LIMITS"), "{object}");
    }
    assert_eq!(plan["steps"], json!([]));
}

#[test]
fn a_limit_that_goes_leaves_nothing_behind() {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&limited(&topology));
    topology.apply(&topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    for map in ["LIMITS", "PORT_METERS", "METERS", "METER_EVENTS"] {
        assert_eq!(netpath.json(["map", "dump", map]), json!([]), "{map}");
    }
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
}

/// What the uplink of a hypervisor has for packets that are to wait.
fn discipline(host: &Hypervisor) -> Discipline {
    host.ns.run(|| {
        let devices = netpath::netlink::devices().unwrap();
        let uplink = devices.iter().find(|device| device.name == UPLINK).unwrap();
        fq::discipline(uplink.index, &tc::every_qdisc().unwrap())
    })
}

#[test]
fn fq_is_put_on_uplinks_where_it_is_asked_for_and_the_kernel_has_it_and_taken_off_again() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = limited(&topology);
    for host in definitions["hosts"].as_array_mut().unwrap() {
        host["pacing"] = "fq".into();
    }
    let host = &topology.hosts[0];
    let file = topology.write("zone.yaml", &definitions);
    let plan = host.netpath.json(["plan", "-f", &file.display().to_string(), "--host", host.netpath.host()]);
    let lacks_fq = plan["findings"].to_string().contains("this kernel has no fq");
    assert_eq!(lacks_fq, !host.ns.run(|| fq::is_known().unwrap()));
    topology.apply(&definitions);
    assert!(host.netpath.is_converged(&file));
    let flags = |map| host.netpath.json(["map", "dump", map]).to_string();
    match lacks_fq {
        true => assert!(matches!(discipline(host), Discipline::Default(_))),
        false => assert!(matches!(discipline(host), Discipline::Own(_))),
    }
    assert_eq!(flags("TUNNELS").contains("\"paced\""), !lacks_fq);
    assert_eq!(flags("UPLINKS").contains("\"restore_qdisc\""), !lacks_fq);
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    // The last limit goes, and nothing is taken off under the packets of others.
    definitions["offerings"][0]["network_rate"] = 0.into();
    definitions["networks"][0]["aggregate_rate"] = 0.into();
    definitions["accounts"] = json!([]);
    topology.apply(&definitions);
    assert_eq!(matches!(discipline(host), Discipline::Own(_)), !lacks_fq);
    let pacing = |definitions: &mut Value, pacing: &str| {
        for host in definitions["hosts"].as_array_mut().unwrap() {
            host["pacing"] = pacing.into();
        }
    };
    pacing(&mut definitions, "off");
    topology.apply(&definitions);
    assert!(matches!(discipline(host), Discipline::Default(_)));
    assert!(!flags("TUNNELS").contains("\"paced\"") && !flags("UPLINKS").contains("\"restore_qdisc\""));
    pacing(&mut definitions, "fq");
    topology.apply(&definitions);
    assert_eq!(matches!(discipline(host), Discipline::Own(_)), !lacks_fq);
    host.netpath.succeed(["detach"]);
    assert!(matches!(discipline(host), Discipline::Default(_)));
}

#[test]
fn a_multiqueue_uplink_has_fq_in_each_of_its_queues_until_detach() {
    const QUEUES: usize = 4;
    skip_unless!(fq::is_known().unwrap(), "this kernel has no fq");
    let topology = TwoHypervisors::builder().build().unwrap();
    let host = &topology.hosts[0];
    // A veth has no queueing discipline by default, however many queues it has; a tap has one in each, as a NIC.
    let uplink = host.ns.run(|| {
        Link::named(UPLINK).delete().unwrap();
        let uplink = Tap::with_queues(UPLINK, Offloads::None, QUEUES).unwrap();
        let link = Link::named(UPLINK);
        link.mtu(1600).unwrap();
        link.address(host.address, 24).unwrap();
        link.neighbour(topology.hosts[1].address, [0x02, 0, 0, 0, 0, 9]).unwrap();
        uplink
    });
    assert_eq!(discipline(host), Discipline::Default(QUEUES as u32));
    let mut definitions = limited(&topology);
    definitions["hosts"][0]["pacing"] = "fq".into();
    definitions["hosts"][0]["uplink_mode"] = "tc".into();
    let file = topology.write("zone.yaml", &definitions);
    host.netpath.apply(&file);
    assert!(host.netpath.is_converged(&file));
    assert_eq!(discipline(host), Discipline::Own(QUEUES as u32));
    let limits = host.netpath.json(["show", "limits"]);
    let of = |direction: &str| {
        let row = limits.as_array().unwrap().iter().find(|row| row["direction"] == direction && row["object"] == "nic");
        row.unwrap().clone()
    };
    assert_eq!((&of("from_guest")["way"], &of("from_guest")["paced_devices"]), (&json!("paced"), &json!([UPLINK])));
    assert_eq!(of("to_guest")["way"], "policed");
    // Frames of many connections are spread over the queues, and leave by all of them.
    let a = topology.raw("blue", 11);
    let mut used = [false; QUEUES];
    let deadline = Instant::now() + PATIENCE;
    while used.contains(&false) {
        assert!(Instant::now() < deadline, "queues that packets have left by: {used:?}");
        for port in 1000..1032 {
            a.send(guest(A).to(B).udp(port, 9000).payload(marker()).build());
        }
        for (queue, used) in uplink.iter().zip(&mut used) {
            while let Some(frame) = queue.receive().unwrap() {
                *used |= dissect(&frame).is_some_and(|frame| frame.vxlan().is_some_and(|(vni, ..)| vni == 5001));
            }
        }
    }
    host.netpath.succeed(["detach"]);
    assert_eq!(discipline(host), Discipline::Default(QUEUES as u32));
}

/// The total of a row of `show usage`, in bytes from guests.
fn sent(usage: &Value, list: &str, key: &str, name: &str) -> u64 {
    let rows = usage[list].as_array().unwrap();
    let row = rows.iter().find(|row| row[key] == name).unwrap_or_else(|| panic!("{name} in {usage}"));
    row["from_guest_bytes"].as_u64().unwrap()
}

#[test]
fn limits_are_shown_with_rate_burst_and_the_way_in_force() {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&limited(&topology));
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let netpath = &topology.hosts[0].netpath;
    let all = netpath.json(["show", "limits"]);
    let find = |object: &str, direction: &str| {
        let rows = all.as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["object"] == object && row["direction"] == direction);
        found.next().unwrap_or_else(|| panic!("{object} {direction} in {all}")).clone()
    };
    let account = find("account", "to_guest");
    assert_eq!((&account["rate"], &account["burst_bytes"]), (&json!(400_000_000), &json!(1 << 20)));
    let network = find("network", "from_guest");
    assert_eq!((&network["name"], &network["rate"]), (&json!("blue-web"), &json!(300_000_000)));
    assert_eq!(network["way"], "policed");
    for field in ["current", "peak", "dropped_packets", "marked_bytes", "delayed_packets"] {
        assert!(network[field].is_u64(), "{field} of {network}");
    }
    let blue = netpath.json(["show", "limits", "--network", "blue-web"]);
    assert!(blue.as_array().unwrap().iter().all(|row| row["network"] == "blue-web" || row["name"] == "blue"));
    assert!(blue.as_array().unwrap().len() < all.as_array().unwrap().len());
    let table = netpath.succeed(["show", "limits"]).stdout;
    for shown in ["NIC", "blue-web/blue-11 ", "NETWORK", "ACCOUNT", "400Mbps"] {
        assert!(table.contains(shown), "{shown} in {table}");
    }
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn usage_never_goes_down_when_nics_and_networks_go() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let full = topology.vxlan_definitions();
    topology.apply(&full);
    let netpath = &topology.hosts[0].netpath;
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let before = netpath.json(["show", "usage"]);
    let (network, account) =
        (sent(&before, "networks", "network", "blue-web"), sent(&before, "accounts", "account", "blue"));
    assert!(network > 0 && network == account, "{before}");
    assert!(before["at"].as_str().unwrap() >= before["counted_since"].as_str().unwrap());
    let saved = topology.write("usage.json", &before);

    let mut less = full.clone();
    less["networks"][0]["nics"].as_array_mut().unwrap().remove(0);
    topology.apply(&less);
    let after = netpath.json(["show", "usage"]);
    assert!(sent(&after, "networks", "network", "blue-web") >= network, "{after}");
    // The network goes; its account, which the zone still has, keeps what it had.
    let mut gone = full.clone();
    gone["networks"].as_array_mut().unwrap().remove(0);
    gone["accounts"] = json!([{"name": "blue"}]);
    topology.apply(&gone);
    let after = netpath.json(["show", "usage"]);
    assert!(sent(&after, "accounts", "account", "blue") >= account, "{after}");
    assert!(!after["networks"].to_string().contains("blue-web"));
    let since = netpath.json(["show", "usage", "--since", &saved.display().to_string(), "--account", "blue"]);
    assert_eq!(since["since"], before["at"]);
    assert!(sent(&since, "accounts", "account", "blue") < account, "{since}");
}

#[test]
fn every_apply_keeps_a_sample_of_usage_whoever_makes_it() {
    let topology = TwoHypervisors::builder().build().unwrap();
    let mut definitions = topology.vxlan_definitions();
    let netpath = &topology.hosts[0].netpath;
    let samples = netpath.history().folder().join("usage/samples.jsonl");
    // One a minute at most: each begins with none.
    let taken_by = |who: &str| {
        let text = std::fs::read_to_string(&samples).unwrap_or_else(|error| panic!("{who}: {error}"));
        std::fs::remove_file(&samples).unwrap();
        let sample: Value =
            serde_json::from_str(text.trim_end()).unwrap_or_else(|error| panic!("{who}: {error}: {text}"));
        assert!(!sample["networks"].as_array().unwrap().is_empty(), "{who}: {sample}");
    };
    topology.apply(&definitions);
    taken_by("apply");
    definitions["networks"][0]["mtu"] = 1400.into();
    let second = topology.write("second.yaml", &definitions);
    netpath.succeed(netpath.apply_args(&second).iter().map(String::as_str).chain(["--confirm-within", "1h"]));
    taken_by("apply to be confirmed");
    netpath.succeed(["rollback"]);
    taken_by("what takes an unconfirmed one back");
    netpath.succeed(["rollback", "2"]);
    taken_by("rollback");
    let agent = Agent::in_force(netpath, &second);
    taken_by("agent");
    assert!(agent.end().success());
}

#[test]
fn usage_since_a_time_is_told_where_it_is_known() {
    let topology = TwoHypervisors::builder().build().unwrap();
    topology.apply(&topology.vxlan_definitions());
    let netpath = &topology.hosts[0].netpath;
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    // Before anything was counted: all of it.
    let all = netpath.json(["show", "usage", "--since", "1d"]);
    assert_eq!(all["since"], all["counted_since"]);
    assert!(sent(&all, "networks", "network", "blue-web") > 0);
    // Each `show usage` leaves a reading: what comes after it is told apart from what came before, in the same minute.
    let first = netpath.json(["show", "usage"]);
    agent::until("the next second", || netpath.json(["show", "usage"])["at"] != first["at"]);
    delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    let later = netpath.json(["show", "usage", "--since", first["at"].as_str().unwrap()]);
    assert_eq!(later["since"], first["at"]);
    let count = |usage: &Value| sent(usage, "networks", "network", "blue-web");
    assert_eq!(count(&netpath.json(["show", "usage"])), count(&first) + count(&later));
    assert!(count(&later) > 0);
    let elsewhere = topology.hosts[1].netpath.json(["show", "usage"]);
    let elsewhere = topology.write("elsewhere.json", &elsewhere).display().to_string();
    let difference = topology.write("difference.json", &later).display().to_string();
    let part = netpath.json(["show", "usage", "--network", "blue-web"]);
    let part = topology.write("part.json", &part).display().to_string();
    netpath.succeed(["show", "usage", "--network", "blue-web", "--since", &part]);
    for (args, words) in [
        (["--since", &difference], "it is a difference itself"),
        (["--since", &part], "it has only what `--network blue-web` leaves"),
        (["--since", "2100-01-01"], "that is in the future"),
        (["--since", "yesterday"], "give a time like"),
        (["--since", &elsewhere], "it is host hv2's, and this is hv1"),
        (["--network", "blue-wbe"], "no network `blue-wbe`"),
        (["--account", "bleu"], "no account `bleu`"),
    ] {
        let wrong = netpath.run(["show", "usage"].iter().chain(&args));
        assert!(wrong.code == 1 && wrong.stderr.contains(words), "{wrong:?}");
    }
    // Counted anew, and more than before: all of it has come since.
    let saved = topology.write("saved.json", &netpath.json(["show", "usage"])).display().to_string();
    netpath.succeed(["detach", "--purge"]);
    topology.apply(&topology.vxlan_definitions());
    for _ in 0..3 {
        delivers(topology.raw("blue", 11), topology.raw("blue", 12), &guest(A).to(B));
    }
    let (all, since) = (netpath.json(["show", "usage"]), netpath.json(["show", "usage", "--since", &saved]));
    assert_eq!(since["networks"], all["networks"]);
}
