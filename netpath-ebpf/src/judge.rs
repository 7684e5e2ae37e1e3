//! Rules in their order; the first that matches decides.

use core::ffi::c_void;

use aya_ebpf::helpers::generated as helper;
use netpath_common::{
    maps::{RuleList, event_step},
    stage::policy::{self, Subject},
};

use crate::{connection::Connection, event, maps};

/// What a list of rules says.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// No rule matched.
    None = 0,
    /// The first that matched refuses.
    Deny = 1,
    /// The first that matched lets pass.
    Allow = 2,
}

/// The walk over a list.
#[repr(C)]
struct Walk {
    subject: Subject,
    start: u32,
    judgement: u32,
}

/// Asks the rules of a list about a connection to `destination` and `port`.
#[inline(never)]
pub fn list(list: RuleList, connection: &Connection, destination: [u8; 4], port: u16) -> Judgement {
    if list.count == 0 {
        return Judgement::None;
    }
    let subject = Subject {
        source: connection.key.source,
        destination,
        port,
        protocol: connection.key.protocol,
        icmp_type: connection.icmp_type,
        // An answer has the code of its query, where that is not 0.
        icmp_code: connection.tuple.icmp_code,
    };
    let mut walk = Walk { subject, start: list.start, judgement: Judgement::None as u32 };
    // SAFETY: the visitor takes the loop's counter and this walk, which outlives the loop.
    unsafe {
        let visit: *const () = visit as *const ();
        helper::bpf_loop(list.count, visit.cast_mut().cast::<c_void>(), (&raw mut walk).cast(), 0);
    }
    match walk.judgement {
        1 => Judgement::Deny,
        2 => Judgement::Allow,
        _ => Judgement::None,
    }
}

/// Visits a rule; 1 ends the walk.
unsafe extern "C" fn visit(position: u32, walk: *mut Walk) -> i64 {
    // SAFETY: `bpf_loop` passes the walk that it was given.
    let walk = unsafe { &mut *walk };
    let Some(rule) = maps::RULES.get(walk.start.wrapping_add(position)) else { return 1 };
    if !policy::matches(rule, &walk.subject) {
        return 0;
    }
    event::step(event_step::RULE, 0, 0, u32::from(rule.allow), walk.start.wrapping_add(position));
    walk.judgement = if rule.allow != 0 { Judgement::Allow as u32 } else { Judgement::Deny as u32 };
    1
}
