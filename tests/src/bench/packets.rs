//! Small packets, guest → wire and wire → guest: nanoseconds a packet on one CPU.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    bridge,
    experiment::{Bound, Comparison, Experiment, Variant},
    lab::{Action, GUEST_DEVICE, LONG, Lab, SHORT, Source, UPLINK},
    subject::{Subject, UplinkMode},
};
use crate::topology::Link;

/// What a generated packet may cost, in nanoseconds, before it hides what is compared.
const GENERATOR_NS: f64 = 200.0;
const METRICS: &[&str] = &["ns/packet"];
/// Frames of one run.
const FRAMES: u32 = 1_000_000;
/// The experiment with frames from a guest.
pub const GUEST_TO_WIRE: &str = "guest to wire, 60-byte UDP";
/// The experiment with frames from the wire.
pub const WIRE_TO_GUEST: &str = "wire to guest, 60-byte UDP";

/// The labs of both directions, built once and used in every round.
pub struct Labs {
    generator: Lab,
    dropped: Lab,
    floor: Lab,
    netpath: Lab,
    bridge: Lab,
    subject: Subject,
    netpath_tc: Option<(Lab, Subject)>,
}

/// A lab whose hypervisor has netpath, for frames from `source`.
///
/// # Errors
/// When a device or a program is refused.
pub fn measured(floor: &Path, source: Source) -> Result<(Lab, Subject)> {
    let (action, counted, in_driver) = match source {
        Source::Guest => (Action::Receive, LONG, false),
        Source::Wire => (Action::Send, SHORT, true),
    };
    let lab = Lab::new(floor, source, action, counted)?;
    lab.count(in_driver)?;
    let subject = Subject::apply(&lab.hypervisor, UplinkMode::Xdp)?;
    Ok((lab, subject))
}

impl Labs {
    /// Labs for frames from guests.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn from_guest(floor: &Path) -> Result<Self> {
        let lab = |action, counted| Lab::new(floor, Source::Guest, action, counted);
        let generator = lab(Action::Drop, SHORT)?;
        let dropped = lab(Action::Receive, SHORT)?;
        let ns = dropped.hypervisor.clone();
        dropped.tc("sink_tc", &ns, GUEST_DEVICE)?;
        let bare = lab(Action::Receive, SHORT)?;
        let ns = bare.hypervisor.clone();
        bare.tc("redirect_tc", &ns, GUEST_DEVICE)?;
        bare.count(false)?;
        let (netpath, subject) = measured(floor, Source::Guest)?;
        let bridge = lab(Action::Receive, LONG)?;
        bridge.count(false)?;
        bridge.hypervisor.run(|| bridge::build(GUEST_DEVICE))?;
        Ok(Self { generator, dropped, floor: bare, netpath, bridge, subject, netpath_tc: None })
    }

    /// Labs for frames from the wire.
    ///
    /// # Errors
    /// When a device or a program is refused.
    pub fn from_wire(floor: &Path) -> Result<Self> {
        let lab = |action, counted| Lab::new(floor, Source::Wire, action, counted);
        let generator = lab(Action::Drop, LONG)?;
        let dropped = lab(Action::Send, LONG)?;
        let ns = dropped.hypervisor.clone();
        dropped.xdp("sink_xdp", &ns, UPLINK)?;
        let bare = lab(Action::Send, LONG)?;
        let ns = bare.hypervisor.clone();
        bare.xdp("redirect_xdp", &ns, UPLINK)?;
        bare.count(true)?;
        let (netpath, subject) = measured(floor, Source::Wire)?;
        // Without XDP, a veth's driver receives what XDP sends to it only with GRO on; NICs have it on too.
        let gro = || Link::named(UPLINK).offload("rx-gro", true);
        let tc = lab(Action::Send, SHORT)?;
        tc.count(false)?;
        tc.hypervisor.run(gro)?;
        let tc_subject = Subject::apply(&tc.hypervisor, UplinkMode::Tc)?;
        let bridge = lab(Action::Send, SHORT)?;
        bridge.count(false)?;
        bridge.hypervisor.run(|| gro().and_then(|()| bridge::build(GUEST_DEVICE)))?;
        Ok(Self { generator, dropped, floor: bare, netpath, bridge, subject, netpath_tc: Some((tc, tc_subject)) })
    }

    /// Guest → wire.
    pub fn guest_to_wire(&self) -> Experiment<'_> {
        let comparisons = vec![
            self.ratio("netpath, times bridge + vxlan", "bridge + vxlan", "netpath", Bound::AtLeast(1.7)),
            self.ratio("cost of netpath over bare redirect", "netpath", "TC redirect", Bound::AtMost(1.35)),
            self.ratio("netpath against itself", "netpath again", "netpath", Bound::Shown),
            self.generator_cost(),
        ];
        self.experiment(GUEST_TO_WIRE, "TC redirect", "generator and socket buffer", comparisons)
    }

    /// Wire → guest.
    pub fn wire_to_guest(&self) -> Experiment<'_> {
        let comparisons = vec![
            self.ratio(
                "uplink_mode tc, times vxlan + bridge",
                "bridge + vxlan",
                "netpath, uplink_mode tc",
                Bound::Shown,
            ),
            self.ratio("netpath, times vxlan + bridge", "bridge + vxlan", "netpath", Bound::AtLeast(4.0)),
            self.ratio("cost of netpath over bare redirect", "netpath", "XDP redirect", Bound::AtMost(1.45)),
            self.ratio("netpath against itself", "netpath again", "netpath", Bound::Shown),
            self.generator_cost(),
        ];
        self.experiment(WIRE_TO_GUEST, "XDP redirect", "generator and driver", comparisons)
    }

    fn experiment(
        &self,
        name: &'static str,
        floor: &'static str,
        dropped: &'static str,
        comparisons: Vec<Comparison>,
    ) -> Experiment<'_> {
        let mut variants = vec![
            Variant::new("generator", move || self.generator.run_generator(FRAMES)),
            Variant::new(dropped, move || self.dropped.run(FRAMES)),
            Variant::new(floor, move || self.floor.run(FRAMES)),
            Variant::new("netpath", move || self.run_netpath()),
            Variant::new("netpath again", move || self.run_netpath()),
            Variant::new("bridge + vxlan", move || self.bridge.run(FRAMES)),
        ];
        if let Some((lab, subject)) = &self.netpath_tc {
            let run = move || lab.run(FRAMES).with_context(|| subject.drops());
            variants.push(Variant::new("netpath, uplink_mode tc", run));
        }
        Experiment { name, metrics: METRICS, variants, comparisons }
    }

    fn run_netpath(&self) -> Result<f64> {
        self.netpath.run(FRAMES).with_context(|| self.subject.drops())
    }

    fn ratio(
        &self,
        name: &'static str,
        numerator: &'static str,
        denominator: &'static str,
        bound: Bound,
    ) -> Comparison {
        Comparison { name, metric: 0, numerator, denominator: Some(denominator), bound }
    }

    fn generator_cost(&self) -> Comparison {
        let name = "the generator, ns/packet";
        Comparison { name, metric: 0, numerator: "generator", denominator: None, bound: Bound::AtMost(GENERATOR_NS) }
    }
}
