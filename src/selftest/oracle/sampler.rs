//! `combine`: a linear combination, in order, from zero. `hold`: two sums of two products.

use super::super::trial::{Body, host};
use super::super::values::values;
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};

#[derive(Clone, Copy, Debug)]
pub(super) enum Case {
    Sum(Sum),
    Held(Held),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    len: usize,
    terms: usize,
    clamp: Option<f32>,
    /// Bit `i` for an f32 input `i`, bit 8 for an f32 output.
    singles: u32,
    kind: Kind,
    seed: u64,
}

const KINDS: [Kind; 6] = [Kind::Cancelling, Kind::Special, Kind::Zeros, Kind::Denormal, Kind::Large, Kind::Plain];

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        match self {
            Self::Sum(sum) => sum.run(backend, half),
            Self::Held(held) => held.run(backend, half),
        }
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        if draw.coin() { Self::Sum(Sum::draw(draw)) } else { Self::Held(Held::draw(draw)) }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        match self {
            Self::Sum(sum) => sum.exact(half, precision),
            Self::Held(held) => held.exact(half, precision),
        }
    }
}

impl Sum {
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

impl Body for Sum {
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

impl Known for Sum {
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
                once(sum.value + f64::from(x[i]) * f64::from(factor), sum.error)
            };
            let sum = inputs.iter().zip(&coefficients).fold(Bounded::exactly(0.0), add);
            self.clamp.map_or(sum, |limit| sum.clamp(f64::from(limit)))
        };
        let stored = if self.single(8) { Precision::F32 } else { precision };
        Exact::numbers((0..self.len).map(value).collect(), stored)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    op: Hold,
    kind: Kind,
    seed: u64,
}

impl Held {
    /// The clip, the noise and the sample.
    fn states(&self, half: Half) -> [Vec<f32>; 3] {
        [1, 2, 3].map(|offset| fill(self.kind, self.seed + offset, self.op.len, self.op.len, half))
    }

    /// Weights between 0 and 1, and some of each.
    fn weight(&self) -> Vec<f32> {
        values(self.seed + 4, self.op.len).iter().map(|x| (x + 0.5).clamp(0.0, 1.0)).collect()
    }
}

impl Body for Held {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let states = self.states(half);
        let upload = |x: &[f32]| backend.upload_f32(x);
        let (original, noise, mut sample) = (upload(&states[0])?, upload(&states[1])?, upload(&states[2])?);
        let weight = upload(&self.weight())?;
        let args = HoldArgs { original: &original, noise: &noise, weight: &weight, sample: &mut sample };
        backend.hold(&self.op, args)?;
        host(backend, &sample)
    }
}

impl Known for Held {
    fn draw(draw: &mut Draw) -> Self {
        let len = draw.pick(&[1, 4, 31, 257, 1028]);
        // A sampler's first step, its last, one between, and the first of a sampler that does not scale the clip.
        let [signal, noise_level] = draw.pick(&[[0.07, 0.998], [1.0, 0.0], [0.8, 0.6], [1.0, 14.6]]);
        Self { op: Hold { len, signal, noise_level }, kind: draw.turn(&KINDS), seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, _: Precision) -> Exact {
        let [original, noise, sample] = self.states(half);
        let (weight, Hold { signal, noise_level, .. }) = (self.weight(), self.op);
        let value = |i: usize| {
            let [original, noise, weight, sample] = [original[i], noise[i], weight[i], sample[i]].map(f64::from);
            let noise = once(f64::from(noise_level) * noise, 0.0);
            let kept = once(f64::from(signal) * original + noise.value, noise.error);
            let rest = (1.0 - weight) * sample;
            // The difference is rounded, and the product. Nothing is, where the mask is 0 or 1.
            let between = weight > 0.0 && weight < 1.0 && rest.is_finite();
            let rest = if between { Bounded::rounded(rest, 0.0, 2.0) } else { Bounded::exactly(rest) };
            once(weight * kept.value + rest.value, weight * kept.error + rest.error)
        };
        Exact::numbers((0..self.op.len).map(value).collect(), Precision::F32)
    }
}

/// A sum that a fused multiply-add rounds once; what is not finite is not rounded.
fn once(value: f64, error: f64) -> Bounded {
    if value.is_finite() { Bounded::rounded(value, error, 1.0) } else { Bounded { value, error } }
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    #[test]
    fn a_clamp_that_swallows_nan_is_refused() {
        let clamped = |case: &Sum| case.kind == Kind::Special && case.clamp.is_some() && case.len > 4;
        let sums = |case: &Sum, clamp: fn(f32, f32) -> f32| -> Vec<f32> {
            let (inputs, coefficients) = (case.inputs(Half::F16), case.coefficients());
            let limit = case.clamp.unwrap_or(f32::INFINITY);
            let sum = |i: usize| inputs.iter().zip(&coefficients).fold(0.0, |sum: f32, (x, c)| c.mul_add(x[i], sum));
            (0..case.len).map(|i| clamp(sum(i), limit)).collect()
        };
        // An f32 output is not rounded to f16.
        let halved = |case: &Sum| clamped(case) && !case.single(8);
        let [refused_right, _] = refused(halved, |case| sums(case, |sum, limit| sum.clamp(-limit, limit)));
        assert_eq!(refused_right, 0);
        let [refused, all] = refused(halved, |case| sums(case, |sum, limit| sum.max(-limit).min(limit)));
        assert!(refused > all / 2, "{refused} of {all}");
    }

    /// Whether the oracle refuses a case if `wrong` computes its elements.
    fn refuses(case: &Held, wrong: impl Fn(Hold, [f32; 4]) -> f32) -> bool {
        let ([original, noise, sample], weight) = (case.states(Half::F16), case.weight());
        let element = |i: usize| wrong(case.op, [original[i], noise[i], weight[i], sample[i]]);
        let found: Vec<f32> = (0..case.op.len).map(element).collect();
        case.exact(Half::F16, Precision::F32).judge(&found).is_err()
    }

    #[test]
    fn a_mask_that_is_inverted_or_forgets_the_noise_is_refused() {
        let kept = |op: Hold, original: f32, noise: f32| op.signal.mul_add(original, op.noise_level * noise);
        let cases = (0..400).map(|number| Held::draw(&mut Draw::of(number)));
        for case in cases.filter(|case| case.kind == Kind::Plain && case.op.len > 4 && case.op.noise_level > 0.0) {
            assert!(!refuses(&case, |op, [x, n, w, s]| w.mul_add(kept(op, x, n), (1.0 - w) * s)), "{case:?}");
            assert!(refuses(&case, |op, [x, n, w, s]| (1.0 - w).mul_add(kept(op, x, n), w * s)), "{case:?}");
            assert!(refuses(&case, |op, [x, _, w, s]| w.mul_add(kept(op, x, 0.0), (1.0 - w) * s)), "{case:?}");
        }
    }
}
