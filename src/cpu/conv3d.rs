//! `conv3d` and `depthwise_conv` on the CPU.
//!
//! A direct convolution. A product multiplies a tile of output pixels with a panel of output channels, directly from
//! the input: neighbouring pixels are rows `cin` elements apart, and the taps of one kernel row are contiguous. The
//! input is neither unfolded nor padded. Outputs are grouped by the taps that see the input ([`taps`]), so that borders
//! skip the zeros. Copies of the first frame are multiplied once, by the sum of their weights ([`packed`]).
//!
//! With many channels, 3×3 taps are computed with fewer products ([`winograd`]).
//!
//! The order of the sum of a pixel depends only on its place in the frame and the frame's place in the video. Later
//! frames, and the choice of frames that are computed together, do not change a bit of it.

mod packed;
mod taps;
mod winograd;

use super::Buffer;
use super::groupnorm;
use super::math;
use super::micro::{Rows, RowsMut, Segment, cuts};
use super::scratch::Scratch;
use super::shared::SharedMut;
use super::weight::Weight;
use crate::layout::transposed;
use crate::ops::conv3d::{Conv3d, ConvArgs, DepthwiseConv, DepthwiseConvArgs};
use packed::Packed;
use rayon::prelude::*;
use std::ops::Range;
use taps::{Axis, SameTaps};

/// Elements of the weight that are packed together: 16 MiB, about the size of a last-level cache.
const PACKED: usize = 4 << 20;
/// Output pixels of a task; at least one row is computed.
const BLOCK_PIXELS: usize = 256;
/// Output channels of a task.
const BLOCK_COLUMNS: usize = 128;
/// Steps of k in one product: this many rows of a panel stay in the second-level cache while all tiles of the block use
/// them.
const BLOCK_K: usize = 1536;

/// Computes [`Conv3d`], then the moments of its output.
pub(super) fn conv3d(op: &Conv3d, args: ConvArgs<'_, Buffer, Weight>) {
    let ConvArgs { x, weight, bias, other, moments, out } = args;
    convolve(op, x, weight, bias, other.map(|other| &**other), out);
    if let Some(moments) = moments {
        groupnorm::conv_moments(op, out, moments);
    }
}

fn convolve(op: &Conv3d, x: &[f32], weight: &Weight, bias: Option<&Weight>, other: Option<&[f32]>, out: &mut [f32]) {
    if out.is_empty() || op.computed().is_empty() {
        return;
    }
    let bias = bias.map_or_else(|| vec![0.0; op.cout], Weight::to_f32);
    if winograd::applies(op) {
        return winograd::conv3d(op, x, weight, &bias, other, out);
    }
    let axes = [Axis::new(op, 0), Axis::new(op, 1)];
    let packed = Packed::new(op, weight, &axes);
    let columns = axes[1].runs(0..op.out_shape()[2]);
    Call { op, x, axes: &axes, columns, packed, bias: &bias, other, out: SharedMut::new(out) }.run();
}

/// The arguments of one call.
struct Call<'a> {
    op: &'a Conv3d,
    x: &'a [f32],
    /// Height and width.
    axes: &'a [Axis; 2],
    /// The columns of a frame, grouped by the taps that see the input.
    columns: Vec<SameTaps>,
    packed: Packed<'a>,
    bias: &'a [f32],
    other: Option<&'a [f32]>,
    out: SharedMut<'a>,
}

/// Some rows and some channels of one output frame.
#[derive(Clone, Debug)]
struct Block {
    frame: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

/// The pixels of a block for which the same taps see the input.
struct Region {
    tiles: Vec<Tile>,
    /// Elements of the input from one pixel of a tile to the next.
    input_stride: usize,
    /// Pixels of the block from one pixel of a tile to the next.
    pixel_stride: usize,
    /// The input of every pixel, relative to the pixel's place in the first input frame.
    segments: Vec<Segment>,
    /// The segments, divided into ranges of about [`BLOCK_K`] steps.
    steps: Vec<Range<usize>>,
}

/// Pixels along a line, at equal distances in the input.
struct Tile {
    /// Offset of the input under the first valid tap at the first pixel.
    input: usize,
    /// Index of the first pixel in the block.
    pixel: usize,
    pixels: usize,
}

impl Call<'_> {
    fn run(&self) {
        let [_, height, width, cout] = self.op.out_shape();
        let frames = self.op.computed();
        let depth = self.packed.depth();
        let most = (PACKED / depth / BLOCK_COLUMNS).max(1) * BLOCK_COLUMNS;
        let mut packed = Scratch::new(self.packed.columns(cout.min(most)) * depth);
        let row_blocks: Vec<_> = cuts(height, (BLOCK_PIXELS / width).max(1)).collect();
        for start in (0..cout).step_by(most) {
            let columns = start..cout.min(start + most);
            let packed = &mut packed[..self.packed.columns(columns.len()) * depth];
            self.packed.pack(columns.clone(), packed);
            let column_blocks = columns.len().div_ceil(BLOCK_COLUMNS);
            (0..frames.len() * row_blocks.len() * column_blocks).into_par_iter().for_each(|task| {
                let rows = task / column_blocks;
                let from = task % column_blocks * BLOCK_COLUMNS;
                let block = Block {
                    frame: frames.start + rows / row_blocks.len(),
                    rows: row_blocks[rows % row_blocks.len()].clone(),
                    columns: start + from..columns.end.min(start + from + BLOCK_COLUMNS),
                };
                self.block(&block, &packed[from * depth..]);
            });
        }
    }

    /// Computes one block: its sums, then the store.
    fn block(&self, block: &Block, packed: &[f32]) {
        let stride = self.packed.columns(block.columns.len());
        let mut sums = Scratch::new(block.rows.len() * self.op.out_shape()[2] * stride);
        let regions = self.regions(block);
        let depth = self.packed.depth();
        for step in 0..regions.iter().map(|region| region.steps.len()).max().unwrap_or(0) {
            for panel in self.packed.panels(block.columns.len()) {
                let weight = &packed[panel.column * depth..][..panel.width * depth];
                for region in &regions {
                    let sums = RowsMut { values: &mut sums[panel.column..], stride };
                    self.product(region, step, weight, panel.width, sums);
                }
            }
        }
        self.store(block, &sums, stride);
    }

    /// Computes one range of k for all tiles of a region and one panel; the first range overwrites the sums.
    fn product(&self, region: &Region, step: usize, weight: &[f32], width: usize, sums: RowsMut<'_>) {
        let Some(segments) = region.steps.get(step) else { return };
        let segments = &region.segments[segments.clone()];
        for tile in &region.tiles {
            let x = Rows { values: &self.x[tile.input..], stride: region.input_stride };
            let values = &mut sums.values[tile.pixel * sums.stride..];
            let sums = RowsMut { values, stride: region.pixel_stride * sums.stride };
            self.packed.tile([tile.pixels, width], x, weight, segments, sums, step > 0);
        }
    }

    /// The regions of a block.
    fn regions(&self, block: &Block) -> Vec<Region> {
        let rows = self.axes[0].runs(block.rows.clone());
        rows.iter().flat_map(|rows| self.columns.iter().map(|columns| self.region(block, rows, columns))).collect()
    }

    fn region(&self, block: &Block, rows: &SameTaps, columns: &SameTaps) -> Region {
        let (cin, out_width) = (self.op.cin, self.op.out_shape()[2]);
        let segments = self.segments(block.frame, rows, columns);
        let steps = steps(&segments);
        // (count, elements of the input, pixels of the block) along both sides of the region.
        let down = (rows.count, rows.source_step * self.op.width * cin, rows.step * out_width);
        let across = (columns.count, columns.source_step * cin, columns.step);
        // The pixels of a tile have equal distances, so a tile lies along one side of the region: the longer one.
        let (lines, line) = if columns.count < rows.count { (across, down) } else { (down, across) };
        let input = (rows.source * self.op.width + columns.source) * cin;
        let pixel = (rows.first - block.rows.start) * out_width + columns.first;
        let tiles = (0..lines.0).flat_map(|i| cuts(line.0, self.packed.tile_rows()).map(move |cut| (i, cut)));
        let tiles = tiles.map(|(i, cut)| Tile {
            // Without taps nothing is read, and the offset could lie beyond the input.
            input: if segments.is_empty() { 0 } else { input + i * lines.1 + cut.start * line.1 },
            pixel: pixel + i * lines.2 + cut.start * line.2,
            pixels: cut.len(),
        });
        Region { tiles: tiles.collect(), input_stride: line.1, pixel_stride: line.2, steps, segments }
    }

    /// The segments of k. Taps of one kernel row are contiguous both in the input and in the weight.
    fn segments(&self, frame: usize, rows: &SameTaps, columns: &SameTaps) -> Vec<Segment> {
        let mut segments = Vec::new();
        if columns.taps.is_empty() {
            return segments;
        }
        let [height, width] = self.axes;
        let column = width.position(columns.half, columns.taps.start);
        for (time, source) in taps::in_time(self.op, frame) {
            for tap in rows.taps.clone() {
                let row = source * self.op.height + tap - rows.taps.start;
                let b = self.packed.start(&time, [height.position(rows.half, tap), column]);
                segments.push(Segment {
                    a: row * self.op.width * self.op.cin,
                    b,
                    len: columns.taps.len() * self.op.cin,
                });
            }
        }
        segments
    }

    /// Applies bias and factors, adds the other summand, and stores.
    fn store(&self, block: &Block, sums: &[f32], stride: usize) {
        let [_, height, width, cout] = self.op.out_shape();
        let start = block.rows.start * width;
        let made = block.frame - self.op.computed().start;
        let first = (self.op.out_frame() + made) * height * width + start;
        let other_first = (self.op.other_frame() + made) * height * width + start;
        let (scale, other_scale) = (self.op.conv_scale, self.op.other_scale);
        let bias = &self.bias[block.columns.clone()];
        math::widest(
            #[inline(always)]
            || {
                for (pixel, sums) in sums.chunks_exact(stride).enumerate() {
                    let at = (first + pixel) * cout + block.columns.start;
                    // SAFETY: the blocks of `run` differ in frame, rows or channels, and each task has one of them. Its
                    // pixels share no element either: validation has checked that the output's sizes are those of a
                    // buffer, so `at` does not overflow.
                    let out = unsafe { self.out.slice(at..at + bias.len()) };
                    for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                        *out = scale * (sum + bias);
                    }
                    if let Some(other) = self.other {
                        let at = (other_first + pixel) * cout + block.columns.start;
                        let other = &other[at..at + bias.len()];
                        out.iter_mut().zip(other).for_each(|(out, other)| *out += other_scale * other);
                    }
                }
            },
        );
    }
}

/// Divides segments into ranges of about [`BLOCK_K`] steps of k; at least one range, even if it is empty.
fn steps(segments: &[Segment]) -> Vec<Range<usize>> {
    let (mut steps, mut start, mut len) = (Vec::new(), 0, 0);
    for (i, segment) in segments.iter().enumerate() {
        if i > start && len + segment.len > BLOCK_K {
            steps.push(start..i);
            (start, len) = (i, 0);
        }
        len += segment.len;
    }
    steps.push(start..segments.len());
    steps
}

/// Computes [`DepthwiseConv`].
pub(super) fn depthwise_conv(op: &DepthwiseConv, args: DepthwiseConvArgs<'_, Buffer, Weight>) {
    let DepthwiseConvArgs { x, weight, bias, out } = args;
    if out.is_empty() {
        return;
    }
    let bias = bias.to_f32();
    let channels = bias.len();
    let by_tap = transposed(&weight.to_f32(), channels);
    let (tokens, out_tokens) = (op.tokens(), op.out_tokens());
    out.par_chunks_mut(channels).enumerate().for_each(|(row, out)| {
        let (outer, token) = (row / out_tokens, row % out_tokens);
        math::widest(
            #[inline(always)]
            || {
                out.copy_from_slice(&bias);
                for (tap, weight) in by_tap.chunks_exact(channels).enumerate() {
                    let x = &x[(outer * tokens + op.source(token, tap)) * channels..][..channels];
                    out.iter_mut().zip(weight).zip(x).for_each(|((out, weight), x)| *out += weight * x);
                }
            },
        );
    });
}

impl DepthwiseConv {
    /// Tokens of one outer entry in the input.
    fn tokens(&self) -> usize {
        match *self {
            Self::Space { height, width, .. } => height * width,
            Self::Time { frames, positions, .. } => frames * positions,
        }
    }

    /// The input token under `tap` of output token `token`.
    fn source(&self, token: usize, tap: usize) -> usize {
        match *self {
            Self::Space { width, factor, .. } => {
                let (y, x) = (token / (width / factor), token % (width / factor));
                (y * factor + tap / factor) * width + x * factor + tap % factor
            }
            Self::Time { positions, factor, .. } => {
                let (window, position) = (token / positions, token % positions);
                (window * factor + tap).saturating_sub(self.front()) * positions + position
            }
        }
    }
}
