//! What a look-up in a flow table costs: in the kernel's hash, and in an array whose rows are found by probing.
//!
//! The programs (`netpath-ebpf/src/floor/tables.rs`) make one look-up a run, of connections in scattered order, and count the packet in
//! the row that they find.

use std::{cell::RefCell, path::Path};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, MapData},
    programs::{Program, TestRun as _, TestRunOptions, Xdp},
};
use netpath_common::{
    frame::mix,
    maps::{Flow, FlowKey},
};

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    machine::own_last_cpu,
};

/// The experiment.
pub const NAME: &str = "flow tables: hash and array";
/// Look-ups of one run.
const LOOK_UPS: u32 = 4_000_000;
/// Rows of the array that are tried for a key.
const PROBES: u32 = 16;
/// Bytes of a key, and of a row of each table.
const KEY: usize = size_of::<FlowKey>();
const FLOW: usize = size_of::<Flow>();
const ROW: usize = KEY + 4 + FLOW;
/// Connections, with the names of the variants.
const SIZES: [(u32, [&str; 3]); 2] =
    [(1 << 16, ["64 k: nothing", "64 k: hash", "64 k: array"]), (1 << 20, ["1 M: nothing", "1 M: hash", "1 M: array"])];
const PROGRAMS: [&str; 3] = ["look_up_nothing", "look_up_hash", "look_up_array"];

/// Both tables, with so many connections in each.
struct Filled {
    connections: u32,
    /// Of them, those that the array has a place for.
    placed: u32,
    programs: RefCell<Ebpf>,
}

/// The tables of each size.
pub struct FlowTables(Vec<Filled>);

impl FlowTables {
    /// Fills them. `floor` is the object with the programs.
    ///
    /// # Errors
    /// When a map or a program is refused.
    pub fn new(floor: &Path) -> Result<Self> {
        let object = std::fs::read(floor).with_context(|| format!("reading {}", floor.display()))?;
        Ok(Self(SIZES.iter().map(|(connections, _)| Filled::new(&object, *connections)).collect::<Result<_>>()?))
    }

    /// The experiment.
    pub fn experiment(&self) -> Experiment<'_> {
        let ratio = |name, numerator, denominator| Comparison {
            name,
            metric: 0,
            numerator,
            denominator: Some(denominator),
            bound: Bound::Shown,
        };
        let [(_, few), (_, many)] = SIZES;
        let variants = self.0.iter().zip(SIZES).flat_map(|(filled, (_, names))| {
            PROGRAMS.into_iter().zip(names).map(move |(program, name)| Variant::new(name, move || filled.run(program)))
        });
        Experiment {
            name: NAME,
            metrics: &["ns/look-up"],
            variants: variants.collect(),
            comparisons: vec![
                ratio("hash over array, 64 k connections", few[1], few[2]),
                ratio("hash over array, 1 M connections", many[1], many[2]),
            ],
        }
    }
}

impl Filled {
    /// The hash has room for as many connections as there are, the array for twice as many.
    fn new(object: &[u8], connections: u32) -> Result<Self> {
        let slots = connections * 2;
        let mut loader = EbpfLoader::new();
        let mut programs = loader.map_max_entries("HASHED", connections).map_max_entries("ROWS", slots).load(object)?;
        for name in PROGRAMS {
            let program: &mut Xdp = programs.program_mut(name).context(name)?.try_into()?;
            program.load()?;
        }
        let mut hashed: HashMap<_, [u8; KEY], [u8; FLOW]> =
            HashMap::try_from(programs.take_map("HASHED").context("no map HASHED")?)?;
        let mut rows: Array<_, [u8; ROW]> = Array::try_from(programs.take_map("ROWS").context("no map ROWS")?)?;
        let (mut is_taken, mut placed) = (vec![false; slots as usize], 0);
        for connection in 0..connections {
            let key = key(connection);
            let bytes: [u8; KEY] = bytemuck::cast(key);
            hashed.insert(bytes, [0; FLOW], 0)?;
            let free = (0..PROBES)
                .map(|probe| hash(&key).wrapping_add(probe) & (slots - 1))
                .find(|slot| !is_taken[*slot as usize]);
            if let Some(slot) = free {
                let mut row = [0; ROW];
                row[..KEY].copy_from_slice(&bytes);
                rows.set(slot, row, 0)?;
                is_taken[slot as usize] = true;
                placed += 1;
            }
        }
        Ok(Self { connections, placed, programs: RefCell::new(programs) })
    }

    /// Looks up, and answers nanoseconds for each time.
    fn run(&self, program: &str) -> Result<f64> {
        self.walk(|_| [0, self.connections - 1, self.connections * 2 - 1, 0])?;
        let programs = self.programs.borrow();
        let Some(Program::Xdp(xdp)) = programs.program(program) else { anyhow::bail!("no program {program}") };
        own_last_cpu()?;
        let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: LOOK_UPS, ..TestRunOptions::default() };
        let nanoseconds = xdp.test_run(options)?.duration.as_nanos() as f64;
        drop(programs);
        let mut found = 0;
        self.walk(|walk| {
            found = walk[3];
            walk
        })?;
        let expected = if program == "look_up_array" {
            u64::from(LOOK_UPS) * u64::from(self.placed) / u64::from(self.connections)
        } else {
            LOOK_UPS.into()
        };
        ensure!(u64::from(found) * 1000 >= expected * 999, "{program} has found {found} of {expected}");
        Ok(nanoseconds)
    }

    /// Changes what is walked.
    fn walk(&self, change: impl FnOnce([u32; 4]) -> [u32; 4]) -> Result<()> {
        let mut programs = self.programs.borrow_mut();
        let mut walk: Array<&mut MapData, [u32; 4]> =
            Array::try_from(programs.map_mut("WALK").context("no map WALK")?)?;
        let before = walk.get(&0, 0)?;
        Ok(walk.set(0, change(before), 0)?)
    }
}

/// The key of a connection, as the programs have it.
fn key(connection: u32) -> FlowKey {
    FlowKey {
        side: 1,
        source: connection.to_ne_bytes(),
        destination: [198, 51, 100, 1],
        source_port: connection as u16,
        destination_port: 443,
        protocol: 6,
        pad: [0; 3],
    }
}

/// The hash of a key, as `look_up_array` has it.
fn hash(key: &FlowKey) -> u32 {
    let ports = u32::from(key.source_port) << 16 | u32::from(key.destination_port);
    let addresses = mix(mix(key.side, u32::from_ne_bytes(key.source)), u32::from_ne_bytes(key.destination));
    mix(addresses, ports)
}
