//! Queueing disciplines at a device's root.

use std::time::Duration;

use anyhow::Result;

use super::{
    Link,
    netlink::{REPLACE, Request},
};

/// `TC_H_ROOT`.
const ROOT: u32 = 0xffff_ffff;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;
const TCA_NETEM_LATENCY64: u16 = 10;

impl Link {
    /// Keeps packets until their time of departure.
    pub fn fq(&self) -> Result<()> {
        self.qdisc("fq")?.send(&format!("putting fq on {}", self.name()))
    }

    /// The same with room for so many packets, and for so many of one connection.
    pub fn fq_with_room(&self, packets: u32, of_a_flow: u32) -> Result<()> {
        let request = self.qdisc("fq")?.nest(TCA_OPTIONS, &[], |options| {
            options.attr_u32(TCA_FQ_PLIMIT, packets).attr_u32(TCA_FQ_FLOW_PLIMIT, of_a_flow)
        });
        request.send(&format!("putting fq on {}", self.name()))
    }

    /// Delays whatever it sends.
    pub fn delay(&self, by: Duration) -> Result<()> {
        // `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter.
        let options: Vec<u8> = [0u32, 10_000, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let nanoseconds = (by.as_nanos() as i64).to_ne_bytes();
        let request = self.qdisc("netem")?;
        let request = request.nest(TCA_OPTIONS, &options, |options| options.attr(TCA_NETEM_LATENCY64, &nanoseconds));
        request.send(&format!("putting netem on {}", self.name()))
    }

    /// Keeps packets in the order in which they came, as an operator may want it.
    pub fn fifo(&self) -> Result<()> {
        self.qdisc("pfifo")?.send(&format!("putting pfifo on {}", self.name()))
    }

    /// What was put on it is taken off: it has what the kernel gives it.
    pub fn default_qdisc(&self) -> Result<()> {
        let request = Request::new(libc::RTM_DELQDISC, 0, &self.at_root()?);
        request.send(&format!("taking the queueing discipline off {}", self.name()))
    }

    fn qdisc(&self, kind: &str) -> Result<Request> {
        Ok(Request::new(libc::RTM_NEWQDISC, REPLACE, &self.at_root()?).attr_name(TCA_KIND, kind))
    }

    /// `struct tcmsg` of its root: family, ifindex, handle, parent, info.
    fn at_root(&self) -> Result<[u8; 20]> {
        let mut body = [0; 20];
        body[4..8].copy_from_slice(&self.index()?.to_ne_bytes());
        body[12..16].copy_from_slice(&ROOT.to_ne_bytes());
        Ok(body)
    }
}
