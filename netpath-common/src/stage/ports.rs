//! Which public port a connection gets: the inside one where it is free, else one of its kind at random (RFC 4787 §4.2,
//! RFC 6056). A block is a word of PORT_BLOCKS: a bit for each of 64 ports, set where the port is given out.
//!
//! Whoever wants a port looks at the block of the port itself first, then at [`first_block`] and a bounded number of
//! [`next_block`]s, and claims a bit of [`candidates`] that [`pick`] chose.

use crate::{
    frame::Protocol,
    maps::{BLOCK_PORTS, BLOCKS, POOL_PROTOCOLS},
};

/// The first port that no privilege is needed for.
const UNPRIVILEGED: u16 = 1024;
/// Blocks of the ports below it.
const LOW_BLOCKS: u16 = UNPRIVILEGED / BLOCK_PORTS as u16;
/// Blocks of all ports.
const ALL_BLOCKS: u16 = BLOCKS as u16;
/// The even ports of a block.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// The row of PORT_BLOCKS that has a port (or the identifier of an ICMP query) of the public address with index `pool`.
/// `None` for a protocol whose ports are not given out.
#[inline(always)]
pub fn block_of(pool: u32, protocol: u8, port: u16) -> Option<u32> {
    let protocol = match Protocol(protocol) {
        Protocol::TCP => 0,
        Protocol::UDP => 1,
        Protocol::ICMP => 2,
        _ => return None,
    };
    let row = pool.wrapping_mul(POOL_PROTOCOLS).wrapping_add(protocol).wrapping_mul(BLOCKS);
    Some(row.wrapping_add(u32::from(port) / BLOCK_PORTS))
}

/// The bit of a port in its block.
#[inline(always)]
pub fn bit_of(port: u16) -> u64 {
    1 << (port & (BLOCK_PORTS as u16 - 1))
}

/// The port that a bit of a block is.
#[inline(always)]
pub fn port_of(block: u16, bit: u32) -> u16 {
    (block << 6) | (bit as u16 & (BLOCK_PORTS as u16 - 1))
}

/// The free ports of a block (0 to 1023) that suit whoever wants `wanted`; `word` has those that are given out.
///
/// TCP and UDP: ports below 1024 for ports below 1024 and no others (RFC 4787 §4.2.2, REQ-3 a), and never port 0. UDP: even ports
/// for even ones (REQ-4). Identifiers of ICMP queries: any.
#[inline(always)]
pub fn candidates(word: u64, block: u16, wanted: u16, protocol: u8) -> u64 {
    let free = !word;
    match Protocol(protocol) {
        Protocol::TCP | Protocol::UDP => {
            if (block < LOW_BLOCKS) != (wanted < UNPRIVILEGED) {
                return 0;
            }
            let free = if block == 0 { free & !1 } else { free };
            if Protocol(protocol) == Protocol::TCP {
                free
            } else if wanted & 1 == 0 {
                free & EVEN
            } else {
                free & !EVEN
            }
        }
        _ => free,
    }
}

/// The index (0 to 63) of a set bit of `mask`, the first one at or after a random place; any index where the mask is
/// empty.
///
/// Looks at the low six bits of `random`; [`first_block`] looks at the high ones.
#[inline(always)]
pub fn pick(mask: u64, random: u32) -> u32 {
    let start = random & (BLOCK_PORTS - 1);
    (start + lowest_bit(mask.rotate_right(start))) & (BLOCK_PORTS - 1)
}

/// The index of the lowest set bit: the ones up to it, added up in parallel, less itself. BPF has no instruction for it; what
/// the compiler makes of `trailing_zeros`, or of counting the ones below the bit, looks in a table, which would be a map; and
/// each branch would double what the verifier walks.
#[inline(always)]
fn lowest_bit(mask: u64) -> u32 {
    let up_to = mask ^ mask.wrapping_sub(1);
    let pairs = up_to - (up_to >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32 - 1
}

/// The blocks that may have ports for whoever wants `wanted`: the first one, and how many.
#[inline(always)]
fn blocks(wanted: u16, protocol: u8) -> (u16, u16) {
    let protocol = Protocol(protocol);
    if protocol != Protocol::TCP && protocol != Protocol::UDP {
        (0, ALL_BLOCKS)
    } else if wanted < UNPRIVILEGED {
        (0, LOW_BLOCKS)
    } else {
        (LOW_BLOCKS, ALL_BLOCKS - LOW_BLOCKS)
    }
}

/// A random block for whoever wants `wanted`.
#[inline(always)]
pub fn first_block(wanted: u16, protocol: u8, random: u32) -> u16 {
    let (first, count) = blocks(wanted, protocol);
    first + ((u64::from(random) * u64::from(count)) >> 32) as u16
}

/// The block to look at after `block`; after the last one of its kind the first.
#[inline(always)]
pub fn next_block(block: u16, wanted: u16, protocol: u8) -> u16 {
    let (first, count) = blocks(wanted, protocol);
    if block + 1 >= first + count { first } else { block + 1 }
}
