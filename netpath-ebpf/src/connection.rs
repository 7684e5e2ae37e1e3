//! A connection while it is judged, and the two rows of FLOWS that it becomes.

use netpath_common::{
    DropReason, Mac,
    frame::Protocol,
    maps::{
        CONNECTION_WORDS, Flow, FlowKey, Gateway, NeighbourKey, PUBLIC_SIDE, PublicKey, connection_row,
        destination_kind, flow_flags, flow_state, hop,
    },
};

use crate::{
    gateway, global, learn, maps, sweep,
    tuple::{Tuple, icmp},
};

/// What is known of a connection so far.
#[repr(C)]
pub struct Connection {
    /// The packet at hand.
    pub tuple: Tuple,
    /// Its first direction, as its packets arrive.
    pub key: FlowKey,
    /// The other direction that a known connection had until now.
    pub known_opposite: FlowKey,
    /// The first direction's row, as it is being made.
    pub flow: Flow,
    /// Where packets of the other direction go.
    pub back: Place,
    /// Whether the flow table has it.
    pub known: u32,
    /// Whether the packet came from a guest of this host.
    pub from_guest: u32,
    /// Whether the packet is an answer, which begins no connection.
    pub answers: u32,
    /// ICMP: the type of the query.
    pub icmp_type: u8,
    /// Whether the packet came to a public link from a public address of this host.
    pub again: u8,
    /// Whether the packet is of the other direction of a connection that is known.
    pub is_reply: u8,
    /// Whether a connection that is known went through a binding.
    pub known_bound: u8,
    /// Until when the binding holds that was made for it; 0 where none was.
    pub made: u32,
}

impl Connection {
    const ZERO: Self = Self {
        tuple: Tuple::ZERO,
        key: ZERO_KEY,
        known_opposite: ZERO_KEY,
        // SAFETY: a struct of integers and integer arrays; zero is a value of each.
        flow: unsafe { core::mem::zeroed() },
        back: Place::NONE,
        known: 0,
        from_guest: 0,
        answers: 0,
        icmp_type: 0,
        again: 0,
        is_reply: 0,
        known_bound: 0,
        made: 0,
    };

    /// Says whose it is. What it is judged by is read after this: the loader counts the epoch up when all of a change is in
    /// place, so that what was judged by half of one is judged again.
    #[inline(always)]
    pub fn belongs_to(&mut self, network: u32) {
        self.flow.network = network;
        if let Some(gateway) = maps::GATEWAYS.get_ptr(network) {
            // SAFETY: a word of a map's row; volatile, so that it is read here.
            self.flow.epoch = unsafe { (&raw const (*gateway).epoch).read_volatile() };
        }
    }

    /// Whether it is a ping.
    #[inline(always)]
    pub fn asks_for_echo(&self) -> bool {
        self.key.protocol == Protocol::ICMP.0 && self.icmp_type == icmp::ECHO
    }

    /// This processor's one, empty. Programs do not preempt each other on a processor.
    #[inline(always)]
    pub fn scratch() -> Option<&'static mut Self> {
        let connection = Self::current()?;
        *connection = Self::ZERO;
        Some(connection)
    }

    /// The one that is being judged. Global functions are not given it but look it up: Linux 6.1 takes no key of a map from
    /// memory that such a function was given. Nobody holds one over a call of them.
    #[inline(always)]
    pub fn current() -> Option<&'static mut Self> {
        const { assert!(size_of::<Self>() <= CONNECTION_WORDS * 8 && align_of::<Self>() <= 8) };
        let row: *mut Self = maps::CONNECTION.get_ptr_mut(connection_row::JUDGED)?.cast();
        // SAFETY: the row is large enough and aligned, and any bytes are a value of integers.
        Some(unsafe { &mut *row })
    }
}

/// No connection.
pub const ZERO_KEY: FlowKey = FlowKey {
    side: 0,
    source: [0; 4],
    destination: [0; 4],
    source_port: 0,
    destination_port: 0,
    protocol: 0,
    pad: [0; 3],
};

/// Where packets go: the last fields of [`Flow`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Place {
    /// [`Flow::target`].
    pub target: u32,
    /// [`Flow::slot`].
    pub slot: u32,
    /// [`Flow::mac`].
    pub mac: Mac,
    /// [`Flow::hop`].
    pub hop: u8,
    /// Zero.
    pub pad: u8,
}

impl Place {
    /// Nowhere.
    pub const NONE: Self = Self { target: 0, slot: 0, mac: Mac::ZERO, hop: 0, pad: 0 };

    /// Writes it into a flow.
    #[inline(always)]
    pub fn put(&self, flow: &mut Flow) {
        (flow.target, flow.slot, flow.mac, flow.hop) = (self.target, self.slot, self.mac, self.hop);
    }
}

/// Finds the station of a network that has `address`.
#[inline(never)]
pub fn station(network: u32, address: &[u8; 4], place: &mut Place) -> Result<(), DropReason> {
    let key = NeighbourKey { network, address: netpath_common::Address::v4(*address) };
    // SAFETY: the row is copied at once, and `network` tells whether it is still the row that was asked for.
    let row = unsafe { maps::NEIGHBOURS.get(key) }.copied().ok_or(DropReason::NeighbourUnresolved)?;
    if row.network != network {
        return Err(DropReason::NeighbourUnresolved);
    }
    let found = learn::find(network, row.mac).ok_or(DropReason::NeighbourUnresolved)?;
    place.hop = match found.kind {
        destination_kind::LOCAL => hop::LOCAL,
        destination_kind::TUNNEL => hop::TUNNEL,
        destination_kind::UPLINK => hop::UPLINK,
        _ => return Err(DropReason::MartianDestination),
    };
    (place.target, place.slot, place.mac) = (found.target, found.slot, row.mac);
    Ok(())
}

/// Finds the way to an address from a public link: a public address of this host, a station of the link, or the router.
#[inline(never)]
pub fn public(side: u32, address: &[u8; 4], place: &mut Place) -> Result<(), DropReason> {
    let index = side & !PUBLIC_SIDE;
    let link = maps::UPSTREAMS.get(index).filter(|link| link.ifindex != 0).ok_or(DropReason::NoRoute)?;
    (place.target, place.slot, place.mac) = (index, 0, Mac::ZERO);
    // SAFETY: only whether the row exists is asked.
    place.hop = if unsafe { maps::PUBLIC_ADDRESS.get(PublicKey { side, address: *address }) }.is_some() {
        hop::AGAIN
    } else if is_within(address, &link.prefix, &link.mask) {
        hop::ON_LINK
    } else {
        hop::UPSTREAM
    };
    Ok(())
}

/// Whether an address lies in a prefix.
#[inline(always)]
pub fn is_within(address: &[u8; 4], prefix: &[u8; 4], mask: &[u8; 4]) -> bool {
    u32::from_ne_bytes(*address) & u32::from_ne_bytes(*mask) == u32::from_ne_bytes(*prefix)
}

/// Writes both directions of the connection that is being judged down. Readers see a whole row, old or new.
///
/// # Errors
/// [`DropReason::ConnectionLimit`], [`DropReason::FlowTableFull`], [`DropReason::ConnectionClash`].
#[inline(always)]
pub fn install() -> Result<(), DropReason> {
    global::result(netpath_install())
}

/// [`install`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn netpath_install() -> u32 {
    let Some(connection) = Connection::current() else { return global::word(Err(DropReason::FlowTableFull)) };
    global::word(write_down(connection))
}

#[inline(always)]
fn write_down(connection: &mut Connection) -> Result<(), DropReason> {
    let network = connection.flow.network;
    let gateway = maps::GATEWAYS.get(network).ok_or(DropReason::NoRoute)?;
    let key = connection.key;
    connection.flow.tag = key.tag();
    connection.flow.address = counted_address(&key, &connection.flow);
    let opposite = key.opposite(&connection.flow);
    let transit = connection.flow.flags & flow_flags::TRANSIT != 0;
    if connection.known != 0 && connection.known_opposite != opposite && !transit {
        sweep::forget_one(&connection.known_opposite);
    }
    if is_one_too_many(connection, gateway) {
        return Err(DropReason::ConnectionLimit);
    }
    let is_new = connection.known == 0;
    if connection.back.hop == hop::AGAIN {
        connection.flow.flags |= flow_flags::HAIRPIN;
    }
    put(&key, &mut connection.flow, None)?;
    if transit {
        return Ok(());
    }
    turn(connection, &key, &opposite);
    let back = put(&opposite, &mut connection.flow, is_new.then_some(&key));
    if back.is_err() {
        sweep::forget_one(&key);
    }
    back
}

/// Whether a connection is new, and its network has as many as it may have.
#[inline(always)]
pub fn is_one_too_many(connection: &Connection, gateway: &Gateway) -> bool {
    connection.known == 0 && sweep::is_at_limit(connection.flow.network, gateway.flow_limit)
}

/// The index of the public address that a connection goes through: where it comes in, or from which it goes out.
#[inline(never)]
fn counted_address(key: &FlowKey, flow: &Flow) -> u16 {
    let public = if key.side & PUBLIC_SIDE != 0 {
        PublicKey { side: key.side, address: key.destination }
    } else {
        PublicKey { side: flow.out, address: flow.source }
    };
    // SAFETY: one number is read, and `side` tells whether it is still the row that was asked for.
    let row = unsafe { maps::PUBLIC_ADDRESS.get(public) }.filter(|row| row.side == public.side);
    row.map_or(0, |row| row.index)
}

/// Makes the row of the first direction that of the other one.
#[inline(always)]
fn turn(connection: &mut Connection, key: &FlowKey, opposite: &FlowKey) {
    let flow = &mut connection.flow;
    flow.tag = opposite.tag();
    flow.out = key.side;
    (flow.source, flow.source_port) = (key.destination, key.destination_port);
    (flow.destination, flow.destination_port) = (key.source, key.source_port);
    flow.flags |= flow_flags::REPLY;
    flow.flags &= !flow_flags::HAIRPIN;
    if flow.hop == hop::AGAIN {
        flow.flags |= flow_flags::HAIRPIN;
    }
    connection.back.put(flow);
}

/// Whether a row that a new connection's reply direction would have is another live one's reply direction: what the guest answers
/// would be taken from that one. What the guest has begun itself, or what was judged by rules that are no longer in force,
/// gives way.
#[inline(always)]
fn is_of_another(key: &FlowKey, row: &Flow, first: &FlowKey, now: u32) -> bool {
    let is_over = matches!(row.state, flow_state::CLOSING | flow_state::TRANSITORY);
    row.flags & flow_flags::REPLY != 0
        && !is_over
        && key.opposite(row) != *first
        && maps::GATEWAYS
            .get(row.network)
            .is_some_and(|gateway| row.epoch == gateway.epoch && !gateway::is_idle(row, key.protocol, gateway, now))
}

/// Writes a row, with the counters of the one that was there. `first`: the first direction of a connection that is new.
#[inline(never)]
fn put(key: &FlowKey, flow: &mut Flow, first: Option<&FlowKey>) -> Result<(), DropReason> {
    (flow.packets, flow.bytes, flow.acknowledged) = (0, 0, 0);
    const NEW: u64 = 1;
    // By reference: a row by value would be one more on the stack.
    let insert = |flow: &Flow, flags| maps::FLOWS.insert(key, flow, flags);
    match insert(flow, NEW) {
        Ok(()) => {
            sweep::added(flow.network);
            return Ok(());
        }
        Err(EEXIST) => {}
        Err(_) => return Err(DropReason::FlowTableFull),
    }
    // SAFETY: `tag` tells whether the row is still the one that was asked for.
    let known = unsafe { maps::FLOWS.get(key) }.filter(|row| row.tag == flow.tag);
    if let Some(row) = known {
        if first.is_some_and(|first| is_of_another(key, row, first, flow.last_seen)) {
            return Err(DropReason::ConnectionClash);
        }
        (flow.packets, flow.bytes, flow.acknowledged) = (row.packets, row.bytes, row.acknowledged);
        if row.network != flow.network {
            sweep::moved(row.network, flow.network);
        }
    }
    insert(flow, 0).map_err(|_| DropReason::FlowTableFull)
}

/// `-EEXIST`.
const EEXIST: i32 = -17;

/// The gateway's row of a network that netpath routes for.
#[inline(always)]
pub fn routed(network: u32) -> Result<&'static Gateway, DropReason> {
    use netpath_common::maps::gateway_flags;
    let gateway = maps::GATEWAYS.get(network).filter(|row| row.flags & gateway_flags::ROUTES != 0);
    gateway.ok_or(DropReason::NoRoute)
}
