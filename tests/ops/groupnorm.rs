//! `group_norm` against its formula in f64.

use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::groupnorm::{GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use osp::tensor::DType;
use proptest::prelude::*;

/// The norm of a whole video.
#[derive(Clone, Copy, Debug)]
struct Case {
    frames: usize,
    positions: usize,
    channels: usize,
    groups: usize,
    per_frame: bool,
    silu: bool,
}

const EPS: f32 = 1e-6;

impl Case {
    fn statistics(&self) -> Statistics {
        let Self { frames, positions, channels, groups, per_frame, .. } = *self;
        Statistics { frames, positions, channels, groups, eps: EPS, per_frame }
    }

    fn norm(&self) -> GroupNorm {
        let Self { frames, positions, channels, groups, silu, .. } = *self;
        GroupNorm { frames, positions, channels, groups, silu, x_frame: 0, out_frame: 0, video_frame: 0 }
    }
}

fn run(op: &Case, x: &[f32]) -> Vec<f32> {
    run_stretches(op, x, &[op.frames])
}

/// The norm of a video, computed in stretches of these lengths.
fn run_stretches(op: &Case, x: &[f32], lengths: &[usize]) -> Vec<f32> {
    let cpu = Cpu::new();
    let [weight, bias] = [2, 3].map(|seed| parameter(seed, &[op.channels], DType::F32).0);
    let [weight, bias] = [weight, bias].map(|tensor| cpu.weight(vec![tensor]).unwrap());
    let statistics_op = op.statistics();
    let mut x = x;
    let stretches = lengths.iter().map(|&frames| {
        let (stretch, rest) = x.split_at(frames * op.positions * op.channels);
        x = rest;
        let stretch = cpu.upload(stretch).unwrap();
        let mut moments = cpu.alloc_moments(&statistics_op.moments(frames)).unwrap();
        cpu.group_moments(&statistics_op.moments(frames), MomentsArgs { x: &stretch, moments: &mut moments }).unwrap();
        (stretch, moments, frames)
    });
    let stretches: Vec<_> = stretches.collect();
    let mut statistics = cpu.alloc_statistics(&statistics_op).unwrap();
    let moments: Vec<_> = stretches.iter().map(|(_, moments, frames)| (moments, *frames)).collect();
    cpu.group_statistics(&statistics_op, StatisticsArgs { stretches: &moments, statistics: &mut statistics }).unwrap();
    let mut out = cpu.alloc(op.frames * op.positions * op.channels).unwrap();
    let mut at = 0;
    for (stretch, _, frames) in &stretches {
        let op = GroupNorm { frames: *frames, out_frame: at, video_frame: at, ..op.norm() };
        let args = GroupNormArgs { x: stretch, statistics: &statistics, weight: &weight, bias: &bias, out: &mut out };
        cpu.group_norm(&op, args).unwrap();
        at += frames;
    }
    out.to_vec()
}

fn formula(op: &Case, x: &[f32]) -> Vec<f64> {
    let [weight, bias] = [2, 3].map(|seed| parameter(seed, &[op.channels], DType::F32).1);
    let (frame_len, width) = (op.positions * op.channels, op.channels / op.groups);
    let mut out = vec![0.0; x.len()];
    let runs: Vec<_> =
        if op.per_frame { (0..op.frames).map(|f| f..f + 1).collect() } else { std::iter::once(0..op.frames).collect() };
    for frames in runs {
        for group in 0..op.groups {
            let members: Vec<usize> = (frames.start * frame_len..frames.end * frame_len)
                .filter(|i| i % op.channels / width == group)
                .collect();
            let count = members.len() as f64;
            let mean = members.iter().map(|&i| f64::from(x[i])).sum::<f64>() / count;
            let variance = members.iter().map(|&i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / count;
            for i in members {
                let channel = i % op.channels;
                let normal = (f64::from(x[i]) - mean) / (variance + f64::from(EPS)).sqrt();
                let y = normal * f64::from(weight[channel]) + f64::from(bias[channel]);
                out[i] = if op.silu { y / (1.0 + (-y).exp()) } else { y };
            }
        }
    }
    out
}

/// Values around a mean that differs by channel and frame.
fn video(op: &Case, distance: f32) -> Vec<f32> {
    let mut x = values(1, op.frames * op.positions * op.channels);
    for (i, value) in x.iter_mut().enumerate() {
        *value += distance * ((i % op.channels % 3) as f32 + (i / op.channels / op.positions % 2) as f32);
    }
    x
}

proptest! {
    #[test]
    fn group_norm_is_the_formula(
        (frames, positions, groups, width) in (1..5usize, prop_oneof![1..60usize, Just(700)], 1..6usize, 1..9usize),
        (per_frame, silu) in any::<(bool, bool)>(),
    ) {
        prop_assume!(positions * width > 1);
        let op = Case { frames, positions, channels: groups * width, groups, per_frame, silu };
        let x = video(&op, 1.0);
        assert_close(&run(&op, &x), &formula(&op, &x), 2e-5);
    }
}

const LARGE: Case = Case { frames: 3, positions: 37 * 41, channels: 96, groups: 32, per_frame: false, silu: true };

#[test]
fn group_norm_covers_many_blocks_of_a_frame() {
    let x = video(&LARGE, 1.0);
    assert_close(&run(&LARGE, &x), &formula(&LARGE, &x), 1e-5);
}

#[test]
fn a_mean_far_from_zero_does_not_cancel() {
    let op = Case { silu: false, ..LARGE };
    let mut x = video(&op, 0.0);
    x.iter_mut().for_each(|value| *value += 4000.0);
    assert_close(&run(&op, &x), &formula(&op, &x), 1e-5);
}

#[test]
fn group_norm_does_not_depend_on_the_number_of_threads() {
    on_one_and_three_threads(|| run(&LARGE, &video(&LARGE, 1.0)));
}

#[test]
fn a_single_frame_has_the_same_bits_as_among_others() {
    let op = Case { per_frame: true, ..LARGE };
    let x = video(&op, 1.0);
    let frame_len = op.positions * op.channels;
    let alone = run(&Case { frames: 1, per_frame: false, ..op }, &x[frame_len..2 * frame_len]);
    assert_eq!(run(&op, &x)[frame_len..2 * frame_len], alone);
}

#[test]
fn stretches_have_the_bits_of_the_whole() {
    for per_frame in [false, true] {
        let op = Case { per_frame, ..LARGE };
        let x = video(&op, 1.0);
        for lengths in [&[1, 2][..], &[2, 1], &[1, 1, 1]] {
            assert_eq!(run_stretches(&op, &x, lengths), run(&op, &x), "{lengths:?}");
        }
    }
}
