//! The netpath data path: XDP and TC programs.
//!
//! Hooks are named by endpoint; each is parse, pipeline, one exit.
#![no_std]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "atomics of the target, see `atomic`")]
#![no_main]
#![allow(missing_docs, reason = "the hook macros make public, undocumented wrappers of documented functions")]

mod account;
mod admit;
mod answer;
mod arrival;
mod atomic;
mod bind;
mod connect;
mod connection;
mod flood;
mod forward;
mod from_guest;
mod from_stack;
mod from_uplink;
mod gateway;
mod handover;
mod icmp_error;
mod inward;
mod judge;
mod learn;
mod maps;
mod meter;
mod next_hop;
mod outward;
mod packet;
mod public;
mod quoted;
mod reap;
mod redirect;
mod respond;
mod rewrite;
mod scratch;
mod send;
mod sweep;
mod tunnel;
mod tuple;
mod vlan;
mod way_back;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::packet::{TcPacket, XdpPacket};

/// TC ingress of a guest's device.
#[classifier]
pub fn from_guest(ctx: TcContext) -> i32 {
    let mut network = 0;
    match from_guest::process(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// A packet to be routed, handed on by another program.
#[classifier]
pub fn gateway(ctx: TcContext) -> i32 {
    let mut network = 0;
    match gateway::process(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// The first packet of a connection, handed on by `gateway`.
#[classifier]
pub fn connect(ctx: TcContext) -> i32 {
    let mut network = 0;
    match connect::process(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// A connection that there is no room for, handed on by `connect`.
#[classifier]
pub fn sweep(ctx: TcContext) -> i32 {
    let mut network = 0;
    match sweep::process(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// Rows that the agent has found to be over; it runs this itself, and no packet ever gets here.
#[classifier]
pub fn reap(ctx: TcContext) -> i32 {
    reap::process(&mut TcPacket::new(&ctx))
}

/// A packet that another host has routed into a network of this one.
#[classifier]
pub fn admit(ctx: TcContext) -> i32 {
    let mut network = 0;
    match admit::process(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// A guest's frame for everybody, or for somebody unknown, handed on by `from_guest`.
#[classifier]
pub fn flood(ctx: TcContext) -> i32 {
    let mut network = 0;
    match flood::from_guest(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// XDP of an uplink.
#[xdp(frags)]
pub fn from_uplink_xdp(ctx: XdpContext) -> u32 {
    let mut network = 0;
    match from_uplink::process(&mut XdpPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::xdp_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            xdp_action::XDP_DROP
        }
    }
}

/// TC ingress of an uplink.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    let mut network = 0;
    match from_stack::uplink(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// TC ingress of netpath's own tunnel device.
#[classifier]
pub fn from_tunnel(ctx: TcContext) -> i32 {
    let mut network = 0;
    match from_stack::tunnel_device(&mut TcPacket::new(&ctx), &mut network) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(network, reason);
            TC_ACT_SHOT
        }
    }
}

/// An ICMP error about a connection, handed on by `gateway`.
#[classifier]
pub fn icmp_error(ctx: TcContext) -> i32 {
    let mut owner = 0;
    match icmp_error::process(&mut TcPacket::new(&ctx), &mut owner) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(owner, reason);
            TC_ACT_SHOT
        }
    }
}

/// A packet that becomes its own answer; others hand packets on to it.
#[classifier]
pub fn answer(ctx: TcContext) -> i32 {
    let mut owner = 0;
    match answer::process(&mut TcPacket::new(&ctx), &mut owner) {
        Ok(verdict) => redirect::tc_action(verdict),
        Err(reason) => {
            account::dropped(owner, reason);
            TC_ACT_SHOT
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
