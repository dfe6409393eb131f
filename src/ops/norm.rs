//! `ada_layer_norm`, `layer_norm`, `rms_norm`: normalisation of each token over its channels.

use super::{expect_at_least, expect_len, expect_that};
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

impl AdaLayerNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. `rows_per_modulation` must divide the rows.
    pub fn validate(&self, x: usize, modulation: usize, out: usize) -> Result<()> {
        const OP: &str = "ada_layer_norm";
        let divides = self.rows_per_modulation > 0 && self.rows.is_multiple_of(self.rows_per_modulation);
        expect_that(OP, "rows_per_modulation", divides, "a divisor of rows", self.rows_per_modulation)?;
        expect_len(OP, "x", x, self.rows * self.channels)?;
        let last = (self.rows / self.rows_per_modulation).saturating_sub(1) * self.modulation_stride;
        expect_at_least(OP, "modulation", modulation, last + self.shift.max(self.scale) + self.channels)?;
        expect_len(OP, "out", out, x)
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

impl LayerNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate(&self, x: usize, weight: usize, bias: usize, out: usize) -> Result<()> {
        const OP: &str = "layer_norm";
        expect_len(OP, "x", x, self.rows * self.channels)?;
        expect_len(OP, "weight", weight, self.channels)?;
        expect_len(OP, "bias", bias, self.channels)?;
        expect_len(OP, "out", out, x)
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

impl RmsNorm {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate(&self, x: usize, weight: usize, out: usize) -> Result<()> {
        const OP: &str = "rms_norm";
        expect_len(OP, "x", x, self.rows * self.channels)?;
        expect_len(OP, "weight", weight, self.channels)?;
        expect_len(OP, "out", out, x)
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
