//! Multicast groups, by which a network's frames for all come.

use netpath::netlink::address;

use super::{apply, assert_finds, assert_nothing, hypervisors};

#[test]
fn a_group_that_was_left_is_found_and_joined_by_the_next_apply() {
    let topology = hypervisors();
    let host = &topology.hosts[0];
    let mut document = topology.gateway_definitions();
    document["physical_networks"][0]["replication"] = "multicast".into();
    apply(&topology, &document);
    assert_nothing(&host.netpath, &[]);
    host.ns.run(|| address::memberships().unwrap().into_iter().try_for_each(address::leave).unwrap());
    let of_both = [("group_not_joined", "network blue-web"), ("group_not_joined", "network green-web")];
    assert_finds(&host.netpath, &[], &of_both);
    apply(&topology, &document);
    assert_nothing(&host.netpath, &[]);
}
