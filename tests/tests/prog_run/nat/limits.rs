//! Full tables and limits: newcomers are refused, and nobody else notices.

use netpath_common::{DropReason as R, stage::idle::binding_limit};

use crate::rig::{A, ACK, B, BLUE, DNS, GREEN, Rig, SERVER, SYN, TIMEOUTS, WEB, echo, outward};

#[test]
fn x4_c11d_a_full_flow_table_refuses_newcomers_and_loses_no_live_flow() {
    let mut rig = Rig::routed_sized(&[("FLOWS", 64)]);
    let mut live = Vec::new();
    for port in 2000..3000 {
        let out = rig.udp_out(BLUE, A, port, DNS);
        if !out.drops.is_empty() {
            out.assert_refused(BLUE, R::FlowTableFull);
            break;
        }
        live.push((port, out.seen().source));
    }
    assert!((30..=32).contains(&live.len()), "{} connections in 64 rows", live.len());
    for port in 3000..3100 {
        rig.udp_out(BLUE, B, port, DNS).assert_refused(BLUE, R::FlowTableFull);
        rig.udp_out(GREEN, B, port, DNS).assert_refused(GREEN, R::FlowTableFull);
    }
    for (port, public) in live {
        assert_eq!(rig.udp_out(BLUE, A, port, DNS).seen().source, public);
        rig.arrives(DNS, public, (A.ip, port));
    }
}

#[test]
fn x4_a_full_binding_table_refuses_newcomers_and_loses_no_live_flow() {
    let mut rig = Rig::routed_sized(&[("BINDINGS", 64)]);
    let mut live = Vec::new();
    for port in 2000..3000 {
        let out = rig.udp_out(BLUE, A, port, DNS);
        if !out.drops.is_empty() {
            out.assert_refused(BLUE, R::BindingTableFull);
            break;
        }
        live.push((port, out.seen().source));
    }
    assert!((62..=64).contains(&live.len()), "{} bindings in 64 rows", live.len());
    for port in 3000..3100 {
        rig.udp_out(BLUE, B, port, DNS).assert_refused(BLUE, R::BindingTableFull);
    }
    for (port, public) in live {
        assert_eq!(rig.udp_out(BLUE, A, port, DNS).seen().source, public);
        rig.arrives(DNS, public, (A.ip, port));
    }
}

/// A refusal leaves nothing behind: no half of a connection, no port that is lost.
#[test]
fn x4_refused_newcomers_leave_nothing_behind() {
    let mut rig = Rig::routed_sized(&[("FLOWS", 64)]);
    for port in 2000..2100 {
        rig.udp_out(BLUE, A, port, DNS);
    }
    let flows = rig.flows();
    for (key, flow) in &flows {
        assert!(flows.contains_key(&key.opposite(flow)), "half of a connection: {key:?}");
    }
    assert_eq!(rig.state(BLUE).flows, flows.len() as u64);
    let connections = flows.len() as u64 / 2;
    assert_eq!((rig.bindings().len() as u64, rig.state(BLUE).bindings), (connections, connections));
    assert_eq!(rig.ports_in_use(), connections);
    rig.age(10_000);
    for port in 4000..4030 {
        rig.udp_out(BLUE, B, port, DNS).seen();
    }
}

#[test]
fn c4_a_network_has_at_most_its_limit_and_others_do_not_notice() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 20);
    let live: Vec<_> = (2000..2010).map(|port| (port, rig.udp_out(BLUE, A, port, DNS).seen().source)).collect();
    for port in 3000..3010 {
        rig.udp_out(BLUE, B, port, DNS).assert_refused(BLUE, R::ConnectionLimit);
        rig.udp_out(GREEN, B, port, DNS).seen();
    }
    assert_eq!((rig.state(BLUE).bindings, rig.state(GREEN).bindings), (10, 10), "who is refused has no public port");
    assert_eq!(rig.ports_in_use(), 20);
    for (port, public) in live {
        rig.arrives(DNS, public, (A.ip, port));
    }
}

#[test]
fn c4_what_has_ended_no_longer_counts() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 20);
    for port in 2000..2010 {
        rig.udp_out(BLUE, A, port, DNS).seen();
    }
    rig.age(1000);
    for port in 2000..2010 {
        rig.udp_out(BLUE, A, port, DNS).seen();
    }
    assert_eq!(rig.state(BLUE).flows, 20);
}

/// Its connections end soon, and their public ports rest: one tenant that goes on beginning them does not fill the table.
#[test]
fn c5_public_ports_that_rest_count_for_their_network() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 2000);
    let most = binding_limit(2000);
    let port = rig.ports[&(BLUE, 11)];
    for round in 0..3u16 {
        let inside = &rig;
        inside.ns.run(|| {
            for n in 0..1000 {
                let query = outward(A).body(echo(8, 1000 + round * 1000 + n)).build();
                inside.tc_only("from_guest", port, &query);
            }
        });
        // Idle, but at rest.
        rig.age(TIMEOUTS.icmp + 1);
    }
    assert_eq!(rig.state(BLUE).bindings, most);
    rig.ping_out(BLUE, A, 9, SERVER).assert_refused(BLUE, R::ConnectionLimit);
    rig.ping_out(GREEN, A, 9, SERVER).seen();
    assert_eq!(rig.ping_out(BLUE, A, 1000, SERVER).seen().source.1, 1000, "what has a port keeps it");
    rig.age(10_000);
    rig.ping_out(BLUE, A, 9, SERVER).seen();
    assert_eq!(rig.state(BLUE).bindings, 1);
}

/// A flood of SYNs of one tenant ends at its limit.
#[test]
fn a_syn_flood_of_one_tenant_leaves_the_others_alone() {
    let mut rig = Rig::routed();
    rig.change_gateway(BLUE, |gateway| gateway.flow_limit = 2000);
    let public = rig.connect(GREEN, A, 5000, WEB);
    let port = rig.ports[&(BLUE, 11)];
    let inside = &rig;
    inside.ns.run(|| {
        for n in 0..10_000u32 {
            let to = (std::net::Ipv4Addr::from_bits(0xc633_6401 + n % 200), 1 + (n / 7) as u16);
            let frame = crate::rig::outward(A).to_ip(to.0).tcp(1024 + (n % 60_000) as u16, to.1, SYN).build();
            inside.tc_only("from_guest", port, &frame);
        }
    });
    let flows = rig.state(BLUE).flows;
    assert!((1990..=2000).contains(&flows), "{flows}");
    assert_eq!(rig.tcp_in(WEB, public, ACK).seen().destination, (A.ip, 5000));
    rig.connect(GREEN, B, 6000, WEB);
}
