//! `combine`: the one arithmetic operation of every sampler, a linear combination of f32 states. `hold`: puts back what a
//! mask keeps of a clip, between the steps of a sampler.

use super::{DeviceBuffer, expect_len, expect_that};
use crate::error::Result;

/// Most terms that one combination may have.
pub const MAX_TERMS: usize = 8;

/// Descriptor of `combine`: `out = clamp(Σ coefficients[i]·inputs[i])`, each `[len]`. Sampler states
/// are f32 on every device.
///
/// Terms are added in order, each by a fused multiply-add, so that every backend gets the same bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Combine<'a> {
    /// Elements of each state.
    pub len: usize,
    /// One factor per input.
    pub coefficients: &'a [f32],
    /// Clamp the result to ±this.
    pub clamp: Option<f32>,
}

/// Operands of [`Combine`].
#[derive(Debug)]
pub struct CombineArgs<'a, Buffer> {
    /// One for each coefficient, each `[len]`.
    pub inputs: &'a [&'a Buffer],
    /// `[len]`
    pub out: &'a mut Buffer,
}

impl Combine<'_> {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. There must be 1 to [`MAX_TERMS`] coefficients, and one
    /// input for each.
    pub fn validate<B: DeviceBuffer>(&self, args: &CombineArgs<'_, B>) -> Result<()> {
        const OP: &str = "combine";
        let terms = self.coefficients.len();
        expect_that(OP, "coefficients", (1..=MAX_TERMS).contains(&terms), "between 1 and 8 terms", terms)?;
        expect_that(OP, "inputs", args.inputs.len() == terms, "one input per coefficient", args.inputs.len())?;
        for input in args.inputs {
            expect_len(OP, "input", input.len(), self.len)?;
        }
        expect_len(OP, "out", args.out.len(), self.len)
    }

    /// A multiply-add per term and element.
    pub fn flops(&self) -> u64 {
        2 * (self.len * self.coefficients.len()) as u64
    }

    /// Each input once, the output once; four bytes an element always.
    pub fn bytes(&self) -> u64 {
        4 * (self.len * (self.coefficients.len() + 1)) as u64
    }
}

/// Descriptor of `hold`: `sample = weight·kept + (1 − weight)·sample`, each `[len]`, in place. `kept` is the latent of a
/// clip at the noise of a step: `kept = signal·original + noise_level·noise`. All values are f32 on every device.
///
/// The second product of each sum is rounded; a fused multiply-add adds the first. So every backend gets the same bits:
/// `kept = fma(signal, original, noise_level·noise)`, `sample = fma(weight, kept, (1 − weight)·sample)`.
///
/// While both are finite, a weight of 1 gives the bits of `kept` and a weight of 0 those of `sample`, but −0 may become 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hold {
    /// Elements of each buffer.
    pub len: usize,
    /// Factor of the clip's latent at this step.
    pub signal: f32,
    /// Factor of the noise at this step.
    pub noise_level: f32,
}

/// Operands of [`Hold`].
#[derive(Debug)]
pub struct HoldArgs<'a, Buffer> {
    /// The clip's latent `[len]`, f32
    pub original: &'a Buffer,
    /// `[len]`, f32
    pub noise: &'a Buffer,
    /// What is kept, from 0 to 1: `[len]`, f32
    pub weight: &'a Buffer,
    /// The sampler's state `[len]`, f32; changes in place.
    pub sample: &'a mut Buffer,
}

impl Hold {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &HoldArgs<'_, B>) -> Result<()> {
        const OP: &str = "hold";
        expect_len(OP, "original", args.original.len(), self.len)?;
        expect_len(OP, "noise", args.noise.len(), self.len)?;
        expect_len(OP, "weight", args.weight.len(), self.len)?;
        expect_len(OP, "sample", args.sample.len(), self.len)
    }

    /// Seven operations an element.
    pub fn flops(&self) -> u64 {
        7 * self.len as u64
    }

    /// Four reads, one write; four bytes an element always.
    pub fn bytes(&self) -> u64 {
        4 * 5 * self.len as u64
    }
}
