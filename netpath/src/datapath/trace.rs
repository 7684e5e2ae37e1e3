//! A packet through the real programs, without consequences.
//!
//! ```text
//!   the object of this build, loaded a second time, TRACE set: steps are told, no copy is sent
//!     tables that only the loader writes ──► the live ones: definitions, rules, routes, stations
//!     tables that the data path writes   ──► private copies of their rows: connections, ports given out, neighbours
//!     scratch, counters, the ring, STAGES ──► private, empty or of this load's own programs
//! ```
//!
//! So the programs do all that they do for a packet on a wire, and what they write goes with the trace. `bpf_redirect` in a
//! test run sends nothing.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, PerCpuHashMap, ProgramArray, RingBuf},
    programs::{Program, TestRun as _, TestRunOptions},
};
use netpath_common::{
    DropReason,
    maps::{
        self, CAPTURE_BYTES, DropKey, Event, MapKind, MapShape, Watch, event_kind,
        shape::{self, DROPS, EVENTS, WATCH},
    },
};
use rustix::io::Errno;

use super::{
    DatapathError, Hook, Kernel, Root, capacity, check_layouts, error::errno, load::load_program, object, privilege,
    stages, syscall,
};

/// What only the loader writes. What is not named here the trace has a copy of: a map that is forgotten costs time, and is
/// not written either.
const SHARED: &[MapShape] = &[
    shape::PORTS,
    shape::ADDRESSES,
    shape::NETWORKS,
    shape::UPLINKS,
    shape::SEGMENTS,
    shape::ENDPOINTS,
    shape::FDB,
    shape::NEIGHBOURS,
    shape::TUNNELS,
    shape::FLOODS,
    shape::NAMES,
    shape::RETIRED,
    shape::GATEWAYS,
    shape::RULES,
    shape::ROUTES,
    shape::PUBLIC_ADDRESS,
    shape::STATIC_NAT,
    shape::FORWARDS,
    shape::UPSTREAMS,
];

/// Room for what a program puts around a packet.
const GROWTH: usize = 512;

/// Programs and tables of a trace; gone when it is dropped.
pub struct Trace {
    ebpf: Ebpf,
}

/// What a program did to a packet.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The program's return value: an XDP or a TC action.
    pub action: i32,
    /// The packet afterwards.
    pub frame: Vec<u8>,
    /// What was told, in order.
    pub events: Vec<Event>,
    /// What was counted as refused, by network.
    pub drops: Vec<(u32, DropReason)>,
}

impl Trace {
    /// Loads the programs over the tables as they are now.
    ///
    /// # Errors
    /// When nothing is applied, or the kernel refuses.
    pub fn load(root: &Root) -> Result<Self, DatapathError> {
        privilege::demand_for_programs()?;
        check_layouts(root)?;
        let is_shared = |shape: &MapShape| SHARED.iter().any(|shared| shared.name == shape.name);
        let decap_l3 = u32::from(Kernel::probe()?.has_decap_l3);
        let mut loader = EbpfLoader::new();
        loader.override_global("DECAP_L3", &decap_l3, true).override_global("TRACE", &1_u32, true);
        for shape in maps::ALL {
            loader.map_max_entries(shape.name, capacity(root, shape)?);
            if is_shared(shape) {
                loader.map_pin_path(shape.name, root.map(shape.name));
            }
        }
        let ebpf =
            loader.load(object::bytes()?).map_err(|e| DatapathError::failed("load the BPF object to trace with", e))?;
        let mut trace = Self { ebpf };
        for shape in maps::ALL.iter().filter(|shape| !is_shared(shape)) {
            trace.copy(root, shape)?;
        }
        trace.load_stages()?;
        for hook in Hook::ALL {
            load_program(&mut trace.ebpf, hook.name())?;
        }
        trace.watch()?;
        Ok(trace)
    }

    /// Copies the rows of a table that the data path writes; those of processors are its own.
    fn copy(&self, root: &Root, shape: &MapShape) -> Result<(), DatapathError> {
        let is_watchers = shape.name == WATCH.name;
        let (Some(Map::HashMap(to) | Map::LruHashMap(to) | Map::Array(to)), false) =
            (self.ebpf.map(shape.name), is_watchers)
        else {
            return Ok(());
        };
        let fail = |e| DatapathError::failed(format!("open map {}", shape.name), e);
        let from = MapData::from_pin(root.map(shape.name)).map_err(fail)?;
        debug_assert!(matches!(shape.kind, MapKind::Hash | MapKind::LruHash | MapKind::Array));
        syscall::copy(&from, to, shape).map_err(|e| DatapathError::failed(format!("copy map {}", shape.name), e))
    }

    /// This load's programs, to be handed on to among themselves.
    fn load_stages(&mut self) -> Result<(), DatapathError> {
        for (map, programs) in &stages::ALL {
            for (row, name) in *programs {
                let fail = |what: &str| format!("{what} program {name} to trace with");
                let program = load_program(&mut self.ebpf, name)?;
                let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?));
                let fd = fd.map_err(|e| DatapathError::failed(fail("open"), e))?;
                let mut stages: ProgramArray<_> = self.map_mut(map)?;
                stages.set(*row, &fd, 0).map_err(|e| DatapathError::failed(fail("set"), e))?;
            }
        }
        Ok(())
    }

    /// Has everything told.
    fn watch(&mut self) -> Result<(), DatapathError> {
        let kinds = [event_kind::DROP, event_kind::EXHAUSTION, event_kind::CONNECTION, event_kind::EXIT];
        let watch = Watch {
            until_ns: u64::MAX,
            kinds: kinds.iter().fold(0, |bits, kind| bits | 1 << kind),
            rate: u32::MAX,
            bytes: CAPTURE_BYTES as u32,
            ..Watch::default()
        };
        let mut row: Array<_, Watch> = self.map_mut(&WATCH)?;
        row.set(0, watch, 0).map_err(|e| DatapathError::failed("write map WATCH", e))
    }

    fn map_mut<'e, T>(&'e mut self, shape: &MapShape) -> Result<T, DatapathError>
    where
        T: TryFrom<&'e mut Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.map_mut(shape.name).ok_or(DatapathError::NotInObject { what: "map", name: shape.name })?;
        T::try_from(map).map_err(|e| DatapathError::failed(format!("open map {}", shape.name), e))
    }

    /// Runs a frame through the program of a hook, as if it had come in on a device of this namespace.
    ///
    /// # Errors
    /// When the kernel takes the frame for none: shorter than an Ethernet header, longer than a page or two.
    pub fn run(&mut self, hook: Hook, ifindex: u32, frame: &[u8]) -> Result<Ran, DatapathError> {
        let mut after = vec![0; frame.len() + GROWTH];
        let ctx = if hook.is_xdp() { xdp_context(ifindex, frame.len()) } else { skb_context(ifindex) };
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: Some(&ctx),
            ..TestRunOptions::default()
        };
        let name = hook.name();
        let result = match self.ebpf.program(name) {
            Some(Program::SchedClassifier(program)) => program.test_run(options),
            Some(Program::Xdp(program)) => program.test_run(options),
            _ => return Err(DatapathError::NotInObject { what: "program", name }),
        };
        let result = result.map_err(|e| match least(hook, frame) {
            (least, what) if frame.len() < least && errno(&e) == Some(Errno::INVAL.raw_os_error()) => {
                DatapathError::ShortFrame { length: frame.len(), what, least }
            }
            _ => DatapathError::failed(format!("run program {name} over a frame of {} bytes", frame.len()), e),
        })?;
        after.truncate(result.data_size_out as usize);
        Ok(Ran { action: result.return_value as i32, frame: after, events: self.events()?, drops: self.drops()? })
    }

    fn events(&mut self) -> Result<Vec<Event>, DatapathError> {
        let mut ring: RingBuf<_> = self.map_mut(&EVENTS)?;
        let mut events = Vec::new();
        while let Some(record) = ring.next() {
            let event = record.get(..size_of::<Event>());
            events.extend(event.map(bytemuck::pod_read_unaligned::<Event>));
        }
        Ok(events)
    }

    fn drops(&mut self) -> Result<Vec<(u32, DropReason)>, DatapathError> {
        let mut rows: PerCpuHashMap<_, DropKey, u64> = self.map_mut(&DROPS)?;
        let fail = |e| DatapathError::failed("read map DROPS", e);
        let keys: Vec<DropKey> = rows.keys().collect::<Result<_, _>>().map_err(fail)?;
        for key in &keys {
            rows.remove(key).map_err(fail)?;
        }
        Ok(keys.iter().filter_map(|key| Some((key.network, DropReason::from_code(key.reason)?))).collect())
    }
}

/// What a test run may want of a frame, and what that is: newer kernels run nothing over an skb of IP that has not its header
/// (`bpf_prog_test_run_skb`, net/bpf/test_run.c).
fn least(hook: Hook, frame: &[u8]) -> (usize, &'static str) {
    match frame.get(12..14) {
        Some([0x08, 0x00]) if !hook.is_xdp() => (14 + 20, "the headers of Ethernet and IPv4"),
        Some([0x86, 0xdd]) if !hook.is_xdp() => (14 + 40, "the headers of Ethernet and IPv6"),
        _ => (14, "an Ethernet header"),
    }
}

/// A `struct __sk_buff` of a packet from a device.
fn skb_context(ifindex: u32) -> Vec<u8> {
    const IFINDEX: usize = 40;
    let mut ctx = vec![0; 192];
    ctx[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    ctx
}

/// A `struct xdp_md` of a frame on a device.
fn xdp_context(ifindex: u32, len: usize) -> Vec<u8> {
    let mut ctx = vec![0; 24];
    ctx[4..8].copy_from_slice(&(len as u32).to_ne_bytes());
    ctx[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    ctx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_to_have_an_ethernet_header_and_as_an_skb_that_of_ip() {
        let frame = |kind: [u8; 2]| [&[2; 12][..], &kind].concat();
        let of = |hook, kind| least(hook, &frame(kind)).0;
        assert_eq!([of(Hook::FromGuest, [8, 0]), of(Hook::FromGuest, [0x86, 0xdd])], [34, 54]);
        assert_eq!([of(Hook::FromUplinkXdp, [8, 0]), of(Hook::FromGuest, [8, 6])], [14, 14]);
        assert_eq!(least(Hook::FromGuest, &[2; 13]), (14, "an Ethernet header"));
    }
}
