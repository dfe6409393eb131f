//! `kernels/resample.cu`: any number of frames, by vectors and ragged.

use super::policy::{against_the_cpu, body, exactly_the_cpu, half_values, host};
use osp::backend::Backend;
use osp::cuda::Half;
use osp::ops::resample::{RegroupFrames, TimeAverage, TimeDouble};

#[derive(Clone, Copy, Debug)]
enum Case {
    Average(TimeAverage),
    Double(TimeDouble),
    Regroup(RegroupFrames),
}

impl Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Vec<f32> {
        let x = |len| backend.upload(&half_values(1, len, half)).unwrap();
        let out = |len| backend.alloc(len).unwrap();
        let out = match self {
            Self::Average(op) => {
                let mut out = out(op.out_frames() * op.frame_len);
                backend.time_average(op, &x(op.frames * op.frame_len), &mut out).unwrap();
                out
            }
            Self::Double(op) => {
                let mut out = out(op.out_frames() * op.frame_len);
                backend.time_double(op, &x(op.frames * op.frame_len), &mut out).unwrap();
                out
            }
            Self::Regroup(op) => {
                let len = op.frames * op.positions * op.channels;
                let mut out = out(len);
                backend.regroup_frames(op, &x(len), &mut out).unwrap();
                out
            }
        };
        host(backend, &out)
    }
}

body!(Case);

/// Whole vectors, fewer and more than a block's; single elements, fewer and more.
const FRAME_LENS: [usize; 4] = [8, 264 * 8, 7, 259];

#[test]
fn time_average_agrees_with_the_cpu() {
    for frames in (1..=10).chain([17]) {
        for frame_len in FRAME_LENS {
            let case = Case::Average(TimeAverage { frames, frame_len });
            against_the_cpu(&case, &case);
        }
    }
}

#[test]
fn time_double_agrees_with_the_cpu() {
    for frames in (1..=6).chain([8, 9]) {
        for frame_len in FRAME_LENS {
            let case = Case::Double(TimeDouble { frames, frame_len });
            against_the_cpu(&case, &case);
        }
    }
}

#[test]
fn the_first_frame_keeps_its_bits() {
    let case = Case::Double(TimeDouble { frames: 1, frame_len: 24 });
    exactly_the_cpu(&case, &case);
}

fn regroup(sizes: &[[usize; 3]]) {
    for &[frames, positions, channels] in sizes {
        for inverse in [false, true] {
            let case = Case::Regroup(RegroupFrames { frames, positions, channels, inverse });
            exactly_the_cpu(&case, &case);
        }
    }
}

#[test]
fn regroup_frames_moves_vectors() {
    regroup(&[[1, 3, 8], [2, 2, 16], [5, 3, 64], [17, 2, 136], [3, 1, 2056]]);
    // Several stretches of a position, the last one shorter.
    regroup(&[[17, 2, 1024], [65, 1, 264]]);
}

#[test]
fn regroup_frames_moves_single_elements() {
    regroup(&[[1, 3, 7], [5, 3, 12], [17, 2, 9]]);
    // More frames than a block's memory holds vectors of.
    regroup(&[[1700, 1, 8]]);
}
