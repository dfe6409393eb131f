//! `finite`: the place of the first value that is no number, or that is infinite.

use super::super::trial::Body;
use super::super::values::{rounded, values};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::finite::{BLOCK, Finite, FiniteArgs};

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Finite,
    /// Whether the values are f32.
    single: bool,
    /// How many values are not finite; the others are zeros, subnormal and the largest.
    strange: usize,
    seed: u64,
}

impl Case {
    fn x(&self, half: Half) -> Vec<f32> {
        let len = self.op.offset + self.op.len;
        let mut x = fill(Kind::Special, self.seed, len, 1, half);
        if self.single {
            // The largest number of f32 is beyond those of 16 bits.
            x.iter_mut().filter(|value| **value == 1.0).for_each(|value| *value = f32::MAX);
        }
        x.iter_mut().filter(|value| !value.is_finite()).for_each(|value| *value = -0.0);
        let places = values(self.seed + 1, self.strange);
        for (i, place) in places.iter().enumerate() {
            let at = (((place + 1.0) / 2.0) * len as f32) as usize;
            x[at.min(len - 1)] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3];
        }
        if self.single { x } else { rounded(&x, half) }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let x = self.x(half);
        let x = if self.single { backend.upload_f32(&x) } else { backend.upload(&x) }?;
        let mut counts = backend.finite(&self.op, FiniteArgs { x: &x })?;
        let counts =
            counts.bytes()?.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        Ok(counts.map(|count| count as f32).collect())
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let op = Finite { offset: draw.pick(&[0, 8, 3]), len: draw.pick(&[1, 8, 2047, 2048, 2049, 5000, 4096]) };
        Self { op, single: draw.coin(), strange: draw.pick(&[1, 0, 3, 40]), seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, _: Precision) -> Exact {
        let x = self.x(half);
        let count = |block: &[f32]| {
            // Elements from the first strange one to the end of a whole block.
            let first = block.iter().position(|value| !value.is_finite());
            Bounded::exactly(first.map_or(0, |first| BLOCK - first) as f64)
        };
        Exact::numbers(x[self.op.offset..].chunks(BLOCK).map(count).collect(), Precision::F32)
    }
}
