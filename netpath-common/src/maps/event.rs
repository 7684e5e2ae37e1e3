//! What the data path tells while somebody watches: refusals, new connections, frames.
//!
//! A record of EVENTS is an [`Event`] and as many of the packet's first bytes as the watcher wants, in one of two sizes.
//! Headers are taken apart by whoever reads them: the data path only copies bytes, so that no packet, however odd, is
//! beyond it.

use bytemuck::{Pod, Zeroable};

/// What happened: [`Event::kind`]. The bit `1 << kind` of [`Watch::kinds`] asks for it.
pub mod event_kind {
    /// A packet was refused.
    pub const DROP: u8 = 1;
    /// A connection was noted, which its first packet begins.
    pub const CONNECTION: u8 = 2;
    /// A packet was refused because a table, a limit or a public address has no room for its connection.
    pub const EXHAUSTION: u8 = 3;
    /// A frame came in at a hook.
    pub const ENTRY: u8 = 4;
    /// A frame left a hook: refused, passed or sent, as it then was.
    pub const EXIT: u8 = 5;
    /// A step of a traced packet, see [`super::event_step`].
    pub const STEP: u8 = 6;
}

/// A program: [`Event::hook`].
pub mod event_hook {
    /// TC of a guest's device.
    pub const FROM_GUEST: u8 = 1;
    /// XDP of an uplink.
    pub const FROM_UPLINK_XDP: u8 = 2;
    /// TC of an uplink.
    pub const FROM_UPLINK: u8 = 3;
    /// TC of netpath's own tunnel device.
    pub const FROM_TUNNEL: u8 = 4;
    /// See [`super::super::stage::GATEWAY`].
    pub const GATEWAY: u8 = 5;
    /// See [`super::super::stage::CONNECT`].
    pub const CONNECT: u8 = 6;
    /// See [`super::super::stage::ICMP_ERROR`].
    pub const ICMP_ERROR: u8 = 7;
    /// See [`super::super::stage::ANSWER`].
    pub const ANSWER: u8 = 8;
    /// See [`super::super::stage::SWEEP`].
    pub const SWEEP: u8 = 9;
    /// See [`super::super::stage::ADMIT`].
    pub const ADMIT: u8 = 10;
    /// See [`super::super::stage::FLOOD`].
    pub const FLOOD: u8 = 11;
    /// See [`super::super::stage::CONNECT_XDP`].
    pub const CONNECT_XDP: u8 = 12;
    /// The program's name in the object, by code; the first is none's.
    pub const NAMES: [&str; 13] = [
        "",
        "from_guest",
        "from_uplink_xdp",
        "from_uplink",
        "from_tunnel",
        "gateway",
        "connect",
        "icmp_error",
        "answer",
        "sweep",
        "admit",
        "flood",
        "connect_xdp",
    ];
}

/// What became of a frame: [`Event::action`] of [`event_kind::EXIT`].
pub mod event_action {
    /// Not netpath's: the next program, or the kernel, has it.
    pub const PASS: u8 = 0;
    /// Out of the device that [`super::Event::target`] names.
    pub const REDIRECT: u8 = 1;
    /// As above, with link layer addresses of the kernel's.
    pub const REDIRECT_NEIGHBOUR: u8 = 2;
    /// Copies of it have gone where they should, or it was answered otherwise.
    pub const CONSUMED: u8 = 3;
    /// Refused, for [`super::Event::reason`].
    pub const REFUSED: u8 = 4;
}

/// What a traced packet met: [`Event::action`] of [`event_kind::STEP`].
pub mod event_step {
    /// A program began.
    pub const PROGRAM: u8 = 1;
    /// A station was looked for; the reason is its `destination_kind`, 0 for an unknown one, and the target its.
    pub const STATION: u8 = 2;
    /// A rule matched: the target is its row in RULES, and the reason 1 if it lets pass.
    pub const RULE: u8 = 3;
    /// A known connection was found, whose translation and way the event has.
    pub const FLOW: u8 = 4;
    /// A copy would go out of the target.
    pub const COPY: u8 = 5;
}

/// A record of EVENTS, before the packet's bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Event {
    /// Monotonic clock, in nanoseconds.
    pub time_ns: u64,
    /// [`event_kind`].
    pub kind: u8,
    /// [`event_hook`].
    pub hook: u8,
    /// By kind, [`event_action`] or [`event_step`].
    pub action: u8,
    /// How a connection's packets go on, as [`super::hop`] has it.
    pub hop: u8,
    /// Network index; 0 where it is not known yet.
    pub network: u32,
    /// The device that the program ran on.
    pub ifindex: u32,
    /// Code of the [`crate::DropReason`]; 0 for none.
    pub reason: u32,
    /// The device that a frame leaves by, or by [`Self::hop`] what a connection's packets go to.
    pub target: u32,
    /// The side that a connection's packets leave on, as in [`super::FlowKey::side`].
    pub out: u32,
    /// A connection's new source address.
    pub source: [u8; 4],
    /// A connection's new destination address.
    pub destination: [u8; 4],
    /// A connection's new source port.
    pub source_port: u16,
    /// A connection's new destination port.
    pub destination_port: u16,
    /// A VLAN tag that the device took off the frame: its TPID in the high half, its TCI in the low one; 0 for none.
    pub tag: u32,
    /// Length of the packet in bytes.
    pub len: u32,
    /// How many of its bytes follow.
    pub kept: u32,
    /// The processor: it is done with one frame before it begins another.
    pub cpu: u32,
    /// Zero.
    pub pad: u32,
}

/// Most bytes of a packet in a record that is not of a capture: Ethernet, IPv6 with extensions, VXLAN and what is inside.
pub const EVENT_BYTES: usize = 128;
/// Most bytes of a packet in a record of a capture.
pub const CAPTURE_BYTES: usize = 2048;

/// Somebody watches, if the row says so. Row 0 of WATCH; there is no other.
///
/// A watcher renews the row, and who does not has ended: the data path compares the time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watch {
    /// Monotonic clock in nanoseconds until which somebody watches.
    pub until_ns: u64,
    /// Bits `1 << kind` of the [`event_kind`] that are wanted; 0 turns everything off.
    pub kinds: u32,
    /// Only of this network; 0 for any. What comes before the network is known is told, too.
    pub network: u32,
    /// Only for this code of [`crate::DropReason`]; 0 for any.
    pub reason: u32,
    /// Only on this device; 0 for any.
    pub ifindex: u32,
    /// Most events of one processor in a second.
    pub rate: u32,
    /// Most bytes of a packet; above [`EVENT_BYTES`] records are of the long size.
    pub bytes: u32,
    /// The watcher's process.
    pub process: u32,
    /// Zero.
    pub pad: u32,
}

/// What one processor has told. Row 0 of WATCHED.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watched {
    /// When the second began that is counted.
    pub second_ns: u64,
    /// Events of that second.
    pub count: u64,
    /// Events that were not told because there were too many in their second.
    pub suppressed: u64,
    /// Events that were not told because the watcher was too slow.
    pub lost: u64,
}
