//! What a look-up in a flow table costs: in the kernel's hash, and in an array whose rows are found by probing.
//!
//! The programs (`netpath-ebpf/src/floor/tables.rs`) make one look-up a run, of connections in scattered order, and count the packet in
//! the row that they find.

use std::path::Path;

use anyhow::{Result, ensure};
use aya::maps::{Array, HashMap};
use netpath_common::{
    floor::{PROBES, Row, Walk, hash, key},
    maps::{Flow, FlowKey},
};

use super::{
    experiment::{Bound, Comparison, Experiment, Variant},
    floor::Floor,
    machine::own_last_cpu,
};

/// The experiment.
pub const NAME: &str = "flow tables: hash and array";
/// Look-ups of one run.
const LOOK_UPS: u32 = 4_000_000;
/// Connections, with the names of the variants.
const SIZES: [(u32, [&str; 3]); 2] =
    [(1 << 16, ["64 k: nothing", "64 k: hash", "64 k: array"]), (1 << 20, ["1 M: nothing", "1 M: hash", "1 M: array"])];
const PROGRAMS: [&str; 3] = ["look_up_nothing", "look_up_hash", "look_up_array"];

/// Both tables, with so many connections in each.
struct Filled {
    connections: u32,
    /// Of them, those that the array has a place for.
    placed: u32,
    programs: Floor,
}

/// The tables of each size.
pub struct FlowTables(Vec<Filled>);

impl FlowTables {
    /// Fills them. `floor` is the object with the programs.
    ///
    /// # Errors
    /// When a map or a program is refused.
    pub fn new(floor: &Path) -> Result<Self> {
        Ok(Self(SIZES.iter().map(|(connections, _)| Filled::new(floor, *connections)).collect::<Result<_>>()?))
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
    fn new(floor: &Path, connections: u32) -> Result<Self> {
        let slots = connections * 2;
        let programs = Floor::load(floor, &[], &[("HASHED", connections), ("ROWS", slots)])?;
        programs.prepare(&PROGRAMS)?;
        let mut hashed: HashMap<_, FlowKey, Flow> = HashMap::try_from(programs.take("HASHED")?)?;
        let mut rows: Array<_, Row> = Array::try_from(programs.take("ROWS")?)?;
        let (mut is_taken, mut placed) = (vec![false; slots as usize], 0);
        for connection in 0..connections {
            let key = key(connection);
            hashed.insert(key, Flow::default(), 0)?;
            let free = (0..PROBES)
                .map(|probe| hash(&key).wrapping_add(probe) & (slots - 1))
                .find(|slot| !is_taken[*slot as usize]);
            if let Some(slot) = free {
                rows.set(slot, Row { key, ..Row::default() }, 0)?;
                is_taken[slot as usize] = true;
                placed += 1;
            }
        }
        Ok(Self { connections, placed, programs })
    }

    /// Looks up, and answers nanoseconds for each time.
    fn run(&self, program: &str) -> Result<f64> {
        let walk = Walk { mask: self.connections - 1, slots: self.connections * 2 - 1, ..Walk::default() };
        self.programs.set("WALK", walk)?;
        own_last_cpu()?;
        let nanoseconds = self.programs.repeat(program, 64, LOOK_UPS)?.as_nanos() as f64;
        let Walk { found, .. } = self.programs.get("WALK")?;
        let expected = if program == "look_up_array" {
            u64::from(LOOK_UPS) * u64::from(self.placed) / u64::from(self.connections)
        } else {
            LOOK_UPS.into()
        };
        ensure!(u64::from(found) * 1000 >= expected * 999, "{program} has found {found} of {expected}");
        Ok(nanoseconds)
    }
}
