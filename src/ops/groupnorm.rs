//! `group_moments`, `group_statistics`, `group_norm`: GroupNorm, optionally followed by SiLU, of a video that may be in
//! several stretches.
//!
//! Moments are computed for each frame and combined in the order of frames. So a layer gives the same bits whether it runs in
//! stretches or at once.

use super::{DeviceBuffer, DeviceWeight, expect_at_least, expect_len, expect_that};
use crate::error::Result;

/// Descriptor of `group_moments`: mean and M2 (the sum of squared deviations from it) of every group in a stretch of frames,
/// `x [frames, positions, channels] → moments`. A convolution can write the moments of its output
/// (see [`crate::ops::conv3d::ConvArgs::moments`]).
///
/// The backend decides how it divides a frame. Kernels write f32 `[frames, slabs, groups, 2]`, where a slab is
/// [`Moments::SLAB`] positions. The kernel that writes moments decides which these are: neighbours in the order of a frame, or of
/// one phase of an enlarged frame, or a box that they fill. [`crate::backend::Backend::alloc_moments`] allocates a buffer for moments.
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

/// Operands of [`Moments`].
#[derive(Debug)]
pub struct MomentsArgs<'a, Buffer> {
    /// `[frames, positions, channels]`
    pub x: &'a Buffer,
    /// Allocated for this descriptor.
    pub moments: &'a mut Buffer,
}

impl Moments {
    /// Positions of a slab; a frame's last may have fewer.
    pub const SLAB: usize = 128;

    /// Slabs of a frame.
    pub fn slabs(&self) -> usize {
        self.positions.div_ceil(Self::SLAB)
    }

    /// Means and M2s of all slabs.
    pub fn elements(&self) -> usize {
        2 * self.frames * self.groups * self.slabs()
    }

    /// Checks element counts, for a backend that keeps these moments in `moments_len` elements.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. The groups must divide the channels.
    pub fn validate<B: DeviceBuffer>(&self, args: &MomentsArgs<'_, B>, moments_len: usize) -> Result<()> {
        const OP: &str = "group_moments";
        expect_groups(OP, "groups", self.groups, self.channels)?;
        expect_len(OP, "x", args.x.len(), self.frames * self.positions * self.channels)?;
        expect_len(OP, "moments", args.moments.len(), moments_len)
    }

    /// Five operations an element.
    pub fn flops(&self) -> u64 {
        5 * (self.frames * self.positions * self.channels) as u64
    }

    /// One read, and one write of the moments.
    pub fn bytes(&self, element: u64) -> u64 {
        (self.frames * self.positions * self.channels) as u64 * element + 4 * self.elements() as u64
    }
}

/// Descriptor of `group_statistics`: combines the moments of a video's stretches to a mean and an inverse deviation of each frame
/// and group. [`crate::backend::Backend::alloc_statistics`] allocates the result; kernels write f32 `[frames, groups, 2]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Frames of the whole video.
    pub frames: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Statistics of each frame (the 2-D blocks) instead of all frames.
    pub per_frame: bool,
}

/// Operands of [`Statistics`].
#[derive(Debug)]
pub struct StatisticsArgs<'a, Buffer> {
    /// The moments of the video's stretches in order, with the frames of each. Moments after these frames are not read.
    pub stretches: &'a [(&'a Buffer, usize)],
    /// Allocated for this descriptor.
    pub statistics: &'a mut Buffer,
}

impl Statistics {
    /// The moments of `frames` of the frames.
    pub fn moments(&self, frames: usize) -> Moments {
        Moments { frames, positions: self.positions, channels: self.channels, groups: self.groups }
    }

    /// A mean and an inverse deviation for each frame and group.
    pub fn elements(frames: usize, groups: usize) -> usize {
        2 * frames * groups
    }

    /// Checks that the stretches are the video, and element counts, for a backend that keeps these statistics in
    /// `statistics_len` elements, and moments in `moments_len(moments)` elements.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the stretches have more or fewer frames, or names the first argument of another size.
    /// The groups must divide the channels.
    pub fn validate<B: DeviceBuffer>(
        &self,
        args: &StatisticsArgs<'_, B>,
        statistics_len: usize,
        moments_len: impl Fn(&Moments) -> usize,
    ) -> Result<()> {
        const OP: &str = "group_statistics";
        expect_groups(OP, "groups", self.groups, self.channels)?;
        let found: usize = args.stretches.iter().map(|(_, frames)| frames).sum();
        expect_that(OP, "stretches", found == self.frames, &format!("{} frames in all", self.frames), found)?;
        expect_len(OP, "statistics", args.statistics.len(), statistics_len)?;
        args.stretches.iter().try_for_each(|&(moments, frames)| {
            expect_at_least(OP, "moments", moments.len(), moments_len(&self.moments(frames)))
        })
    }

    /// Seven operations for each slab's moments.
    pub fn flops(&self) -> u64 {
        7 * self.moments(self.frames).elements() as u64 / 2
    }

    /// The moments once, the statistics once.
    pub fn bytes(&self) -> u64 {
        4 * (self.moments(self.frames).elements() + Self::elements(self.frames, self.groups)) as u64
    }
}

/// Descriptor of `group_norm`: normalises some frames of `x [frames, positions, channels]` with the statistics of their video, and
/// writes them to frames of `out` with the same shape; weight and bias are `[channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNorm {
    /// Frames to normalise.
    pub frames: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
    /// Groups of neighbouring channels (32 everywhere in the model).
    pub groups: usize,
    /// Apply x·σ(x) to the result.
    pub silu: bool,
    /// The first frame to read in `x`.
    pub x_frame: usize,
    /// The first frame to write in `out`.
    pub out_frame: usize,
    /// The number of that frame in the video.
    pub video_frame: usize,
}

/// Operands of [`GroupNorm`].
#[derive(Debug)]
pub struct GroupNormArgs<'a, Buffer, Weight> {
    /// At least `[x_frame + frames, positions, channels]`
    pub x: &'a Buffer,
    /// Statistics of at least `video_frame + frames` frames.
    pub statistics: &'a Buffer,
    /// `[channels]`
    pub weight: &'a Weight,
    /// `[channels]`
    pub bias: &'a Weight,
    /// At least `[out_frame + frames, positions, channels]`
    pub out: &'a mut Buffer,
}

impl GroupNorm {
    /// Elements of a frame.
    pub fn frame_len(&self) -> usize {
        self.positions * self.channels
    }

    /// Checks element counts, for a backend that keeps the statistics up to the last of these frames in `statistics_len`
    /// elements. Buffers may hold more frames.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. The groups must divide the channels.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(
        &self,
        args: &GroupNormArgs<'_, B, W>,
        statistics_len: usize,
    ) -> Result<()> {
        const OP: &str = "group_norm";
        expect_groups(OP, "groups", self.groups, self.channels)?;
        expect_at_least(OP, "x", args.x.len(), (self.x_frame + self.frames) * self.frame_len())?;
        expect_len(OP, "weight", args.weight.len(), self.channels)?;
        expect_len(OP, "bias", args.bias.len(), self.channels)?;
        expect_at_least(OP, "out", args.out.len(), (self.out_frame + self.frames) * self.frame_len())?;
        expect_at_least(OP, "statistics", args.statistics.len(), statistics_len)
    }

    /// Two operations an element, five more for SiLU.
    pub fn flops(&self) -> u64 {
        let each = if self.silu { 7 } else { 2 };
        each * (self.frames * self.frame_len()) as u64
    }

    /// A read and a write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.frames * self.frame_len()) as u64 * element
    }
}

/// An argument check: the number of groups must divide the channels.
pub(super) fn expect_groups(op: &'static str, argument: &'static str, groups: usize, channels: usize) -> Result<()> {
    let divides = groups > 0 && channels.is_multiple_of(groups);
    expect_that(op, argument, divides, "a divisor of the channels", (groups, channels))
}
