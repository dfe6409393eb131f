//! `combine`: a linear combination, in order, from zero.

use super::super::trial::{Body, host};
use super::super::values::values;
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::sampler::{Combine, CombineArgs};

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    len: usize,
    terms: usize,
    clamp: Option<f32>,
    /// Bit `i` for an f32 input `i`, bit 8 for an f32 output.
    singles: u32,
    kind: Kind,
    seed: u64,
}

const KINDS: [Kind; 6] = [Kind::Cancelling, Kind::Special, Kind::Zeros, Kind::Denormal, Kind::Large, Kind::Plain];

impl Case {
    /// Coefficients that cancel equal inputs, for an even number of terms.
    fn coefficients(&self) -> Vec<f32> {
        let plain = values(self.seed + 1, self.terms);
        let sign = |i: usize| if self.kind == Kind::Cancelling && i % 2 == 1 { -plain[i - 1] } else { plain[i] };
        (0..self.terms).map(|i| 3.0 * sign(i)).collect()
    }

    fn inputs(&self, half: Half) -> Vec<Vec<f32>> {
        let seed = |term: usize| self.seed + 2 + if self.kind == Kind::Cancelling { 0 } else { term as u64 };
        (0..self.terms).map(|term| fill(self.kind, seed(term), self.len, self.len, half)).collect()
    }

    fn single(&self, place: usize) -> bool {
        self.singles >> place & 1 == 1
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let inputs = self.inputs(half);
        let upload = |(term, x): (usize, &Vec<f32>)| {
            if self.single(term) { backend.upload_f32(x) } else { backend.upload(x) }
        };
        let inputs: Vec<B::Buffer> = inputs.iter().enumerate().map(upload).collect::<Result<_>>()?;
        let mut out = if self.single(8) { backend.alloc_f32(self.len) } else { backend.alloc(self.len) }?;
        let op = Combine { len: self.len, coefficients: &self.coefficients(), clamp: self.clamp };
        backend.combine(&op, CombineArgs { inputs: &inputs.iter().collect::<Vec<_>>(), out: &mut out })?;
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        Self {
            len: draw.pick(&[1, 4, 31, 257, 1028]),
            terms: draw.pick(&[2, 1, 4, 5, 8]),
            clamp: draw.pick(&[None, Some(0.75), Some(40_000.0)]),
            singles: draw.pick(&[0x1FF, 0, 0x100, 0xFF, 0x155]),
            kind: draw.turn(&KINDS),
            seed: draw.next() >> 1,
        }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let (inputs, coefficients) = (self.inputs(half), self.coefficients());
        let value = |i: usize| {
            // A fused multiply-add rounds once; the sum starts with +0.
            let add = |sum: Bounded, (x, &factor): (&Vec<f32>, &f32)| {
                let product = f64::from(x[i]) * f64::from(factor);
                let sum = Bounded { value: sum.value + product, error: sum.error };
                if sum.value.is_finite() { Bounded::rounded(sum.value, sum.error, 1.0) } else { sum }
            };
            let sum = inputs.iter().zip(&coefficients).fold(Bounded::exactly(0.0), add);
            self.clamp.map_or(sum, |limit| sum.clamp(f64::from(limit)))
        };
        let stored = if self.single(8) { Precision::F32 } else { precision };
        Exact::numbers((0..self.len).map(value).collect(), stored)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    #[test]
    fn a_clamp_that_swallows_nan_is_refused() {
        let clamped = |case: &Case| case.kind == Kind::Special && case.clamp.is_some() && case.len > 4;
        let sums = |case: &Case, clamp: fn(f32, f32) -> f32| -> Vec<f32> {
            let (inputs, coefficients) = (case.inputs(Half::F16), case.coefficients());
            let limit = case.clamp.unwrap_or(f32::INFINITY);
            let sum = |i: usize| inputs.iter().zip(&coefficients).fold(0.0, |sum: f32, (x, c)| c.mul_add(x[i], sum));
            (0..case.len).map(|i| clamp(sum(i), limit)).collect()
        };
        // An f32 output is not rounded to f16.
        let halved = |case: &Case| clamped(case) && !case.single(8);
        let [refused_right, _] = refused(halved, |case| sums(case, |sum, limit| sum.clamp(-limit, limit)));
        assert_eq!(refused_right, 0);
        let [refused, all] = refused(halved, |case| sums(case, |sum, limit| sum.max(-limit).min(limit)));
        assert!(refused > all / 2, "{refused} of {all}");
    }
}
