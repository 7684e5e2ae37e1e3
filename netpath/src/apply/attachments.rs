//! Which programs go on, are replaced, and come off. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::Step;
use crate::{
    compile::{self, Role},
    datapath::{AttachState, Attachment, Hook},
    definitions::{Isolation, UplinkMode},
    netlink::{Device, XdpSupport, ethtool::Offload},
};

/// What is known of an uplink when the way its frames are taken is chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct UplinkFacts<'a> {
    /// The device.
    pub(super) device: &'a Device,
    /// What the definitions ask for.
    pub(super) mode: UplinkMode,
    /// What tells its networks apart; with two on one device, vlan when one of them is.
    pub(super) isolation: Isolation,
    /// The NIC takes VLAN tags out of frames.
    pub(super) rxvlan: Offload,
    /// The driver refused XDP in an earlier apply.
    pub(super) was_refused: bool,
    /// The XDP program on it is netpath's, or there is none.
    pub(super) is_free: bool,
}

/// Why an uplink's frames are taken in TC, though XDP was not ruled out by the definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// No XDP in the driver.
    NoDriver,
    /// The driver takes VLAN tags out, XDP would not see them, and it cannot be switched off.
    TagsHidden,
    /// Somebody else's XDP program is on it.
    Taken,
    /// The device is a veth, which copies every frame for XDP: TCP was measured at two thirds of what TC has
    /// (docs/performance.md). Only `uplink_mode: xdp` has XDP there.
    Copies,
}

/// XDP, or why not; `Ok(false)` where the definitions say TC.
pub(super) fn takes_xdp(facts: UplinkFacts<'_>) -> Result<bool, Fallback> {
    let hides_tags = facts.rxvlan.is_on && !facts.rxvlan.is_switchable && facts.isolation == Isolation::Vlan;
    match facts.mode {
        UplinkMode::Tc => Ok(false),
        _ if facts.device.xdp == XdpSupport::Absent || facts.was_refused => Err(Fallback::NoDriver),
        _ if hides_tags => Err(Fallback::TagsHidden),
        _ if !facts.is_free => Err(Fallback::Taken),
        UplinkMode::Auto if facts.device.kind.as_deref() == Some("veth") => Err(Fallback::Copies),
        _ => Ok(true),
    }
}

/// The hooks that each device shall have; `xdp` holds the ifindices of uplinks that take XDP.
pub(super) fn wanted(attachments: &[compile::Attachment], xdp: &BTreeSet<u32>) -> BTreeMap<(String, Hook), u32> {
    let mut wanted = BTreeMap::new();
    for attachment in attachments {
        let hooks: &[Hook] = match attachment.role {
            Role::GuestPort => &[Hook::FromGuest],
            Role::TunnelDevice => &[Hook::FromTunnel],
            Role::Uplink(_) if xdp.contains(&attachment.ifindex) => &[Hook::FromUplink, Hook::FromUplinkXdp],
            Role::Uplink(_) => &[Hook::FromUplink],
        };
        wanted.extend(hooks.iter().map(|hook| ((attachment.device.clone(), *hook), attachment.ifindex)));
    }
    wanted
}

/// The steps from what is attached to what is wanted: on and replaced first, then off.
pub(super) fn steps(wanted: &BTreeMap<(String, Hook), u32>, actual: &[Attachment]) -> (Vec<Step>, Vec<Step>) {
    let found: BTreeMap<_, _> = actual.iter().map(|a| ((a.device.as_str(), a.hook), a)).collect();
    let mut on = Vec::new();
    for (device, hook) in wanted.keys() {
        let (device, hook) = (device.clone(), *hook);
        match found.get(&(device.as_str(), hook)).map(|a| (a.state, a.program)) {
            Some((AttachState::Current, _)) => {}
            Some((AttachState::Outdated, program)) => on.push(Step::Replace { device, hook, program }),
            Some((AttachState::Broken, _)) | None => on.push(Step::Attach { device, hook }),
        }
    }
    let is_unwanted = |a: &&Attachment| !wanted.contains_key(&(a.device.clone(), a.hook));
    let mut unwanted: Vec<_> = actual.iter().filter(is_unwanted).map(|a| (&a.device, a.hook)).collect();
    unwanted.sort_unstable();
    let off = unwanted.into_iter().rev();
    (on, off.map(|(device, hook)| Step::Detach { device: device.clone(), hook }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(device: &str, hook: Hook, state: AttachState) -> Attachment {
        Attachment { device: device.into(), former: None, hook, state, program: 7 }
    }

    #[test]
    fn what_is_current_is_left_alone_and_the_rest_is_brought_in_line() {
        let wanted = ["a", "b", "c", "d"].map(|device| ((device.to_owned(), Hook::FromGuest), 1)).into();
        let actual = [
            attachment("a", Hook::FromGuest, AttachState::Current),
            attachment("b", Hook::FromGuest, AttachState::Outdated),
            attachment("c", Hook::FromGuest, AttachState::Broken),
            attachment("e", Hook::FromGuest, AttachState::Current),
        ];
        let (on, off) = steps(&wanted, &actual);
        let attach = |device: &str| Step::Attach { device: device.into(), hook: Hook::FromGuest };
        let replace = Step::Replace { device: "b".into(), hook: Hook::FromGuest, program: 7 };
        assert_eq!(on, [replace, attach("c"), attach("d")]);
        assert_eq!(off, [Step::Detach { device: "e".into(), hook: Hook::FromGuest }]);
    }

    #[test]
    fn xdp_is_taken_where_it_can_be_and_the_reason_is_told_where_not() {
        let xdp = XdpSupport::Native { transmits: true, fragments: true };
        let device = Device { xdp, ..Device::hardware(2, "eth1") };
        let without = Device { xdp: XdpSupport::Absent, ..device.clone() };
        let facts = UplinkFacts {
            device: &device,
            mode: UplinkMode::Auto,
            isolation: Isolation::Vlan,
            rxvlan: Offload { is_on: true, is_switchable: true },
            was_refused: false,
            is_free: true,
        };
        let fixed = Offload { is_on: true, is_switchable: false };
        assert_eq!(takes_xdp(facts), Ok(true));
        assert_eq!(takes_xdp(UplinkFacts { mode: UplinkMode::Tc, ..facts }), Ok(false));
        assert_eq!(takes_xdp(UplinkFacts { device: &without, ..facts }), Err(Fallback::NoDriver));
        assert_eq!(takes_xdp(UplinkFacts { was_refused: true, ..facts }), Err(Fallback::NoDriver));
        assert_eq!(takes_xdp(UplinkFacts { rxvlan: fixed, ..facts }), Err(Fallback::TagsHidden));
        let vxlan = UplinkFacts { rxvlan: fixed, isolation: Isolation::Vxlan, ..facts };
        assert_eq!(takes_xdp(vxlan), Ok(true));
        assert_eq!(takes_xdp(UplinkFacts { is_free: false, ..facts }), Err(Fallback::Taken));
    }
}
