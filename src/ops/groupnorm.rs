//! `group_norm`: GroupNorm of one video, optionally followed by SiLU.

use super::{expect_len, expect_that};
use crate::error::Result;

/// Descriptor of `group_norm`. `x [frames, positions, channels] → out`, the same shape; weight and bias `[channels]`.
///
/// Statistics are kept per frame and group (count, mean, M2) and combined in frame order, so that a layer that runs in
/// time chunks gets the same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Frames.
    pub frames: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
    /// Groups of neighbouring channels (32 everywhere in the model).
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Statistics of each frame by itself (the 2-D blocks) instead of over all frames.
    pub per_frame: bool,
    /// Apply x·σ(x) to the result.
    pub silu: bool,
}

impl GroupNorm {
    /// Checks element counts.
    pub fn validate(&self, x: usize, weight: usize, bias: usize, out: usize) -> Result<()> {
        const OP: &str = "group_norm";
        let divides = self.groups > 0 && self.channels.is_multiple_of(self.groups);
        expect_that(OP, "groups", divides, "a divisor of the channels", (self.groups, self.channels))?;
        expect_len(OP, "x", x, self.frames * self.positions * self.channels)?;
        expect_len(OP, "weight", weight, self.channels)?;
        expect_len(OP, "bias", bias, self.channels)?;
        expect_len(OP, "out", out, x)
    }

    /// Five operations an element for the statistics, two to apply, five for SiLU.
    pub fn flops(&self) -> u64 {
        let per_element = if self.silu { 12 } else { 7 };
        per_element * (self.frames * self.positions * self.channels) as u64
    }

    /// Two reads (statistics, then apply) and one write.
    pub fn bytes(&self, element: u64) -> u64 {
        3 * (self.frames * self.positions * self.channels) as u64 * element
    }
}
