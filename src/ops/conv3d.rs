//! `conv3d`: causal 3-D convolution of one video, NTHWC without the N, with its paddings and its epilogue fused.
//! `depthwise_conv`: the strided per-channel convolution of compressed keys and values.

use super::enlarge::PHASES;
use super::groupnorm::{Moments, expect_groups};
use super::{DeviceBuffer, DeviceWeight, expect_at_least, expect_len, expect_shape, expect_that};
use crate::error::Result;
use std::ops::Range;

/// How the borders in space are padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpacePadding {
    /// `kernel/2` on every side.
    Same,
    /// One row at the bottom and one column at the right (the stride-2 downsampling).
    RightBottom,
}

/// Descriptor of `conv3d`.
///
/// `x [frames, height, width, cin] * weight [cout, kt, kh, kw, cin] → out [out_frames, out_height, out_width, cout]`.
/// In time, the input is padded in front by kt − 1 copies of the first frame, and not at the end. With `upsample` the input is
/// first enlarged 2× in space by nearest neighbour, and the weight is another one ([`Self::weight_shape`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conv3d {
    /// Input frames.
    pub frames: usize,
    /// Input rows, before `upsample`.
    pub height: usize,
    /// Input columns, before `upsample`.
    pub width: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel size in time, height, width.
    pub kernel: [usize; 3],
    /// Stride in time and in space.
    pub stride: [usize; 2],
    /// Padding in space.
    pub padding: SpacePadding,
    /// Nearest 2× enlargement of the input in height and width, in front of a kernel of 3×3 in space at stride 1. It is folded
    /// into the weight by [`FoldEnlargement`](super::enlarge::FoldEnlargement).
    pub upsample: bool,
    /// Epilogue: `out = conv_scale·(conv + bias) + other_scale·other`, if `other` is given, which has the output's shape.
    /// A residual block uses (1, 1); a mix with factor α uses (1 − α, α). Without `other` only `conv_scale` counts.
    pub conv_scale: f32,
    /// Factor on `other`.
    pub other_scale: f32,
    /// First and end of the output frames to compute; `None` computes all. So a layer can run in stretches: other frames of the
    /// output keep their values, and input frames after the last needed one are not read.
    pub only: Option<[usize; 2]>,
    /// The frame of `out` and of the moments that receives the first computed frame; `None` is the frame of the same number.
    pub out_frame: Option<usize>,
    /// The frame of `other` that is added to the first computed frame; `None` is the frame of the same number.
    pub other_frame: Option<usize>,
    /// Groups of channels whose statistics [`ConvArgs::moments`] receives.
    pub moment_groups: usize,
}

/// Operands of [`Conv3d`].
#[derive(Debug)]
pub struct ConvArgs<'a, Buffer, Weight> {
    /// `[frames, height, width, cin]`
    pub x: &'a Buffer,
    /// [`Conv3d::weight_shape`]
    pub weight: &'a Weight,
    /// `[cout]`
    pub bias: Option<&'a Weight>,
    /// Added by the epilogue; has the output's shape. With `other_frame`, it may hold only the computed frames from there on.
    pub other: Option<&'a Buffer>,
    /// Receives the moments of the computed output frames for the next GroupNorm (see [`Moments`]), if
    /// [`Conv3d::can_make_moments`]. It has room for at least the frames up to the last computed one.
    pub moments: Option<&'a mut Buffer>,
    /// `[out_frames, out_height, out_width, cout]`. With `out_frame`, it may hold only the computed frames from there on.
    pub out: &'a mut Buffer,
}

impl<'a, Buffer, Weight> ConvArgs<'a, Buffer, Weight> {
    /// Operands without bias, addend and moments.
    pub fn new(x: &'a Buffer, weight: &'a Weight, out: &'a mut Buffer) -> Self {
        Self { x, weight, bias: None, other: None, moments: None, out }
    }
}

impl Conv3d {
    /// A convolution of stride 1 with "same" padding in space.
    pub fn new(frames: usize, height: usize, width: usize, cin: usize, cout: usize, kernel: [usize; 3]) -> Self {
        Self {
            frames,
            height,
            width,
            cin,
            cout,
            kernel,
            stride: [1, 1],
            padding: SpacePadding::Same,
            upsample: false,
            conv_scale: 1.0,
            other_scale: 1.0,
            only: None,
            out_frame: None,
            other_frame: None,
            moment_groups: 0,
        }
    }

    /// Rows and columns that the kernel slides over, after `upsample`, before padding.
    pub fn grid(&self) -> [usize; 2] {
        let factor = if self.upsample { 2 } else { 1 };
        [factor * self.height, factor * self.width]
    }

    /// The parts of an output frame that have weights of their own: those of an enlargement, or 1.
    pub fn phases(&self) -> usize {
        if self.upsample { PHASES } else { 1 }
    }

    /// Taps in time, height and width that are multiplied.
    pub fn taps(&self) -> [usize; 3] {
        let [kt, kh, kw] = self.kernel;
        if self.upsample { [kt, 2, 2] } else { [kt, kh, kw] }
    }

    /// `[phases·cout, taps in time, height and width, cin]`.
    pub fn weight_shape(&self) -> [usize; 5] {
        let [kt, kh, kw] = self.taps();
        [self.phases() * self.cout, kt, kh, kw, self.cin]
    }

    /// Whether the output's moments can be made with it. Those of an enlargement need whole slabs in every phase.
    pub fn can_make_moments(&self) -> bool {
        !self.upsample || (self.height * self.width).is_multiple_of(Moments::SLAB)
    }

    /// Zero rows and columns in front of the grid.
    pub fn pad_front(&self) -> [usize; 2] {
        match self.padding {
            SpacePadding::Same => [self.kernel[1] / 2, self.kernel[2] / 2],
            SpacePadding::RightBottom => [0, 0],
        }
    }

    /// `[out_frames, out_height, out_width, cout]`.
    pub fn out_shape(&self) -> [usize; 4] {
        let [height, width] = self.grid();
        let pad = |kernel: usize| match self.padding {
            SpacePadding::Same => 2 * (kernel / 2),
            SpacePadding::RightBottom => 1,
        };
        let out = |size: usize, kernel: usize, stride: usize| (size + 1).saturating_sub(kernel).div_ceil(stride);
        [
            self.frames.div_ceil(self.stride[0]),
            out(height + pad(self.kernel[1]), self.kernel[1], self.stride[1]),
            out(width + pad(self.kernel[2]), self.kernel[2], self.stride[1]),
            self.cout,
        ]
    }

    /// Output frames that are computed.
    pub fn computed(&self) -> Range<usize> {
        let [start, end] = self.only.unwrap_or([0, self.out_shape()[0]]);
        start..end
    }

    /// The frame of `out` that receives the first computed frame.
    pub fn out_frame(&self) -> usize {
        self.out_frame.unwrap_or(self.computed().start)
    }

    /// The frame of `other` that belongs to the first computed frame.
    pub fn other_frame(&self) -> usize {
        self.other_frame.unwrap_or(self.computed().start)
    }

    /// The descriptor of the moments of this many output frames.
    pub fn moments(&self, frames: usize) -> Moments {
        let [_, height, width, channels] = self.out_shape();
        Moments { frames, positions: height * width, channels, groups: self.moment_groups }
    }

    /// Checks element counts, the weight's shape, the computed frames, and the groups of moments. The backend keeps moments in
    /// `moments_len` elements. If `out_frame` or `other_frame` is given, the buffers may be longer than the computed frames.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. Taps, strides, frames and input channels may not
    /// be 0, `only` must be frames of the output, and the groups of moments must divide its channels. An enlargement needs
    /// a kernel of 3×3 in space, stride 1 and padding on all sides there, and for moments [`Self::can_make_moments`].
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(
        &self,
        args: &ConvArgs<'_, B, W>,
        moments_len: impl Fn(&Moments) -> usize,
    ) -> Result<()> {
        const OP: &str = "conv3d";
        expect_that(OP, "kernel", self.kernel.iter().all(|&taps| taps > 0), "at least one tap", self.kernel)?;
        expect_that(OP, "stride", self.stride[0] * self.stride[1] > 0, "at least one", self.stride)?;
        if self.upsample {
            let way = (self.kernel, self.stride, self.padding);
            let folds = self.kernel[1..] == [3, 3] && self.stride[1] == 1 && self.padding == SpacePadding::Same;
            expect_that(OP, "upsample", folds, "3x3 taps in space at stride 1, padded on all sides", way)?;
        }
        let Range { start, end } = self.computed();
        expect_that(OP, "only", start <= end && end <= self.out_shape()[0], "frames of the output", self.only)?;
        expect_that(OP, "cin", self.cin > 0, "at least one", self.cin)?;
        expect_that(OP, "frames", self.frames > 0, "at least one", self.frames)?;
        expect_len(OP, "x", args.x.len(), self.frames * self.height * self.width * self.cin)?;
        expect_shape(OP, "weight", args.weight.shape(), &self.weight_shape())?;
        if let Some(bias) = args.bias {
            expect_len(OP, "bias", bias.len(), self.cout)?;
        }
        if let Some(other) = args.other {
            self.expect_place("other", other.len(), self.other_frame)?;
        }
        self.expect_place("out", args.out.len(), self.out_frame)?;
        if let Some(moments) = &args.moments {
            expect_groups(OP, "moment_groups", self.moment_groups, self.cout)?;
            let size = [self.height, self.width];
            expect_that(OP, "moments", self.can_make_moments(), "whole slabs of 128 positions in a phase", size)?;
            let reached = self.moments(self.out_frame() + self.computed().len());
            expect_at_least(OP, "moments", moments.len(), moments_len(&reached))?;
        }
        Ok(())
    }

    /// Checks that `found` elements are the whole output, or hold the computed frames from frame `at` on.
    fn expect_place(&self, argument: &'static str, found: usize, at: Option<usize>) -> Result<()> {
        // A number that is too large becomes the largest, which no buffer has.
        let [frames, sizes @ ..] = self.out_shape();
        let elements = |frames| sizes.into_iter().fold(frames, usize::saturating_mul);
        match at {
            None => expect_len("conv3d", argument, found, elements(frames)),
            Some(at) => expect_at_least("conv3d", argument, found, elements(at.saturating_add(self.computed().len()))),
        }
    }

    /// Elements of the output that are computed.
    fn computed_elements(&self) -> usize {
        self.computed().len() * self.out_shape()[1..].iter().product::<usize>()
    }

    /// Floating-point operations of the plain formula with this weight (padding included).
    pub fn flops(&self) -> u64 {
        let taps: usize = self.taps().iter().product();
        2 * self.computed_elements() as u64 * (taps * self.cin) as u64
    }

    /// The input for the computed frames, the weight and the output, once each.
    pub fn bytes(&self, element: u64) -> u64 {
        let weight: usize = self.weight_shape().iter().product();
        let frames = (self.computed().len() * self.stride[0]).min(self.frames);
        let x = frames * self.height * self.width * self.cin;
        (x + weight + self.computed_elements()) as u64 * element
    }
}

/// Descriptor of `depthwise_conv`: a strided convolution of each channel, kernel = stride = `factor`.
///
/// `x [outer, tokens, channels] → out [outer, out_tokens, channels]`, tokens being a `height × width` grid (`Space`) or a
/// run of frames for each of `positions` (`Time`, tokens = frames·positions); bias `[channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepthwiseConv {
    /// `weight [channels, factor, factor]`; rows and columns beyond a whole number of windows are dropped.
    Space {
        /// Frames.
        outer: usize,
        /// Token rows.
        height: usize,
        /// Token columns.
        width: usize,
        /// Channels.
        channels: usize,
        /// Kernel and stride.
        factor: usize,
    },
    /// `weight [channels, factor]`; an odd number of frames is padded in front by `factor − 1` copies of the first frame.
    Time {
        /// Samples.
        outer: usize,
        /// Frames.
        frames: usize,
        /// Positions of a frame.
        positions: usize,
        /// Channels.
        channels: usize,
        /// Kernel and stride.
        factor: usize,
    },
}

/// Operands of [`DepthwiseConv`].
#[derive(Debug)]
pub struct DepthwiseConvArgs<'a, Buffer, Weight> {
    /// `[outer, tokens, channels]`
    pub x: &'a Buffer,
    /// `[channels, factor, factor]` (`Space`) or `[channels, factor]` (`Time`).
    pub weight: &'a Weight,
    /// `[channels]`
    pub bias: &'a Weight,
    /// `[outer, out_tokens, channels]`
    pub out: &'a mut Buffer,
}

impl DepthwiseConv {
    /// Tokens of one outer entry in the output.
    pub fn out_tokens(&self) -> usize {
        match *self {
            Self::Space { height, width, factor, .. } => (height / factor) * (width / factor),
            Self::Time { frames, positions, factor, .. } => (frames + front(frames, factor)) / factor * positions,
        }
    }

    /// Copies of the first frame in front (`Time`).
    pub fn front(&self) -> usize {
        match *self {
            Self::Space { .. } => 0,
            Self::Time { frames, factor, .. } => front(frames, factor),
        }
    }

    /// Outer count, input tokens of one, channels, and the weight's shape.
    fn sizes(&self) -> (usize, usize, usize, Vec<usize>) {
        match *self {
            Self::Space { outer, height, width, channels, factor } => {
                (outer, height * width, channels, vec![channels, factor, factor])
            }
            Self::Time { outer, frames, positions, channels, factor } => {
                (outer, frames * positions, channels, vec![channels, factor])
            }
        }
    }

    /// Checks element counts and the weight's shape.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] names the first argument of another size. The factor may not be 0.
    pub fn validate<B: DeviceBuffer, W: DeviceWeight>(&self, args: &DepthwiseConvArgs<'_, B, W>) -> Result<()> {
        const OP: &str = "depthwise_conv";
        let (outer, tokens, channels, shape) = self.sizes();
        expect_that(OP, "factor", shape[1] > 0, "at least one", shape[1])?;
        expect_len(OP, "x", args.x.len(), outer * tokens * channels)?;
        expect_shape(OP, "weight", args.weight.shape(), &shape)?;
        expect_len(OP, "bias", args.bias.len(), channels)?;
        expect_len(OP, "out", args.out.len(), outer * self.out_tokens() * channels)
    }

    /// One multiply-add per tap and output element.
    pub fn flops(&self) -> u64 {
        let (outer, _, _, shape) = self.sizes();
        2 * (outer * self.out_tokens()) as u64 * shape.iter().product::<usize>() as u64
    }

    /// One read, one write.
    pub fn bytes(&self, element: u64) -> u64 {
        let (outer, tokens, channels, _) = self.sizes();
        (outer * (tokens + self.out_tokens()) * channels) as u64 * element
    }
}

/// The original pads an odd number of frames in front by r − 1 copies of the first frame.
fn front(frames: usize, factor: usize) -> usize {
    if frames % 2 == 1 { factor - 1 } else { 0 }
}
