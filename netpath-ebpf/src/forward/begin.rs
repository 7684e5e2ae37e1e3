//! The first packet of a connection in XDP: judged and written down here, so that it never becomes a socket buffer.
//!
//! What is let pass is followed as any later packet is. A refusal that nobody is told of is made here too: rules are walked
//! once. Everything else is left to TC as it came, which judges it again and answers.

use netpath_common::{
    DropReason,
    maps::{PUBLIC_SIDE, public_flags},
};

use super::{Plan, answer};
use crate::{
    connect::{self, recall},
    connection::{self, Connection},
    gateway, public, tuple,
};

/// Judges the connection of the packet that [`super::plan`] has read, from `side`, and writes it down. Answers one of
/// [`answer`]; [`Connection::flow`] then names the network that it belongs to.
#[inline(always)]
pub fn begin(side: u32) -> u32 {
    netpath_begin(side)
}

/// [`begin`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_begin(side: u32) -> u32 {
    attempt(side).unwrap_or(answer::PASS)
}

#[inline(always)]
fn attempt(side: u32) -> Option<u32> {
    let tuple = &Plan::scratch()?.tuple;
    let destination = tuple.key.destination;
    let mut owner = side;
    if side & PUBLIC_SIDE != 0 {
        let address = public::address(side & !PUBLIC_SIDE, destination)?;
        // What nothing here claims may be the host's own.
        if address.flags & public_flags::HOST != 0 {
            return None;
        }
        owner = address.network;
    } else if gateway::inside(side)?.gateway_ip4 == destination {
        return None;
    }
    Connection::scratch()?.tuple = *tuple;
    let now = tuple::now();
    recall(now);
    let judged = connect::judge(now).and_then(|()| connection::install(now));
    let connection = Connection::current()?;
    if connection.flow.network == 0 {
        connection.flow.network = owner;
    }
    match judged {
        Ok(()) if connection.known == 0 => Some(answer::BEGUN),
        Ok(()) => Some(answer::SEND),
        Err(reason) if connection.known == 0 && is_silent(reason) => Some(reason as u32),
        Err(_) => None,
    }
}

/// Whether nobody is told that a connection was refused for this, and nothing else becomes of its packet.
#[inline(always)]
fn is_silent(reason: DropReason) -> bool {
    use DropReason::{
        AclDenied, EgressDenied, ForwardDenied, IngressDenied, MartianDestination, MartianSource, Unsolicited,
        UnsolicitedSource,
    };
    matches!(
        reason,
        AclDenied
            | EgressDenied
            | ForwardDenied
            | IngressDenied
            | MartianDestination
            | MartianSource
            | Unsolicited
            | UnsolicitedSource
    )
}
