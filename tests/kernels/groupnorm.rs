//! `kernels/groupnorm.cu`: stretches and ragged, groups of every width in a vector, slabs and frames of any number, means
//! far from zero, and moments that are there already.

use super::policy::{against_the_cpu, body, devices, exactly_the_cpu, half_values, host, rounded};
use crate::ops::refusal::refused;
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::groupnorm::GroupNorm;
use osp::weights::Tensor;

/// The norm of a video whose values lie about `mean`.
#[derive(Clone, Copy, Debug)]
struct Case {
    op: GroupNorm,
    mean: f32,
}

impl Case {
    /// Values about a mean that differs by channel and frame.
    fn video(&self, half: Half) -> Vec<f32> {
        let GroupNorm { frames, positions, channels, .. } = self.op;
        let mut x = half_values(1, frames * positions * channels, half);
        for (i, value) in x.iter_mut().enumerate() {
            *value = 2.0 * *value + self.mean + (i % channels % 3) as f32 + (i / channels / positions % 2) as f32;
        }
        rounded(&x, half)
    }

    /// The norm of `x`, with what the moments hold.
    fn norm<B: Backend>(&self, backend: &B, x: &[f32], moments: &mut B::Buffer, half: Half) -> Vec<f32> {
        let vector = |seed| {
            let tensor = Tensor::from_f32(&[self.op.channels], &half_values(seed, self.op.channels, half));
            backend.weight(vec![tensor]).unwrap()
        };
        let mut out = backend.alloc(x.len()).unwrap();
        backend.group_norm(&self.op, &backend.upload(x).unwrap(), moments, &vector(2), &vector(3), &mut out).unwrap();
        host(backend, &out)
    }

    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let mut moments = backend.alloc_moments(&self.op.moments()).unwrap();
        self.norm(backend, &self.video(half), &mut moments, half)
    }
}

body!(Case);

fn norm([frames, positions, channels, groups]: [usize; 4]) -> GroupNorm {
    GroupNorm { frames, positions, channels, groups, eps: 1e-6, per_frame: false, silu: true, moments_known: false }
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
        let case = Case { op: norm(*sizes), mean: 0.0 };
        against_the_cpu(&case, &case);
    }
    for sizes in [[3, 300, 128, 32], [2, 150, 12, 3]] {
        for (per_frame, silu) in [(true, true), (true, false), (false, false)] {
            let case = Case { op: GroupNorm { per_frame, silu, ..norm(sizes) }, mean: 0.0 };
            against_the_cpu(&case, &case);
        }
    }
}

#[test]
fn a_mean_far_from_zero_does_not_cancel() {
    for sizes in [[3, 300, 128, 32], [2, 129, 512, 32], [2, 140, 64, 32], [2, 150, 12, 3]] {
        let case = Case { op: GroupNorm { silu: false, ..norm(sizes) }, mean: 100.0 };
        against_the_cpu(&case, &case);
    }
}

#[test]
fn an_even_video_becomes_the_bias() {
    for (cuda, half) in devices() {
        for sizes in [[2, 200, 128, 32], [2, 200, 12, 3]] {
            let case = Case { op: GroupNorm { silu: false, ..norm(sizes) }, mean: 0.0 };
            let mut moments = cuda.alloc_moments(&case.op.moments()).unwrap();
            let found = case.norm(&cuda, &vec![100.5; sizes[..3].iter().product()], &mut moments, half);
            let bias = half_values(3, sizes[2], half);
            assert!(found.chunks_exact(sizes[2]).all(|position| position == bias), "{sizes:?}, {half:?}");
        }
    }
}

/// Whether two ways to the same norm give the same bits, element by element.
#[derive(Clone, Copy, Debug)]
enum Twice {
    /// With the moments that the first way left.
    Known(Case),
    /// A frame by itself, and among others.
    Alone(Case),
}

impl Twice {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let (Self::Known(case) | Self::Alone(case)) = self;
        let op = case.op;
        let x = case.video(half);
        let mut moments = backend.alloc_moments(&op.moments()).unwrap();
        let first = case.norm(backend, &x, &mut moments, half);
        let second = match self {
            Self::Known(_) => {
                let known = Case { op: GroupNorm { moments_known: true, ..op }, ..*case };
                known.norm(backend, &x, &mut moments, half)
            }
            Self::Alone(_) => {
                let frame = Case { op: GroupNorm { frames: 1, per_frame: false, ..op }, ..*case };
                let frames = x.chunks_exact(op.positions * op.channels);
                let alone = frames.map(|x| {
                    let mut moments = backend.alloc_moments(&frame.op.moments()).unwrap();
                    frame.norm(backend, x, &mut moments, half)
                });
                alone.flatten().collect()
            }
        };
        first.iter().zip(&second).map(|(first, second)| f32::from(first.to_bits() == second.to_bits())).collect()
    }
}

body!(Twice);

#[test]
fn known_moments_give_the_bits_of_computed_ones() {
    for sizes in [[3, 300, 128, 32], [2, 150, 12, 3]] {
        for per_frame in [false, true] {
            let case = Twice::Known(Case { op: GroupNorm { per_frame, ..norm(sizes) }, mean: 1.0 });
            exactly_the_cpu(&case, &case);
        }
    }
}

#[test]
fn a_frame_by_itself_gets_the_bits_it_gets_among_others() {
    for sizes in [[3, 300, 128, 32], [3, 50, 12, 3]] {
        let case = Twice::Alone(Case { op: GroupNorm { per_frame: true, ..norm(sizes) }, mean: 1.0 });
        exactly_the_cpu(&case, &case);
    }
}

#[test]
fn moments_of_another_video_are_refused() {
    let (cuda, _) = devices().next().unwrap();
    let op = norm([2, 3, 64, 32]);
    let weight = || cuda.weight(vec![Tensor::from_f32(&[64], &[1.0; 64])]).unwrap();
    let (x, mut out) = (cuda.alloc(384).unwrap(), cuda.alloc(384).unwrap());
    let mut moments = cuda.alloc_moments(&GroupNorm { frames: 3, ..op }.moments()).unwrap();
    assert_eq!(refused(cuda.group_norm(&op, &x, &mut moments, &weight(), &weight(), &mut out)), "moments");
}
