//! Where programs are attached.

use std::fmt;

/// A hook; its name is the program's name in the object and the pin's name. On a device, programs go on in this order
/// and come off in the opposite one: what XDP hands on, TC must be there to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// TC ingress of a guest's device.
    FromGuest,
    /// TC ingress of an uplink.
    FromUplink,
    /// XDP of an uplink.
    FromUplinkXdp,
    /// TC ingress of netpath's own tunnel device.
    FromTunnel,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::FromGuest, Self::FromUplink, Self::FromUplinkXdp, Self::FromTunnel];

    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromGuest => "from_guest",
            Self::FromUplinkXdp => "from_uplink_xdp",
            Self::FromUplink => "from_uplink",
            Self::FromTunnel => "from_tunnel",
        }
    }

    /// XDP, and not TC.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::FromUplinkXdp)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
