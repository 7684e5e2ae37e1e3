//! Which tiers a command line names, and the one that needs no root.

use std::{slice, time::Duration};

use anyhow::{Result, bail};

use super::tally::{Counter, Tally};
use crate::{process, workspace};

/// A test tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// `cargo test`: pure code, no root.
    Unit,
    /// The real bytecode through `BPF_PROG_TEST_RUN`.
    ProgRun,
    /// Hypervisors, guests and wires as namespaces on this kernel.
    Netns,
    /// The two above on Debian kernels in QEMU.
    Vm,
}

/// All tiers, in the order they run: the quick ones first.
const ALL: [Tier; 4] = [Tier::Unit, Tier::ProgRun, Tier::Netns, Tier::Vm];

impl Tier {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::ProgRun => "prog-run",
            Self::Netns => "netns",
            Self::Vm => "vm",
        }
    }
}

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    tiers: Vec<Tier>,
    kernels: Vec<String>,
}

impl Selection {
    /// Reads `[TIER | vm KERNEL…]…`; no tier means all.
    ///
    /// # Errors
    /// A word that is neither a tier nor, after `vm`, a kernel version.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut tiers = Vec::new();
        let mut kernels = Vec::new();
        for word in words {
            let tier = ALL.into_iter().find(|tier| tier.name() == word);
            match tier {
                Some(tier) => tiers.push(tier),
                None if tiers.last() == Some(&Tier::Vm) && word.starts_with(|c: char| c.is_ascii_digit()) => {
                    kernels.push(word.clone());
                }
                None => bail!("`{word}` is not a tier (unit, prog-run, netns, vm), nor a kernel version after `vm`"),
            }
        }
        tiers.sort_unstable();
        tiers.dedup();
        if tiers.is_empty() {
            tiers = ALL.to_vec();
        }
        Ok(Self { tiers, kernels })
    }

    /// The tiers, quick ones first.
    pub(crate) fn tiers(&self) -> std::iter::Copied<slice::Iter<'_, Tier>> {
        self.tiers.iter().copied()
    }

    /// Kernel versions named after `vm`; empty for the default ones.
    pub(crate) fn kernels(&self) -> &[String] {
        &self.kernels
    }
}

/// How long the unit tests may run.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs the unit and property tests of every default member, doc tests included.
pub(crate) fn unit(filters: &[String]) -> Result<Tally> {
    process::run(workspace::cargo().args(["test", "--no-run"]))?;
    let mut counter = Counter::default();
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--no-fail-fast", "--quiet", "--"]).args(filters);
    let status = process::by_line(&mut cargo, LIMIT, |line| {
        eprintln!("{line}");
        counter.read(line);
    })?;
    Ok(counter.end(status.success()))
}

#[cfg(test)]
mod tests {
    use super::{ALL, Selection, Tier};

    fn parse(words: &[&str]) -> Option<Selection> {
        Selection::parse(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).ok()
    }

    #[test]
    fn no_word_means_every_tier() {
        assert_eq!(parse(&[]), Some(Selection { tiers: ALL.to_vec(), kernels: vec![] }));
    }

    #[test]
    fn kernels_follow_vm_and_tiers_run_quick_ones_first() {
        let expected = Selection { tiers: vec![Tier::Unit, Tier::Vm], kernels: vec!["6.1".into(), "6.12".into()] };
        assert_eq!(parse(&["vm", "6.1", "6.12", "unit"]), Some(expected));
    }

    #[test]
    fn other_words_are_refused() {
        assert_eq!(parse(&["6.1"]), None);
        assert_eq!(parse(&["netsn"]), None);
    }
}
