//! What the kernel says of a process (proc(5)).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The processor's time that it has had.
///
/// # Errors
/// When it has gone.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // utime and stime, the 14th and 15th field, in ticks; the second one may have spaces.
    let after = stat.rsplit_once(") ").context("no process")?.1;
    let ticks = after.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Whether it is gone, or only waiting to be reaped.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

/// The memory that it has resident, in KiB.
///
/// # Errors
/// When it has gone.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory")?;
    line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS:{line}"))
}
