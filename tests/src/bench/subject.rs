//! netpath on the hypervisor that is measured: the binary, applied as an operator applies it.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stations::{GUEST, REMOTE};
use crate::{
    runner::Netpath,
    topology::{
        NetNs, Scratch, definitions,
        two_hypervisors::{Attachment, Nic},
    },
};

/// The programs that take a tenant's frames on the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UplinkMode {
    /// What netpath chooses; on a veth, TC.
    Auto,
    /// XDP, and TC for what XDP hands on.
    Xdp,
    /// TC only.
    Tc,
}

/// netpath applied in a namespace; its programs go with it.
#[derive(Debug)]
pub struct Subject {
    netpath: Netpath,
    zone: Value,
    scratch: Scratch,
}

impl Subject {
    /// Applies a zone with one guest on this hypervisor and one station on another.
    ///
    /// # Errors
    /// What netpath said when it refused.
    pub fn apply(hypervisor: &NetNs, mode: UplinkMode) -> Result<Self> {
        let scratch = Scratch::new()?;
        let netpath = instance(&scratch, hypervisor)?;
        let subject = Self { netpath, zone: zone(mode), scratch };
        subject.change(|_| {})?;
        Ok(subject)
    }

    /// Applies the same zone with a change.
    ///
    /// # Errors
    /// What netpath said when it refused.
    pub fn change(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let mut zone = self.zone.clone();
        change(&mut zone);
        let file = self.scratch.write("zone.yaml", &zone.to_string())?;
        let output = self.netpath.run(self.netpath.apply_args(&file));
        ensure!(output.code == 0, "netpath apply: {}{}", output.stdout, output.stderr);
        Ok(())
    }

    /// What a verb of netpath prints with `-o json`.
    ///
    /// # Errors
    /// When it prints something else.
    pub fn json(&self, verb: &[&str]) -> Result<Value> {
        let output = self.netpath.run(verb.iter().copied().chain(["-o", "json"]));
        serde_json::from_str(&output.stdout).with_context(|| format!("netpath {}: {}", verb.join(" "), output.stderr))
    }

    /// The instance.
    pub fn netpath(&self) -> &Netpath {
        &self.netpath
    }

    /// What netpath has refused so far, for messages.
    pub fn drops(&self) -> String {
        self.netpath.run(["show", "drops"]).stdout + &self.netpath.run(["show", "fdb"]).stdout
    }
}

/// An instance of netpath that plays the first host.
///
/// # Errors
/// When the scratch folder cannot be written.
pub fn instance(scratch: &Scratch, hypervisor: &NetNs) -> Result<Netpath> {
    let state = scratch.path().join("state");
    fs::create_dir_all(&state)?;
    Ok(Netpath::new(hypervisor, scratch.bpffs().join("netpath"), state, "hv1"))
}

fn zone(mode: UplinkMode) -> Value {
    let tenant = "blue";
    let nics = [(GUEST, 0), (REMOTE, 1)].map(|(station, host)| {
        let number = station.mac[5];
        Nic { tenant, number, host, attachment: Attachment::Veth }
    });
    let mut zone = definitions::vxlan(2, &nics);
    match mode {
        UplinkMode::Auto => {}
        UplinkMode::Xdp => zone["hosts"][0]["uplink_mode"] = json!("xdp"),
        UplinkMode::Tc => zone["hosts"][0]["uplink_mode"] = json!("tc"),
    }
    zone
}
