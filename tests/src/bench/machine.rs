//! What the results were measured on.

use std::fs;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

const STATS_ENABLED: &str = "/proc/sys/kernel/bpf_stats_enabled";
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name and family.
    pub cpu: String,
    /// How many processors there are.
    pub cpus: usize,
    /// Mitigations in force, by vulnerability; what the processor is not affected by is left out.
    pub mitigations: Vec<(String, String)>,
    /// The load average of the last minute, before the first round.
    pub load: f64,
}

impl Machine {
    /// Asks the running machine.
    ///
    /// # Errors
    /// When the kernel counts the time of BPF programs, which slows each run by far more than what is measured.
    pub fn read() -> Result<Self> {
        let stats = fs::read_to_string(STATS_ENABLED).unwrap_or_default();
        ensure!(stats.trim() != "1", "{STATS_ENABLED} is 1; turn it off: sysctl kernel.bpf_stats_enabled=0");
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Ok(Self {
            kernel: netpath::datapath::release(),
            cpu: processor(),
            cpus: std::thread::available_parallelism()?.get(),
            mitigations: mitigations(),
            load: load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
        })
    }

    /// In a few lines.
    pub fn describe(&self) -> String {
        let mut text = format!("kernel {}, {} × {}, load {:.1}\n", self.kernel, self.cpus, self.cpu, self.load);
        for (name, state) in &self.mitigations {
            text += &format!("  {name}: {state}\n");
        }
        text
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let mitigations: serde_json::Map<_, _> =
            self.mitigations.iter().map(|(name, state)| (name.clone(), json!(state))).collect();
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cpus": self.cpus,
            "mitigations": mitigations,
            "load": self.load,
        })
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
    };
    format!("{} (family {}, model {})", field("model name"), field("cpu family"), field("model"))
}

fn mitigations() -> Vec<(String, String)> {
    let mut found: Vec<_> = fs::read_dir(VULNERABILITIES)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let state = fs::read_to_string(entry.path()).unwrap_or_default().trim().to_owned();
            (entry.file_name().to_string_lossy().into_owned(), state)
        })
        .filter(|(_, state)| state != "Not affected")
        .collect();
    found.sort();
    found
}

/// Keeps the calling thread, and what it starts, off the last CPU.
///
/// # Errors
/// When there is no other.
pub fn spare_last_cpu() -> Result<()> {
    let last = std::thread::available_parallelism()?.get() - 1;
    ensure!(last > 0, "there is one CPU: what watches would have to share it with what is measured");
    let mut cpus = CpuSet::new();
    (0..last).for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus).context("pinning a thread")
}

/// Keeps the calling thread, and so the softirqs that it raises, on the last CPU, ahead of all other work there.
///
/// # Errors
/// When there is no such CPU for this process.
pub fn own_last_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(std::thread::available_parallelism()?.get() - 1);
    sched_setaffinity(None, &cpus).context("pinning a thread")?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads one structure; refused (no real-time share in this cgroup), the results are noisier.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &priority) };
    Ok(())
}
