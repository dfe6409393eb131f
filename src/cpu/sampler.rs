//! `combine`: a linear combination of sampler states.

use super::{Buffer, math};
use crate::ops::sampler::{Combine, CombineArgs};
use rayon::prelude::*;

/// Elements of a block: its sums stay in the first-level cache while the terms are added one after the other.
const BLOCK: usize = 4096;

pub(super) fn combine(op: &Combine<'_>, CombineArgs { inputs, out }: CombineArgs<'_, Buffer>) {
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(index, out)| {
        let range = index * BLOCK..index * BLOCK + out.len();
        math::widest(
            #[inline(always)]
            || {
                out.fill(0.0);
                for (&coefficient, input) in op.coefficients.iter().zip(inputs) {
                    for (sum, &value) in out.iter_mut().zip(&input[range.clone()]) {
                        *sum = coefficient.mul_add(value, *sum);
                    }
                }
                if let Some(limit) = op.clamp {
                    out.iter_mut().for_each(|sum| *sum = sum.clamp(-limit, limit));
                }
            },
        );
    });
}
