//! `group_norm`: GroupNorm of one video, optionally followed by SiLU.

use super::{expect_len, expect_that};
use crate::error::Result;

/// Statistics of a video for a GroupNorm, as backends may keep them between the operation that makes the video and the
/// norm: mean and M2 (the sum of squared deviations from it) of every group in every slab of [`Moments::SLAB`] neighbouring
/// positions of a frame; and room for what they combine to.
///
/// f32 `[frames, slabs, groups, 2]`, then `[frames, groups, 2]`. A backend that has no use for them leaves the buffer empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Frames.
    pub frames: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
    /// Groups of neighbouring channels.
    pub groups: usize,
}

impl Moments {
    /// Positions of a slab; a frame's last may have fewer.
    pub const SLAB: usize = 128;

    /// Slabs of a frame.
    pub fn slabs(&self) -> usize {
        self.positions.div_ceil(Self::SLAB)
    }

    /// Elements of the buffer.
    pub fn elements(&self) -> usize {
        2 * self.frames * self.groups * (self.slabs() + 1)
    }
}

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
    /// The moments that are passed along are those of `x` already: the convolution that made it left them there.
    pub moments_known: bool,
}

impl GroupNorm {
    /// The statistics that are passed along.
    pub fn moments(&self) -> Moments {
        let Self { frames, positions, channels, groups, .. } = *self;
        Moments { frames, positions, channels, groups }
    }

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
        let statistics = if self.moments_known { 0 } else { 5 };
        let apply = if self.silu { 7 } else { 2 };
        (statistics + apply) * (self.frames * self.positions * self.channels) as u64
    }

    /// A read for the statistics, a read and a write to apply.
    pub fn bytes(&self, element: u64) -> u64 {
        let passes = if self.moments_known { 2 } else { 3 };
        passes * (self.frames * self.positions * self.channels) as u64 * element
    }
}
