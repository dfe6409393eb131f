//! `kernels/groupnorm.cu`: stretches and ragged, groups of every width in a vector, slabs and frames of any number, means
//! far from zero, and videos in stretches of time.

use super::policy::{against_the_cpu, body, devices, half_values, host, rounded};
use crate::ops::refusal::refused;
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::groupnorm::{GroupNorm, Statistics};
use osp::weights::Tensor;

/// The norm of a video whose values lie about `mean`.
#[derive(Clone, Copy, Debug)]
struct Case {
    whole: Statistics,
    silu: bool,
    mean: f32,
}

impl Case {
    /// Values about a mean that differs by channel and frame.
    fn video(&self, half: Half) -> Vec<f32> {
        let Statistics { frames, positions, channels, .. } = self.whole;
        let mut x = half_values(1, frames * positions * channels, half);
        for (i, value) in x.iter_mut().enumerate() {
            *value = 2.0 * *value + self.mean + (i % channels % 3) as f32 + (i / channels / positions % 2) as f32;
        }
        rounded(&x, half)
    }

    /// The norm of `x` in stretches of so many frames, each with moments of its own; one more frame of room than needed in
    /// front of each input.
    fn norm<B: Backend>(&self, backend: &B, x: &[f32], lengths: &[usize], half: Half) -> Vec<f32> {
        let Statistics { positions, channels, groups, .. } = self.whole;
        let vector = |seed| {
            let tensor = Tensor::from_f32(&[channels], &half_values(seed, channels, half));
            backend.weight(vec![tensor]).unwrap()
        };
        let (weight, bias, mut rest) = (vector(2), vector(3), x);
        let stretches = lengths.iter().map(|&frames| {
            let (stretch, behind) = rest.split_at(frames * positions * channels);
            rest = behind;
            let op = self.whole.moments(frames);
            let mut moments = backend.alloc_moments(&op).unwrap();
            backend.group_moments(&op, &backend.upload(stretch).unwrap(), &mut moments).unwrap();
            (backend.upload(&[&vec![f32::NAN; positions * channels], stretch].concat()).unwrap(), moments, frames)
        });
        let stretches: Vec<_> = stretches.collect();
        let moments: Vec<_> = stretches.iter().map(|(_, moments, frames)| (moments, *frames)).collect();
        let mut statistics = backend.alloc_statistics(&self.whole).unwrap();
        backend.group_statistics(&self.whole, &moments, &mut statistics).unwrap();
        let mut out = backend.alloc(x.len()).unwrap();
        let mut at = 0;
        for (x, _, frames) in &stretches {
            let (frames, silu) = (*frames, self.silu);
            let op = GroupNorm { frames, positions, channels, groups, silu, x_at: 1, out_at: at, video_at: at };
            backend.group_norm(&op, x, &statistics, &weight, &bias, &mut out).unwrap();
            at += frames;
        }
        host(backend, &out)
    }

    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        self.norm(backend, &self.video(half), &[self.whole.frames], half)
    }

    fn per_frame(self) -> Self {
        Self { whole: Statistics { per_frame: true, ..self.whole }, ..self }
    }
}

body!(Case);

fn norm([frames, positions, channels, groups]: [usize; 4]) -> Case {
    Case {
        whole: Statistics { frames, positions, channels, groups, eps: 1e-6, per_frame: false },
        silu: true,
        mean: 0.0,
    }
}

/// One position, a slab and parts of one, many slabs; groups of 4, 8, 16, 2, 1, 3, 24 and 12 channels; several stretches.
const SIZES: [[usize; 4]; 9] = [
    [1, 1, 128, 32],
    [3, 300, 128, 32],
    [2, 128, 256, 32],
    [2, 129, 512, 32],
    [2, 140, 64, 32],
    [1, 260, 32, 32],
    [2, 70, 96, 32],
    [1, 133, 120, 5],
    [2, 50, 264, 22],
];

/// More than 32 slabs, more than 32 frames.
const MANY: [[usize; 4]; 2] = [[1, 33 * 128 + 5, 16, 2], [35, 9, 32, 16]];

/// Channels that are no whole vectors; groups that no stretch holds; more channels than threads.
const RAGGED: [[usize; 4]; 5] = [[2, 200, 7, 7], [2, 150, 12, 3], [1, 70, 264, 1], [1, 20, 300, 2], [1, 19, 2056, 8]];

#[test]
fn group_norm_agrees_with_the_cpu() {
    for sizes in SIZES.iter().chain(&MANY).chain(&RAGGED) {
        let case = norm(*sizes);
        against_the_cpu(&case, &case);
    }
    for sizes in [[3, 300, 128, 32], [2, 150, 12, 3]] {
        for case in [
            norm(sizes).per_frame(),
            Case { silu: false, ..norm(sizes).per_frame() },
            Case { silu: false, ..norm(sizes) },
        ] {
            against_the_cpu(&case, &case);
        }
    }
}

#[test]
fn a_mean_far_from_zero_does_not_cancel() {
    for sizes in [[3, 300, 128, 32], [2, 129, 512, 32], [2, 140, 64, 32], [2, 150, 12, 3]] {
        let case = Case { silu: false, mean: 100.0, ..norm(sizes) };
        against_the_cpu(&case, &case);
    }
}

#[test]
fn an_even_video_becomes_the_bias() {
    for (cuda, half) in devices() {
        for sizes in [[2, 200, 128, 32], [2, 200, 12, 3]] {
            let case = Case { silu: false, ..norm(sizes) };
            let found = case.norm(&cuda, &vec![100.5; sizes[..3].iter().product()], &[2], half);
            let bias = half_values(3, sizes[2], half);
            assert!(found.chunks_exact(sizes[2]).all(|position| position == bias), "{sizes:?}, {half:?}");
        }
    }
}

fn assert_same(first: &[f32], second: &[f32], case: &Case) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(first) == bits(second), "{case:?}");
}

#[test]
fn stretches_of_time_give_the_bits_of_the_whole() {
    for (cuda, half) in devices() {
        for sizes in [[3, 300, 128, 32], [3, 50, 12, 3]] {
            for case in [norm(sizes), norm(sizes).per_frame()] {
                let x = case.video(half);
                let whole = case.norm(&cuda, &x, &[3], half);
                for lengths in [&[1, 2][..], &[2, 1], &[1, 1, 1]] {
                    assert_same(&case.norm(&cuda, &x, lengths, half), &whole, &case);
                }
            }
        }
    }
}

#[test]
fn a_frame_by_itself_gets_the_bits_it_gets_among_others() {
    for (cuda, half) in devices() {
        for sizes in [[3, 300, 128, 32], [3, 50, 12, 3]] {
            let case = norm(sizes).per_frame();
            let x = case.video(half);
            let alone = norm([1, sizes[1], sizes[2], sizes[3]]);
            let frames = x.chunks_exact(sizes[1] * sizes[2]);
            let alone: Vec<f32> = frames.flat_map(|x| alone.norm(&cuda, x, &[1], half)).collect();
            assert_same(&case.norm(&cuda, &x, &[3], half), &alone, &case);
        }
    }
}

#[test]
fn moments_and_statistics_of_another_video_are_refused() {
    let (cuda, _) = devices().next().unwrap();
    let whole = norm([2, 3, 64, 32]).whole;
    let weight = || cuda.weight(vec![Tensor::from_f32(&[64], &[1.0; 64])]).unwrap();
    let (x, mut out) = (cuda.alloc(384).unwrap(), cuda.alloc(384).unwrap());
    let mut moments = cuda.alloc_moments(&whole.moments(1)).unwrap();
    let mut statistics = cuda.alloc_statistics(&Statistics { frames: 1, ..whole }).unwrap();
    assert_eq!(refused(cuda.group_moments(&whole.moments(2), &x, &mut moments)), "moments");
    assert_eq!(refused(cuda.group_statistics(&whole, &[(&moments, 2)], &mut statistics)), "statistics");
    let op =
        GroupNorm { frames: 2, positions: 3, channels: 64, groups: 32, silu: false, x_at: 0, out_at: 0, video_at: 0 };
    assert_eq!(refused(cuda.group_norm(&op, &x, &statistics, &weight(), &weight(), &mut out)), "statistics");
}
