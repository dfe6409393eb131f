//! `kernels/folded.cu`, and what linear layers do with it: norms that are folded into a weight, and moments of results.

use super::Work;
use super::gemm::with_the_tiles_of_each_variant;
use super::trial::{Body, Trial, ensure_same, host};
use super::values::{half_values, rounded};
use crate::backend::Backend;
use crate::cuda::{Buffer, Half};
use crate::error::Result;
use crate::ops::folded::{
    FoldNorm, FoldNormArgs, FoldedNorm, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs,
};
use crate::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};
use crate::tensor::Tensor;

const EPS: f32 = 1e-6;

/// Rows of values whose means are far from zero.
fn tokens(rows: usize, channels: usize, half: Half) -> Vec<f32> {
    let mut x = half_values(1, rows * channels, half);
    for (row, x) in x.chunks_exact_mut(channels).enumerate() {
        x.iter_mut().for_each(|value| *value += (row % 7) as f32 - 3.0);
    }
    rounded(&x, half)
}

/// The moments of rows.
#[derive(Clone, Copy, Debug)]
struct MomentsOf {
    rows: usize,
    channels: usize,
}

impl Body for MomentsOf {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let op = RowMoments { rows: self.rows, channels: self.channels };
        let x = backend.upload(&tokens(self.rows, self.channels, half))?;
        let mut moments = backend.alloc_f32(op.elements())?;
        backend.row_moments(&op, RowMomentsArgs { x: &x, moments: &mut moments })?;
        host(backend, &moments)
    }
}

/// The statistics of rows, from their moments.
#[derive(Clone, Copy, Debug)]
struct StatisticsOf {
    rows: usize,
    channels: usize,
}

impl Body for StatisticsOf {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let op = RowStatistics { rows: self.rows, channels: self.channels, eps: EPS };
        // Moments of no rows, but M2 is not below zero.
        let mut values = half_values(1, op.moments().elements(), half);
        values.chunks_exact_mut(2).for_each(|pair| pair[1] = 40.0 * pair[1].abs());
        let moments = backend.upload_f32(&values)?;
        let mut statistics = backend.alloc_f32(2 * self.rows)?;
        backend.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics })?;
        host(backend, &statistics)
    }
}

/// What a layer becomes when a norm is folded into it.
#[derive(Clone, Copy, Debug)]
struct Fold {
    inner: usize,
    outer: usize,
    bias: bool,
    /// Elements of the modulation in front of the shift, and between shift and scale.
    gap: usize,
    /// Whether the result is the weight; else sums and offsets.
    weight: bool,
}

impl Fold {
    /// A layer whose products are about as large as 1, with the norm folded in: the weight, sums and offsets.
    fn made<B: Backend>(&self, backend: &B, half: Half) -> Result<(B::Weight, B::Buffer)> {
        let &Self { inner, outer, bias, gap, .. } = self;
        let size = 3.0 / (inner as f32).sqrt();
        let values: Vec<f32> = half_values(2, outer * inner, half).iter().map(|value| value * size).collect();
        let weight = backend.weight(vec![Tensor::from_f32(&[outer, inner], &rounded(&values, half))])?;
        let vector = |seed| backend.weight(vec![Tensor::from_f32(&[outer], &half_values(seed, outer, half))]);
        let bias = bias.then(|| vector(3)).transpose()?;
        let modulation = backend.upload(&half_values(4, 2 * (gap + inner), half))?;
        let (mut folded, mut columns) = (backend.alloc_weight(&[outer, inner])?, backend.alloc_f32(2 * outer)?);
        let op = FoldNorm { in_features: inner, out_features: outer, shift: gap, scale: 2 * gap + inner };
        let (bias, modulation) = (bias.as_ref(), &modulation);
        let args = FoldNormArgs { weight: &weight, bias, modulation, folded: &mut folded, columns: &mut columns };
        backend.fold_norm(&op, args)?;
        Ok((folded, columns))
    }
}

impl Body for Fold {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (folded, columns) = self.made(backend, half)?;
        if self.weight { backend.weight_values(&folded) } else { host(backend, &columns) }
    }
}

/// A norm and a layer, one folded into the other, as far as `rows` of the whole.
#[derive(Clone, Copy, Debug)]
struct Layer {
    rows: usize,
    fold: Fold,
    activation: Activation,
}

impl Layer {
    fn of([rows, inner, outer]: [usize; 3], activation: Activation) -> Self {
        Self { rows, fold: Fold { inner, outer, bias: true, gap: 8, weight: true }, activation }
    }

    fn op(&self) -> Linear {
        Linear::new(self.rows, self.fold.inner, self.fold.outer).activation(self.activation)
    }

    /// The tokens, and their statistics.
    fn tokens<B: Backend>(&self, backend: &B, half: Half) -> Result<(B::Buffer, B::Buffer)> {
        let (rows, channels) = (self.rows, self.fold.inner);
        let x = backend.upload(&tokens(rows, channels, half))?;
        let op = RowStatistics { rows, channels, eps: EPS };
        let mut moments = backend.alloc_f32(op.moments().elements())?;
        backend.row_moments(&op.moments(), RowMomentsArgs { x: &x, moments: &mut moments })?;
        let mut statistics = backend.alloc_f32(2 * rows)?;
        backend.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics })?;
        Ok((x, statistics))
    }
}

impl Body for Layer {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (x, statistics) = self.tokens(backend, half)?;
        let (weight, columns) = self.fold.made(backend, half)?;
        let mut out = backend.alloc(self.rows * self.fold.outer)?;
        let norm = Some(FoldedNorm { statistics: &statistics, columns: &columns });
        backend.linear(&self.op(), LinearArgs { norm, ..LinearArgs::new(&x, &weight, &mut out) })?;
        host(backend, &out)
    }
}

fn moments_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // Rows of less than a group, of whole groups, and whose last group has 8, 16 and 24 columns.
    for (rows, channels) in [(1, 8), (5, 24), (9, 40), (3, 144), (17, 1152), (70, 64)] {
        trial.against_the_cpu(&MomentsOf { rows, channels })?;
        trial.against_the_cpu(&StatisticsOf { rows, channels })?;
    }
    Ok(())
}

fn folding_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for (inner, outer, gap) in [(8, 1, 0), (72, 9, 8), (256, 40, 16), (264, 7, 0), (1152, 17, 8)] {
        for bias in [true, false] {
            for weight in [true, false] {
                trial.against_the_cpu(&Fold { inner, outer, bias, gap, weight })?;
            }
        }
    }
    Ok(())
}

fn layers_with_a_folded_norm_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    with_the_tiles_of_each_variant(trial, |trial, tiles| {
        for tile in tiles {
            trial.forcing(&format!("linear={tile}"), |trial| {
                trial.against_the_cpu(&Layer::of([70, 144, 40], Activation::None))?;
                trial.against_the_cpu(&Layer::of([9, 72, 130], Activation::GeluTanh))?;
                trial.against_the_cpu(&Layer::of([1, 8, 7], Activation::Silu))
            })?;
        }
        Ok(())
    })
}

fn parts_of_a_layer_with_a_folded_norm_have_the_bits_of_the_whole(trial: &mut Trial) -> Result<()> {
    let layer = Layer::of([70, 144, 96], Activation::None);
    trial.with_each_variant(|trial| {
        trial.each(&layer, |kernels, half| {
            let whole = layer.run(kernels, half)?;
            let (x, statistics) = layer.tokens(kernels, half)?;
            let (weight, columns) = layer.fold.made(kernels, half)?;
            let part = |op: Linear, out: &mut Buffer| {
                let norm = Some(FoldedNorm { statistics: &statistics, columns: &columns });
                kernels.linear(&op, LinearArgs { norm, ..LinearArgs::new(&x, &weight, out) })
            };
            let place = LinearPart { whole_rows: 70, x_row: 0, out_row: 0, weight_row: 0 };
            let mut out = kernels.alloc(70 * 96)?;
            for rows in [0..33, 33..70] {
                let place = LinearPart { x_row: rows.start, out_row: rows.start, ..place };
                part(Linear { rows: rows.len(), ..layer.op() }.part(place), &mut out)?;
            }
            ensure_same(&host(kernels, &out)?, &whole, &"rows")?;
            let mut some = kernels.alloc(70 * 64)?;
            let columns = Linear { out_features: 64, ..layer.op() }.part(LinearPart { weight_row: 32, ..place });
            part(columns, &mut some)?;
            let expected: Vec<f32> = whole.chunks_exact(96).flat_map(|row| row[32..].to_vec()).collect();
            ensure_same(&host(kernels, &some)?, &expected, &"columns")
        })
    })
}

/// A layer that adds to its result, and leaves the moments.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    sizes: [usize; 3],
    gated: bool,
}

impl Leaving {
    /// The result, and the moments that two parts of the layer leave.
    fn made<B: Backend>(&self, backend: &B, half: Half) -> Result<(B::Buffer, B::Buffer)> {
        let &Self { sizes: [rows, inner, outer], gated } = self;
        let x = backend.upload(&half_values(1, rows * inner, half))?;
        let weight = backend.weight(vec![Tensor::from_f32(&[outer, inner], &half_values(2, outer * inner, half))])?;
        let gate = backend.upload(&half_values(3, outer, half))?;
        let store = Store::AddGated { rows_per_gate: rows, gate_stride: outer, gate_offset: 0 };
        let (store, gate) = if gated { (store, Some(&gate)) } else { (Store::Add, None) };
        let op = Linear::new(rows, inner, outer).store(store);
        let mut out = backend.upload(&tokens(rows, outer, half))?;
        let mut moments = backend.alloc_f32(op.moments().elements())?;
        for part in [0..rows / 3, rows / 3..rows] {
            let place = LinearPart { whole_rows: rows, x_row: part.start, out_row: part.start, weight_row: 0 };
            let op = Linear { rows: part.len(), ..op }.part(place);
            let args = LinearArgs { gate, moments: Some(&mut moments), ..LinearArgs::new(&x, &weight, &mut out) };
            backend.linear(&op, args)?;
        }
        Ok((out, moments))
    }
}

impl Body for Leaving {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        host(backend, &self.made(backend, half)?.1)
    }
}

fn layers_leave_the_bits_of_the_moments_of_their_results(trial: &mut Trial) -> Result<()> {
    let sizes = [[300, 40, 144], [7, 72, 64], [130, 136, 200], [65, 45, 8]];
    let cases = sizes.into_iter().flat_map(|sizes| [true, false].map(|gated| Leaving { sizes, gated }));
    let cases: Vec<_> = cases.collect();
    with_the_tiles_of_each_variant(trial, |trial, tiles| {
        for case in &cases {
            let [rows, inner, channels] = case.sizes;
            trial.against_the_cpu(case)?;
            trial.each(case, |kernels, half| {
                let (out, left) = case.made(kernels, half)?;
                let left = host(kernels, &left)?;
                let op = RowMoments { rows, channels };
                let mut again = kernels.alloc_f32(op.elements())?;
                kernels.row_moments(&op, RowMomentsArgs { x: &out, moments: &mut again })?;
                ensure_same(&left, &host(kernels, &again)?, &"moments")?;
                let taken = if inner % 8 == 0 { tiles } else { &[] };
                taken.iter().try_for_each(|tile| {
                    let kernels = kernels.forcing(&format!("linear={tile}"))?;
                    ensure_same(&case.run(&kernels, half)?, &left, tile)
                })
            })?;
        }
        Ok(())
    })
}

/// The tokens of 17 frames, and the layers behind their norms.
pub(super) fn work() -> Vec<Work> {
    let fold = |outer| Fold { inner: 1152, outer, bias: true, gap: 0, weight: true };
    vec![
        Work::of("moments of 17,408 tokens of 1,152", MomentsOf { rows: 17_408, channels: 1152 }),
        Work::of("statistics of 17,408 tokens of 1,152", StatisticsOf { rows: 17_408, channels: 1152 }),
        Work::of("a norm into 1,152 x 4,608", fold(4608)),
        Work::of("17,408 x 1,152 x 3,456, normed", Layer::of([17_408, 1152, 3456], Activation::None)),
    ]
}

checks! {
    moments_agree_with_the_cpu,
    folding_agrees_with_the_cpu,
    layers_with_a_folded_norm_agree_with_the_cpu,
    parts_of_a_layer_with_a_folded_norm_have_the_bits_of_the_whole,
    layers_leave_the_bits_of_the_moments_of_their_results,
}
