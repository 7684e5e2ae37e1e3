//! Traffic control that stands on devices: what a redirect in from_guest would bypass, and whether packets can be paced.

use super::{
    NetlinkError,
    codec::{Attributes, DUMP, Message, Reply, text_of, u32_at},
    fq,
    socket::Socket,
};

/// `struct tcmsg`.
pub(super) const TCMSG_LEN: usize = 20;
pub(super) const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;
/// `TC_H_INGRESS`, the parent of both `ingress` and `clsact`.
const PARENT_INGRESS: u32 = 0xffff_fff1;
/// `TC_H_ROOT`.
pub(super) const PARENT_ROOT: u32 = 0xffff_ffff;
/// `TC_H_CLSACT | TC_H_MIN_INGRESS`.
const FILTERS_INGRESS: u32 = 0xffff_fff2;

/// What the kernel puts on a device by itself.
const DEFAULT_QDISCS: [&str; 6] = ["noqueue", "pfifo_fast", "pfifo", "mq", "fq_codel", "fq"];

/// A queueing discipline at a device's root or ingress, or inside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of the device.
    pub device: u32,
    /// Kind (`htb`, `ingress`, `clsact`).
    pub kind: String,
    /// At the ingress hook, not the root.
    pub is_ingress: bool,
    /// Its number; 0 for one that the kernel has put there by itself.
    pub handle: u32,
    /// The class of another one that it is in; `None` at the root and the ingress hook.
    pub parent: Option<u32>,
    /// What an fq has room for; `None` of any other.
    pub room: Option<fq::Room>,
}

impl Qdisc {
    /// Would the kernel have put it there by itself?
    #[must_use]
    pub fn is_default(&self) -> bool {
        !self.is_ingress && DEFAULT_QDISCS.contains(&self.kind.as_str())
    }
}

/// A classifier attached to a device's ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Kind (`u32`, `bpf`, `flower`).
    pub kind: String,
    /// Priority: lower runs earlier.
    pub priority: u16,
    /// Handle within the priority.
    pub handle: u32,
    /// Name of a BPF classifier.
    pub program: Option<String>,
    /// Program id of a BPF classifier.
    pub program_id: Option<u32>,
}

/// The queueing disciplines of every device, roots and ingress only.
///
/// # Errors
/// When the kernel refuses the request.
pub fn qdiscs() -> Result<Vec<Qdisc>, NetlinkError> {
    Ok(every_qdisc()?.into_iter().filter(|qdisc| qdisc.parent.is_none()).collect())
}

/// The queueing disciplines of every device, those inside others as well.
///
/// # Errors
/// When the kernel refuses the request.
pub fn every_qdisc() -> Result<Vec<Qdisc>, NetlinkError> {
    let replies =
        Socket::route()?.ask("list queueing disciplines", Message::new(RTM_GETQDISC, DUMP, &[0; TCMSG_LEN]))?;
    Ok(replies.iter().filter_map(qdisc).collect())
}

/// The filters on one device's ingress (of `clsact` or `ingress`); none when it has neither.
///
/// # Errors
/// When the kernel refuses the request.
pub fn ingress_filters(device: u32) -> Result<Vec<Filter>, NetlinkError> {
    let mut header = [0; TCMSG_LEN];
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    header[12..16].copy_from_slice(&FILTERS_INGRESS.to_ne_bytes());
    let operation = format!("list tc filters of device {device}");
    match Socket::route()?.ask(&operation, Message::new(RTM_GETTFILTER, DUMP, &header)) {
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL.raw_os_error()) || error.is_gone() => Ok(vec![]),
        replies => Ok(replies?.iter().filter_map(filter).collect()),
    }
}

fn qdisc(reply: &Reply) -> Option<Qdisc> {
    let parent = u32_at(&reply.payload, 12)?;
    let attributes = reply.attributes(TCMSG_LEN);
    let kind = text_of(attributes.find(TCA_KIND)?);
    let options = Attributes(attributes.find(TCA_OPTIONS).unwrap_or_default());
    Some(Qdisc {
        room: if kind == "fq" { fq::Room::read(&options) } else { None },
        device: u32_at(&reply.payload, 4)?,
        kind,
        is_ingress: parent == PARENT_INGRESS,
        handle: u32_at(&reply.payload, 8)?,
        parent: Some(parent).filter(|parent| *parent != PARENT_ROOT && *parent != PARENT_INGRESS),
    })
}

fn filter(reply: &Reply) -> Option<Filter> {
    let attributes = reply.attributes(TCMSG_LEN);
    let options = Attributes(attributes.find(TCA_OPTIONS).unwrap_or_default());
    let kind = text_of(attributes.find(TCA_KIND)?);
    let is_bpf = kind == "bpf";
    let priority = (u32_at(&reply.payload, 16)? >> 16) as u16;
    let handle = u32_at(&reply.payload, 8)?;
    // A classifier also answers with a row for itself, without a handle.
    (handle != 0).then(|| Filter {
        kind,
        priority,
        handle,
        program: options.find(TCA_BPF_NAME).filter(|_| is_bpf).map(text_of),
        program_id: options.find(TCA_BPF_ID).filter(|_| is_bpf).and_then(|p| u32_at(p, 0)),
    })
}
