//! The benchmark's own programs (`netpath-ebpf/src/floor.rs`), loaded: what generates frames, counts them, or does the least there is
//! to do with them.

use std::{
    cell::RefCell,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, Map, MapData, PerCpuArray},
    programs::{Program, SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use netpath_common::floor::LONG;

use super::machine::own_last_cpu;
use crate::topology::{Link, NetNs};

/// Frames that are generated at a time: half of what a veth's ring holds.
pub const BATCH: u32 = 128;

/// The programs, and maps of their own.
pub struct Floor(RefCell<Ebpf>);

/// What is generated, and where.
#[derive(Clone, Copy)]
pub struct Frames<'a> {
    /// The program that writes them.
    pub generator: &'static str,
    /// The namespace of the device.
    pub ns: &'a NetNs,
    /// The device.
    pub device: &'static str,
    /// Length in bytes of each.
    pub len: usize,
    /// How many.
    pub count: u32,
    /// How many at a time.
    pub batch: u32,
}

impl Floor {
    /// Loads the object with these globals, and maps with these numbers of rows.
    ///
    /// # Errors
    /// When there is no such object, or the kernel refuses a map.
    pub fn load(object: &Path, globals: &[(&str, u32)], rows: &[(&'static str, u32)]) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| format!("reading {}", object.display()))?;
        let mut loader = EbpfLoader::new();
        for (name, value) in globals {
            loader.override_global(name, value, true);
        }
        for (map, rows) in rows {
            loader.map_max_entries(map, *rows);
        }
        Ok(Self(RefCell::new(loader.load(&bytes)?)))
    }

    /// Loads XDP programs that are attached nowhere.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn prepare(&self, names: &[&str]) -> Result<()> {
        let mut programs = self.0.borrow_mut();
        names.iter().try_for_each(|name| Ok(xdp(&mut programs, name)?.load()?))
    }

    /// Attaches an XDP program.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn xdp(&self, name: &str, ns: &NetNs, devices: &[&str]) -> Result<()> {
        let mut programs = self.0.borrow_mut();
        let program = xdp(&mut programs, name)?;
        program.load()?;
        for device in devices {
            ns.run(|| program.attach(device, XdpMode::Driver)).with_context(|| format!("{name} on {device}"))?;
        }
        Ok(())
    }

    /// Attaches a TC program, at ingress.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tc(&self, name: &str, ns: &NetNs, devices: &[&str]) -> Result<()> {
        let mut programs = self.0.borrow_mut();
        let program: &mut SchedClassifier = program(&mut programs, name)?.try_into()?;
        program.load()?;
        for device in devices {
            ns.run(|| program.attach(device, TcAttachType::Ingress)).with_context(|| format!("{name} on {device}"))?;
        }
        Ok(())
    }

    /// A map, for whoever fills it; nobody else finds it here any more.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn take(&self, map: &str) -> Result<Map> {
        self.0.borrow_mut().take_map(map).with_context(|| format!("no map {map}"))
    }

    /// Writes the only row of an array.
    ///
    /// # Errors
    /// When there is no such array, or its rows are of another size.
    pub fn set<T: Pod>(&self, map: &str, value: T) -> Result<()> {
        let mut programs = self.0.borrow_mut();
        let mut array: Array<&mut MapData, T> =
            Array::try_from(programs.map_mut(map).with_context(|| format!("no map {map}"))?)?;
        Ok(array.set(0, value, 0)?)
    }

    /// Reads the only row of an array.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn get<T: Pod>(&self, map: &str) -> Result<T> {
        let programs = self.0.borrow();
        let array: Array<&MapData, T> = Array::try_from(programs.map(map).with_context(|| format!("no map {map}"))?)?;
        Ok(array.get(&0, 0)?)
    }

    /// Says what generated frames are made from.
    ///
    /// # Errors
    /// When it is longer than a frame.
    pub fn template(&self, mut bytes: Vec<u8>) -> Result<()> {
        bytes.resize(bytes.len().max(LONG), 0);
        let bytes: [u8; LONG] =
            bytes.try_into().map_err(|b: Vec<u8>| anyhow::anyhow!("a template of {} bytes", b.len()))?;
        self.set("TEMPLATE", bytes)
    }

    /// Frames that the sinks have counted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received(&self) -> Result<u64> {
        let programs = self.0.borrow();
        let map: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(programs.map("RECEIVED").context("no map RECEIVED")?)?;
        Ok(map.get(&0, 0)?.iter().sum())
    }

    /// Runs a program over a frame of zeros, again and again, and answers how long a run has taken.
    ///
    /// # Errors
    /// When it is not loaded.
    pub fn repeat(&self, name: &str, len: usize, times: u32) -> Result<Duration> {
        let programs = self.0.borrow();
        let frame = vec![0; len];
        let options = TestRunOptions { data_in: Some(&frame), repeat: times, ..TestRunOptions::default() };
        Ok(loaded(&programs, name)?.test_run(options)?.duration)
    }

    /// Generates frames, and answers how long that took with all that they set off on this CPU.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn generate(&self, frames: Frames<'_>) -> Result<Duration> {
        let programs = self.0.borrow();
        let program = loaded(&programs, frames.generator)?;
        let frame = vec![0; frames.len];
        frames.ns.run(|| -> Result<Duration> {
            own_last_cpu()?;
            // `xdp_md`: where the frame ends, and the device that it is received on.
            let mut context = [0; 24];
            context[4..8].copy_from_slice(&(frames.len as u32).to_ne_bytes());
            context[12..16].copy_from_slice(&Link::named(frames.device).index()?.to_ne_bytes());
            let start = Instant::now();
            program.test_run(TestRunOptions {
                data_in: Some(&frame),
                ctx_in: Some(&context),
                repeat: frames.count,
                attrs: TestRunAttrs::new().xdp_live_frames(frames.batch),
                ..TestRunOptions::default()
            })?;
            Ok(start.elapsed())
        })
    }
}

fn program<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Program> {
    programs.program_mut(name).with_context(|| format!("no program {name}"))
}

fn xdp<'a>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(program(programs, name)?.try_into()?)
}

/// An XDP program that is loaded, to be run.
fn loaded<'a>(programs: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    match programs.program(name) {
        Some(Program::Xdp(program)) => Ok(program),
        _ => anyhow::bail!("no XDP program {name} in the floor object"),
    }
}
