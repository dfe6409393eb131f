//! `group_norm` against its formula in f64.

use super::refusal::refused;
use super::values::{assert_close, on_one_and_three_threads, parameter, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::groupnorm::GroupNorm;
use osp::weights::DType;
use proptest::prelude::*;

fn run(op: &GroupNorm, x: &[f32]) -> Vec<f32> {
    let cpu = Cpu::new();
    let [weight, bias] = [2, 3].map(|seed| parameter(seed, &[op.channels], DType::F32).0);
    let [weight, bias] = [weight, bias].map(|tensor| cpu.weight(vec![tensor]).unwrap());
    let mut out = cpu.alloc(x.len()).unwrap();
    let mut moments = cpu.alloc_moments(&op.moments()).unwrap();
    cpu.group_norm(op, &cpu.upload(x).unwrap(), &mut moments, &weight, &bias, &mut out).unwrap();
    out.to_vec()
}

fn formula(op: &GroupNorm, x: &[f32]) -> Vec<f64> {
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
                let normal = (f64::from(x[i]) - mean) / (variance + f64::from(op.eps)).sqrt();
                let y = normal * f64::from(weight[channel]) + f64::from(bias[channel]);
                out[i] = if op.silu { y / (1.0 + (-y).exp()) } else { y };
            }
        }
    }
    out
}

/// Values around a mean that differs by channel and frame.
fn video(op: &GroupNorm, distance: f32) -> Vec<f32> {
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
        let op = GroupNorm { frames, positions, channels: groups * width, groups, eps: 1e-6, per_frame, silu, moments_known: false };
        let x = video(&op, 1.0);
        assert_close(&run(&op, &x), &formula(&op, &x), 2e-5);
    }
}

const LARGE: GroupNorm = GroupNorm {
    frames: 3,
    positions: 37 * 41,
    channels: 96,
    groups: 32,
    eps: 1e-6,
    per_frame: false,
    silu: true,
    moments_known: false,
};

#[test]
fn group_norm_covers_many_blocks_of_a_frame() {
    let x = video(&LARGE, 1.0);
    assert_close(&run(&LARGE, &x), &formula(&LARGE, &x), 1e-5);
}

#[test]
fn a_mean_far_from_zero_does_not_cancel() {
    let op = GroupNorm { silu: false, ..LARGE };
    let mut x = video(&op, 0.0);
    x.iter_mut().for_each(|value| *value += 4000.0);
    assert_close(&run(&op, &x), &formula(&op, &x), 1e-5);
}

#[test]
fn group_norm_does_not_depend_on_the_number_of_threads() {
    on_one_and_three_threads(|| run(&LARGE, &video(&LARGE, 1.0)));
}

#[test]
fn a_frame_by_itself_gets_the_bits_it_gets_among_others() {
    let op = GroupNorm { per_frame: true, ..LARGE };
    let x = video(&op, 1.0);
    let frame_len = op.positions * op.channels;
    let alone = run(&GroupNorm { frames: 1, per_frame: false, ..op }, &x[frame_len..2 * frame_len]);
    assert_eq!(run(&op, &x)[frame_len..2 * frame_len], alone);
}

#[test]
fn group_norm_refuses_wrong_sizes() {
    let cpu = Cpu::new();
    let op = GroupNorm {
        frames: 2,
        positions: 3,
        channels: 4,
        groups: 2,
        eps: 1e-6,
        per_frame: false,
        silu: false,
        moments_known: false,
    };
    let x = cpu.upload(&[0.0; 24]).unwrap();
    let (mut out, mut m) = (cpu.alloc(24).unwrap(), cpu.alloc_moments(&op.moments()).unwrap());
    let [four, five] = [4, 5].map(|len| cpu.weight(vec![parameter(1, &[len], DType::F32).0]).unwrap());
    assert_eq!(refused(cpu.group_norm(&GroupNorm { groups: 3, ..op }, &x, &mut m, &four, &four, &mut out)), "groups");
    assert_eq!(refused(cpu.group_norm(&GroupNorm { groups: 0, ..op }, &x, &mut m, &four, &four, &mut out)), "groups");
    assert_eq!(refused(cpu.group_norm(&GroupNorm { frames: 1, ..op }, &x, &mut m, &four, &four, &mut out)), "x");
    assert_eq!(refused(cpu.group_norm(&op, &x, &mut m, &five, &four, &mut out)), "weight");
    assert_eq!(refused(cpu.group_norm(&op, &x, &mut m, &four, &five, &mut out)), "bias");
    assert_eq!(refused(cpu.group_norm(&op, &x, &mut m, &four, &four, &mut cpu.alloc(25).unwrap())), "out");
}
