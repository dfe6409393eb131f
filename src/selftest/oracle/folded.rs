//! `row_moments`, `row_statistics`, `fold_norm`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision, UNIT};
use super::hostile::{Draw, Kind, fill};
use super::spread::inverse;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::folded::{FoldNorm, FoldNormArgs, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Moments,
    Statistics,
    /// The weight that a norm is folded into.
    Weight,
    /// Its sums and offsets.
    Columns,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Op,
    rows: usize,
    channels: usize,
    kind: Kind,
    seed: u64,
}

const KINDS: [Kind; 7] =
    [Kind::LargeMean, Kind::Tail, Kind::Denormal, Kind::Equal, Kind::Cancelling, Kind::Zeros, Kind::Plain];

const EPS: f32 = 1e-6;

/// Additions on the way of one of `count` values to their sum: as for a norm (norm.rs).
fn additions(count: usize) -> f64 {
    (count / 32 + 48) as f64
}

struct Inputs {
    /// Rows of x, or of the weight.
    x: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn inputs(&self, half: Half) -> Inputs {
        let Self { rows, channels, kind, seed, .. } = *self;
        let plain = |seed, len| fill(Kind::Plain, seed, len, len, half);
        Inputs {
            x: fill(kind, seed, rows * channels, channels, half),
            scale: plain(seed + 1, channels),
            shift: plain(seed + 2, channels),
            bias: plain(seed + 3, rows),
        }
    }

    fn groups(&self) -> usize {
        RowMoments { rows: 1, channels: self.channels }.groups()
    }

    /// Means, and M2s that are not below zero, of groups.
    fn moments(&self, half: Half) -> Vec<f32> {
        let mut values = fill(self.kind, self.seed, 2 * self.rows * self.groups(), 2 * self.groups(), half);
        values.chunks_exact_mut(2).for_each(|pair| pair[1] = pair[1].abs());
        values
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let &Self { rows, channels, .. } = self;
        let inputs = self.inputs(half);
        match self.op {
            Op::Moments => {
                let op = RowMoments { rows, channels };
                let (x, mut moments) = (backend.upload(&inputs.x)?, backend.alloc_f32(op.elements())?);
                backend.row_moments(&op, RowMomentsArgs { x: &x, moments: &mut moments })?;
                host(backend, &moments)
            }
            Op::Statistics => {
                let op = RowStatistics { rows, channels, eps: EPS };
                let (moments, mut statistics) =
                    (backend.upload_f32(&self.moments(half))?, backend.alloc_f32(2 * rows)?);
                backend.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics })?;
                host(backend, &statistics)
            }
            Op::Weight | Op::Columns => {
                let weight = backend.weight(vec![Tensor::from_f32(&[rows, channels], &inputs.x)])?;
                let bias = backend.weight(vec![Tensor::from_f32(&[rows], &inputs.bias)])?;
                let modulation = backend.upload(&[inputs.shift, inputs.scale].concat())?;
                let (mut folded, mut columns) =
                    (backend.alloc_weight(&[rows, channels])?, backend.alloc_f32(2 * rows)?);
                let op = FoldNorm { in_features: channels, out_features: rows, shift: 0, scale: channels };
                let (weight, bias, modulation) = (&weight, Some(&bias), &modulation);
                let args = FoldNormArgs { weight, bias, modulation, folded: &mut folded, columns: &mut columns };
                backend.fold_norm(&op, args)?;
                if self.op == Op::Weight { backend.weight_values(&folded) } else { host(backend, &columns) }
            }
        }
    }
}

/// Mean and M2 of values, by a mean with an error: the squares about it sum to M2 + n·e².
fn moment(values: &[f32]) -> [Bounded; 2] {
    let count = values.len() as f64;
    let terms: Vec<_> = values.iter().map(|&value| Bounded::exactly(value)).collect();
    let sum = Bounded::sum(&terms, additions(values.len()));
    // The reciprocal of the count has an error of two units.
    let mean = Bounded::rounded(sum.value / count, sum.error / count, 3.0);
    let m2: f64 = values.iter().map(|&value| (f64::from(value) - mean.value).powi(2)).sum();
    let error = (additions(values.len()) + 3.0) * UNIT * m2 + count * mean.error.powi(2);
    [mean, Bounded::rounded(m2, error, 1.0)]
}

/// Mean and inverse deviation of a row of `channels`, from its groups' moments.
fn statistics(moments: &[f32], channels: usize) -> [Bounded; 2] {
    let groups = moments.chunks_exact(2).zip((0..channels).step_by(RowMoments::COLUMNS));
    let groups: Vec<_> = groups
        .map(|(pair, at)| {
            let count = RowMoments::COLUMNS.min(channels - at) as f64;
            (count, f64::from(pair[0]), f64::from(pair[1]))
        })
        .collect();
    // On the CPU one after the other.
    let additions = groups.len() as f64 + 5.0;
    let terms: Vec<_> = groups.iter().map(|&(count, mean, _)| Bounded::exactly(count * mean)).collect();
    let sum = Bounded::sum(&terms, additions + 1.0);
    let mean = Bounded::rounded(sum.value / channels as f64, sum.error / channels as f64, 1.0);
    let squares = groups.iter().map(|&(count, center, m2)| m2 + count * (center - mean.value).powi(2)).sum::<f64>();
    let variance = squares / channels as f64;
    // As for a norm (spread.rs), with three more roundings of a group's square.
    let error = (additions + 6.0) * UNIT * variance + 2.0 * mean.error * variance.sqrt() + mean.error.powi(2);
    [mean, inverse(variance, error, EPS)]
}

impl Case {
    /// W′ of a row of the weight, and its sum and offset.
    fn folded(&self, row: &[f32], bias: f32, inputs: &Inputs, precision: Precision) -> Vec<Bounded> {
        let Inputs { scale, shift, .. } = inputs;
        let one = Bounded::exactly(1.0);
        let factor = |&scale: &f32| Bounded::exactly(scale).plus(one);
        let folded: Vec<_> =
            row.iter().zip(scale).map(|(&w, scale)| Bounded::exactly(w).times(factor(scale))).collect();
        if self.op == Op::Weight {
            return folded;
        }
        // The sum is that of the stored weight.
        let stored: Vec<_> = folded.iter().map(|value| value.stored(precision)).collect();
        let sum = Bounded::sum(&stored, additions(row.len()));
        let terms: Vec<_> =
            row.iter().zip(shift).map(|(&w, &shift)| Bounded::exactly(w).times(Bounded::exactly(shift))).collect();
        let offset = Bounded::sum(&terms, additions(row.len())).plus(Bounded::exactly(bias));
        vec![sum, offset]
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let op = draw.turn(&[Op::Moments, Op::Statistics, Op::Weight, Op::Columns]);
        let channels = draw.pick(&[8, 24, 32, 40, 144, 264, 1152, 2304]);
        Self { op, rows: draw.pick(&[1, 3, 9]), channels, kind: draw.pick(&KINDS), seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let inputs = self.inputs(half);
        let rows = || inputs.x.chunks_exact(self.channels);
        match self.op {
            Op::Moments => {
                let of = rows().flat_map(|row| row.chunks(RowMoments::COLUMNS)).flat_map(moment);
                Exact::numbers(of.collect(), Precision::F32)
            }
            Op::Statistics => {
                let moments = self.moments(half);
                let of = moments.chunks_exact(2 * self.groups()).flat_map(|row| statistics(row, self.channels));
                Exact::numbers(of.collect(), Precision::F32)
            }
            Op::Weight | Op::Columns => {
                let of = rows().zip(&inputs.bias).flat_map(|(row, &bias)| self.folded(row, bias, &inputs, precision));
                Exact::numbers(of.collect(), if self.op == Op::Weight { precision } else { Precision::F32 })
            }
        }
    }
}
