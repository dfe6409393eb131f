//! `time_average`, `time_double`: the parameter-free temporal resampling of the causal VAE.
//! `regroup_frames`: the reinterpretation of memory in `AttnBlock3D` of v1.0.0.

use super::{DeviceBuffer, expect_len, expect_that};
use crate::error::Result;

/// Halves the frame rate: pads two copies of the first frame in front, and takes the mean of frames 2j, 2j+1, 2j+2.
///
/// `x [frames, frame_len] → out [ceil(frames/2), frame_len]`, `frame_len` = height·width·channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeAverage {
    /// Input frames.
    pub frames: usize,
    /// Elements of a frame.
    pub frame_len: usize,
}

/// Operands of [`TimeAverage`].
#[derive(Debug)]
pub struct TimeAverageArgs<'a, Buffer> {
    /// `[frames, frame_len]`
    pub x: &'a Buffer,
    /// `[out_frames, frame_len]`
    pub out: &'a mut Buffer,
}

impl TimeAverage {
    /// Output frames.
    pub fn out_frames(&self) -> usize {
        self.frames.div_ceil(2)
    }

    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. There must be a frame.
    pub fn validate<B: DeviceBuffer>(&self, args: &TimeAverageArgs<'_, B>) -> Result<()> {
        const OP: &str = "time_average";
        expect_that(OP, "frames", self.frames > 0, "at least one", self.frames)?;
        expect_len(OP, "x", args.x.len(), self.frames * self.frame_len)?;
        expect_len(OP, "out", args.out.len(), self.out_frames() * self.frame_len)
    }

    /// Three operations an output element.
    pub fn flops(&self) -> u64 {
        3 * (self.out_frames() * self.frame_len) as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        ((self.frames + self.out_frames()) * self.frame_len) as u64 * element
    }
}

/// Doubles the frame rate of all frames but the first, which does not change.
///
/// `x [frames, frame_len] → out [2·frames − 1, frame_len]`. On the slice s = x[1..], `out[2j] = ¼·s[j−1] + ¾·s[j]` and
/// `out[2j+1] = ¾·s[j] + ¼·s[j+1]`, indices clamped to the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeDouble {
    /// Input frames.
    pub frames: usize,
    /// Elements of a frame.
    pub frame_len: usize,
}

/// Operands of [`TimeDouble`].
#[derive(Debug)]
pub struct TimeDoubleArgs<'a, Buffer> {
    /// `[frames, frame_len]`
    pub x: &'a Buffer,
    /// `[out_frames, frame_len]`
    pub out: &'a mut Buffer,
}

impl TimeDouble {
    /// Output frames.
    pub fn out_frames(&self) -> usize {
        (2 * self.frames).saturating_sub(1)
    }

    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. There must be a frame.
    pub fn validate<B: DeviceBuffer>(&self, args: &TimeDoubleArgs<'_, B>) -> Result<()> {
        const OP: &str = "time_double";
        expect_that(OP, "frames", self.frames > 0, "at least one", self.frames)?;
        expect_len(OP, "x", args.x.len(), self.frames * self.frame_len)?;
        expect_len(OP, "out", args.out.len(), self.out_frames() * self.frame_len)
    }

    /// Three operations an output element.
    pub fn flops(&self) -> u64 {
        3 * (self.out_frames() * self.frame_len) as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        ((self.frames + self.out_frames()) * self.frame_len) as u64 * element
    }
}

/// The reshape of `AttnBlock3D` of v1.0.0: (C, T, H·W) memory is read as (T, C, H·W) without a transposition.
///
/// `x [frames, positions, channels] → out`, the same shape: element (c, t) of the channel-major order becomes element
/// (t', c') where `c·frames + t = t'·channels + c'`. `inverse` goes back. Bit-equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegroupFrames {
    /// Frames.
    pub frames: usize,
    /// Height times width.
    pub positions: usize,
    /// Channels.
    pub channels: usize,
    /// From (t', c') back to (c, t).
    pub inverse: bool,
}

/// Operands of [`RegroupFrames`].
#[derive(Debug)]
pub struct RegroupFramesArgs<'a, Buffer> {
    /// `[frames, positions, channels]`
    pub x: &'a Buffer,
    /// Shaped as `x`.
    pub out: &'a mut Buffer,
}

impl RegroupFrames {
    /// Checks element counts.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size.
    pub fn validate<B: DeviceBuffer>(&self, args: &RegroupFramesArgs<'_, B>) -> Result<()> {
        const OP: &str = "regroup_frames";
        expect_len(OP, "x", args.x.len(), self.frames * self.positions * self.channels)?;
        expect_len(OP, "out", args.out.len(), args.x.len())
    }

    /// The (frame, channel) of `out` that receives (frame, channel) of `x`.
    pub fn target(&self, frame: usize, channel: usize) -> (usize, usize) {
        if self.inverse {
            let flat = frame * self.channels + channel;
            (flat % self.frames, flat / self.frames)
        } else {
            let flat = channel * self.frames + frame;
            (flat / self.channels, flat % self.channels)
        }
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        2 * (self.frames * self.positions * self.channels) as u64 * element
    }
}
