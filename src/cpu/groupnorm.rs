//! `group_moments` by blocks of positions, `group_statistics` in the order of frames, and `group_norm`, one pass that
//! normalises and applies SiLU.
//!
//! Between these operations, means and sums of squares stay f64: each is stored in two words of a buffer.
//!
//! A block is small enough to be read twice from cache: its sum of squares is taken about the block's mean, so nothing
//! cancels. Blocks are merged to frames, and frames to the video, by Chan's formula, in order and in f64. Only sizes
//! decide the blocks, so the order of every sum is fixed. The channels of a group are neighbours. Sums run over
//! positions for each channel, which vectorises, and are joined for each group at the end of a block.

use super::math::{self, silu};
use super::{Buffer, Weight};
use crate::ops::conv3d::Conv3d;
use crate::ops::groupnorm::{self, GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use rayon::prelude::*;

/// Elements of a block: it stays in the second-level cache for the second read.
const BLOCK: usize = 32768;
/// Words of a buffer for the moments of one group of a frame, and also for its statistics.
const WORDS: usize = 4;

/// The number of elements of a buffer for the moments or the statistics of `frames` frames.
pub(super) fn elements(frames: usize, groups: usize) -> usize {
    WORDS * frames * groups
}

/// Count, mean and sum of squared deviations of one group.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    m2: f64,
}

impl Moments {
    /// The moments of both together (Chan, Golub, LeVeque 1979).
    fn merge(self, other: Self) -> Self {
        if other.count == 0.0 {
            return self;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self { count, mean: self.mean + delta * share, m2: self.m2 + other.m2 + delta * delta * self.count * share }
    }
}

/// Stores two numbers as words of a buffer.
fn to_words(pair: [f64; 2], words: &mut [f32]) {
    for (value, words) in pair.into_iter().zip(words.chunks_exact_mut(2)) {
        let bits = value.to_bits();
        words.copy_from_slice(&[f32::from_bits((bits >> 32) as u32), f32::from_bits(bits as u32)]);
    }
}

fn from_words(words: &[f32]) -> [f64; 2] {
    [0, 2].map(|i| f64::from_bits(u64::from(words[i].to_bits()) << 32 | u64::from(words[i + 1].to_bits())))
}

/// Computes [`groupnorm::Moments`].
pub(super) fn group_moments(op: &groupnorm::Moments, MomentsArgs { x, moments }: MomentsArgs<'_, Buffer>) {
    moments_of(op, x, moments);
}

fn moments_of(op: &groupnorm::Moments, x: &[f32], moments: &mut [f32]) {
    let frame_len = op.positions * op.channels;
    if x.is_empty() {
        return;
    }
    let frames = x.par_chunks_exact(frame_len).zip(moments.par_chunks_exact_mut(WORDS * op.groups));
    frames.for_each(|(frame, moments)| {
        let blocks: Vec<Vec<Moments>> = frame
            .par_chunks(block_len(op.channels))
            .map(|block| {
                math::widest(
                    #[inline(always)]
                    || block_moments(op, block),
                )
            })
            .collect();
        let sums = blocks.iter().fold(vec![Moments::default(); op.groups], |sum, block| merge_groups(sum, block));
        for (sum, words) in sums.iter().zip(moments.chunks_exact_mut(WORDS)) {
            to_words([sum.mean, sum.m2], words);
        }
    });
}

/// Computes the moments of a convolution's output.
pub(super) fn conv_moments(op: &Conv3d, out: &[f32], moments: &mut [f32]) {
    let op_moments = op.moments(op.computed().len());
    let frame_len = op_moments.positions * op_moments.channels;
    let out = &out[op.out_frame() * frame_len..][..op_moments.frames * frame_len];
    moments_of(&op_moments, out, &mut moments[op.out_frame() * WORDS * op_moments.groups..]);
}

/// Computes [`Statistics`]: mean and deviation of every frame and group.
pub(super) fn group_statistics(op: &Statistics, args: StatisticsArgs<'_, Buffer>) {
    let StatisticsArgs { stretches, statistics } = args;
    let count = (op.positions * (op.channels / op.groups)) as f64;
    let words =
        stretches.iter().flat_map(|(moments, frames)| moments[..frames * WORDS * op.groups].chunks_exact(WORDS));
    let mut frames: Vec<Moments> = words.map(from_words).map(|[mean, m2]| Moments { count, mean, m2 }).collect();
    if !op.per_frame {
        let video = frames.chunks_exact(op.groups).fold(vec![Moments::default(); op.groups], merge_groups);
        frames.chunks_exact_mut(op.groups).for_each(|groups| groups.copy_from_slice(&video));
    }
    for (Moments { count, mean, m2 }, words) in frames.into_iter().zip(statistics.chunks_exact_mut(WORDS)) {
        to_words([mean, (m2 / count + f64::from(op.eps)).sqrt()], words);
    }
}

/// Computes [`GroupNorm`].
pub(super) fn group_norm(op: &GroupNorm, args: GroupNormArgs<'_, Buffer, Weight>) {
    let GroupNormArgs { x, statistics, weight, bias, out } = args;
    let (weight, bias) = (weight.to_f32(), bias.to_f32());
    let (frame_len, block_len) = (op.frame_len(), block_len(op.channels));
    if op.frames * frame_len == 0 {
        return;
    }
    let x = x[op.x_frame * frame_len..].par_chunks_exact(frame_len);
    let out = out[op.out_frame * frame_len..].par_chunks_exact_mut(frame_len).take(op.frames);
    let statistics = statistics[op.video_frame * WORDS * op.groups..].par_chunks_exact(WORDS * op.groups);
    x.zip(out).zip(statistics).for_each(|((x, out), statistics)| {
        let affine = affine(op, statistics, &weight, &bias);
        x.par_chunks(block_len).zip(out.par_chunks_mut(block_len)).for_each(|(x, out)| {
            math::widest(
                #[inline(always)]
                || match op.silu {
                    true => apply(op.channels, x, &affine, silu, out),
                    false => apply(op.channels, x, &affine, |y| y, out),
                },
            );
        });
    });
}

/// Elements of a block: whole positions.
fn block_len(channels: usize) -> usize {
    (BLOCK / channels).max(1) * channels
}

fn merge_groups(mut sum: Vec<Moments>, next: &[Moments]) -> Vec<Moments> {
    sum.iter_mut().zip(next).for_each(|(sum, &next)| *sum = sum.merge(next));
    sum
}

/// Moments of every group of a block of positions, from deviations about an approximate mean. The sum of the deviations
/// corrects the mean.
#[inline(always)]
fn block_moments(op: &groupnorm::Moments, block: &[f32]) -> Vec<Moments> {
    let width = op.channels / op.groups;
    let count = (block.len() / op.groups) as f64;
    let mut sums = vec![0.0f32; op.channels];
    for position in block.chunks_exact(op.channels) {
        sums.iter_mut().zip(position).for_each(|(sum, value)| *sum += value);
    }
    let fold = |sums: &[f32]| sums.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    let rough: Vec<f32> = sums.chunks_exact(width).map(|sums| (fold(sums) / count) as f32).collect();
    let centers: Vec<f32> = (0..op.channels).map(|channel| rough[channel / width]).collect();
    let (mut sums, mut squares) = (vec![0.0f32; op.channels], vec![0.0f32; op.channels]);
    for position in block.chunks_exact(op.channels) {
        for (((sum, square), value), center) in sums.iter_mut().zip(&mut squares).zip(position).zip(&centers) {
            let deviation = value - center;
            *sum += deviation;
            *square = deviation.mul_add(deviation, *square);
        }
    }
    let groups = sums.chunks_exact(width).zip(squares.chunks_exact(width)).zip(rough);
    groups
        .map(|((sums, squares), rough)| {
            let shift = fold(sums) / count;
            let m2 = (fold(squares) - count * shift * shift).max(0.0);
            Moments { count, mean: f64::from(rough) + shift, m2 }
        })
        .collect()
}

/// The affine function of every channel: `(x − center)·scale + offset`.
struct Affine {
    centers: Vec<f32>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
}

/// Normalisation, weight and bias of every channel. The center is the mean rounded to f32, so that the difference to x
/// is nearly exact; the offset includes the rounding error of the mean.
fn affine(op: &GroupNorm, statistics: &[f32], weight: &[f32], bias: &[f32]) -> Affine {
    let width = op.channels / op.groups;
    let channel = |channel: usize| {
        let [mean, deviation] = from_words(&statistics[channel / width * WORDS..]);
        let scale = f64::from(weight[channel]) / deviation;
        let slip = mean - f64::from(mean as f32);
        (mean as f32, scale as f32, (f64::from(bias[channel]) - slip * scale) as f32)
    };
    let (centers, (scales, offsets)) =
        (0..op.channels).map(channel).map(|(center, scale, offset)| (center, (scale, offset))).unzip();
    Affine { centers, scales, offsets }
}

/// Normalises a block of positions and applies `activation`.
#[inline(always)]
fn apply(channels: usize, x: &[f32], affine: &Affine, activation: impl Fn(f32) -> f32, out: &mut [f32]) {
    let Affine { centers, scales, offsets } = affine;
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
        for ((((out, x), center), scale), offset) in out.iter_mut().zip(x).zip(centers).zip(scales).zip(offsets) {
            *out = activation((x - center).mul_add(*scale, *offset));
        }
    }
}
