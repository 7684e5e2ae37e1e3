//! Source NAT's memory: which public port stands for which guest's port, for every destination (RFC 4787 REQ-1).
//!
//! A binding is the row of its inside end, and a claimed bit of its port's block. The row says until when it holds: it is renewed by
//! its flows, and whoever takes a dead binding away turns that word to zero first, so that nobody revives what is going. Where
//! filtering is endpoint independent a second row, of the outside end, points back: there strangers come in by it. Elsewhere nobody
//! would look it up, and a new connection is made in three writes instead of four.

use core::ffi::c_void;

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    DropReason,
    frame::{self, Protocol},
    maps::{Binding, BindingKey, FlowKey, Forward, Gateway, POOL_ADDRESSES, PUBLIC_SIDE, PoolAddress, flow_flags},
    stage::{idle, ports, tcp},
};

use crate::{atomic::Word, connection::Connection, inward, maps, sweep};

/// Gives a connection its public address and port.
#[inline(never)]
pub fn source(connection: &mut Connection, gateway: &Gateway) -> Result<(), DropReason> {
    let key = &connection.key;
    if !matches!(Protocol(key.protocol), Protocol::TCP | Protocol::UDP | Protocol::ICMP) {
        return Err(DropReason::NatProtocol);
    }
    let inside = inside_key(key);
    let answered = connection.flow.flags & flow_flags::ANSWERED != 0;
    let timeout = tcp::timeout(key.protocol, connection.flow.state, answered, &gateway.timeouts);
    // Of a connection that is judged again, from when it was last kept alive.
    let expires = connection.flow.last_seen + timeout + idle::MARGIN;
    let mut outside = BindingKey { side: 0, address: [0; 4], port: 0, protocol: key.protocol, pad: 0 };
    if !revive(&inside, gateway, expires, &mut outside) {
        let pool = pool_address(gateway, &inside).ok_or(DropReason::NoPublicAddress)?;
        (outside.side, outside.address) = (pool.side, pool.address);
        // A second less than whoever takes it up makes of it: by that [`take_back`] sees that somebody else has it too.
        let made = if sweep::is_at_binding_limit(key.side, gateway.flow_limit) {
            Err(DropReason::ConnectionLimit)
        } else {
            make(&inside, &mut outside, pool.pool, expires - 1)
        };
        // Another processor may have been faster with the same guest's port.
        if made.is_err() && !revive(&inside, gateway, expires, &mut outside) {
            return made;
        }
        if made.is_ok() {
            connection.made = expires - 1;
        }
    }
    if gateway.is_open() && !points_to(&outside, &inside) && !open(&inside) && connection.made != 0 {
        return Err(DropReason::BindingTableFull);
    }
    let flow = &mut connection.flow;
    (flow.source, flow.source_port, flow.out) = (outside.address, outside.port, outside.side);
    flow.flags |= flow_flags::BOUND;
    Ok(())
}

/// Makes the row of the outside end of a binding, unless somebody is taking the binding away.
#[inline(never)]
pub fn open(inside: &BindingKey) -> bool {
    let Some(row) = maps::BINDINGS.get_ptr_mut(inside) else { return false };
    // SAFETY: a row of the map; that it is the right one is asked before and after it counts.
    let row = unsafe { &mut *row };
    let outside = outside_key(inside, row);
    let back = Binding { side: inside.side, address: inside.address, port: inside.port, ..*row };
    // Whoever has the port's claim has its row, whatever was there.
    if back.expires == 0 || !is_still(inside, row) || maps::BINDINGS.insert(outside, back, 0).is_err() {
        return false;
    }
    // SAFETY: in a map's value.
    if unsafe { Word::at(&raw mut row.expires) }.load() == 0 || !is_still(inside, row) {
        // Whoever took it away may not have met the other row.
        if points_to(&outside, inside) {
            let _ = maps::BINDINGS.remove(outside);
        }
        return false;
    }
    true
}

/// Takes away the binding that was made for a connection which then was refused: nothing is left of it.
#[inline(always)]
pub fn take_back() {
    netpath_take_back();
}

/// [`take_back`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_take_back() -> u32 {
    if let Some(connection) = Connection::current()
        && connection.made != 0
    {
        let inside = inside_key(&connection.key);
        if let Some(row) = maps::BINDINGS.get_ptr_mut(inside) {
            // SAFETY: a row of the map; whether it is still the one that was asked for is asked before it is taken away.
            sweep::release(&inside, unsafe { &mut *row }, connection.made);
        }
    }
    0
}

/// The inside end of a flow from the inside.
#[inline(always)]
fn inside_key(key: &FlowKey) -> BindingKey {
    BindingKey { side: key.side, address: key.source, port: key.source_port, protocol: key.protocol, pad: 0 }
}

/// Takes up the binding that there is, if it is still one of the network's.
#[inline(never)]
fn revive(inside: &BindingKey, gateway: &Gateway, expires: u32, outside: &mut BindingKey) -> bool {
    let Some(row) = maps::BINDINGS.get_ptr_mut(inside) else { return false };
    // SAFETY: a row of the map; whether it was the right one is asked when it has been read.
    let row = unsafe { &mut *row };
    let before = row.expires;
    *outside = outside_key(inside, row);
    if before == 0 || !is_still(inside, row) {
        return false;
    }
    if pool_of(gateway, outside) == 0 {
        sweep::release(inside, row, before);
        return false;
    }
    extend(row, before, expires)
}

/// The outside end of a binding.
#[inline(always)]
pub fn outside_key(inside: &BindingKey, row: &Binding) -> BindingKey {
    BindingKey { side: row.side, address: row.address, port: row.port, protocol: inside.protocol, pad: 0 }
}

/// Whether a row that was looked up and read is the inside end's still: one that was removed meanwhile may be another's.
#[inline(always)]
pub fn is_still(inside: &BindingKey, row: &Binding) -> bool {
    maps::BINDINGS.get_ptr(inside).is_some_and(|now| core::ptr::eq(now, row))
}

/// Whether there is a row of a binding's outside end, and it points to `inside`.
#[inline(always)]
pub fn points_to(outside: &BindingKey, inside: &BindingKey) -> bool {
    // SAFETY: compared field by field at once.
    unsafe { maps::BINDINGS.get(outside) }
        .is_some_and(|back| back.side == inside.side && back.address == inside.address && back.port == inside.port)
}

/// Makes a binding hold until `expires` at least; `false` where somebody is taking it away.
#[inline(always)]
fn extend(row: &mut Binding, before: u32, expires: u32) -> bool {
    // SAFETY: in a map's value.
    let word = unsafe { Word::at(&raw mut row.expires) };
    word.replace(before, before.max(expires)) != 0
}

/// Keeps the binding of a flow from the inside alive.
#[inline(never)]
pub fn renew(key: &FlowKey, expires: u32) {
    let inside = inside_key(key);
    if let Some(row) = maps::BINDINGS.get_ptr_mut(inside) {
        // SAFETY: a row of the map; a recycled one would hold for longer than it has to, nothing worse.
        let row = unsafe { &mut *row };
        let before = row.expires;
        if before != 0 {
            extend(row, before, expires);
        }
    }
}

/// The last connection of a guest's port may be over: its binding holds until `expires` and no longer. Others that there are renew it
/// by their packets, or are asked before it is taken away ([`idle::keeps_binding`]).
#[inline(never)]
pub fn shorten(key: &FlowKey, expires: u32) {
    if let Some(row) = maps::BINDINGS.get_ptr_mut(inside_key(key)) {
        // SAFETY: a row of the map; a recycled one's flows renew it, as those of the right one do.
        let word = unsafe { Word::at(&raw mut (*row).expires) };
        let before = word.load();
        if before > expires {
            word.replace(before, expires);
        }
    }
}

/// The guest's end of a public port, if the binding holds.
#[inline(always)]
pub fn inside_of(outside: &BindingKey, now: u32) -> Option<BindingKey> {
    // SAFETY: copied at once; that it is the right one, its other end tells.
    let row = unsafe { maps::BINDINGS.get(outside) }.copied()?;
    let inside =
        BindingKey { side: row.side, address: row.address, port: row.port, protocol: outside.protocol, pad: 0 };
    // SAFETY: compared at once.
    let back = unsafe { maps::BINDINGS.get(inside) }?;
    let same = back.side == outside.side && back.address == outside.address && back.port == outside.port;
    (same && back.expires > now).then_some(inside)
}

/// The public address of a guest: always the same one (RFC 4787 REQ-2, paired pooling).
#[inline(always)]
fn pool_address<'g>(gateway: &'g Gateway, inside: &BindingKey) -> Option<&'g PoolAddress> {
    let hash = u64::from(frame::mix(inside.side, u32::from_ne_bytes(inside.address)));
    let index = (hash * u64::from(gateway.pool_count)) >> 32;
    gateway.pool.get(index as usize & (POOL_ADDRESSES - 1)).filter(|pool| pool.side & PUBLIC_SIDE != 0)
}

/// One more than the index in PORT_BLOCKS of a public address, as in [`Binding::pool`]; 0 where it is not one of the network's.
#[inline(never)]
pub fn pool_of(gateway: &Gateway, outside: &BindingKey) -> u32 {
    for (index, pool) in gateway.pool.iter().enumerate() {
        if (index as u32) < gateway.pool_count && pool.address == outside.address && pool.side == outside.side {
            return pool.pool + 1;
        }
    }
    0
}

/// Whether some guest of a network has a public port, or had it a moment ago.
#[inline(never)]
pub fn is_given_out(gateway: &Gateway, outside: &BindingKey) -> bool {
    pool_of(gateway, outside)
        .checked_sub(1)
        .and_then(|pool| ports::block_of(pool, outside.protocol, outside.port))
        .and_then(|index| maps::PORT_BLOCKS.get(index))
        .is_some_and(|word| word & ports::bit_of(outside.port) != 0)
}

/// Claims a port and writes the binding down.
#[inline(always)]
fn make(inside: &BindingKey, outside: &mut BindingKey, pool: u32, expires: u32) -> Result<(), DropReason> {
    /// `BPF_NOEXIST`.
    const NEW: u64 = 1;
    claim(inside.port, outside, pool)?;
    let row = Binding {
        side: outside.side,
        address: outside.address,
        port: outside.port,
        pool: u16::try_from(pool + 1).unwrap_or(0),
        expires,
    };
    if maps::BINDINGS.insert(inside, row, NEW).is_err() {
        // Another processor was faster with the same guest's port, or the table is full.
        free(outside, pool);
        return Err(DropReason::BindingTableFull);
    }
    sweep::bound(inside.side);
    Ok(())
}

/// The walk over the blocks of a public address.
#[repr(C)]
struct Search {
    outside: BindingKey,
    pool: u32,
    random: u32,
    block: u16,
    wanted: u16,
    found: u32,
    /// How many ports it has met that definitions have.
    defined: u32,
}

impl Search {
    /// How many ports of definitions a walk looks at: more are met only where nearly all ports are theirs.
    const MOST_DEFINED: u32 = 64;

    #[inline(always)]
    fn is_over(&self) -> bool {
        self.found != 0 || self.defined >= Self::MOST_DEFINED
    }
}

/// The least port that is not privileged.
const UNPRIVILEGED: u16 = 1024;

/// Finds and claims a port: the guest's own, if it is free; else any of its kind, at random (RFC 6056 §3.3.1).
#[inline(never)]
fn claim(wanted: u16, outside: &mut BindingKey, pool: u32) -> Result<(), DropReason> {
    // SAFETY: no arguments, no side effects.
    let random = unsafe { helper::bpf_get_prandom_u32() };
    let protocol = outside.protocol;
    let mut search = Search { outside: *outside, pool, random, block: wanted / 64, wanted, found: 0, defined: 0 };
    if !take(&mut search, ports::bit_of(wanted)) {
        // Of its class and parity; of the class above; of any parity (RFC 4787 REQ-3 and REQ-4 leave it open).
        for kind in [wanted, wanted | UNPRIVILEGED, (wanted | UNPRIVILEGED) ^ 1] {
            search.wanted = kind;
            search.block = ports::first_block(kind, protocol, random);
            // SAFETY: the visitor takes the loop's counter and this walk, which outlives the loop.
            unsafe {
                let visit: *const () = visit as *const ();
                let blocks = netpath_common::maps::BLOCKS;
                helper::bpf_loop(blocks, visit.cast_mut().cast::<c_void>(), (&raw mut search).cast(), 0);
            }
            if search.is_over() {
                break;
            }
        }
    }
    if search.found == 0 {
        return Err(DropReason::PortsExhausted);
    }
    outside.port = search.outside.port;
    Ok(())
}

/// Visits a block; 1 ends the walk.
unsafe extern "C" fn visit(_position: u32, search: *mut Search) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let search = unsafe { &mut *search };
    let before = search.defined;
    take(search, u64::MAX);
    if search.is_over() {
        return 1;
    }
    let (wanted, protocol) = (search.wanted, search.outside.protocol);
    search.block = if search.defined == before {
        ports::next_block(search.block, wanted, protocol)
    } else {
        // Its neighbours may be of the same range.
        // SAFETY: no arguments, no side effects.
        ports::first_block(wanted, protocol, unsafe { helper::bpf_get_prandom_u32() })
    };
    0
}

/// Claims one of the ports in `among` of the block at hand.
#[inline(always)]
fn take(search: &mut Search, among: u64) -> bool {
    let protocol = search.outside.protocol;
    let block = search.block;
    let Some(index) = ports::block_of(search.pool, protocol, block * 64) else { return false };
    let Some(word) = maps::PORT_BLOCKS.get_ptr_mut(index) else { return false };
    // SAFETY: in a map's value.
    let word = unsafe { Word::at(word) };
    let mask = ports::candidates(word.load(), block, search.wanted, protocol) & among;
    if mask == 0 {
        return false;
    }
    let bit = ports::pick(mask, search.random);
    if word.set(1 << bit) & 1 << bit != 0 {
        return false;
    }
    search.outside.port = block * 64 + bit as u16;
    // A port that leads somewhere by definition, or is the host's own, is nobody's to have while it does.
    if is_defined(&search.outside) {
        word.keep(!(1 << bit));
        search.defined += 1;
        return false;
    }
    search.found = 1;
    true
}

/// Whether a public port leads somewhere by definition.
#[inline(never)]
fn is_defined(outside: &BindingKey) -> bool {
    let key = FlowKey {
        side: outside.side,
        source: [0; 4],
        destination: outside.address,
        source_port: 0,
        destination_port: outside.port,
        protocol: outside.protocol,
        pad: [0; 3],
    };
    let mut forward = Forward::default();
    inward::forwarded(&key, &mut forward);
    forward.network | u32::from(forward.flags) != 0
}

/// Gives a claimed port back.
#[inline(always)]
pub fn free(outside: &BindingKey, pool: u32) {
    if let Some(index) = ports::block_of(pool, outside.protocol, outside.port)
        && let Some(word) = maps::PORT_BLOCKS.get_ptr_mut(index)
    {
        // SAFETY: in a map's value.
        unsafe { Word::at(word) }.keep(!ports::bit_of(outside.port));
    }
}
