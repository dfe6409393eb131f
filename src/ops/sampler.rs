//! `combine`: the one arithmetic operation of every sampler, a linear combination of f32 states.

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
