//! Forwarding entries of kernel vxlan devices: what `bridge fdb append` writes.

use std::net::IpAddr;

use anyhow::Result;

use super::{
    Link,
    link::{ndmsg, octets},
    netlink::{APPEND, REPLACE, Request},
};
use crate::packet::Mac;

impl Link {
    /// Frames for `mac` go to the tunnel endpoint `remote`.
    pub fn fdb(&self, mac: Mac, remote: impl Into<IpAddr>) -> Result<()> {
        self.fdb_entry(REPLACE, mac, remote.into())
    }

    /// Broadcast, unknown unicast and multicast go to `remote` too.
    pub fn fdb_flood(&self, remote: impl Into<IpAddr>) -> Result<()> {
        self.fdb_entry(APPEND, [0; 6], remote.into())
    }

    fn fdb_entry(&self, flags: u16, mac: Mac, remote: IpAddr) -> Result<()> {
        const NTF_SELF: u8 = 0x02;
        let state = libc::NUD_PERMANENT | libc::NUD_NOARP;
        Request::new(libc::RTM_NEWNEIGH, flags, &ndmsg(libc::AF_BRIDGE as u8, self.index()?, state, NTF_SELF))
            .attr(libc::NDA_LLADDR, &mac)
            .attr(libc::NDA_DST, &octets(remote).1)
            .send(&format!("fdb {mac:02x?} → {remote} on {}", self.name()))
    }
}
