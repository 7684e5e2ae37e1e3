//! The first packet of a connection in XDP: judged and written down here, so that it never becomes a socket buffer.
//!
//! What is let pass is followed as any later packet is. A refusal that nobody is told of is made here too: rules are walked
//! once. Everything else is left to TC, which judges it again and answers.

use netpath_common::DropReason;

use super::{Plan, answer};
use crate::{
    connect::{self, recall},
    connection::Connection,
    tuple,
};

/// Judges the connection of the packet that [`super::plan`] has read, and writes it down. Answers one of [`answer`];
/// [`Plan::owner`] then is the network that it belongs to.
#[inline(always)]
pub fn begin() -> u32 {
    netpath_begin()
}

/// [`begin`] as a [global](crate::global) function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn netpath_begin() -> u32 {
    attempt().unwrap_or(answer::PASS)
}

#[inline(always)]
fn attempt() -> Option<u32> {
    let plan = Plan::scratch()?;
    Connection::scratch()?.tuple = plan.tuple;
    let now = tuple::now();
    recall(now);
    let judged = connect::settle(now);
    let connection = Connection::current()?;
    if connection.flow.network != 0 {
        plan.owner = connection.flow.network;
    }
    match judged {
        Ok(()) if connection.known == 0 => Some(answer::BEGUN),
        Ok(()) => Some(answer::SEND),
        Err(reason) if connect::is_silent(reason, connection.key.protocol) && leaves_nothing(reason, connection) => {
            Some(answer::refused(reason))
        }
        Err(_) => None,
    }
}

/// Whether there are no rows to be removed: none is known, or they stay.
#[inline(always)]
fn leaves_nothing(reason: DropReason, connection: &Connection) -> bool {
    connection.known == 0 || connect::is_revoked(reason, connection)
}
