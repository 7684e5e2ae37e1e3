//! The standard topology: hypervisors on one LAN, and two tenants with the same addresses on each.
//!
//! ```text
//!   guests ── vnetN ┐                                  ┌ vnetN ── guests
//!              hv1 netpath ── eth1 ═ port1 [wire: lan] port2 ═ eth1 ── netpath hv2
//! ```
//!
//! The `wire` namespace is a bridge; a packet socket on `portN` sees what hypervisor N puts on the wire and sends
//! straight to it. Every sum on the wire is done, as a real NIC does it, and tags are in the frame.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Internet, Link, NetNs, Offloads, Scratch, Tap, definitions};
use crate::{
    guest::{KernelGuest, PacketSocket, RawGuest, Relay, kernel::NIC},
    packet::{Endpoint, Mac},
    runner::Netpath,
};

/// The uplink of every hypervisor.
pub const UPLINK: &str = "eth1";
/// The gateway address of both tenants' networks.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
/// The two tenants; their VNIs are 5001 and 5002, their VLANs 101 and 102.
pub const TENANTS: [&str; 2] = ["blue", "green"];

/// What is behind a NIC's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A tap whose other side is the test.
    RawTap,
    /// A tap with virtio offloads, and a kernel guest behind it.
    Tap,
    /// A veth into a kernel guest; GRO on in the guest, so that XDP can redirect to it.
    Veth,
}

/// One NIC of a tenant.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    /// The tenant's name.
    pub tenant: &'static str,
    /// The last octet of its addresses.
    pub number: u8,
    /// The hypervisor it is on, from 0.
    pub host: usize,
    /// What is behind its device.
    pub attachment: Attachment,
}

impl Nic {
    /// Its addresses.
    pub fn station(&self) -> Endpoint {
        Endpoint::numbered(self.number)
    }

    /// Its device on the hypervisor: `vnet` with a number that differs between the tenants.
    pub fn device(&self) -> String {
        let tenant = usize::from(self.tenant != TENANTS[0]);
        format!("vnet{}", tenant * 100 + usize::from(self.number))
    }
}

/// One hypervisor of the topology.
#[derive(Debug)]
pub struct Hypervisor {
    /// Its namespace.
    pub ns: NetNs,
    /// Its netpath.
    pub netpath: Netpath,
    /// Its underlay address.
    pub address: Ipv4Addr,
}

/// How to build the topology.
#[derive(Clone, Debug)]
pub struct Builder {
    hosts: usize,
    mtu: u32,
    whole: bool,
    bridged: bool,
    internet: bool,
    nics: Vec<Nic>,
}

/// The topology, up until it is dropped.
#[derive(Debug)]
pub struct TwoHypervisors {
    /// The hypervisors, hv1 first.
    pub hosts: Vec<Hypervisor>,
    nics: Vec<Nic>,
    raw: BTreeMap<(&'static str, u8), RawGuest>,
    kernel: BTreeMap<(&'static str, u8), KernelGuest>,
    wire: NetNs,
    internet: Option<Internet>,
    scratch: Scratch,
}

/// A hypervisor's end of the wire, for a test that plays the rest of the network.
pub type Wire = RawGuest;

impl TwoHypervisors {
    /// Two hypervisors, an underlay MTU of 1600 and, for both tenants, NIC 11 on hv1, 12 on hv2 and 13 on hv1.
    pub fn builder() -> Builder {
        let nics = TENANTS.iter().flat_map(|tenant| {
            [(11, 0), (12, 1), (13, 0)].map(|(number, host)| Nic {
                tenant,
                number,
                host,
                attachment: Attachment::RawTap,
            })
        });
        Builder { hosts: 2, mtu: 1600, whole: false, bridged: false, internet: false, nics: nics.collect() }
    }

    /// The tenants' networks on VXLAN as a definitions document, for tests to change before they apply it.
    pub fn vxlan_definitions(&self) -> Value {
        definitions::vxlan(self.hosts.len(), &self.nics)
    }

    /// The tenants' networks on VLANs of the same uplink.
    pub fn vlan_definitions(&self) -> Value {
        definitions::vlan(self.hosts.len(), &self.nics)
    }

    /// The tenants' networks on VXLAN, with NAT, forwarded ports and a firewall.
    pub fn gateway_definitions(&self) -> Value {
        definitions::with_gateways(self.vxlan_definitions())
    }

    /// The same on VLANs of the uplink.
    pub fn vlan_gateway_definitions(&self) -> Value {
        definitions::with_gateways(self.vlan_definitions())
    }

    /// The public side.
    #[track_caller]
    pub fn internet(&self) -> &Internet {
        self.internet.as_ref().expect("a topology with the Internet")
    }

    /// Writes a document to a file of this name and gives its path.
    pub fn write(&self, name: &str, definitions: &Value) -> PathBuf {
        self.scratch.write(name, &definitions.to_string()).expect("the scratch folder is writable")
    }

    /// Applies a document on every hypervisor.
    pub fn apply(&self, definitions: &Value) {
        let file = self.write("zone.yaml", definitions);
        for host in &self.hosts {
            host.netpath.apply(&file);
        }
    }

    /// The guest behind a raw tap.
    #[track_caller]
    pub fn raw(&self, tenant: &str, number: u8) -> &RawGuest {
        self.raw.iter().find(|(key, _)| **key == (tenant, number)).map(|(_, guest)| guest).expect("a raw NIC")
    }

    /// The kernel guest behind a veth or tap.
    #[track_caller]
    pub fn kernel(&self, tenant: &str, number: u8) -> &KernelGuest {
        self.kernel.iter().find(|(key, _)| **key == (tenant, number)).map(|(_, guest)| guest).expect("a kernel NIC")
    }

    /// The wire's end at a hypervisor: it receives what the hypervisor sends, and sends to it.
    pub fn wire(&self, host: usize) -> Wire {
        let device = port(host);
        let socket = self.wire.run(|| PacketSocket::open(&device)).expect("the wire's port exists");
        RawGuest::on_socket(&format!("wire of hv{}", host + 1), socket)
    }

    /// Gives the wire's port at a hypervisor another MTU, as a switch between them may have.
    pub fn narrow_wire(&self, host: usize, mtu: u32) {
        self.wire.run(|| Link::named(&port(host)).mtu(mtu)).expect("the wire's port exists");
    }

    /// Lets the wire take frames that XDP sends, as a NIC's does: a veth takes them while its GRO is on.
    pub fn wire_takes_xdp(&self) {
        for host in 0..self.hosts.len() {
            self.wire.run(|| Link::named(&port(host)).offload("rx-gro", true)).expect("the wire's port has GRO");
        }
    }

    /// A station of its own on the wire, beside the hypervisors.
    pub fn on_wire(&self, station: Endpoint) -> Result<KernelGuest> {
        const MTU: u32 = 1500;
        let ns = NetNs::new("outside")?;
        ns.run(|| wire_end(&Link::veth(NIC, "outside", &self.wire)?, MTU))?;
        self.wire.run(|| -> Result<()> {
            let end = Link::named("outside");
            wire_end(&end, MTU)?;
            end.enslave_to(&Link::named("lan"))
        })?;
        KernelGuest::new(ns, station, None, None)
    }

    /// The MAC of a hypervisor's uplink, or of the bridge above it.
    pub fn uplink_mac(&self, host: usize) -> Mac {
        self.hosts[host].ns.run(|| Link::named(UPLINK).read_mac()).expect("the uplink exists")
    }

    /// (MAC, address) of a hypervisor as a tunnel endpoint.
    pub fn endpoint(&self, host: usize) -> (Mac, Ipv4Addr) {
        (self.uplink_mac(host), self.hosts[host].address)
    }

    /// The private folder, with the bpffs.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Another instance of netpath on a hypervisor, with its own root.
    pub fn instance(&self, host: usize, name: &str) -> Netpath {
        instance(&self.scratch, &self.hosts[host].ns, name, host)
    }
}

impl Builder {
    /// The underlay's MTU.
    pub fn underlay_mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Has the underlay take super-packets whole, with their sums still to be done: what a NIC does for its host costs nothing here.
    pub fn whole_on_the_wire(mut self) -> Self {
        self.whole = true;
        self
    }

    /// More hypervisors than two; those above the second have no NICs.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Puts the uplink into a bridge `cloudbr0` that holds the host's address, as CloudStack does.
    pub fn behind_cloudbr0(mut self) -> Self {
        self.bridged = true;
        self
    }

    /// Gives every hypervisor a device on a public link, with the Internet behind it.
    pub fn with_internet(mut self) -> Self {
        self.internet = true;
        self
    }

    /// What is behind every NIC.
    pub fn attached(mut self, attachment: Attachment) -> Self {
        self.nics.iter_mut().for_each(|nic| nic.attachment = attachment);
        self
    }

    /// What is behind the NICs with this number.
    pub fn attach(mut self, number: u8, attachment: Attachment) -> Self {
        self.nics.iter_mut().filter(|nic| nic.number == number).for_each(|nic| nic.attachment = attachment);
        self
    }

    /// One more NIC for a tenant.
    pub fn nic(mut self, tenant: &'static str, number: u8, host: usize, attachment: Attachment) -> Self {
        self.nics.push(Nic { tenant, number, host, attachment });
        self
    }

    /// Builds it.
    pub fn build(self) -> Result<TwoHypervisors> {
        let scratch = Scratch::new()?;
        let wire = NetNs::new("wire")?;
        wire.run(|| Link::bridge("lan")?.up())?;
        let mut hosts = Vec::new();
        for index in 0..self.hosts {
            hosts.push(self.hypervisor(&wire, &scratch, index)?);
        }
        let internet = self.internet.then(Internet::new).transpose()?;
        if let Some(internet) = &internet {
            for (index, host) in hosts.iter().enumerate() {
                internet.attach(&host.ns, index)?;
            }
        }
        let (mut raw, mut kernel) = (BTreeMap::new(), BTreeMap::new());
        for nic in &self.nics {
            let hypervisor = &hosts[nic.host].ns;
            let context = || format!("NIC {} of {}", nic.number, nic.tenant);
            match nic.attachment {
                Attachment::RawTap => {
                    let tap = hypervisor.run(|| Tap::new(&nic.device(), Offloads::None)).with_context(context)?;
                    raw.insert((nic.tenant, nic.number), RawGuest::on_tap(&context(), tap));
                }
                Attachment::Tap | Attachment::Veth => {
                    kernel.insert((nic.tenant, nic.number), kernel_guest(hypervisor, nic).with_context(context)?);
                }
            }
        }
        Ok(TwoHypervisors { hosts, nics: self.nics, raw, kernel, wire, internet, scratch })
    }

    fn hypervisor(&self, wire: &NetNs, scratch: &Scratch, index: usize) -> Result<Hypervisor> {
        let ns = NetNs::new(&format!("hv{}", index + 1))?;
        let address = Ipv4Addr::new(192, 0, 2, 11 + index as u8);
        ns.run(|| -> Result<()> {
            let uplink = Link::veth(UPLINK, &port(index), wire)?;
            self.wire_end(&uplink)?;
            if self.bridged {
                let bridge = Link::bridge("cloudbr0")?;
                bridge.mac(uplink.read_mac()?)?;
                uplink.enslave_to(&bridge)?;
                bridge.up()?;
                bridge.address(address, 24)
            } else {
                uplink.address(address, 24)
            }
        })?;
        wire.run(|| -> Result<()> {
            let end = Link::named(&port(index));
            self.wire_end(&end)?;
            end.enslave_to(&Link::named("lan"))
        })?;
        let netpath = instance(scratch, &ns, &format!("hv{}", index + 1), index);
        Ok(Hypervisor { ns, netpath, address })
    }

    /// One end of an underlay's wire.
    fn wire_end(&self, link: &Link) -> Result<()> {
        if !self.whole {
            return wire_end(link, self.mtu);
        }
        link.mtu(self.mtu)?;
        link.up()
    }
}

fn instance(scratch: &Scratch, ns: &NetNs, name: &str, host: usize) -> Netpath {
    let state = scratch.path().join(format!("state-{name}"));
    fs::create_dir_all(&state).expect("the scratch folder is writable");
    Netpath::new(ns, scratch.bpffs().join(name), state, &format!("hv{}", host + 1))
}

/// The device in the wire's namespace that leads to a hypervisor.
fn port(host: usize) -> String {
    format!("port{}", host + 1)
}

/// Makes a veth end behave like a NIC on a wire: sums are done and tags are in the frame when it sends.
pub(crate) fn wire_end(link: &Link, mtu: u32) -> Result<()> {
    link.mtu(mtu)?;
    link.offload("tx-checksum-ip-generic", false)?;
    link.offload("tx-vlan-hw-insert", false)?;
    link.up()
}

fn kernel_guest(hypervisor: &NetNs, nic: &Nic) -> Result<KernelGuest> {
    let ns = NetNs::new(&format!("{}{}", nic.tenant, nic.number))?;
    let relay = if nic.attachment == Attachment::Tap {
        let outside = hypervisor.run(|| Tap::new(&nic.device(), Offloads::All))?;
        let inside = ns.run(|| Tap::new(NIC, Offloads::All))?;
        Some(Relay::start(outside, inside)?)
    } else {
        hypervisor.run(|| Link::veth(&nic.device(), NIC, &ns)?.up())?;
        ns.run(|| Link::named(NIC).offload("rx-gro", true))?;
        None
    };
    KernelGuest::new(ns, nic.station(), Some(IpAddr::V4(GATEWAY)), relay)
}
