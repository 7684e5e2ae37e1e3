//! Rates in force, between guests with stacks of their own. How exact they are over ten seconds is the benchmark's.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use netpath::netlink::fq::{self, Room};
use netpath_tests::{
    guest::{KernelGuest, Load, PATIENCE, load::Shape},
    pace::is_emulated,
    skip_unless,
    topology::{
        Link, TwoHypervisors,
        two_hypervisors::{Attachment, UPLINK},
    },
};
use serde_json::{Value, json};

use crate::scene::in_mode;

const MBIT: u64 = 1_000_000;
/// How long a rate is measured at a time.
const WINDOW: Duration = Duration::from_secs(2);

/// Kernel guests of both tenants, NIC 11 behind a tap, with what `change` does to the definitions.
fn limited(mode: &str, change: impl FnOnce(&mut Value)) -> TwoHypervisors {
    let builder = TwoHypervisors::builder().attached(Attachment::Veth).attach(11, Attachment::Tap);
    let topology = builder.build().unwrap();
    topology.apply(&with(&topology, mode, change));
    topology
}

fn with(topology: &TwoHypervisors, mode: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut definitions = in_mode(topology.vxlan_definitions(), mode);
    change(&mut definitions);
    definitions
}

/// The NIC with this number of blue's network.
fn nic(definitions: &mut Value, number: u8) -> &mut Value {
    let nics = definitions["networks"][0]["nics"].as_array_mut().unwrap();
    nics.iter_mut().find(|nic| nic["instance"] == format!("blue-{number}")).unwrap()
}

fn at(guest: &KernelGuest, port: u16) -> SocketAddr {
    (guest.station().ip, port).into()
}

/// Waits until the rate of a load is `rate`.
#[track_caller]
fn settles(load: &Load, rate: u64, what: &str) {
    if let Err(error) = load.settle(rate) {
        panic!("{what}: {error:#}");
    }
}

#[test]
fn a_nics_rate_holds_for_udp_and_tcp_in_both_directions() {
    skip_unless!(!is_emulated(), "an emulated processor does not keep up with the rates");
    for (mode, rate) in [("xdp", 10), ("tc", 20)] {
        let topology = limited(mode, |definitions| nic(definitions, 11)["network_rate"] = format!("{rate}Mbps").into());
        let (here, there) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        let directions = [(here, there, "from the guest"), (there, here, "to the guest")];
        // Both at a time: neither takes anything of the other's.
        let loads =
            directions.map(|(from, to, _)| Load::udp(from.ns(), to.ns(), at(to, 9000), 2 * rate * MBIT).unwrap());
        for (load, (.., direction)) in loads.iter().zip(directions) {
            settles(load, rate * MBIT, &format!("UDP {direction} in {mode}"));
        }
        drop(loads);
        for (from, to, direction) in directions {
            for flows in [1, 8] {
                let load = Load::tcp(from.ns(), to.ns(), at(to, 9000 + flows), flows).unwrap();
                settles(&load, rate * MBIT, &format!("TCP {direction} in {mode}, flows: {flows}"));
            }
        }
    }
}

#[test]
fn a_changed_rate_takes_effect_at_once_and_breaks_no_connection() {
    skip_unless!(!is_emulated(), "an emulated processor does not keep up with the rates");
    let rate = |megabits: u64| {
        move |definitions: &mut Value| definitions["offerings"][0]["network_rate"] = format!("{megabits}Mbps").into()
    };
    let topology = limited("tc", rate(10));
    let (here, there) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
    let load = Load::tcp(here.ns(), there.ns(), at(there, 9000), 1).unwrap();
    settles(&load, 10 * MBIT, "before");
    // Another tenant's stream, far below its own rate, loses nothing meanwhile.
    let (green, other) = (topology.kernel("green", 11), topology.kernel("green", 12));
    let stream = Load::udp(green.ns(), other.ns(), at(other, 9000), MBIT).unwrap();
    for megabits in [40, 5] {
        topology.apply(&with(&topology, "tc", rate(megabits)));
        settles(&load, megabits * MBIT, "after");
    }
    topology.apply(&with(&topology, "tc", |definitions| definitions["offerings"][0]["network_rate"] = 0.into()));
    let deadline = Instant::now() + PATIENCE;
    while load.rate(WINDOW / 2) < (60 * MBIT) as f64 {
        assert!(Instant::now() < deadline, "without a rate it is no faster");
    }
    let sent = stream.sent();
    let deadline = Instant::now() + PATIENCE;
    while stream.received() < sent {
        assert!(Instant::now() < deadline, "{} of {sent} bytes arrived", stream.received());
    }
}

#[test]
fn nics_that_share_an_aggregate_have_an_equal_part_of_it() {
    skip_unless!(!is_emulated(), "an emulated processor does not keep up with the rates");
    let topology = limited("tc", |definitions| definitions["networks"][0]["aggregate_rate"] = "20Mbps".into());
    let [one, two, there] = [11, 13, 12].map(|number| topology.kernel("blue", number));
    let greedy = Load::udp(one.ns(), there.ns(), at(there, 9001), 60 * MBIT).unwrap();
    let modest = Load::udp(two.ns(), there.ns(), at(there, 9002), 15 * MBIT).unwrap();
    let (began, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    loop {
        let (before, start) = ([greedy.received(), modest.received()], Instant::now());
        let _ = greedy.rate(WINDOW);
        let (after, end) = ([greedy.received(), modest.received()], Instant::now());
        let seconds = (end - start).as_secs_f64();
        let rates: Vec<f64> =
            after.iter().zip(before).map(|(after, before)| (after - before) as f64 * 8.0 / seconds).collect();
        // From the beginning, for what a busy machine has kept for a moment arrives in another window; with a second's credit.
        let most = 20.0 * MBIT as f64 / 8.0 * ((end - began).as_secs_f64() * 1.05 + 1.25);
        assert!(after.iter().sum::<u64>() as f64 <= most, "{rates:?}, {after:?} bytes of at most {most}");
        if rates.iter().all(|rate| (9.0..11.0).contains(&(rate / MBIT as f64))) {
            return;
        }
        assert!(end < deadline, "{rates:?}");
    }
}

#[test]
fn a_noisy_tenant_takes_nothing_from_another() {
    skip_unless!(!is_emulated(), "an emulated processor does not keep up with the rates");
    let topology = limited("xdp", |definitions| definitions["offerings"][0]["network_rate"] = "20Mbps".into());
    let [quiet, quiets] = [11, 12].map(|number| topology.kernel("blue", number));
    let [noisy, noisys] = [11, 12].map(|number| topology.kernel("green", number));
    let noise = Load::udp(noisy.ns(), noisys.ns(), at(noisys, 9000), 200 * MBIT).unwrap();
    settles(&noise, 20 * MBIT, "the noisy one");
    let stream = Load::udp(quiet.ns(), quiets.ns(), at(quiets, 9000), 5 * MBIT).unwrap();
    let _ = stream.rate(WINDOW);
    let sent = stream.sent();
    let deadline = Instant::now() + PATIENCE;
    while stream.received() < sent {
        assert!(Instant::now() < deadline, "{} of {sent} bytes arrived", stream.received());
    }
}

/// Whether this kernel has the queueing discipline that packets can wait in.
fn has_fq() -> bool {
    let Ok(ns) = netpath_tests::topology::NetNs::new("probe") else { return false };
    ns.run(|| Link::bridge("probe0").is_ok_and(|link| link.fq().is_ok()))
}

#[test]
fn where_the_uplink_has_fq_packets_wait_and_one_flow_has_nine_tenths_of_its_rate_as_goodput() {
    skip_unless!(has_fq(), "this kernel has no fq");
    const RATE: u64 = 2;
    let topology = limited("tc", |definitions| {
        nic(definitions, 11)["network_rate"] = format!("{RATE}Mbps").into();
        definitions["hosts"][0]["pacing"] = "fq".into();
    });
    // Ten milliseconds there and back.
    topology.hosts[1].ns.run(|| Link::named(UPLINK).delay(Duration::from_millis(10))).unwrap();
    let (here, there) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
    let load = Load::tcp(here.ns(), there.ns(), at(there, 9000), 1).unwrap();
    let _ = load.rate(WINDOW);
    // What a load counts are frames; payload is less.
    if let Err(error) = load.settle_above(RATE * MBIT, 0.9 / Shape::flows(1).tcp_payload()) {
        panic!("{error:#}");
    }
    let rows = topology.hosts[0].netpath.json(["show", "limits"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["direction"] == "from_guest").unwrap();
    assert!(row["delayed_packets"].as_u64().unwrap() > 100, "{row}");
    topology.apply(&with(&topology, "tc", |definitions| definitions["hosts"][0]["pacing"] = json!("off")));
}

/// What the limit of NIC 11 of blue says about what it sends.
fn sent_by_11(topology: &TwoHypervisors) -> Value {
    let rows = topology.hosts[0].netpath.json(["show", "limits"]);
    let is_it = |row: &&Value| row["direction"] == "from_guest" && row["name"].as_str().unwrap().contains("blue-11");
    rows.as_array().unwrap().iter().find(is_it).unwrap().clone()
}

#[test]
fn where_the_uplink_has_fq_what_waits_has_room_in_it() {
    const ROUND: Duration = Duration::from_secs(10);
    skip_unless!(has_fq(), "this kernel has no fq");
    // Full size where fq keeps ten packets of a connection, and twenty may wait where it keeps more. The half of them is 60 ms of
    // its rate, by which even an emulated timer is not late each time.
    let narrow = Room { packets: 10_000, of_a_flow: 10 };
    for (room, rate, size, datagrams, least) in
        [(narrow, "1Mbps", 1400, 200, 4), (fq::wanted(), "250kbps", 100, 2000, 100)]
    {
        let topology = TwoHypervisors::builder().attached(Attachment::Veth).build().unwrap();
        let uplink = Link::named(UPLINK);
        let host = &topology.hosts[0];
        host.ns.run(|| uplink.fq_with_room(room.packets, room.of_a_flow)).unwrap();
        let definitions = with(&topology, "tc", |definitions| nic(definitions, 11)["network_rate"] = rate.into());
        let file = topology.write("zone.yaml", &definitions).display().to_string();
        let plan = host.netpath.json(["plan", "-f", &file, "--host", host.netpath.host()]);
        assert_eq!(plan["findings"].to_string().contains("keeps few packets"), room == narrow, "{plan}");
        topology.apply(&definitions);
        assert_eq!(sent_by_11(&topology)["way"], "paced");
        let (here, there) = (topology.kernel("blue", 11), topology.kernel("blue", 12));
        let [sender, receiver] =
            [here, there].map(|guest| guest.ns().run(|| UdpSocket::bind(at(guest, 9000)).unwrap()));
        receiver.set_nonblocking(true).unwrap();
        // Whoever looks at the limit's counts reads nothing meanwhile.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 16 << 20).unwrap();
        here.ping(there.station().ip).unwrap();
        let received = || std::iter::from_fn(|| receiver.recv(&mut [0; 2000]).ok()).count() as u64;
        let refused = || sent_by_11(&topology)["dropped_packets"].as_u64().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What comes late is no later round's.
            while received() > 0 {
                thread::sleep(WINDOW / 2);
            }
            let before = refused();
            // Twice as much as passes at once and may wait.
            let mut arrived = 0;
            for _ in 0..datagrams {
                sender.send_to(&vec![0x5a; size], at(there, 9000)).unwrap();
                arrived += received();
            }
            // Every one of them was refused by the limit, or arrives.
            let round = Instant::now() + ROUND;
            let mut sum = arrived + refused() - before;
            while sum < datagrams && Instant::now() < round {
                arrived += received();
                sum = arrived + refused() - before;
            }
            if sum == datagrams {
                break;
            }
            // A timer may be so late that fq has no room left; not in every round.
            assert!(Instant::now() < deadline, "{sum} of {datagrams}, {}", sent_by_11(&topology));
        }
        let delayed = sent_by_11(&topology)["delayed_packets"].as_u64().unwrap();
        assert!(delayed > least, "{delayed}");
    }
}
