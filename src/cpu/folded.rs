//! `row_moments`, `row_statistics`, `fold_norm`: a LayerNorm that is folded into the linear layer behind it.

use super::math;
use super::norm::sum;
use super::scratch::Scratch;
use super::{Buffer, Weight};
use crate::ops::folded::{FoldNorm, FoldNormArgs, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs};
use crate::tensor::{Bytes, DType, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// The least rows of a task.
const ROWS: usize = 16;

/// Computes [`RowMoments`].
pub(super) fn row_moments(op: &RowMoments, args: RowMomentsArgs<'_, Buffer>) {
    moments_of(args.x, op.channels, args.moments);
}

/// The moments of rows of `channels` columns.
pub(super) fn moments_of(x: &[f32], channels: usize, moments: &mut [f32]) {
    let groups = channels.div_ceil(RowMoments::COLUMNS);
    let rows = moments.par_chunks_mut(2 * groups).with_min_len(ROWS).zip(x.par_chunks(channels));
    rows.for_each(|(moments, row)| {
        for (pair, group) in moments.chunks_exact_mut(2).zip(row.chunks(RowMoments::COLUMNS)) {
            let mean = group.iter().sum::<f32>() / group.len() as f32;
            pair.copy_from_slice(&[mean, group.iter().map(|value| (value - mean) * (value - mean)).sum()]);
        }
    });
}

/// Computes [`RowStatistics`].
pub(super) fn row_statistics(op: &RowStatistics, args: RowStatisticsArgs<'_, Buffer>) {
    let RowStatisticsArgs { moments, statistics } = args;
    let (channels, groups) = (op.channels, op.moments().groups());
    let rows = statistics.par_chunks_mut(2).with_min_len(ROWS).zip(moments.par_chunks(2 * groups));
    rows.for_each(|(statistics, moments)| {
        let counted = || {
            let counts = (0..channels).step_by(RowMoments::COLUMNS).map(|at| RowMoments::COLUMNS.min(channels - at));
            moments.chunks_exact(2).zip(counts.map(|count| count as f32))
        };
        let mean = counted().map(|(pair, count)| count * pair[0]).sum::<f32>() / channels as f32;
        let squares = counted().map(|(pair, count)| pair[1] + count * (pair[0] - mean) * (pair[0] - mean));
        let variance = squares.sum::<f32>() / channels as f32;
        statistics.copy_from_slice(&[mean, 1.0 / (variance + op.eps).sqrt()]);
    });
}

/// Computes [`FoldNorm`]. W′ is f32, whatever the weight's type.
pub(super) fn fold_norm(op: &FoldNorm, args: FoldNormArgs<'_, Buffer, Weight>) {
    let FoldNormArgs { weight, bias, modulation, folded, columns } = args;
    let inner = op.in_features;
    let (scale, shift) = (&modulation[op.scale..][..inner], &modulation[op.shift..][..inner]);
    let bias = bias.map(Weight::to_f32);
    let mut bytes = vec![0; size_of::<f32>() * op.out_features * inner];
    let rows = bytes.par_chunks_exact_mut(size_of::<f32>() * inner).zip(columns.par_chunks_exact_mut(2)).enumerate();
    rows.for_each(|(row, (bytes, pair))| {
        let (mut values, mut shifted) = (Scratch::new(inner), Scratch::new(inner));
        math::widest(
            #[inline(always)]
            || {
                weight.widen(row, 0, &mut values);
                shifted.iter_mut().zip(&*values).zip(shift).for_each(|((to, value), shift)| *to = value * shift);
                values.iter_mut().zip(scale).for_each(|(value, scale)| *value *= 1.0 + scale);
                let offset = sum(&shifted, |value| value) + bias.as_ref().map_or(0.0, |bias| bias[row]);
                pair.copy_from_slice(&[sum(&values, |value| value), offset]);
            },
        );
        bytes.copy_from_slice(bytemuck::cast_slice(&values));
    });
    let bytes = Bytes::Owned(Arc::new(bytes));
    *folded = Weight::new(vec![Tensor { shape: vec![op.out_features, inner], dtype: DType::F32, bytes }]);
}
