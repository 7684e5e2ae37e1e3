//! Results as a picture: a bar for each ratio, a whisker for its interval, a line for its bound.

use super::{
    experiment::{Bound, Finding, Outcome, Results},
    machine::Machine,
    report,
};

const ROW: f64 = 26.0;
const LABEL: f64 = 330.0;
const PLOT: f64 = 420.0;
const VALUES: f64 = 250.0;
const TOP: f64 = 56.0;

/// The picture as SVG.
pub fn svg(machine: &Machine, all: &[Results]) -> String {
    let groups: Vec<(&str, Vec<&Finding>)> = all
        .iter()
        .map(|results| (results.name, results.findings.iter().filter(|f| f.comparison.denominator.is_some()).collect()))
        .filter(|(_, findings): &(_, Vec<_>)| !findings.is_empty())
        .collect();
    let rows: usize = groups.iter().map(|(_, findings)| findings.len() + 1).sum();
    let (width, height) = (LABEL + PLOT + VALUES, TOP + rows as f64 * ROW + 16.0);
    let most = groups.iter().flat_map(|(_, findings)| findings).map(|f| f.estimate.high).fold(2.0, f64::max);
    let scale = PLOT / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    svg += &text(12.0, 24.0, "bold", "netpath: medians of paired ratios, with 95 % intervals");
    svg += &text(12.0, 44.0, "normal", &format!("kernel {}, {} × {}", machine.kernel, machine.cpus, machine.cpu));
    let mut y = TOP;
    for (name, findings) in groups {
        svg += &text(12.0, y + 18.0, "bold", name);
        y += ROW;
        for finding in findings {
            svg += &row(finding, y, scale);
            y += ROW;
        }
    }
    let one = LABEL + scale;
    svg += &format!(
        "<line x1=\"{one:.1}\" x2=\"{one:.1}\" y1=\"{TOP}\" y2=\"{y}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n"
    );
    svg + "</svg>\n"
}

fn row(finding: &Finding, y: f64, scale: f64) -> String {
    let (comparison, estimate) = (finding.comparison, finding.estimate);
    let colour = match finding.outcome() {
        Outcome::Held => "#4a8f5b",
        Outcome::Shown => "#8a94a6",
        Outcome::Unproven => "#c9a227",
        Outcome::Missed => "#b5473c",
    };
    let (middle, low, high) = (y + ROW / 2.0, LABEL + estimate.low * scale, LABEL + estimate.high * scale);
    let mut svg = text(24.0, middle + 4.0, "normal", comparison.name);
    let (top, bar, length) = (y + 5.0, ROW - 10.0, estimate.median * scale);
    svg += &format!(
        "<rect x=\"{LABEL}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{bar}\" fill=\"{colour}\"/>\n\
         <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"black\" stroke-width=\"2\"/>\n"
    );
    if let Bound::AtLeast(target) | Bound::AtMost(target) = comparison.bound {
        let (x, bottom) = (LABEL + target * scale, y + ROW - 2.0);
        svg += &format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom:.1}\" stroke=\"#1f3b73\" stroke-width=\"3\"/>\n",
            y + 2.0
        );
    }
    let label = format!(
        "{:.2} ({:.2}..{:.2}) {} {}",
        estimate.median,
        estimate.low,
        estimate.high,
        report::bound(comparison.bound).trim_start_matches("must be "),
        finding.outcome().word()
    );
    svg + &text(LABEL + PLOT + 10.0, middle + 4.0, "normal", label.trim_end())
}

fn text(x: f64, y: f64, weight: &str, content: &str) -> String {
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-weight=\"{weight}\">{escaped}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{experiment::Comparison, statistics::Estimate};

    #[test]
    fn a_picture_has_a_bar_for_each_ratio_and_none_for_a_plain_value() {
        let finding = |name, denominator| Finding {
            comparison: Comparison { name, metric: 0, numerator: "a", denominator, bound: Bound::AtLeast(1.7) },
            estimate: Estimate { median: 2.0, low: 1.9, high: 2.1 },
        };
        let results = Results {
            name: "guest to wire",
            metrics: &["ns/packet"],
            series: Vec::new(),
            findings: vec![finding("a ratio < 3", Some("b")), finding("a value", None)],
        };
        let machine = Machine { kernel: "6.18".into(), cpu: "cpu".into(), cpus: 2, mitigations: Vec::new(), load: 0.0 };
        let svg = svg(&machine, &[results]);
        assert!(svg.contains("a ratio &lt; 3") && !svg.contains("a value"));
        assert_eq!(svg.matches("#4a8f5b").count(), 1);
    }
}
