//! `ada_layer_norm`, `layer_norm`, `rms_norm`: normalisation of each token over its channels.

use super::{DeviceBuffer, DeviceWeight, expect_at_least, expect_len, expect_that};
use crate::error::Result;

/// LayerNorm without affine parameters, then `·(1 + scale) + shift`.
///
/// `x [rows, channels] → out [rows, channels]`. Row r reads the `channels` elements of its shift at
/// `(r / rows_per_modulation)·modulation_stride + shift` in `modulation`, and those of its scale likewise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaLayerNorm {
    /// Tokens.
    pub rows: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Tokens that share a modulation (those of one sample).
    pub rows_per_modulation: usize,
    /// Elements from one sample's modulation to the next.
    pub modulation_stride: usize,
    /// Offset of the shift.
    pub shift: usize,
    /// Offset of the scale.
    pub scale: usize,
}

/// Operands of [`AdaLayerNorm`].
#[derive(Debug)]
pub struct AdaLayerNormArgs<'a, Buffer> {
    /// `[rows, channels]`
    pub x: &'a Buffer,
    /// Every shift and scale, at the places of the descriptor.
    pub modulation: &'a Buffer,
    /// `[rows, channels]`
    pub out: &'a mut Buffer,
}

impl AdaLayerNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. `rows_per_modulation` must divide the rows.
    pub fn validate<B: DeviceBuffer>(&self, args: &AdaLayerNormArgs<'_, B>) -> Result<()> {
        const OP: &str = "ada_layer_norm";
        let divides = self.rows_per_modulation > 0 && self.rows.is_multiple_of(self.rows_per_modulation);
        expect_that(OP, "rows_per_modulation", divides, "a divisor of rows", self.rows_per_modulation)?;
        expect_len(OP, "x", args.x.len(), self.rows * self.channels)?;
        let last = (self.rows / self.rows_per_modulation).saturating_sub(1) * self.modulation_stride;
        expect_at_least(OP, "modulation", args.modulation.len(), last + self.shift.max(self.scale) + self.channels)?;
        expect_len(OP, "out", args.out.len(), args.x.len())
    }

    /// About eight operations an element: two for the mean, three for the variance, three to apply.
    pub fn flops(&self) -> u64 {
        8 * (self.rows * self.channels) as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.rows * self.channels) as u64 * element
    }
}

/// LayerNorm with weight and bias `[channels]`. `x [rows, channels] → out [rows, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Tokens.
    pub rows: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// Operands of [`LayerNorm`].
#[derive(Debug)]
pub struct LayerNormArgs<'a, Buffer, Weight> {
    /// `[rows, channels]`
    pub x: &'a Buffer,
    /// `[channels]`
    pub weight: &'a Weight,
    /// `[channels]`
    pub bias: &'a Weight,
    /// `[rows, channels]`
    pub out: &'a mut Buffer,
}

impl LayerNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &LayerNormArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "layer_norm";
        expect_len(OP, "x", args.x.len(), self.rows * self.channels)?;
        expect_len(OP, "weight", args.weight.len(), self.channels)?;
        expect_len(OP, "bias", args.bias.len(), self.channels)?;
        expect_len(OP, "out", args.out.len(), args.x.len())
    }

    /// As [`AdaLayerNorm::flops`].
    pub fn flops(&self) -> u64 {
        8 * (self.rows * self.channels) as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.rows * self.channels) as u64 * element
    }
}

/// `x / sqrt(mean(x²) + eps) · weight`, T5's norm: no mean, no bias; weight `[channels]`.
/// `x [rows, channels] → out [rows, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    /// Tokens.
    pub rows: usize,
    /// Channels of a token.
    pub channels: usize,
    /// Added to the mean square.
    pub eps: f32,
}

/// Operands of [`RmsNorm`].
#[derive(Debug)]
pub struct RmsNormArgs<'a, Buffer, Weight> {
    /// `[rows, channels]`
    pub x: &'a Buffer,
    /// `[channels]`
    pub weight: &'a Weight,
    /// `[rows, channels]`
    pub out: &'a mut Buffer,
}

impl RmsNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &RmsNormArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "rms_norm";
        expect_len(OP, "x", args.x.len(), self.rows * self.channels)?;
        expect_len(OP, "weight", args.weight.len(), self.channels)?;
        expect_len(OP, "out", args.out.len(), args.x.len())
    }

    /// Four operations an element.
    pub fn flops(&self) -> u64 {
        4 * (self.rows * self.channels) as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.rows * self.channels) as u64 * element
    }
}
