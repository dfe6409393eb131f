//! `combine`: a linear combination of sampler states. `hold`: what a mask keeps of a clip.

use super::{Buffer, math};
use crate::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};
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

pub(super) fn hold(op: &Hold, HoldArgs { original, noise, weight, sample }: HoldArgs<'_, Buffer>) {
    sample.par_chunks_mut(BLOCK).enumerate().for_each(|(index, sample)| {
        let range = index * BLOCK..index * BLOCK + sample.len();
        let [original, noise, weight] = [original, noise, weight].map(|buffer| &buffer[range.clone()]);
        math::widest(
            #[inline(always)]
            || {
                for (((sample, &original), &noise), &weight) in sample.iter_mut().zip(original).zip(noise).zip(weight) {
                    let kept = op.signal.mul_add(original, op.noise_level * noise);
                    *sample = weight.mul_add(kept, (1.0 - weight) * *sample);
                }
            },
        );
    });
}
