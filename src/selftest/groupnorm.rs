//! `kernels/groupnorm.cu`: the kernels with stretches and the ragged ones, groups of every width in a vector, any
//! number of slabs and frames, means far from zero, and videos in stretches of time.

use super::Work;
use super::trial::{Body, Trial, ensure, ensure_same, host};
use super::values::{half_values, rounded};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::groupnorm::{GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use crate::tensor::Tensor;

/// The norm of a video whose values lie around `mean`.
#[derive(Clone, Copy, Debug)]
struct Case {
    whole: Statistics,
    silu: bool,
    mean: f32,
}

impl Case {
    /// Values around a mean that differs by channel and frame.
    fn video(&self, half: Half) -> Vec<f32> {
        let Statistics { frames, positions, channels, .. } = self.whole;
        let mut x = half_values(1, frames * positions * channels, half);
        for (i, value) in x.iter_mut().enumerate() {
            *value = 2.0 * *value + self.mean + (i % channels % 3) as f32 + (i / channels / positions % 2) as f32;
        }
        rounded(&x, half)
    }

    /// The norm of `x` in stretches of `lengths` frames, each with its own moments. Each stretch's input has one unused
    /// frame in front.
    fn norm<B: Backend>(&self, backend: &B, x: &[f32], lengths: &[usize], half: Half) -> Result<Vec<f32>> {
        let Statistics { positions, channels, groups, .. } = self.whole;
        let vector = |seed| {
            let tensor = Tensor::from_f32(&[channels], &half_values(seed, channels, half));
            backend.weight(vec![tensor])
        };
        let (weight, bias, mut rest) = (vector(2)?, vector(3)?, x);
        let mut stretches = Vec::new();
        for &frames in lengths {
            let (stretch, behind) = rest.split_at(frames * positions * channels);
            rest = behind;
            let op = self.whole.moments(frames);
            let mut moments = backend.alloc_moments(&op)?;
            backend.group_moments(&op, MomentsArgs { x: &backend.upload(stretch)?, moments: &mut moments })?;
            let room_in_front = [&vec![f32::NAN; positions * channels], stretch].concat();
            stretches.push((backend.upload(&room_in_front)?, moments, frames));
        }
        let moments: Vec<_> = stretches.iter().map(|(_, moments, frames)| (moments, *frames)).collect();
        let mut statistics = backend.alloc_statistics(&self.whole)?;
        backend.group_statistics(&self.whole, StatisticsArgs { stretches: &moments, statistics: &mut statistics })?;
        let mut out = backend.alloc(x.len())?;
        let mut at = 0;
        for (x, _, frames) in &stretches {
            let (frames, silu) = (*frames, self.silu);
            let op =
                GroupNorm { frames, positions, channels, groups, silu, x_frame: 1, out_frame: at, video_frame: at };
            let args = GroupNormArgs { x, statistics: &statistics, weight: &weight, bias: &bias, out: &mut out };
            backend.group_norm(&op, args)?;
            at += frames;
        }
        host(backend, &out)
    }

    fn per_frame(self) -> Self {
        Self { whole: Statistics { per_frame: true, ..self.whole }, ..self }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        self.norm(backend, &self.video(half), &[self.whole.frames], half)
    }
}

fn norm([frames, positions, channels, groups]: [usize; 4]) -> Case {
    Case {
        whole: Statistics { frames, positions, channels, groups, eps: 1e-6, per_frame: false },
        silu: true,
        mean: 0.0,
    }
}

/// One position, one slab, slabs that are not full, and many slabs; groups of 4, 8, 16, 2, 1, 3, 24 and 12 channels;
/// several stretches.
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

/// Channels that are not whole vectors; groups that no stretch holds; more channels than threads.
const RAGGED: [[usize; 4]; 5] = [[2, 200, 7, 7], [2, 150, 12, 3], [1, 70, 264, 1], [1, 20, 300, 2], [1, 19, 2056, 8]];

fn group_norm_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for sizes in SIZES.iter().chain(&MANY).chain(&RAGGED) {
        let case = norm(*sizes);
        trial.against_the_cpu(&case)?;
    }
    for sizes in [[3, 300, 128, 32], [2, 150, 12, 3]] {
        for case in [
            norm(sizes).per_frame(),
            Case { silu: false, ..norm(sizes).per_frame() },
            Case { silu: false, ..norm(sizes) },
        ] {
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn a_mean_far_from_zero_does_not_cancel(trial: &mut Trial) -> Result<()> {
    for sizes in [[3, 300, 128, 32], [2, 129, 512, 32], [2, 140, 64, 32], [2, 150, 12, 3]] {
        let case = Case { silu: false, mean: 100.0, ..norm(sizes) };
        trial.against_the_cpu(&case)?;
    }
    Ok(())
}

fn a_constant_video_becomes_the_bias(trial: &mut Trial) -> Result<()> {
    for sizes in [[2, 200, 128, 32], [2, 200, 12, 3]] {
        let case = Case { silu: false, ..norm(sizes) };
        trial.each(&case, |kernels, half| {
            let found = case.norm(kernels, &vec![100.5; sizes[..3].iter().product()], &[2], half)?;
            let bias = half_values(3, sizes[2], half);
            let constant = found.chunks_exact(sizes[2]).all(|position| position == bias);
            ensure(constant, || "a constant video does not become the bias".into())
        })?;
    }
    Ok(())
}

fn stretches_of_time_give_the_bits_of_the_whole(trial: &mut Trial) -> Result<()> {
    for sizes in [[3, 300, 128, 32], [3, 50, 12, 3]] {
        for case in [norm(sizes), norm(sizes).per_frame()] {
            trial.each(&case, |kernels, half| {
                let x = case.video(half);
                let whole = case.norm(kernels, &x, &[3], half)?;
                [&[1, 2][..], &[2, 1], &[1, 1, 1]]
                    .iter()
                    .try_for_each(|lengths| ensure_same(&case.norm(kernels, &x, lengths, half)?, &whole, lengths))
            })?;
        }
    }
    Ok(())
}

fn a_frame_has_the_same_bits_alone_and_among_others(trial: &mut Trial) -> Result<()> {
    for sizes in [[3, 300, 128, 32], [3, 50, 12, 3]] {
        let case = norm(sizes).per_frame();
        let alone = norm([1, sizes[1], sizes[2], sizes[3]]);
        trial.each(&case, |kernels, half| {
            let x = case.video(half);
            let mut frames = Vec::new();
            for frame in x.chunks_exact(sizes[1] * sizes[2]) {
                frames.extend(alone.norm(kernels, frame, &[1], half)?);
            }
            ensure_same(&case.norm(kernels, &x, &[3], half)?, &frames, &"single frames")
        })?;
    }
    Ok(())
}

/// Levels of the VAE's decoder for a few frames of a window.
pub(super) fn work() -> Vec<Work> {
    vec![
        Work::of("9x128x128, 128 channels", norm([9, 128 * 128, 128, 32])),
        Work::of("17x32x32, 512 channels", norm([17, 32 * 32, 512, 32])),
    ]
}

checks! {
    group_norm_agrees_with_the_cpu,
    a_mean_far_from_zero_does_not_cancel,
    a_constant_video_becomes_the_bias,
    stretches_of_time_give_the_bits_of_the_whole,
    a_frame_has_the_same_bits_alone_and_among_others,
}
