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
mod carry;
mod connect;
mod connection;
mod debug;
mod event;
mod flood;
mod forward;
mod from_guest;
mod from_stack;
mod from_uplink;
mod gateway;
mod global;
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
    EbpfContext as _,
    bindings::{__sk_buff, TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use netpath_common::{
    DropReason,
    maps::{event_action, event_hook, event_step},
};

use crate::{
    event::Source,
    packet::{TcPacket, XdpPacket},
    redirect::Verdict,
};

/// A program's pipeline, which tells the network that refusals are counted for as soon as it knows; `None` is a refusal.
#[inline(always)]
fn run<C: Source, P>(
    ctx: C,
    hook: u8,
    packet: impl FnOnce() -> P,
    process: impl FnOnce(&mut P, &mut u32) -> Result<Verdict, DropReason>,
) -> Option<Verdict> {
    let mut network = 0;
    event::step(event_step::PROGRAM, hook, 0, 0, 0);
    if hook <= event_hook::FROM_TUNNEL {
        event::entered(ctx, hook);
    }
    match process(&mut packet(), &mut network) {
        Ok(verdict) => {
            event::left(ctx, hook, network, verdict);
            debug::done(hook, network, verdict.told(), 0);
            Some(verdict)
        }
        Err(reason) => {
            account::dropped(network, reason);
            event::refused(ctx, hook, network, reason);
            debug::done(hook, network, event_action::REFUSED, reason as u32);
            None
        }
    }
}

/// A TC program: its pipeline, and the one exit.
#[inline(always)]
fn tc(ctx: &TcContext, hook: u8, process: impl FnOnce(&mut TcPacket, &mut u32) -> Result<Verdict, DropReason>) -> i32 {
    let skb: *mut __sk_buff = ctx.as_ptr().cast();
    run(skb, hook, || TcPacket::new(ctx), process).map_or(TC_ACT_SHOT, redirect::tc_action)
}

/// An XDP program, as [`tc`].
#[inline(always)]
fn xdp(
    ctx: &XdpContext,
    hook: u8,
    process: impl FnOnce(&mut XdpPacket, &mut u32) -> Result<Verdict, DropReason>,
) -> u32 {
    run(ctx.ctx, hook, || XdpPacket::new(ctx), process).map_or(xdp_action::XDP_DROP, redirect::xdp_action)
}

/// TC ingress of a guest's device.
#[classifier]
pub fn from_guest(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::FROM_GUEST, from_guest::process)
}

/// A packet to be routed, handed on by another program.
#[classifier]
pub fn gateway(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::GATEWAY, gateway::process)
}

/// The first packet of a connection, handed on by `gateway`.
#[classifier]
pub fn connect(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::CONNECT, connect::process)
}

/// A connection that there is no room for, handed on by `connect`.
#[classifier]
pub fn sweep(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::SWEEP, sweep::process)
}

/// Rows that the agent has found to be over; it runs this itself, and no packet ever gets here.
#[classifier]
pub fn reap(ctx: TcContext) -> i32 {
    reap::process(&mut TcPacket::new(&ctx))
}

/// Adds what another ABI's programs have counted; attached nowhere, run by whoever takes over.
#[classifier]
pub fn carry(ctx: TcContext) -> i32 {
    carry::process(&mut TcPacket::new(&ctx))
}

/// A packet that another host has routed into a network of this one.
#[classifier]
pub fn admit(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::ADMIT, admit::process)
}

/// A guest's frame for everybody, or for somebody unknown, handed on by `from_guest`.
#[classifier]
pub fn flood(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::FLOOD, flood::from_guest)
}

/// XDP of an uplink.
#[xdp(frags)]
pub fn from_uplink_xdp(ctx: XdpContext) -> u32 {
    xdp(&ctx, event_hook::FROM_UPLINK_XDP, from_uplink::process)
}

/// The first packet of a connection, handed on by `from_uplink_xdp`.
#[xdp(frags)]
pub fn connect_xdp(ctx: XdpContext) -> u32 {
    xdp(&ctx, event_hook::CONNECT_XDP, forward::connect)
}

/// TC ingress of an uplink.
#[classifier]
pub fn from_uplink(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::FROM_UPLINK, from_stack::uplink)
}

/// TC ingress of netpath's own tunnel device.
#[classifier]
pub fn from_tunnel(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::FROM_TUNNEL, from_stack::tunnel_device)
}

/// An ICMP error about a connection, handed on by `gateway`.
#[classifier]
pub fn icmp_error(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::ICMP_ERROR, icmp_error::process)
}

/// A packet that becomes its own answer; others hand packets on to it.
#[classifier]
pub fn answer(ctx: TcContext) -> i32 {
    tc(&ctx, event_hook::ANSWER, answer::process)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
