//! `fold_enlargement`: a 2× enlargement that is folded into the weight of the convolution behind it.

use super::Weight;
use super::math;
use super::scratch::Scratch;
use crate::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use crate::tensor::{Bytes, DType, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Computes [`FoldEnlargement`]. The folded weight is f32, whatever the weight's type.
pub(super) fn fold_enlargement(
    op: &FoldEnlargement,
    FoldEnlargementArgs { weight, folded }: FoldEnlargementArgs<'_, Weight>,
) {
    let shape = op.folded_shape();
    let mut bytes = vec![0; size_of::<f32>() * shape.iter().product::<usize>()];
    let row = size_of::<f32>() * op.kt * 4 * op.cin;
    bytes.par_chunks_exact_mut(row.max(1)).enumerate().for_each(|(row, bytes)| {
        let (phase, channel) = (row / op.cout, row % op.cout);
        let (mut sums, mut tap) = (Scratch::new(op.cin), Scratch::new(op.cin));
        for (place, bytes) in bytes.chunks_exact_mut(size_of::<f32>() * op.cin).enumerate() {
            let (time, y, x) = (place / 4, place / 2 % 2, place % 2);
            math::widest(
                #[inline(always)]
                || {
                    // Added to −0, a single zero keeps its sign.
                    sums.fill(-0.0);
                    for y in FoldEnlargement::summed(phase / 2, y) {
                        for x in FoldEnlargement::summed(phase % 2, x) {
                            weight.widen(channel, ((time * 3 + y) * 3 + x) * op.cin, &mut tap);
                            sums.iter_mut().zip(&*tap).for_each(|(sum, value)| *sum += value);
                        }
                    }
                },
            );
            bytes.copy_from_slice(bytemuck::cast_slice(&sums));
        }
    });
    let bytes = Bytes::Owned(Arc::new(bytes));
    *folded = Weight::new(vec![Tensor { shape: shape.to_vec(), dtype: DType::F32, bytes }]);
}
