//! Runs programs over frames, and says what they did.

use std::collections::BTreeMap;

use aya::{
    maps::ProgramArray,
    programs::{Program, ProgramError, TestRun as _, TestRunOptions, TestRunResult},
};
use netpath_common::{
    DropReason,
    maps::{Counters, stage},
};
use netpath_tests::packet::{Endpoint, verify_checksums};

use super::Rig;

/// What a program did to a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The program's return value.
    pub action: i32,
    /// The packet afterwards.
    pub bytes: Vec<u8>,
    /// Drops that were counted: (network, reason) and how many.
    pub drops: Vec<((u32, DropReason), u64)>,
    /// Counter rows that moved: slot and by how much.
    pub counters: Vec<(u32, Counters)>,
}

/// A reason for a refusal, and what provokes it.
pub type Provoked = (DropReason, fn(&mut Rig) -> Outcome);

/// TC: on to the next program, or to the kernel.
pub const PASS: i32 = -1;
/// TC: dropped, or consumed.
pub const SHOT: i32 = 2;
/// TC: out of another device.
pub const REDIRECT: i32 = 7;
/// XDP's return values.
pub const XDP_DROP: i32 = 1;
/// On to the kernel.
pub const XDP_PASS: i32 = 2;
/// Out of another device.
pub const XDP_REDIRECT: i32 = 4;

impl Rig {
    /// Runs a TC program over a frame from a device.
    pub fn tc(&mut self, program: &str, ifindex: u32, frame: &[u8]) -> Outcome {
        self.tc_gso(program, ifindex, frame, 0)
    }

    /// Runs a TC program over a super-packet with segments of `gso_size` payload bytes.
    pub fn tc_gso(&mut self, program: &str, ifindex: u32, frame: &[u8], gso_size: u32) -> Outcome {
        self.run(program, &skb_context(ifindex, gso_size), frame)
    }

    /// Runs a TC program without an account of what it did, which takes most of the time. A frame that no kernel
    /// would have let in as far is refused before the program runs.
    pub fn tc_only(&self, program: &str, ifindex: u32, frame: &[u8]) {
        let _ = self.run_only(program, &skb_context(ifindex, 0), frame, &mut vec![0; frame.len() + 1024]);
    }

    /// Runs the XDP program without an account of what it did.
    pub fn xdp_only(&self, frame: &[u8]) {
        let _ = self.run_only("from_uplink_xdp", &self.xdp_context(frame), frame, &mut vec![0; frame.len() + 1024]);
    }

    /// Runs the XDP program over a frame on the uplink.
    pub fn xdp(&mut self, frame: &[u8]) -> Outcome {
        self.run("from_uplink_xdp", &self.xdp_context(frame), frame)
    }

    /// A `struct xdp_md` of a frame on the uplink.
    fn xdp_context(&self, frame: &[u8]) -> [u8; 24] {
        let mut ctx = [0; 24];
        ctx[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        ctx[12..16].copy_from_slice(&self.uplink.to_ne_bytes());
        ctx
    }

    fn run_only(
        &self,
        program: &str,
        ctx: &[u8],
        frame: &[u8],
        bytes: &mut [u8],
    ) -> Result<TestRunResult, ProgramError> {
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(bytes), ctx_in: Some(ctx), ..Default::default() };
        match self.bpf.program(program).unwrap() {
            Program::Xdp(xdp) => xdp.test_run(options),
            Program::SchedClassifier(tc) => tc.test_run(options),
            other => panic!("{program} is a {:?}", other.prog_type()),
        }
    }

    /// Loads a program unless it is loaded: most tests want one, and the verifier takes most of their time.
    pub fn load(&mut self, program: &str) {
        let loaded = match self.bpf.program_mut(program).unwrap() {
            Program::Xdp(xdp) if xdp.fd().is_err() => xdp.load(),
            Program::SchedClassifier(tc) if tc.fd().is_err() => tc.load(),
            _ => Ok(()),
        };
        loaded.unwrap_or_else(|error| panic!("{program}: {error:?}"));
    }

    /// Loads every program, and answers how many instructions the verifier looked at for each.
    pub fn looked_at(&mut self) -> BTreeMap<String, u32> {
        let names: Vec<_> = self.bpf.programs().map(|(name, _)| name.to_owned()).collect();
        let looked_at = |name: String| {
            self.load(&name);
            let info = match self.bpf.program(&name).unwrap() {
                Program::Xdp(xdp) => xdp.info(),
                Program::SchedClassifier(tc) => tc.info(),
                other => panic!("{name} is a {:?}", other.prog_type()),
            };
            (name, info.unwrap().verified_instruction_count().unwrap())
        };
        names.into_iter().map(looked_at).collect()
    }

    /// Takes a program out of its place.
    pub fn remove_stage(&mut self, index: u32) {
        let mut stages = ProgramArray::try_from(self.bpf.map_mut("STAGES").unwrap()).unwrap();
        stages.clear_index(&index).unwrap();
    }

    /// Loads the programs of [`stage`] and puts them in their places.
    pub fn load_stages(&mut self) {
        for (index, _) in stage::PROGRAMS {
            self.load_stage(index);
        }
        for (index, name) in stage::XDP_PROGRAMS {
            self.put_stage("STAGES_XDP", index, name);
        }
    }

    /// Loads one of the programs of [`stage`] and puts it in its place.
    pub fn load_stage(&mut self, index: u32) {
        let (_, name) = stage::PROGRAMS.into_iter().find(|(row, _)| *row == index).unwrap();
        self.put_stage("STAGES", index, name);
    }

    fn put_stage(&mut self, map: &str, index: u32, name: &str) {
        self.load(name);
        let fd = self.bpf.program(name).unwrap().fd().unwrap().try_clone().unwrap();
        let mut stages = ProgramArray::try_from(self.bpf.map_mut(map).unwrap()).unwrap();
        stages.set(index, &fd, 0).unwrap();
    }

    fn run(&mut self, program: &str, ctx: &[u8], frame: &[u8]) -> Outcome {
        self.load(program);
        self.stations_answer();
        let (drops, counters) = (self.drops(), self.counters());
        let mut bytes = vec![0; frame.len() + 1024];
        let result = self.ns.run(|| self.run_only(program, ctx, frame, &mut bytes));
        let result = result.unwrap();
        bytes.truncate(result.data_size_out as usize);
        Outcome {
            action: result.return_value as i32,
            bytes,
            drops: self
                .drops()
                .into_iter()
                .map(|(key, now)| (key, now - drops.get(&key).copied().unwrap_or(0)))
                .filter(|(_, moved)| *moved != 0)
                .collect(),
            counters: self
                .counters()
                .into_iter()
                .map(|(slot, now)| (slot, difference(&now, &counters[&slot])))
                .filter(|(_, moved)| *moved != Counters::default())
                .collect(),
        }
    }

    /// Runs `from_guest` over a frame from A's port in a network.
    #[expect(clippy::wrong_self_convention, reason = "where the packet comes from, no conversion")]
    pub fn from_a(&mut self, network: u32, frame: &[u8]) -> Outcome {
        self.tc("from_guest", self.ports[&(network, 11)], frame)
    }
}

impl Outcome {
    /// Asserts that the packet was refused for one reason, counted once, and left as it was.
    #[track_caller]
    pub fn assert_dropped(&self, network: u32, reason: DropReason) {
        assert_eq!(self.drops, [((network, reason), 1)]);
        assert!([SHOT, XDP_DROP].contains(&self.action), "{self:?}");
    }

    /// Asserts that nothing was refused and that every checksum of the packet is right.
    #[track_caller]
    pub fn assert_sent(&self, action: i32) -> &[u8] {
        assert_eq!((self.action, &self.drops[..]), (action, &[][..]), "{self:?}");
        verify_checksums(&self.bytes).unwrap();
        &self.bytes
    }
}

/// The slot of a station's port.
pub fn slot(network: u32, station: Endpoint) -> u32 {
    network * 100 + u32::from(station.ip.octets()[3])
}

/// One frame from the guest.
pub fn sent(len: usize) -> Counters {
    Counters { from_guest_packets: 1, from_guest_bytes: len as u64, ..Counters::default() }
}

/// One frame to the guest.
pub fn received(len: usize) -> Counters {
    Counters { to_guest_packets: 1, to_guest_bytes: len as u64, ..Counters::default() }
}

/// A `struct __sk_buff` of a packet from a device.
fn skb_context(ifindex: u32, gso_size: u32) -> [u8; 192] {
    const IFINDEX: usize = 40;
    const GSO_SIZE: usize = 176;
    let mut ctx = [0; 192];
    ctx[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    ctx[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&gso_size.to_ne_bytes());
    ctx
}

pub(super) fn sum(a: Counters, b: &Counters) -> Counters {
    combine(&a, b, u64::wrapping_add)
}

fn difference(a: &Counters, b: &Counters) -> Counters {
    combine(a, b, u64::wrapping_sub)
}

fn combine(a: &Counters, b: &Counters, with: impl Fn(u64, u64) -> u64) -> Counters {
    Counters {
        from_guest_packets: with(a.from_guest_packets, b.from_guest_packets),
        from_guest_bytes: with(a.from_guest_bytes, b.from_guest_bytes),
        to_guest_packets: with(a.to_guest_packets, b.to_guest_packets),
        to_guest_bytes: with(a.to_guest_bytes, b.to_guest_bytes),
    }
}
