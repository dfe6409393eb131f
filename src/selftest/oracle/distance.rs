//! `distance`: sums of differences and of magnitudes.

use super::super::trial::Body;
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::distance::{BLOCK, Distance, DistanceArgs};

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    len: usize,
    /// Whether both tensors are the same.
    equal: bool,
    kind: Kind,
    seed: u64,
}

const KINDS: [Kind; 7] =
    [Kind::Tail, Kind::Edge, Kind::Denormal, Kind::LargeMean, Kind::Large, Kind::Zeros, Kind::Plain];

const LENS: [usize; 10] = [1, 8, 9, 300, 2047, 2056, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 8];

/// Elements of a row of the values.
const ROW: usize = 1000;

/// The most additions of a term: in a thread, a warp and a block of the kernel. The CPU has fewer.
const ADDITIONS: f64 = (64 + 5 + 8) as f64;

impl Case {
    fn tensors(&self, half: Half) -> [Vec<f32>; 2] {
        let seeds = [self.seed, self.seed + u64::from(!self.equal)];
        seeds.map(|seed| fill(self.kind, seed, self.len, ROW, half))
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let [a, b] = self.tensors(half);
        let (a, b) = (backend.upload(&a)?, backend.upload(&b)?);
        let mut sums = backend.distance(&Distance { len: self.len }, DistanceArgs { a: &a, b: &b })?;
        Ok(sums.bytes()?.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&KINDS);
        Self { len: draw.pick(&LENS), equal: draw.pick(&[false, false, true]), kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, _: Precision) -> Exact {
        let [a, b] = self.tensors(half);
        let sums = |(a, b): (&[f32], &[f32])| {
            let apart = a.iter().zip(b).map(|(&a, &b)| Bounded::exactly(a).minus(Bounded::exactly(b)));
            let apart: Vec<_> = apart.map(|term| Bounded { value: term.value.abs(), ..term }).collect();
            let size: Vec<_> = b.iter().map(|&b| Bounded::exactly(b.abs())).collect();
            [apart, size].map(|terms| Bounded::sum(&terms, ADDITIONS))
        };
        Exact::numbers(a.chunks(BLOCK).zip(b.chunks(BLOCK)).flat_map(sums).collect(), Precision::F32)
    }
}
