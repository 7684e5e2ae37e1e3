//! Bindings: which public port an inside address and port has.

use std::{net::Ipv4Addr, ops::ControlFlow};

use netpath_common::maps::PUBLIC_SIDE;
use serde::Serialize;

use super::super::{Only, Which};
use crate::{
    cli::{applied::Applied, table::Table, terms},
    error::Error,
};

/// A binding.
#[derive(Debug, Serialize)]
pub(super) struct BindingRow {
    /// The network.
    network: String,
    /// `tcp`, `udp`, `icmp`.
    protocol: String,
    inside: Ipv4Addr,
    /// The port, or an ICMP query's identifier.
    inside_port: u16,
    address: Ipv4Addr,
    port: u16,
    /// Seconds until it ends unless a packet renews it; 0 where it has ended.
    expires_seconds: u32,
}

/// Calls `row` with each binding that is wanted, as the kernel has them.
pub(super) fn each(
    applied: &Applied,
    only: Only<'_>,
    which: &Which,
    mut row: impl FnMut(BindingRow),
) -> Result<(), Error> {
    let now = terms::now_seconds();
    applied.tables.bindings.visit::<Error>(|key, binding| {
        let is_inside = key.side & PUBLIC_SIDE == 0;
        let is_wanted = is_inside && which.has(&[key.address, binding.address], &[key.port, binding.port]);
        let expires_seconds = binding.expires.saturating_sub(now);
        if is_wanted && (expires_seconds > 0 || which.all) {
            let network = applied.names.network(key.side);
            if only.wants(&network) {
                row(BindingRow {
                    network,
                    protocol: terms::protocol(key.protocol.into()),
                    inside: key.address.into(),
                    inside_port: key.port,
                    address: binding.address.into(),
                    port: binding.port,
                    expires_seconds,
                });
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

pub(super) fn render(rows: &[BindingRow]) -> String {
    let mut table = Table::new(&["NETWORK", "PROTO", "INSIDE", "PUBLIC", ">EXPIRES"]);
    for row in rows {
        table.row([
            row.network.clone(),
            row.protocol.clone(),
            terms::endpoint(row.inside.octets(), row.inside_port),
            terms::endpoint(row.address.octets(), row.port),
            terms::duration(row.expires_seconds.into()),
        ]);
    }
    table.render()
}
