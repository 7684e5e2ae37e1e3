//! Networks that have no room for more connections, or nearly so.

use super::{
    Fault, Host,
    host::{Connections, Portless},
};

/// Percent of a network's connections from which on it is told of.
const WARNING: u64 = 80;

pub(super) fn connection_limit(host: &Host) -> Vec<Fault> {
    let near = host.connections.iter().filter(|of| of.live * 100 >= of.limit * WARNING);
    let fault = |of: &Connections| {
        let Connections { network, live, limit } = of;
        let refused = if live >= limit { "; every new one is refused (connection_limit)" } else { "" };
        let percent = live * 100 / limit.max(&1);
        let found = format!("{live} of the {limit} connections that it may have are open ({percent} %){refused}");
        Fault::warning(format!("network {network}"), found)
            .because("at its limit a network opens no connection, in or out; those that it has go on")
            .mend(format!(
                "raise `connection_limit` of the network in the definitions (without one it is half of what the host has room for: \
                 capacities.flows), then `{}`; `netpath show flows --network {network}` lists whose they are",
                host.apply
            ))
    };
    near.map(fault).collect()
}

/// While it grows: what was refused last week is mended, or not worth it.
pub(super) fn ports_exhausted(host: &Host) -> Vec<Fault> {
    let fault = |of: &Portless| {
        let Portless { network, packets, seconds } = of;
        let found = format!("{packets} packets found no free public port in {seconds:.1} s (ports_exhausted)");
        Fault::warning(format!("network {network}"), found)
            .because("its guests open no connection to the outside while all ports of its public addresses are in use")
            .mend(format!(
                "give it one more address under `source_nat` in the definitions, then `{}`; `netpath show nat --network {network}` \
                 counts the ports given out",
                host.apply
            ))
    };
    host.portless.iter().map(fault).collect()
}
