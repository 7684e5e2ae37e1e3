//! Rigs with gateways are used again: the verifier takes most of a test's time, and their programs are the same.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, Once},
    thread,
};

use netpath_common::maps::{
    Binding, BindingKey, Flow, FlowKey, Forward, ForwardKey, Fragment, FragmentKey, Gateway, GatewayState,
    PublicAddress, PublicKey, Resolved, Route, RouteKey, StaticKey, StaticNat, Watch, capacity,
};

use super::{BLUE, GREEN, PLAIN, RED, Rig, TIER};

static IDLE: Mutex<Vec<Rig>> = Mutex::new(Vec::new());
static AT_EXIT: Once = Once::new();

/// A rig that goes back to be used again, unless its test failed.
pub struct Routed(Option<Rig>);

impl Rig {
    /// A rig with gateways in networks blue, green and red, as if just made.
    pub fn routed() -> Routed {
        let idle = IDLE.lock().unwrap().pop();
        let mut rig = idle.unwrap_or_else(|| Self::new().with_gateways());
        // It may have been idle for longer than a station on the public link counts as known.
        rig.standard_gateways();
        Routed(Some(rig))
    }

    /// The same with maps of other capacities, for this test only.
    pub fn routed_sized(rows: &[(&'static str, u32)]) -> Self {
        Self::sized(rows).with_gateways()
    }

    fn with_gateways(mut self) -> Self {
        self.load_stages();
        // The verifier's time is not to fall between what a test writes and what it runs.
        ["from_guest", "from_uplink", "from_uplink_xdp"].into_iter().for_each(|program| self.load(program));
        self.standard_gateways();
        self
    }

    /// Forgets every connection and gives every port back.
    pub fn forget_connections(&mut self) {
        self.clear::<FlowKey, Flow>("FLOWS");
        self.clear::<BindingKey, Binding>("BINDINGS");
        for (index, word) in (0..).zip(self.first::<u64>("PORT_BLOCKS", capacity::PORT_BLOCKS / 16)) {
            if word != 0 {
                self.array("PORT_BLOCKS", index, 0u64);
            }
        }
        // Row 0 says when room was made last, which is done once a second.
        for network in [0, BLUE, GREEN, RED, PLAIN, TIER] {
            self.array("GATEWAY_STATE", network, GatewayState::default());
        }
    }

    /// Forgets what a test has written and what the data path has learned.
    fn reset(&mut self) {
        self.forget_connections();
        self.clear::<FragmentKey, Fragment>("FRAGMENTS");
        self.clear::<PublicKey, PublicAddress>("PUBLIC_ADDRESS");
        self.clear::<StaticKey, StaticNat>("STATIC_NAT");
        self.clear::<PublicKey, Resolved>("ON_LINK");
        self.clear_prefixes::<RouteKey, Route>("ROUTES");
        self.clear_prefixes::<ForwardKey, Forward>("FORWARDS");
        for network in [BLUE, GREEN, RED, PLAIN, TIER] {
            self.array("GATEWAYS", network, Gateway::default());
        }
        self.unlimited();
        self.rules = 0;
        self.watch(Watch::default());
        self.standard_networks();
        self.standard_gateways();
    }
}

impl Deref for Routed {
    type Target = Rig;

    fn deref(&self) -> &Rig {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Routed {
    fn deref_mut(&mut self) -> &mut Rig {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Routed {
    fn drop(&mut self) {
        if let Some(mut rig) = self.0.take().filter(|_| !thread::panicking()) {
            rig.reset();
            // SAFETY: the handler is a plain function that lives as long as the process.
            AT_EXIT.call_once(|| unsafe { assert_eq!(libc::atexit(remove_idle), 0) });
            IDLE.lock().unwrap().push(rig);
        }
    }
}

/// Statics are not dropped, and namespaces have names to be removed.
extern "C" fn remove_idle() {
    if let Ok(mut idle) = IDLE.lock() {
        idle.clear();
    }
}
