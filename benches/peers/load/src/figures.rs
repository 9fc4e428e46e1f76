//! What the rounds of one contender gave for one metric, and how two contenders compare.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Drawn anew for an interval: enough that its ends do not jump.
const RESAMPLES: usize = 10_000;

/// One value a round, in the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(pub(crate) Vec<f64>);

impl Figures {
    pub(crate) fn median(&self) -> f64 {
        median(&mut self.0.clone())
    }

    pub(crate) fn lowest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn highest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Half the range, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        let median = self.median();
        if median == 0.0 { 0.0 } else { (self.highest() - self.lowest()) / 2.0 / median }
    }

    /// Median of these over the median of `other`; `None` where that says nothing.
    pub(crate) fn ratio(&self, other: &Figures) -> Option<f64> {
        Some(self.median() / other.median()).filter(|r| r.is_finite())
    }

    /// The 95 % percentile interval of that ratio, by bootstrap (Efron 1979): both are drawn again and again from their own rounds. With
    /// few rounds it is close to their extremes.
    pub(crate) fn ratio_interval(&self, other: &Figures) -> Option<(f64, f64)> {
        self.ratio(other)?;
        // The same figures always give the same interval.
        let mut rng = SmallRng::seed_from_u64(0);
        let mut drawn = |figures: &Figures| {
            let n = figures.0.len();
            median(&mut (0..n).map(|_| figures.0[rng.random_range(0..n)]).collect::<Vec<_>>())
        };
        let mut ratios: Vec<f64> = (0..RESAMPLES).map(|_| drawn(self) / drawn(other)).collect();
        ratios.sort_by(f64::total_cmp);
        Some((ratios[RESAMPLES / 40], ratios[RESAMPLES - 1 - RESAMPLES / 40]))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 { f64::NAN } else { (values[(n - 1) / 2] + values[n / 2]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_spread_and_ratios() {
        let own = Figures(vec![900.0, 800.0, 1000.0]);
        assert_eq!((own.median(), own.lowest(), own.highest()), (900.0, 800.0, 1000.0));
        assert!((own.spread() - 1.0 / 9.0).abs() < 1e-9);
        let peer = Figures(vec![4500.0, 4500.0]);
        assert_eq!(own.ratio(&peer), Some(0.2));
        let (low, high) = own.ratio_interval(&peer).unwrap();
        assert!((low - 800.0 / 4500.0).abs() < 1e-9 && (high - 1000.0 / 4500.0).abs() < 1e-9, "{low} {high}");
        assert_eq!(own.ratio(&Figures::default()), None);
    }
}
