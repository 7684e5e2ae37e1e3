//! What the benchmark is asked to do.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Rounds that are counted.
const ROUNDS: usize = 9;
/// Rounds of a quick look, whose intervals are wide.
const QUICK_ROUNDS: usize = 3;

/// The options; `cargo xtask bench` fills them in.
#[derive(Clone, Debug)]
pub struct Options {
    /// The object with the benchmark's own programs.
    pub floor: PathBuf,
    /// The folder for JSON and picture.
    pub out: PathBuf,
    /// Rounds that are counted.
    pub rounds: usize,
    /// Experiments to run, by a part of their name; none means all.
    pub only: Vec<String>,
    /// Fail too when a bound lies within its interval.
    pub strict: bool,
    /// Variants to run, by name; none means all. For profiling: nothing is judged then.
    pub variants: Vec<String>,
}

impl Options {
    /// Reads `--floor FILE --out DIR [--quick] [--rounds N] [--strict] [--only NAME]… [--variant NAME]…`.
    ///
    /// # Errors
    /// When a word is unknown, or one that is needed is missing.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let (mut floor, mut out, mut rounds, mut strict) = (None, None, ROUNDS, false);
        let (mut only, mut variants) = (Vec::new(), Vec::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--floor" => floor = Some(value()?.into()),
                "--out" => out = Some(value()?.into()),
                "--strict" => strict = true,
                "--quick" => rounds = QUICK_ROUNDS,
                "--rounds" => rounds = value()?.parse().context("--rounds wants a number")?,
                "--only" => only.push(value()?),
                "--variant" => variants.push(value()?),
                other => bail!("{other} is no option of the benchmark"),
            }
        }
        let floor = floor.context("--floor says where the benchmark's BPF object is")?;
        let out = out.context("--out says where results go")?;
        Ok(Self { floor, out, rounds, only, strict, variants })
    }

    /// Is anything whose name begins so asked for by its name?
    pub fn names(&self, beginning: &str) -> bool {
        let word = beginning.trim_end_matches(':');
        self.only.iter().any(|part| part.starts_with(word))
    }

    /// Is an experiment of this name asked for?
    pub fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}
