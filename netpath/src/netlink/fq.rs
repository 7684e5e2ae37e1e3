//! The queueing discipline that keeps packets until their time of departure, `fq`: is it there, and giving it to a device.
//!
//! netpath's own is known by its number, which the kernel gives to none by itself: that it is netpath's is known from the moment
//! it is there.

use std::fmt;

use rustix::io::Errno;

use super::{
    NetlinkError,
    codec::{ACK, Attributes, CREATE, Message, REPLACE, u32_at},
    socket::Socket,
    tc::{PARENT_ROOT, Qdisc, TCA_KIND, TCA_OPTIONS, TCMSG_LEN},
};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const TCA_FQ_PLIMIT: u16 = 1;
const TCA_FQ_FLOW_PLIMIT: u16 = 2;
/// The handle of netpath's own: `np` in ASCII. The kernel counts its own from 0x8001 on.
const OWN: u32 = 0x6e70_0000;
/// The bits of a handle that are the discipline's, and not its class's.
const MAJOR: u32 = 0xffff_0000;
/// Packets that one may keep, all of them of one connection if need be: as many as a limit ever has waiting, in the smallest
/// frames. What has been charged and has no room is lost, and the rate with it.
const ROOM: Room = Room { packets: 100_000, of_a_flow: 100_000 };
/// Bytes of a packet of full size, with its Ethernet header.
const FULL_SIZE: u64 = 1514;
/// The index of the loopback device.
const LOOPBACK: u32 = 1;

/// How many packets an fq keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub packets: u32,
    /// Of one connection.
    pub of_a_flow: u32,
}

impl Room {
    pub(super) fn read(options: &Attributes<'_>) -> Option<Self> {
        let number = |attribute| options.find(attribute).and_then(|value| u32_at(value, 0));
        Some(Self { packets: number(TCA_FQ_PLIMIT)?, of_a_flow: number(TCA_FQ_FLOW_PLIMIT)? })
    }

    /// The bytes that a limit may have waiting without any being lost, in packets of full size: half of what it keeps, for the
    /// timer that lets them go may be late, and they wait for longer than they were told to.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.packets.min(self.of_a_flow)) * FULL_SIZE / 2
    }

    /// Is it enough for all that a limit has waiting?
    fn is_enough(self) -> bool {
        self.packets >= ROOM.packets && self.of_a_flow >= ROOM.of_a_flow
    }
}

impl fmt::Display for Room {
    /// As `tc` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit {} flow_limit {}", self.packets, self.of_a_flow)
    }
}

/// What an operator's fq has to have room for.
#[must_use]
pub fn wanted() -> Room {
    ROOM
}

/// What a device does with packets that have a time of departure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discipline {
    /// It keeps them until then: fq, for all of its queues.
    Fq,
    /// The same, and netpath has put it there, for so many queues.
    Own(u32),
    /// It has one of netpath's that is not complete, or another build's with less room, for so many queues.
    Stale(u32),
    /// It sends them at once, and has what the kernel gave it: so many queues.
    Default(u32),
    /// It has something of its operator's, of this kind.
    Foreign(String),
    /// It has fq, of its operator's or the kernel's default for as many queues, with less room than netpath's own.
    Narrow {
        /// The least that one has room for.
        room: Room,
        /// Of the kernel's default: so many queues.
        queues: Option<u32>,
    },
}

/// What a device has, of those that are listed.
#[must_use]
pub fn discipline(device: u32, qdiscs: &[Qdisc]) -> Discipline {
    let here = || qdiscs.iter().filter(|qdisc| qdisc.device == device && !qdisc.is_ingress);
    // One that is down may have none.
    let Some(root) = here().find(|qdisc| qdisc.parent.is_none()) else { return Discipline::Default(1) };
    let queues = || here().filter(|qdisc| qdisc.parent.is_some_and(|parent| parent & MAJOR == root.handle & MAJOR));
    let fqs: Vec<&Qdisc> = match root.kind.as_str() {
        "fq" => vec![root],
        "mq" if queues().all(|queue| queue.kind == "fq") => queues().collect(),
        _ => vec![],
    };
    let narrow = fqs.iter().filter_map(|queue| queue.room).find(|room| !room.is_enough());
    let count = if root.kind == "mq" { queues().count() as u32 } else { 1 };
    match (root.handle, narrow) {
        (OWN, None) if !fqs.is_empty() => Discipline::Own(count),
        (_, None) if !fqs.is_empty() => Discipline::Fq,
        (OWN, _) => Discipline::Stale(count),
        (0, None) => Discipline::Default(count),
        (0, Some(room)) => Discipline::Narrow { room, queues: Some(count) },
        (_, Some(room)) => Discipline::Narrow { room, queues: None },
        _ => Discipline::Foreign(root.kind.clone()),
    }
}

/// Does this kernel have fq? Asks for one that cannot be made, on the loopback device, which stays as it is; the kernel loads the
/// module where there is one.
///
/// # Errors
/// When there is no netlink.
pub fn is_known() -> Result<bool, NetlinkError> {
    // A number of one byte is none: `fq_change` refuses it, if there is an fq that does.
    let request = header(RTM_NEWQDISC, CREATE | REPLACE, LOOPBACK, (0, PARENT_ROOT))
        .text(TCA_KIND, "fq")
        .nest(TCA_OPTIONS, |options| options.attribute(TCA_FQ_PLIMIT, &[0]));
    match Socket::route()?.ask("look for fq", request) {
        Err(NetlinkError::Socket(source)) => Err(NetlinkError::Socket(source)),
        Err(error) => {
            let refusals = [Errno::RANGE, Errno::INVAL].map(Errno::raw_os_error);
            Ok(error.errno().is_some_and(|errno| refusals.contains(&errno)))
        }
        Ok(_) => remove(LOOPBACK, "lo", 0).map(|()| true),
    }
}

/// Gives a device an fq of netpath's own, or one for each of its queues.
///
/// # Errors
/// When the kernel refuses; what it has done of it is taken back by [`uninstall`].
pub fn install(device: u32, name: &str, queues: u32) -> Result<(), NetlinkError> {
    let socket = Socket::route()?;
    let operation = format!("give device {name} the queueing discipline fq");
    if queues <= 1 {
        return socket.ask(&operation, fq(device, (OWN, PARENT_ROOT))).map(drop);
    }
    let root = header(RTM_NEWQDISC, CREATE | REPLACE, device, (OWN, PARENT_ROOT)).text(TCA_KIND, "mq");
    socket.ask(&operation, root)?;
    (1..=queues).try_for_each(|queue| socket.ask(&operation, fq(device, (0, OWN | queue))).map(drop))
}

/// Takes netpath's own off a device, which gets the kernel's default back. Another one is left alone.
///
/// # Errors
/// When the kernel refuses.
pub fn uninstall(device: u32, name: &str) -> Result<(), NetlinkError> {
    remove(device, name, OWN)
}

fn remove(device: u32, name: &str, handle: u32) -> Result<(), NetlinkError> {
    let request = header(RTM_DELQDISC, 0, device, (handle, PARENT_ROOT));
    match Socket::route()?.ask(&format!("take the queueing discipline off device {name}"), request) {
        // The number is not that of what is there.
        Err(error) if error.is_gone() || error.errno() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        done => done.map(drop),
    }
}

fn fq(device: u32, place: (u32, u32)) -> Message {
    header(RTM_NEWQDISC, CREATE | REPLACE, device, place).text(TCA_KIND, "fq").nest(TCA_OPTIONS, |options| {
        let Room { packets, of_a_flow } = ROOM;
        options.attribute(TCA_FQ_PLIMIT, &packets.to_ne_bytes()).attribute(TCA_FQ_FLOW_PLIMIT, &of_a_flow.to_ne_bytes())
    })
}

/// A request about the discipline with this handle at this parent.
fn header(kind: u16, flags: u16, device: u32, (handle, parent): (u32, u32)) -> Message {
    let mut header = [0; TCMSG_LEN];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    Message::new(kind, flags | ACK, &header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qdisc(device: u32, kind: &str, handle: u32, parent: Option<u32>) -> Qdisc {
        let room = (kind == "fq").then_some(ROOM);
        Qdisc { device, kind: kind.into(), is_ingress: false, handle, parent, room }
    }

    /// A device whose root has two queues.
    fn multiqueue(handle: u32, kinds: [&str; 2]) -> Vec<Qdisc> {
        let queues = (1..).zip(kinds).map(|(queue, kind)| qdisc(2, kind, 0x8001_0000 + queue, Some(handle | queue)));
        [qdisc(2, "mq", handle, None)].into_iter().chain(queues).collect()
    }

    #[test]
    fn fq_is_told_from_what_the_kernel_and_an_operator_put_there() {
        let one = |kind, handle| discipline(2, &[qdisc(1, "htb", 0x1_0000, None), qdisc(2, kind, handle, None)]);
        assert_eq!(one("fq", 0), Discipline::Fq);
        assert_eq!(one("fq", 0x8001_0000), Discipline::Fq);
        assert_eq!(one("fq", OWN), Discipline::Own(1));
        assert_eq!(one("pfifo_fast", 0), Discipline::Default(1));
        assert_eq!(one("noqueue", 0), Discipline::Default(1));
        assert_eq!(one("htb", 0x1_0000), Discipline::Foreign("htb".into()));
        assert_eq!(one("fq_codel", 0x8002_0000), Discipline::Foreign("fq_codel".into()));
        assert_eq!(discipline(9, &[]), Discipline::Default(1));
    }

    #[test]
    fn a_device_with_several_queues_has_fq_when_each_of_them_has() {
        assert_eq!(discipline(2, &multiqueue(0, ["fq", "fq"])), Discipline::Fq);
        assert_eq!(discipline(2, &multiqueue(0x1_0000, ["fq", "fq"])), Discipline::Fq);
        assert_eq!(discipline(2, &multiqueue(OWN, ["fq", "fq"])), Discipline::Own(2));
        assert_eq!(discipline(2, &multiqueue(0, ["pfifo_fast", "pfifo_fast"])), Discipline::Default(2));
        assert_eq!(discipline(2, &multiqueue(OWN, ["fq", "pfifo_fast"])), Discipline::Stale(2), "half made");
        assert_eq!(discipline(2, &multiqueue(0x1_0000, ["fq", "pfifo"])), Discipline::Foreign("mq".into()));
    }

    #[test]
    fn an_fq_without_room_for_what_may_wait_is_narrow() {
        let room = Room { packets: 10_000, of_a_flow: 100 };
        let narrow = |mut all: Vec<Qdisc>| {
            all.last_mut().unwrap().room = Some(room);
            discipline(2, &all)
        };
        let one = |handle| narrow(vec![qdisc(2, "fq", handle, None)]);
        assert_eq!(one(0), Discipline::Narrow { room, queues: Some(1) });
        assert_eq!(one(0x8001_0000), Discipline::Narrow { room, queues: None });
        assert_eq!(one(OWN), Discipline::Stale(1), "of another build");
        assert_eq!(narrow(multiqueue(0, ["fq", "fq"])), Discipline::Narrow { room, queues: Some(2) });
        assert_eq!(narrow(multiqueue(0x1_0000, ["fq", "fq"])), Discipline::Narrow { room, queues: None });
        assert_eq!(narrow(multiqueue(OWN, ["fq", "fq"])), Discipline::Stale(2));
        assert_eq!(room.to_string(), "limit 10000 flow_limit 100");
    }
}
