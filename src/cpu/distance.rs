//! `distance`: sums of differences and of magnitudes.

use super::{Buffer, math};
use crate::ops::distance::{BLOCK, Distance, DistanceArgs};
use rayon::prelude::*;

/// Terms that are added side by side.
const LANES: usize = 16;

/// The sums that [`Distance`] describes, as bytes. They are added in f64 and rounded once.
pub(super) fn distance(op: &Distance, DistanceArgs { a, b }: DistanceArgs<'_, Buffer>) -> Vec<u8> {
    let mut sums = vec![0; 8 * op.blocks()];
    let blocks = a.par_chunks(BLOCK).zip(b.par_chunks(BLOCK));
    sums.par_chunks_exact_mut(8).zip(blocks).for_each(|(pair, (a, b))| {
        let [apart, size] = math::widest(
            #[inline(always)]
            || sums_of(a, b),
        );
        pair[..4].copy_from_slice(&(apart as f32).to_le_bytes());
        pair[4..].copy_from_slice(&(size as f32).to_le_bytes());
    });
    sums
}

/// Σ|a − b| and Σ|b| of a block.
#[inline(always)]
fn sums_of(a: &[f32], b: &[f32]) -> [f64; 2] {
    let (mut apart, mut size) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |lane: usize, a: f32, b: f32| {
        apart[lane] += f64::from((a - b).abs());
        size[lane] += f64::from(b.abs());
    };
    let ((a, last_a), (b, last_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        (0..LANES).for_each(|lane| add(lane, a[lane], b[lane]));
    }
    (0..last_a.len()).for_each(|lane| add(lane, last_a[lane], last_b[lane]));
    [apart, size].map(|lanes| lanes.iter().sum())
}
