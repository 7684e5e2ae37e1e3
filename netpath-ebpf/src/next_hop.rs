//! The underlay next hop of a tunnel: what the kernel's routes and neighbours say, asked once a second.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::generated as helper,
};
use netpath_common::{
    Mac,
    maps::{NextHop, Tunnel, tunnel_flags},
    vxlan,
};

use crate::{
    maps,
    packet::{TcPacket, XdpPacket},
};

/// How long an answer of the kernel's routes is taken for true: changes of routes and neighbours are in force
/// after this.
const FRESH_NS: u64 = 1_000_000_000;
/// `AF_INET`.
const IPV4: u8 = 2;

/// The way to the other end of a tunnel.
#[derive(Clone, Copy)]
pub struct Way {
    /// Where the packet goes; its MAC addresses are zero where the neighbour is not resolved.
    pub hop: &'static NextHop,
    /// The packet goes through the kernel's neighbour table, which resolves it and keeps it alive.
    pub through_neighbour: bool,
}

impl Way {
    /// Whether the MAC addresses are known.
    #[inline(always)]
    pub fn is_resolved(&self) -> bool {
        self.hop.destination_mac != Mac::ZERO
    }
}

/// The next hop of row `index` of TUNNELS; `None` where no route leads there.
#[inline(always)]
pub fn resolve(pkt: &mut TcPacket, index: u32, tunnel: &Tunnel) -> Option<Way> {
    let row = maps::NEXT_HOPS.get_ptr_mut(index)?;
    // SAFETY: no arguments, no side effects; a load, where the clock is a call.
    let tick = unsafe { helper::bpf_jiffies64() };
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    let hop = unsafe { &mut *row };
    let is_same = hop.remote == tunnel.remote;
    if is_same && hop.fresh_tick == tick {
        return Some(Way { hop, through_neighbour: false });
    }
    // SAFETY: no arguments, no side effects.
    let now = unsafe { helper::bpf_ktime_get_coarse_ns() };
    if is_same && hop.expires_ns > now {
        hop.fresh_tick = tick;
        return Some(Way { hop, through_neighbour: false });
    }
    // SAFETY: as above.
    if !ask_kernel(pkt.skb().cast(), tunnel, unsafe { &mut *row }, now) {
        return None;
    }
    Some(Way { hop, through_neighbour: tunnel.flags & tunnel_flags::GROUP == 0 })
}

/// The same in XDP, where no packet can be sent through the kernel's neighbour table; `None` where the neighbour is not known,
/// and once in a while: such a packet is left to TC, which has the neighbour confirmed.
#[inline(always)]
pub fn resolve_early(pkt: &XdpPacket, index: u32, tunnel: &Tunnel, now: u64) -> Option<&'static NextHop> {
    let row = maps::NEXT_HOPS.get_ptr_mut(index)?;
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    let hop = unsafe { &*row };
    if hop.expires_ns <= now || hop.remote != tunnel.remote {
        const SECOND_IN: u64 = 32;
        // SAFETY: as above.
        if (now >> 30).is_multiple_of(SECOND_IN) || !ask_kernel(pkt.raw().cast(), tunnel, unsafe { &mut *row }, now) {
            return None;
        }
    }
    (hop.destination_mac != Mac::ZERO).then_some(hop)
}

/// The next hop of a tunnel as `resolve` found it last, for as long as the tunnel leads to the same host.
#[inline(always)]
pub fn resolved(index: u32, tunnel: &Tunnel) -> Option<&'static NextHop> {
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    maps::NEXT_HOPS
        .get_ptr(index)
        .map(|row| unsafe { &*row })
        .filter(|hop| hop.remote == tunnel.remote && hop.destination_mac != Mac::ZERO)
}

/// What `resolve` noted of row `index` last, whether or not its neighbour was known.
#[inline(always)]
pub fn last(index: u32) -> Option<&'static NextHop> {
    // SAFETY: a per-CPU row, and programs do not preempt each other on a CPU.
    maps::NEXT_HOPS.get_ptr(index).map(|row| unsafe { &*row })
}

/// Asks the kernel's routes and neighbours, and notes the answer in `row`; `false` where no route leads there. A next
/// hop without a neighbour is noted too, as one to ask for again at once.
#[inline(never)]
fn ask_kernel(ctx: *mut c_void, tunnel: &Tunnel, row: &mut NextHop, now: u64) -> bool {
    row.remote = tunnel.remote;
    row.mtu = u32::from(u16::MAX);
    (row.expires_ns, row.fresh_tick) = (0, 0);
    row.destination_mac = Mac::ZERO;
    if tunnel.flags & tunnel_flags::GROUP != 0 {
        row.ifindex = tunnel.egress;
        row.source_mac = tunnel.source_mac;
        row.destination_mac = vxlan::group_mac(tunnel.remote);
        row.expires_ns = now + FRESH_NS;
        return true;
    }
    // SAFETY: a C struct of integers and unions of integers; zero is a value of each.
    let mut query: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    query.family = IPV4;
    // A length asks for the route's MTU in return (Linux 5.12).
    query.__bindgen_anon_1.tot_len = 1;
    query.ifindex = tunnel.lookup;
    query.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(tunnel.local);
    query.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(tunnel.remote);
    // SAFETY: `query` is as large as said, and the context is the kernel's.
    let answer = unsafe { helper::bpf_fib_lookup(ctx, &raw mut query, size_of::<bpf_fib_lookup>() as i32, 0) };
    row.ifindex = query.ifindex;
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => {
            // SAFETY: both members are 16-bit integers in the same place.
            row.mtu = u32::from(unsafe { query.__bindgen_anon_1.mtu_result });
            row.destination_mac = Mac(query.dmac);
            row.source_mac = Mac(query.smac);
            row.expires_ns = now + FRESH_NS;
            true
        }
        BPF_FIB_LKUP_RET_NO_NEIGH => true,
        _ => false,
    }
}
