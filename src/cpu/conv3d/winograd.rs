//! Convolutions of 3×3 in space, with 16 instead of 36 products for a square of 2×2 outputs.
//!
//! Winograd's minimal filtering F(2×2, 3×3) (Lavin and Gray, <https://arxiv.org/abs/1509.09308>): a square of outputs
//! depends on 4×4 inputs d and the taps g as Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A. The middle product is a matrix product for each
//! of the 16 points, over input channels and taps in time: frames are summed before the last transform. B and A hold
//! only 0 and ±1, G also ½: in f32 the result is about as exact as the plain sum.

use super::taps;
use crate::cpu::math;
use crate::cpu::micro::{Micro, Panel, Rows, RowsMut, Segment, cuts, pack_panel};
use crate::cpu::scratch::Scratch;
use crate::cpu::shared::SharedMut;
use crate::cpu::weight::Weight;
use crate::ops::conv3d::{Conv3d, SpacePadding};
use rayon::prelude::*;
use std::ops::Range;

/// Points of a transformed square.
const POINTS: usize = 16;
/// Channels that are transformed together.
const LANES: usize = 16;
/// Squares of a task: four tiles of the widest kernel, or half of that if there are few squares.
const BLOCK_SQUARES: usize = 56;
/// Output channels that a task computes together: their sums stay in the second-level cache.
const BLOCK_COLUMNS: usize = 128;
/// Input channels whose weights are transformed together.
const STEPS: usize = 2 * LANES;

type Lane = [f32; LANES];

/// Whether this algorithm is used: if the products outweigh the transforms. The decision depends on nothing that
/// changes when a video is divided in time.
pub(super) fn applies(op: &Conv3d) -> bool {
    let channels = [op.cin, op.cout];
    op.kernel[1..] == [3, 3]
        && op.stride[1] == 1
        && op.padding == SpacePadding::Same
        && !op.upsample
        && channels.iter().all(|&channels| channels >= 64 && channels.is_multiple_of(LANES))
}

/// Computes a convolution for which [`applies`] holds. `bias` has a value for every output channel.
pub(super) fn conv3d(op: &Conv3d, x: &[f32], weight: &Weight, bias: &[f32], other: Option<&[f32]>, out: &mut [f32]) {
    let times = taps::groups_in_time(op);
    let micro = Micro::best();
    let columns = micro.packed_columns(op.cout);
    let packed = pack(op, weight, &times, micro);
    let call = Call { op, x, times, micro, columns, packed: &packed, bias, other, out: SharedMut::new(out) };
    let [_, height, width, _] = op.out_shape();
    let frames = op.computed();
    let squares = height.div_ceil(2) * width.div_ceil(2);
    let block = if frames.len() * squares >= 16 * BLOCK_SQUARES { BLOCK_SQUARES } else { BLOCK_SQUARES / 2 };
    let blocks: Vec<_> = cuts(squares, block).collect();
    (0..frames.len() * blocks.len())
        .into_par_iter()
        .for_each(|task| call.block(frames.start + task / blocks.len(), blocks[task % blocks.len()].clone()));
}

/// The transformed weight, `[point][panel][k][width]`; k runs over groups of taps in time and input channels.
fn pack(op: &Conv3d, weight: &Weight, times: &[Range<usize>], micro: &Micro) -> Scratch {
    let columns = micro.packed_columns(op.cout);
    let depth = times.len() * op.cin;
    let mut packed = Scratch::new(POINTS * columns * depth);
    let shared = SharedMut::new(&mut packed);
    let panels: Vec<Panel> = micro.panels(op.cout).collect();
    (0..panels.len() * times.len()).into_par_iter().for_each(|task| {
        let (panel, time) = (panels[task / times.len()], task % times.len());
        let mut points = Scratch::new(POINTS * panel.width * STEPS);
        for start in (0..op.cin).step_by(STEPS) {
            let steps = STEPS.min(op.cin - start);
            for column in 0..panel.columns {
                transform_weight(
                    op,
                    weight,
                    panel.column + column,
                    &times[time],
                    start..start + steps,
                    |point, step| (point * panel.width + column) * STEPS + step,
                    &mut points,
                );
            }
            for point in 0..POINTS {
                let rows = Rows { values: &points[point * panel.width * STEPS..], stride: STEPS };
                let at = point * columns * depth + panel.column * depth + (time * op.cin + start) * panel.width;
                // SAFETY: each task has a panel and a group of taps of its own. For each point and each run of
                // channels, they have their own place in `packed`, whose length is the product of all sizes.
                let out = unsafe { shared.slice(at..at + steps * panel.width) };
                pack_panel(rows, panel.columns, panel.width, out);
            }
        }
    });
    packed
}

/// G g Gᵀ of one output channel and some input channels; g is summed over a group of taps in time. `place` gives the
/// index for a point and a channel, counted from the first.
fn transform_weight(
    op: &Conv3d,
    weight: &Weight,
    row: usize,
    time: &Range<usize>,
    channels: Range<usize>,
    place: impl Fn(usize, usize) -> usize,
    points: &mut [f32],
) {
    math::widest(
        #[inline(always)]
        || {
            for start in channels.clone().step_by(LANES) {
                let mut taps = [[0.0; LANES]; 9];
                for t in time.clone() {
                    for (tap, sum) in taps.iter_mut().enumerate() {
                        let mut values = [0.0; LANES];
                        weight.widen(row, (t * 9 + tap) * op.cin + start, &mut values);
                        *sum = add(*sum, values);
                    }
                }
                let [a, b, c] = [0, 3, 6].map(|row| spread([taps[row], taps[row + 1], taps[row + 2]]));
                for x in 0..4 {
                    for (y, values) in spread([a[x], b[x], c[x]]).into_iter().enumerate() {
                        let at = place(y * 4 + x, start - channels.start);
                        points[at..at + LANES].copy_from_slice(&values);
                    }
                }
            }
        },
    );
}

/// The arguments of one call.
struct Call<'a> {
    op: &'a Conv3d,
    x: &'a [f32],
    times: Vec<Range<usize>>,
    micro: &'static Micro,
    /// Output channels in memory.
    columns: usize,
    packed: &'a [f32],
    bias: &'a [f32],
    other: Option<&'a [f32]>,
    out: SharedMut<'a>,
}

impl Call<'_> {
    /// Computes some squares of an output frame.
    fn block(&self, frame: usize, squares: Range<usize>) {
        let cin = self.op.cin;
        let sources: Vec<_> = taps::in_time(self.op, frame).collect();
        let plane = squares.len() * cin;
        let mut inputs = Scratch::new(POINTS * sources.len() * plane);
        for (i, &(_, source)) in sources.iter().enumerate() {
            self.transform_input(source, squares.clone(), sources.len() * plane, &mut inputs[i * plane..]);
        }
        let segment = |(i, (taps, _)): (usize, &(Range<usize>, usize))| {
            let time = self.times.iter().position(|time| time == taps).expect("every group of taps is packed");
            Segment { a: i * plane, b: time * cin, len: cin }
        };
        let segments: Vec<Segment> = sources.iter().enumerate().map(segment).collect();
        let depth = self.times.len() * cin;
        for start in (0..self.op.cout).step_by(BLOCK_COLUMNS) {
            let columns = start..self.op.cout.min(start + BLOCK_COLUMNS);
            let stride = self.micro.packed_columns(columns.len());
            let mut sums = Scratch::new(POINTS * squares.len() * stride);
            for (point, sums) in sums.chunks_exact_mut(squares.len() * stride).enumerate() {
                let a = &inputs[point * sources.len() * plane..];
                for panel in self.micro.panels(columns.len()) {
                    let b =
                        &self.packed[(point * self.columns + start + panel.column) * depth..][..panel.width * depth];
                    for rows in cuts(squares.len(), self.micro.tile_rows()) {
                        let a = Rows { values: &a[rows.start * cin..], stride: cin };
                        let c = RowsMut { values: &mut sums[rows.start * stride + panel.column..], stride };
                        self.micro.tile([rows.len(), panel.width], a, b, &segments, c, false);
                    }
                }
            }
            self.store(frame, squares.clone(), columns, &sums, stride);
        }
    }

    /// Bᵀ d B of one input frame under some squares, `[point]` `stride` elements apart, each `[squares][cin]`.
    fn transform_input(&self, frame: usize, squares: Range<usize>, stride: usize, out: &mut [f32]) {
        let (cin, height, width) = (self.op.cin, self.op.height, self.op.width);
        let across = width.div_ceil(2);
        let zeros = vec![0.0; cin];
        for (i, square) in squares.enumerate() {
            let (top, left) = (2 * (square / across), 2 * (square % across));
            let pixels: [&[f32]; POINTS] = std::array::from_fn(|at| {
                let (y, x) = (top + at / 4, left + at % 4);
                // The inputs of a square begin one row and one column before its outputs.
                if (1..=height).contains(&y) && (1..=width).contains(&x) {
                    &self.x[((frame * height + y - 1) * width + x - 1) * cin..][..cin]
                } else {
                    &zeros
                }
            });
            math::widest(
                #[inline(always)]
                || {
                    for channel in (0..cin).step_by(LANES) {
                        let d = pixels.map(
                            #[inline(always)]
                            |pixel| lane(&pixel[channel..]),
                        );
                        let rows: [[Lane; 4]; 4] = [0, 4, 8, 12].map(
                            #[inline(always)]
                            |y| differ([d[y], d[y + 1], d[y + 2], d[y + 3]]),
                        );
                        for x in 0..4 {
                            let column = differ(rows.map(|row| row[x]));
                            for (y, values) in column.iter().enumerate() {
                                let at = (y * 4 + x) * stride + i * cin + channel;
                                out[at..at + LANES].copy_from_slice(values);
                            }
                        }
                    }
                },
            );
        }
    }

    /// Computes Aᵀ m A of every square, applies bias and factors, adds the other summand, and stores.
    fn store(&self, frame: usize, squares: Range<usize>, columns: Range<usize>, sums: &[f32], stride: usize) {
        let [_, height, width, cout] = self.op.out_shape();
        let (across, plane) = (width.div_ceil(2), squares.len() * stride);
        let made = frame - self.op.computed().start;
        let [out_frame, other_frame] = [self.op.out_frame(), self.op.other_frame()].map(|first| first + made);
        let (scale, other_scale) = (self.op.conv_scale, self.op.other_scale);
        for (i, square) in squares.enumerate() {
            let (top, left) = (2 * (square / across), 2 * (square % across));
            math::widest(
                #[inline(always)]
                || {
                    for column in (0..columns.len()).step_by(LANES) {
                        let bias = lane(&self.bias[columns.start + column..]);
                        let m: [Lane; POINTS] = std::array::from_fn(
                            #[inline(always)]
                            |point| lane(&sums[point * plane + i * stride + column..]),
                        );
                        let rows: [[Lane; 2]; 4] = [0, 4, 8, 12].map(
                            #[inline(always)]
                            |y| gather([m[y], m[y + 1], m[y + 2], m[y + 3]]),
                        );
                        for x in 0..2.min(width - left) {
                            let pixels = gather(rows.map(|row| row[x]));
                            for (y, values) in pixels.iter().enumerate().take(height - top) {
                                let place = |frame: usize| {
                                    let pixel = (frame * height + top + y) * width + left + x;
                                    pixel * cout + columns.start + column
                                };
                                let at = place(out_frame);
                                // SAFETY: each task has squares of its own, and each run of channels of each pixel is
                                // one slice at a time. Validation has checked that the output's sizes are those of a
                                // buffer, so `at` does not overflow.
                                let out = unsafe { self.out.slice(at..at + LANES) };
                                for ((out, value), bias) in out.iter_mut().zip(values).zip(bias) {
                                    *out = scale * (value + bias);
                                }
                                if let Some(other) = self.other {
                                    let other = lane(&other[place(other_frame)..]);
                                    out.iter_mut().zip(other).for_each(|(out, other)| *out += other_scale * other);
                                }
                            }
                        }
                    }
                },
            );
        }
    }
}

#[inline(always)]
fn lane(values: &[f32]) -> Lane {
    values[..LANES].try_into().expect("as long as a lane")
}

#[inline(always)]
fn add(a: Lane, b: Lane) -> Lane {
    std::array::from_fn(
        #[inline(always)]
        |i| a[i] + b[i],
    )
}

#[inline(always)]
fn sub(a: Lane, b: Lane) -> Lane {
    std::array::from_fn(
        #[inline(always)]
        |i| a[i] - b[i],
    )
}

/// G along one axis.
#[inline(always)]
fn spread([a, b, c]: [Lane; 3]) -> [Lane; 4] {
    let half = |lane: Lane| {
        lane.map(
            #[inline(always)]
            |value| 0.5 * value,
        )
    };
    let outer = add(a, c);
    [a, half(add(outer, b)), half(sub(outer, b)), c]
}

/// Bᵀ along one axis.
#[inline(always)]
fn differ([a, b, c, d]: [Lane; 4]) -> [Lane; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// Aᵀ along one axis.
#[inline(always)]
fn gather([a, b, c, d]: [Lane; 4]) -> [Lane; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}
