//! `fold_enlargement`: sums of the taps that read the same row and column of a frame.

use super::super::trial::Body;
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_SUMS, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::layout::transposed;
use crate::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: FoldEnlargement,
    kind: Kind,
    seed: u64,
}

impl Case {
    /// The weight: what hurts lies in the nine taps of a channel.
    fn weight(&self, half: Half) -> Vec<f32> {
        let FoldEnlargement { cout, kt, cin } = self.op;
        let taps = fill(self.kind, self.seed, cout * kt * cin * 9, 9, half);
        taps.chunks_exact(cin * 9).flat_map(|rows| transposed(rows, cin)).collect()
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let FoldEnlargement { cout, kt, cin } = self.op;
        let weight = backend.weight(vec![Tensor::from_f32(&[cout, kt, 3, 3, cin], &self.weight(half))])?;
        let mut folded = backend.alloc_weight(&self.op.folded_shape())?;
        backend.fold_enlargement(&self.op, FoldEnlargementArgs { weight: &weight, folded: &mut folded })?;
        backend.weight_values(&folded)
    }
}

/// Whether kernel row (column) `kernel` of output row (column) 2·y + `half` reads row y + `half` + `tap` − 1 of the frame.
fn reads(half: usize, kernel: usize, tap: usize) -> bool {
    // Row 2·y + half + kernel − 1 of the enlarged frame is that row divided by two; counted from y − 1.
    (half + kernel).div_ceil(2) == half + tap
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&OF_SUMS);
        let cin = draw.pick(&[8, 1, 3, 16, 40, 264]);
        let op = FoldEnlargement { cout: draw.pick(&[1, 2, 5, 17]), kt: draw.pick(&[1, 2, 3]), cin };
        Self { op, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let (FoldEnlargement { cout, kt, cin }, weight) = (self.op, self.weight(half));
        let value = |at: usize| {
            let (channel, x, y, row) = (at % cin, at / cin % 2, at / cin / 2 % 2, at / cin / 4);
            let (phase, row) = (row / (cout * kt), row % (cout * kt));
            let read = |tap: &usize| reads(phase / 2, tap / 3, y) && reads(phase % 2, tap % 3, x);
            let terms = (0..9).filter(read).map(|tap| Bounded::exactly(weight[(row * 9 + tap) * cin + channel]));
            terms.reduce(Bounded::plus).expect("every tap of a phase reads some tap")
        };
        Exact::numbers((0..16 * cout * kt * cin).map(value).collect(), precision)
    }
}
