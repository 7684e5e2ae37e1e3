//! What faults are made in: two hypervisors and their guests, the first one's pins and history on file systems of its own.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    processes::part,
    traffic::{Comer, Traffic},
};
use crate::{
    agent::Agent,
    connections::{Connections, gateway_of},
    guest::{PATIENCE, RawGuest},
    packet::{Mac, mutate::Random},
    runner::{Netpath, Output},
    topology::{Mount, Offloads, Tap, TwoHypervisors, two_hypervisors::Attachment},
};

/// The device that comes and goes.
pub(super) const DEVICE: &str = "vnet14";
/// Rows of FLOWS and of BINDINGS on the first hypervisor: few, so that faults can fill them.
const FLOWS: usize = 4096;
const BINDINGS: usize = 1024;
/// Connections that live through all faults.
const CONNECTIONS: usize = 64;

/// The site, up until it is dropped.
pub(super) struct Lab {
    pub(super) traffic: Traffic,
    pub(super) connections: Connections<Arc<TwoHypervisors>>,
    /// The first hypervisor's, at which faults are made.
    pub(super) netpath: Netpath,
    /// The document that is in force between faults.
    pub(super) whole: PathBuf,
    /// The same without a NIC, and with a rule more.
    pub(super) fewer: PathBuf,
    /// What agents follow.
    pub(super) followed: PathBuf,
    changes: AtomicU32,
    /// Processes that were killed before their end.
    kills: AtomicU64,
    /// How long verbs take, by their names: the longest time so far.
    took: Mutex<BTreeMap<String, Duration>>,
    /// How long an apply takes that has programs to load and everything to attach.
    pub(super) usual: Duration,
    /// The gateway's MAC address in green's network.
    pub(super) gateway: Mac,
    comer: Comer,
    pub(super) bpffs: Mount,
    pub(super) state: Mount,
    pub(super) topology: Arc<TwoHypervisors>,
}

impl Lab {
    /// Builds it, with everything in force and under traffic.
    pub(super) fn build() -> Result<Self> {
        let mut builder = TwoHypervisors::builder().with_internet();
        for (tenant, number) in [("blue", 15), ("blue", 16), ("green", 17), ("green", 18), ("green", 19)] {
            builder = builder.nic(tenant, number, 0, Attachment::RawTap);
        }
        let topology = Arc::new(builder.build()?);
        let folder = topology.scratch().path();
        let bpffs = Mount::new("bpf", folder.join("own-bpffs"), "")?;
        let state = Mount::new("tmpfs", folder.join("own-disk"), "size=4m")?;
        let host = &topology.hosts[0];
        let netpath = Netpath::new(&host.ns, bpffs.path().join("hv1"), state.path().join("state"), "hv1");
        fs::create_dir_all(netpath.state_dir())?;
        let document = document(&topology);
        let whole = topology.scratch().write("whole.yaml", &text(&document))?;
        let fewer = topology.scratch().write("fewer.yaml", &text(&without(document)))?;
        let followed = folder.join("followed.yaml");
        let comer = Comer::default();
        put(&comer, &topology)?;
        let started = Instant::now();
        netpath.apply(&whole);
        let usual = started.elapsed();
        topology.hosts[1].netpath.apply(&whole);
        let gateway = gateway_of(&topology, "green");
        let traffic = Traffic::begin(&topology, &comer, gateway);
        let connections = Connections::open(topology.clone(), CONNECTIONS);
        traffic.flows();
        Ok(Self {
            traffic,
            connections,
            netpath,
            whole,
            fewer,
            followed,
            changes: AtomicU32::default(),
            kills: AtomicU64::default(),
            took: Mutex::default(),
            usual,
            gateway,
            comer,
            bpffs,
            state,
            topology,
        })
    }

    /// Opens connections anew, after a fault that they may be lost by.
    pub(super) fn reconnect(&mut self) {
        self.connections = Connections::open(self.topology.clone(), CONNECTIONS);
    }

    /// Starts a verb and kills it at any point of its work; what it gave, if it has ended before. How long that work takes shows
    /// the first time, which is let go to its end.
    #[track_caller]
    pub(super) fn kill(&self, args: &[&str], random: &mut Random) -> Option<Output> {
        let verb = args[0].to_owned();
        let held = || self.took.lock().unwrap_or_else(PoisonError::into_inner);
        let most = held().get(&verb).copied();
        let started = Instant::now();
        let ended = self.kill_after(args, most.map_or(PATIENCE, |most| part(random, most)));
        if ended.is_some() {
            held().insert(verb, started.elapsed().max(most.unwrap_or_default()));
        }
        ended
    }

    /// Starts an apply and kills it at any point of one that has everything to do, if it has not ended before.
    #[track_caller]
    pub(super) fn kill_apply(&self, document: &Path, random: &mut Random) {
        let args = self.netpath.apply_args(document);
        self.kill_after(&args.iter().map(String::as_str).collect::<Vec<_>>(), part(random, self.usual));
    }

    #[track_caller]
    fn kill_after(&self, args: &[&str], delay: Duration) -> Option<Output> {
        let ended = self.netpath.killed_after(args, delay);
        match &ended {
            None => drop(self.kills.fetch_add(1, Ordering::Relaxed)),
            Some(output) => assert!(!output.stderr.starts_with("error: "), "{}: {}", args.join(" "), output.stderr),
        }
        ended
    }

    /// Kills an agent.
    pub(super) fn kill_agent(&self, mut agent: Agent) {
        agent.kill();
        self.kills.fetch_add(1, Ordering::Relaxed);
    }

    /// How many processes were killed before their end until now.
    pub(super) fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    /// One of the two documents.
    pub(super) fn either(&self, random: &mut Random) -> &PathBuf {
        if random.below(2) == 0 { &self.whole } else { &self.fewer }
    }

    /// Puts a document into the place of what agents follow, as an editor does: by a new file, which is renamed over it. It is a
    /// change for every agent, also after another document was applied beside it: it differs from the last one by a comment.
    pub(super) fn follow(&self, document: &PathBuf) {
        let change = self.changes.fetch_add(1, Ordering::Relaxed);
        let fresh = self.followed.with_extension("new");
        fs::read_to_string(document)
            .and_then(|text| fs::write(&fresh, format!("# Change {change}.\n{text}")))
            .and_then(|()| fs::rename(&fresh, &self.followed))
            .expect("the scratch folder is writable");
    }

    /// Deletes the device that comes and goes.
    pub(super) fn delete_device(&self) {
        *self.comer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes it again.
    pub(super) fn make_device(&self) {
        put(&self.comer, &self.topology).expect("a tap can be made");
    }

    /// Where the history's disk is filled.
    pub(super) fn filler(&self) -> PathBuf {
        self.state.path().join("filler")
    }

    /// Takes back what a fault has left that was not survived, and so did not come to its end.
    pub(super) fn mend(&self) -> Result<()> {
        if !self.bpffs.is_mounted() {
            self.bpffs.mount()?;
        }
        if self.comer.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.make_device();
        }
        let _ = fs::remove_file(self.filler());
        Ok(())
    }

    /// The first hypervisor's folder of maps and programs, of whichever ABI.
    pub(super) fn version_folder(&self) -> PathBuf {
        let entries = fs::read_dir(self.netpath.root()).expect("there are pins").flatten().map(|entry| entry.path());
        let is_version = |path: &PathBuf| path.join("maps").exists();
        entries.into_iter().find(is_version).expect("there are maps")
    }
}

fn put(comer: &Mutex<Option<RawGuest>>, topology: &TwoHypervisors) -> Result<()> {
    let tap =
        topology.hosts[0].ns.run(|| Tap::new(DEVICE, Offloads::None)).with_context(|| format!("making {DEVICE}"))?;
    *comer.lock().unwrap_or_else(PoisonError::into_inner) = Some(RawGuest::on_tap("blue 14", tap));
    Ok(())
}

fn document(topology: &TwoHypervisors) -> Value {
    let mut document = topology.gateway_definitions();
    document["hosts"][0]["capacities"] = json!({"flows": FLOWS, "bindings": BINDINGS});
    let [blue, green] = [0, 1].map(|n| document["networks"][n].clone());
    document["networks"] = json!([with_comer(blue), fillable(green)]);
    document
}

/// The network with the NIC whose device comes and goes.
fn with_comer(mut network: Value) -> Value {
    let nic = json!({
        "instance": "blue-14", "mac": "02:00:0a:01:01:0e", "ip": "10.1.1.14", "host": "hv1", "device": DEVICE,
    });
    network["nics"].as_array_mut().expect("a list").push(nic);
    network
}

/// The network with leave to fill the tables, and rows that are soon gone when nobody answers.
fn fillable(mut network: Value) -> Value {
    network["connection_limit"] = FLOWS.into();
    network["timeouts"] = json!({"udp_one_way": 2});
    network
}

/// The document without green's NIC 19, and with another rule for blue, which judges its connections again.
fn without(mut document: Value) -> Value {
    let nics = document["networks"][1]["nics"].as_array_mut().expect("a list");
    nics.retain(|nic| nic["instance"] != "green-19");
    let rules = document["networks"][0]["firewall"]["egress"].as_array_mut().expect("a list");
    rules.push(json!({"protocol": "udp", "ports": "19"}));
    document
}

/// The document as YAML that is still a document wherever a NIC ends: networks last, and their NICs last in each.
fn text(document: &Value) -> String {
    let mut text = String::new();
    let of = |value: &Value| value.as_object().expect("an object").clone();
    let mut zone = of(document);
    let networks = zone.remove("networks").expect("networks");
    zone.iter().for_each(|(key, value)| text += &format!("{key}: {value}\n"));
    text += "networks:\n";
    for network in networks.as_array().into_iter().flatten() {
        let mut network = of(network);
        let nics = network.remove("nics").expect("NICs");
        text += "  -\n";
        network.iter().for_each(|(key, value)| text += &format!("    {key}: {value}\n"));
        text += "    nics:\n";
        nics.as_array().into_iter().flatten().for_each(|nic| text += &format!("      - {nic}\n"));
    }
    text
}
