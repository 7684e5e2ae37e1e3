//! Results as a table and as JSON.

use serde_json::{Value, json};

use super::{
    experiment::{Bound, Finding, Results},
    limits::accuracy,
    machine::Machine,
    statistics::{Estimate, estimate},
};

/// The results of one experiment for people.
pub fn table(results: &Results) -> String {
    let mut text = format!("\n{}\n", results.name);
    for (index, metric) in results.metrics.iter().enumerate() {
        text += &format!("  {metric:<44} {:>10}   95 % interval\n", "median");
        for series in &results.series {
            let Some(values) = series.values.get(index).filter(|values| !values.is_empty()) else { continue };
            let Estimate { median, low, high } = estimate(values);
            let spread = format!("{}..{}", number(low), number(high));
            text += &format!("    {:<42} {:>10}   {spread}\n", series.variant, number(median));
        }
    }
    for finding in &results.findings {
        let Estimate { median, low, high } = finding.estimate;
        let bound = bound(finding.comparison.bound);
        let spread = format!("{}..{}", number(low), number(high));
        let line = format!(
            "  {:<44} {:>10}   {spread:<16} {bound:<16} {}",
            finding.comparison.name,
            number(median),
            finding.outcome().word()
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Everything, raw rounds included.
pub fn json(machine: &Machine, rounds: usize, all: &[Results], accuracy: &[accuracy::Row]) -> Value {
    json!({
        "machine": machine.json(),
        "rounds": rounds,
        "experiments": all.iter().map(experiment).collect::<Vec<_>>(),
        "accuracy": accuracy.iter().map(accuracy::Row::json).collect::<Vec<_>>(),
    })
}

fn experiment(results: &Results) -> Value {
    let series: Vec<_> =
        results.series.iter().map(|series| json!({"variant": series.variant, "rounds": series.values})).collect();
    json!({
        "name": results.name,
        "metrics": results.metrics,
        "series": series,
        "findings": results.findings.iter().map(|f| finding(results, f)).collect::<Vec<_>>(),
    })
}

fn finding(results: &Results, finding: &Finding) -> Value {
    let (comparison, Estimate { median, low, high }) = (finding.comparison, finding.estimate);
    json!({
        "name": comparison.name,
        "metric": results.metrics[comparison.metric],
        "numerator": comparison.numerator,
        "denominator": comparison.denominator,
        "median": median,
        "low": low,
        "high": high,
        "bound": bound(comparison.bound),
        "outcome": finding.outcome().word(),
    })
}

/// A bound in words.
pub fn bound(bound: Bound) -> String {
    match bound {
        Bound::Shown => String::new(),
        Bound::AtLeast(target) => format!("must be ≥ {target}"),
        Bound::AtMost(target) => format!("must be ≤ {target}"),
    }
}

/// Three significant digits or more.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
