//! `ada_layer_norm`, `layer_norm`, `rms_norm`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision, UNIT};
use super::hostile::{Draw, Kind, fill};
use super::spread::{Spread, inverse};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
enum Norm {
    Ada,
    Layer,
    Rms,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    norm: Norm,
    rows: usize,
    pub channels: usize,
    pub kind: Kind,
    seed: u64,
}

/// Factors on normed values, and what is added: for `Ada` a table with both for each row.
struct Inputs {
    x: Vec<f32>,
    factors: Vec<f32>,
    added: Vec<f32>,
}

const KINDS: [Kind; 8] =
    [Kind::LargeMean, Kind::Tail, Kind::Denormal, Kind::Equal, Kind::Cancelling, Kind::Large, Kind::Zeros, Kind::Plain];

const EPS: f32 = 1e-6;

/// Additions on the way of one of `count` values to their sum. A lane adds a 32nd of them at most, and at most 48
/// additions join lanes: 32 on the CPU, 13 in a block of eight warps.
fn additions(count: usize) -> f64 {
    (count / 32 + 48) as f64
}

impl Case {
    fn inputs(&self, half: Half) -> Inputs {
        let Self { rows, channels, kind, seed, .. } = *self;
        // Large factors carry results beyond the largest f16.
        let factors = if kind == Kind::Large { kind } else { Kind::Plain };
        let factors: Vec<f32> =
            fill(factors, seed + 1, channels, channels, half).iter().map(|factor| factor * 128.0).collect();
        Inputs {
            x: fill(kind, seed, rows * channels, channels, half),
            factors,
            added: fill(Kind::Plain, seed + 2, channels, channels, half),
        }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let &Self { rows, channels, .. } = self;
        let Inputs { x, factors, added } = self.inputs(half);
        let (x, mut out) = (backend.upload(&x)?, backend.alloc(rows * channels)?);
        let vector = |values: &[f32]| backend.weight(vec![Tensor::from_f32(&[channels], values)]);
        match self.norm {
            Norm::Ada => {
                let modulation = backend.upload(&[added, factors].concat())?;
                let op = AdaLayerNorm {
                    rows,
                    channels,
                    eps: EPS,
                    rows_per_modulation: rows,
                    modulation_stride: 2 * channels,
                    shift: 0,
                    scale: channels,
                };
                backend.ada_layer_norm(&op, AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut out })?;
            }
            Norm::Layer => {
                let (weight, bias) = (vector(&factors)?, vector(&added)?);
                let args = LayerNormArgs { x: &x, weight: &weight, bias: &bias, out: &mut out };
                backend.layer_norm(&LayerNorm { rows, channels, eps: EPS }, args)?;
            }
            Norm::Rms => {
                let args = RmsNormArgs { x: &x, weight: &vector(&factors)?, out: &mut out };
                backend.rms_norm(&RmsNorm { rows, channels, eps: EPS }, args)?;
            }
        }
        host(backend, &out)
    }
}

/// x / √(mean of squares + eps). Squares do not cancel: each has one rounding, and their sum costs units of itself.
fn rms(row: &[f32]) -> Vec<Bounded> {
    let square = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
    let inverse = inverse(square, (additions(row.len()) + 2.0) * UNIT * square, EPS);
    row.iter().map(|&x| Bounded::exactly(x).times(inverse)).collect()
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&KINDS);
        let norm = draw.pick(&[Norm::Ada, Norm::Layer, Norm::Rms]);
        // For kernels by warps, by blocks and ragged ones.
        let channels = draw.pick(&[2, 7, 8, 16, 144, 257, 1152, 1280, 1288, 1153, 2304]);
        Self { norm, rows: draw.pick(&[1, 3, 9]), channels, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let Inputs { x, factors, added } = self.inputs(half);
        let row = |row: &[f32]| -> Vec<Bounded> {
            let exact: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            let spread = Spread::of(&exact, EPS, additions(row.len()));
            let normed = match self.norm {
                Norm::Rms => rms(row),
                Norm::Ada | Norm::Layer => row.iter().map(|&x| spread.normed(x)).collect(),
            };
            let parts = normed.into_iter().zip(&factors).zip(&added);
            let affine = parts.map(|((normed, &factor), &added)| {
                let (factor, added) = (Bounded::exactly(factor), Bounded::exactly(added));
                match self.norm {
                    Norm::Ada => normed.times(factor.plus(Bounded::exactly(1.0))).plus(added),
                    Norm::Layer => normed.times(factor).plus(added),
                    Norm::Rms => normed.times(factor),
                }
            });
            affine.collect()
        };
        Exact::numbers(x.chunks_exact(self.channels).flat_map(row).collect(), precision)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    /// How many cases of LayerNorm of a kind are refused, if `variance` computes the variance of a row and its mean.
    fn refused_norms(kind: Kind, variance: impl Fn(&[f32], f32) -> f32) -> [usize; 2] {
        refused(
            |case: &Case| matches!(case.norm, Norm::Layer) && case.kind == kind,
            |case| {
                let Inputs { x, factors, added } = case.inputs(Half::F16);
                let rows = x.chunks_exact(case.channels);
                let normed = rows.flat_map(|row| {
                    let mean = row.iter().sum::<f32>() / row.len() as f32;
                    let inverse = 1.0 / (variance(row, mean) + EPS).sqrt();
                    let parts = row.iter().zip(&factors).zip(&added);
                    parts.map(|((x, factor), added)| (x - mean) * inverse * factor + added).collect::<Vec<_>>()
                });
                normed.collect()
            },
        )
    }

    fn of_deviations(row: &[f32], mean: f32) -> f32 {
        row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / row.len() as f32
    }

    fn in_one_pass(row: &[f32], mean: f32) -> f32 {
        (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 - mean * mean).max(0.0)
    }

    #[test]
    fn a_variance_in_one_pass_is_refused_where_the_mean_is_large() {
        let [refused, all] = refused_norms(Kind::LargeMean, in_one_pass);
        assert!(refused > all / 2, "{refused} of {all}");
        assert_eq!(refused_norms(Kind::Plain, in_one_pass)[0], 0);
        assert_eq!(refused_norms(Kind::LargeMean, of_deviations)[0], 0);
    }

    #[test]
    fn a_lost_outlier_is_refused() {
        // Of two channels, each has the same deviation.
        let [refused, all] = refused_norms(Kind::Tail, |row, mean| of_deviations(&row[..row.len() - 1], mean));
        assert!(refused > all * 3 / 4, "{refused} of {all}");
    }
}
