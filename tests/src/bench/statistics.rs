//! Medians, and intervals of paired ratios.

/// Resamples that an interval is made of.
const RESAMPLES: usize = 4000;
/// The interval covers this share of the resamples.
const COVERAGE: f64 = 0.95;

/// A deterministic source of shuffles and resamples (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A source; equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// Puts items into any order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The middle of some values; of an even number, the mean of the middle two. 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

/// The value below which a share of the sorted values lies.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(0.0)
}

/// A median with the interval that a bootstrap gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// The median of `numerator[i] / denominator[i]`, each pair measured in one round.
pub fn paired_ratio(numerator: &[f64], denominator: &[f64]) -> Estimate {
    let ratios: Vec<f64> = numerator.iter().zip(denominator).map(|(n, d)| n / d).collect();
    estimate(&ratios)
}

/// The median of some values, with its percentile bootstrap interval.
pub fn estimate(values: &[f64]) -> Estimate {
    if values.is_empty() {
        return Estimate { median: 0.0, low: 0.0, high: 0.0 };
    }
    let mut random = Random::new(0x6e65_7470_6174_6821);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| median(&(0..values.len()).map(|_| values[random.below(values.len())]).collect::<Vec<_>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    let tail = (1.0 - COVERAGE) / 2.0;
    Estimate { median: median(values), low: quantile(&medians, tail), high: quantile(&medians, 1.0 - tail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_common_factor_of_a_round_cancels_in_the_paired_ratio() {
        let noise = [1.0, 1.7, 0.6, 2.2, 1.1];
        let (slow, fast): (Vec<_>, Vec<_>) = noise.iter().map(|n| (n * 900.0, n * 300.0)).unzip();
        let ratio = paired_ratio(&slow, &fast);
        assert!((ratio.low - 3.0).abs() < 1e-9 && (ratio.high - 3.0).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn an_interval_holds_the_median_and_narrows_with_agreement() {
        let (loose, tight) = (estimate(&[1.0, 2.0, 3.0, 4.0, 9.0]), estimate(&[2.9, 3.0, 3.0, 3.0, 3.1]));
        assert!(loose.low <= loose.median && loose.median <= loose.high);
        assert!(loose.high - loose.low > tight.high - tight.low);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Random::new(7).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
