//! An experiment: variants of the same work, measured in shuffled rounds, and what their ratios must hold.

use anyhow::{Context, Result};

use super::statistics::{Estimate, Random, estimate, paired_ratio};

/// One way of doing the work; a run gives one value for each metric of the experiment.
pub struct Variant<'a> {
    /// What it is called in tables.
    pub name: &'static str,
    run: Box<dyn FnMut() -> Result<Vec<f64>> + 'a>,
}

impl<'a> Variant<'a> {
    /// A variant with one metric.
    pub fn new(name: &'static str, mut run: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self::with_metrics(name, move || Ok(vec![run()?]))
    }

    /// A variant with a value for each metric of the experiment.
    pub fn with_metrics(name: &'static str, run: impl FnMut() -> Result<Vec<f64>> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// What a ratio, or a value, must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Shown, not judged.
    Shown,
    /// The interval's lower end is no less.
    AtLeast(f64),
    /// The interval's upper end is no more.
    AtMost(f64),
}

/// A ratio of two variants, or (without a denominator) the value of one.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// What it is called in tables.
    pub name: &'static str,
    /// Index into the experiment's metrics.
    pub metric: usize,
    /// The variant above the line.
    pub numerator: &'static str,
    /// The variant below the line.
    pub denominator: Option<&'static str>,
    /// What must hold.
    pub bound: Bound,
}

impl Comparison {
    /// That the value of a variant is no more than this.
    pub const fn at_most(name: &'static str, metric: usize, variant: &'static str, bound: f64) -> Self {
        Self { name, metric, numerator: variant, denominator: None, bound: Bound::AtMost(bound) }
    }
}

/// A comparison with its result.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// What was compared.
    pub comparison: Comparison,
    /// The ratio or the value.
    pub estimate: Estimate,
}

/// How a bound fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was asked.
    Shown,
    /// The whole interval is on the right side.
    Held,
    /// The bound lies in the interval: more rounds, or a quieter machine, would tell.
    Unproven,
    /// The whole interval is on the wrong side.
    Missed,
}

impl Outcome {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shown => "",
            Self::Held => "held",
            Self::Unproven => "unproven",
            Self::Missed => "MISSED",
        }
    }
}

impl Finding {
    /// How its bound fared.
    pub fn outcome(&self) -> Outcome {
        let Estimate { low, high, .. } = self.estimate;
        match self.comparison.bound {
            Bound::Shown => Outcome::Shown,
            Bound::AtLeast(target) if low >= target => Outcome::Held,
            Bound::AtMost(target) if high <= target => Outcome::Held,
            Bound::AtLeast(target) if high >= target => Outcome::Unproven,
            Bound::AtMost(target) if low <= target => Outcome::Unproven,
            _ => Outcome::Missed,
        }
    }
}

/// Variants of the same work.
pub struct Experiment<'a> {
    /// What it is called in tables and files.
    pub name: &'static str,
    /// What a run gives, each with its unit.
    pub metrics: &'static [&'static str],
    /// The variants.
    pub variants: Vec<Variant<'a>>,
    /// What is asked of them.
    pub comparisons: Vec<Comparison>,
}

/// The values of one variant.
#[derive(Clone, Debug)]
pub struct Series {
    /// The variant.
    pub variant: &'static str,
    /// For each metric, one value a round.
    pub values: Vec<Vec<f64>>,
}

/// What an experiment gave.
#[derive(Clone, Debug)]
pub struct Results {
    /// The experiment.
    pub name: &'static str,
    /// Its metrics.
    pub metrics: &'static [&'static str],
    /// The rounds of each variant.
    pub series: Vec<Series>,
    /// The comparisons.
    pub findings: Vec<Finding>,
}

impl Experiment<'_> {
    /// Drops every variant but those named, and with them all comparisons.
    pub fn keep(&mut self, names: &[String]) {
        self.variants.retain(|variant| names.iter().any(|name| name == variant.name));
        self.comparisons.clear();
    }

    /// Runs every variant once a round, in an order shuffled for each round, after one run of each that is not counted.
    ///
    /// # Errors
    /// When a run fails, naming the variant.
    pub fn run(mut self, rounds: usize, random: &mut Random) -> Result<Results> {
        let mut series: Vec<Series> = self
            .variants
            .iter()
            .map(|variant| Series { variant: variant.name, values: vec![Vec::new(); self.metrics.len()] })
            .collect();
        for round in 0..=rounds {
            let mut order: Vec<usize> = (0..self.variants.len()).collect();
            random.shuffle(&mut order);
            for index in order {
                let variant = &mut self.variants[index];
                let values = (variant.run)().with_context(|| format!("{}: {}", self.name, variant.name))?;
                if round > 0 {
                    series[index].values.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
                }
            }
        }
        let findings = self.comparisons.iter().map(|comparison| judge(&series, *comparison)).collect();
        Ok(Results { name: self.name, metrics: self.metrics, series, findings })
    }
}

fn judge(series: &[Series], comparison: Comparison) -> Finding {
    let values = |name: &str| {
        let of = series.iter().find(|series| series.variant == name);
        of.map(|series| series.values[comparison.metric].clone()).unwrap_or_default()
    };
    let numerator = values(comparison.numerator);
    let estimate = match comparison.denominator {
        Some(denominator) => paired_ratio(&numerator, &values(denominator)),
        None => estimate(&numerator),
    };
    Finding { comparison, estimate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(bound: Bound, low: f64, median: f64, high: f64) -> Outcome {
        let comparison = Comparison { name: "", metric: 0, numerator: "", denominator: None, bound };
        Finding { comparison, estimate: Estimate { median, low, high } }.outcome()
    }

    #[test]
    fn a_bound_holds_only_with_the_whole_interval() {
        assert_eq!(outcome(Bound::AtLeast(1.7), 1.71, 1.8, 1.9), Outcome::Held);
        assert_eq!(outcome(Bound::AtLeast(1.7), 1.69, 1.8, 1.9), Outcome::Unproven);
        assert_eq!(outcome(Bound::AtLeast(1.7), 1.5, 1.6, 1.65), Outcome::Missed);
        assert_eq!(outcome(Bound::AtMost(1.35), 1.2, 1.3, 1.34), Outcome::Held);
        assert_eq!(outcome(Bound::AtMost(1.35), 1.2, 1.3, 1.36), Outcome::Unproven);
        assert_eq!(outcome(Bound::AtMost(1.35), 1.36, 1.4, 1.5), Outcome::Missed);
    }

    #[test]
    fn every_variant_runs_once_a_round_and_once_before() {
        let mut runs = 0;
        let experiment = Experiment {
            name: "test",
            metrics: &["runs"],
            variants: vec![Variant::new("a", || {
                runs += 1;
                Ok(f64::from(runs))
            })],
            comparisons: Vec::new(),
        };
        let results = experiment.run(3, &mut Random::new(1)).unwrap();
        assert_eq!(results.series[0].values[0], [2.0, 3.0, 4.0]);
    }
}
