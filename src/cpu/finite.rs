//! `finite`: checks whether values are finite.

use super::{Buffer, math};
use crate::ops::finite::{BLOCK, Finite, FiniteArgs};
use rayon::prelude::*;

/// Blocks of one task.
const TASK: usize = 16;

/// The counts that [`Finite`] describes, as bytes.
pub(super) fn finite(op: &Finite, FiniteArgs { x }: FiniteArgs<'_, Buffer>) -> Vec<u8> {
    let x = &x[op.offset..op.offset + op.len];
    let mut counts = vec![0; 4 * op.blocks()];
    counts.par_chunks_mut(4 * TASK).zip(x.par_chunks(TASK * BLOCK)).for_each(|(counts, x)| {
        for (count, x) in counts.chunks_exact_mut(4).zip(x.chunks(BLOCK)) {
            count.copy_from_slice(&from_first(x).to_le_bytes());
        }
    });
    counts
}

/// The number of elements from the first that is not finite to the end of the block; a short block counts as a full
/// one.
fn from_first(x: &[f32]) -> u32 {
    // A loop without an early exit becomes vector code. Only blocks with such an element are read twice.
    let all = math::widest(
        #[inline(always)]
        || x.iter().fold(true, |all, value| all & value.is_finite()),
    );
    if all {
        return 0;
    }
    x.iter().position(|value| !value.is_finite()).map_or(0, |first| (BLOCK - first) as u32)
}
