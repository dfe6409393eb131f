//! `kernels/resample.cu`: any number of frames, by the kernels for vectors and the ragged ones.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::resample::{
    RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
};

#[derive(Clone, Copy, Debug)]
enum Case {
    Average(TimeAverage),
    Double(TimeDouble),
    Regroup(RegroupFrames),
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let x = |len| backend.upload(&half_values(1, len, half));
        let out = |len| backend.alloc(len);
        let out = match self {
            Self::Average(op) => {
                let mut out = out(op.out_frames() * op.frame_len)?;
                backend.time_average(op, TimeAverageArgs { x: &x(op.frames * op.frame_len)?, out: &mut out })?;
                out
            }
            Self::Double(op) => {
                let mut out = out(op.out_frames() * op.frame_len)?;
                backend.time_double(op, TimeDoubleArgs { x: &x(op.frames * op.frame_len)?, out: &mut out })?;
                out
            }
            Self::Regroup(op) => {
                let len = op.frames * op.positions * op.channels;
                let mut out = out(len)?;
                backend.regroup_frames(op, RegroupFramesArgs { x: &x(len)?, out: &mut out })?;
                out
            }
        };
        host(backend, &out)
    }
}

/// Whole vectors, fewer and more than a block takes; single elements, fewer and more than a block takes.
const FRAME_LENS: [usize; 4] = [8, 264 * 8, 7, 259];

fn time_average_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for frames in (1..=10).chain([17]) {
        for frame_len in FRAME_LENS {
            let case = Case::Average(TimeAverage { frames, frame_len });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn time_double_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for frames in (1..=6).chain([8, 9]) {
        for frame_len in FRAME_LENS {
            let case = Case::Double(TimeDouble { frames, frame_len });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn the_first_frame_keeps_its_bits(trial: &mut Trial) -> Result<()> {
    let case = Case::Double(TimeDouble { frames: 1, frame_len: 24 });
    trial.exactly_the_cpu(&case)
}

fn regroup(trial: &mut Trial, sizes: &[[usize; 3]]) -> Result<()> {
    for &[frames, positions, channels] in sizes {
        for inverse in [false, true] {
            let case = Case::Regroup(RegroupFrames { frames, positions, channels, inverse });
            trial.exactly_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn regroup_frames_moves_vectors(trial: &mut Trial) -> Result<()> {
    regroup(trial, &[[1, 3, 8], [2, 2, 16], [5, 3, 64], [17, 2, 136], [3, 1, 2056]])?;
    // Several stretches of a position, the last one shorter.
    regroup(trial, &[[17, 2, 1024], [65, 1, 264]])
}

fn regroup_frames_moves_single_elements(trial: &mut Trial) -> Result<()> {
    regroup(trial, &[[1, 3, 7], [5, 3, 12], [17, 2, 9]])?;
    // Too many frames for one vector of each in a block's shared memory.
    regroup(trial, &[[1700, 1, 8]])
}

/// Levels of the VAE for a few frames of a window.
pub(super) fn work() -> Vec<Work> {
    let frame_len = 64 * 64 * 512;
    let regroup = RegroupFrames { frames: 17, positions: 1024, channels: 512, inverse: false };
    vec![
        Work::of("9 frames of 64x64 made 5, 512 channels", Case::Average(TimeAverage { frames: 9, frame_len })),
        Work::of("5 frames of 64x64 made 9, 512 channels", Case::Double(TimeDouble { frames: 5, frame_len })),
        Work::of("17 frames of 32x32 regrouped, 512 channels", Case::Regroup(regroup)),
    ]
}

checks! {
    time_average_agrees_with_the_cpu,
    time_double_agrees_with_the_cpu,
    the_first_frame_keeps_its_bits,
    regroup_frames_moves_vectors,
    regroup_frames_moves_single_elements,
}
