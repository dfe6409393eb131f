//! The statistics of the norms: mean, and 1/√(variance + eps).

use super::bounded::{Bounded, UNIT};

/// The mean of some values, and the reciprocal of their deviation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    pub mean: Bounded,
    pub inverse: Bounded,
}

impl Spread {
    /// The statistics of `values`, by sums in which a value passes at most `additions` additions.
    ///
    /// The mean m is off by e. The deviations from it then have squares that sum to n·(V + e²), and moments of parts
    /// that are joined have cross terms of up to 2·e·√V. A sum of squares has no terms that cancel, so it costs units of
    /// V; two more for each square. The root and the reciprocal cost four.
    pub fn of(values: &[f64], eps: f32, additions: f64) -> Self {
        let count = values.len() as f64;
        let terms: Vec<_> = values.iter().map(|&value| Bounded::exactly(value)).collect();
        let sum = Bounded::sum(&terms, additions);
        let mean = Bounded::rounded(sum.value / count, sum.error / count, 1.0);
        let variance = values.iter().map(|value| (value - mean.value).powi(2)).sum::<f64>() / count;
        let error = (additions + 2.0) * UNIT * variance + 2.0 * mean.error * variance.sqrt() + mean.error.powi(2);
        Self { mean, inverse: inverse(variance, error, eps) }
    }

    /// (x − mean) / deviation
    pub fn normed(&self, x: f32) -> Bounded {
        Bounded::exactly(x).minus(self.mean).times(self.inverse)
    }
}

/// 1/√(variance + eps), from a variance with this error. No backend's variance is below zero.
pub(super) fn inverse(variance: f64, error: f64, eps: f32) -> Bounded {
    let of = |variance: f64| 1.0 / (variance.max(0.0) + f64::from(eps)).sqrt();
    let (value, ends) = (of(variance), [of(variance - error), of(variance + error)]);
    Bounded::rounded(value, (ends[0] - value).max(value - ends[1]), 4.0)
}
