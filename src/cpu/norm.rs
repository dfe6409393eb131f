//! `ada_layer_norm`, `layer_norm`, `rms_norm`: normalise each token over its channels. A row stays in the first-level
//! cache.

use super::{Buffer, Weight, math};
use crate::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};
use rayon::prelude::*;

/// The number of partial sums of a row: the order of addition is fixed, whatever the vector width.
const LANES: usize = 32;

/// The least rows of a task.
const ROWS: usize = 16;

/// Calls `normalise(index, x, out)` for every row, in parallel and with the widest vectors. `normalise` must be marked
/// `#[inline(always)]`.
fn for_each_row(x: &[f32], channels: usize, out: &mut [f32], normalise: impl Fn(usize, &[f32], &mut [f32]) + Sync) {
    if channels == 0 {
        return;
    }
    let rows = out.par_chunks_mut(channels).with_min_len(ROWS).zip(x.par_chunks(channels)).enumerate();
    rows.for_each(|(index, (out, x))| {
        math::widest(
            #[inline(always)]
            || normalise(index, x, out),
        )
    });
}

/// Sum of `term` over a row.
#[inline(always)]
pub(super) fn sum(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &value)| *lane += term(value));
    }
    lanes.iter_mut().zip(chunks.remainder()).for_each(|(lane, &value)| *lane += term(value));
    lanes.iter().sum()
}

/// Mean of `term` over a row.
#[inline(always)]
fn mean(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum(row, term) / row.len() as f32
}

/// Mean and 1/√(variance + eps) of a row.
#[inline(always)]
fn moments(row: &[f32], eps: f32) -> (f32, f32) {
    let center = mean(row, |value| value);
    let variance = mean(row, |value| (value - center) * (value - center));
    (center, 1.0 / (variance + eps).sqrt())
}

pub(super) fn ada_layer_norm(op: &AdaLayerNorm, args: AdaLayerNormArgs<'_, Buffer>) {
    let AdaLayerNormArgs { x, modulation, out } = args;
    for_each_row(
        x,
        op.channels,
        out,
        #[inline(always)]
        |row, x, out| {
            let first = row / op.rows_per_modulation * op.modulation_stride;
            let [shift, scale] = [op.shift, op.scale].map(|offset| &modulation[first + offset..][..op.channels]);
            let (center, inverse) = moments(x, op.eps);
            for (((out, x), shift), scale) in out.iter_mut().zip(x).zip(shift).zip(scale) {
                *out = ((x - center) * inverse).mul_add(1.0 + scale, *shift);
            }
        },
    );
}

pub(super) fn layer_norm(op: &LayerNorm, args: LayerNormArgs<'_, Buffer, Weight>) {
    let LayerNormArgs { x, weight, bias, out } = args;
    let (weight, bias) = (weight.to_f32(), bias.to_f32());
    for_each_row(
        x,
        op.channels,
        out,
        #[inline(always)]
        |_, x, out| {
            let (center, inverse) = moments(x, op.eps);
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(&weight).zip(&bias) {
                *out = ((x - center) * inverse).mul_add(*weight, *bias);
            }
        },
    );
}

pub(super) fn rms_norm(op: &RmsNorm, args: RmsNormArgs<'_, Buffer, Weight>) {
    let RmsNormArgs { x, weight, out } = args;
    let weight = weight.to_f32();
    for_each_row(
        x,
        op.channels,
        out,
        #[inline(always)]
        |_, x, out| {
            let inverse = 1.0 / (mean(x, |value| value * value) + op.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(&weight) {
                *out = x * inverse * weight;
            }
        },
    );
}
