//! `kernels/depthwise.cu`: keys and values compressed in space and in time.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::conv3d::{DepthwiseConv, DepthwiseConvArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
struct Case(DepthwiseConv);

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let (outer, tokens, channels, shape) = match *op {
            DepthwiseConv::Space { outer, height, width, channels, factor } => {
                (outer, height * width, channels, vec![channels, factor, factor])
            }
            DepthwiseConv::Time { outer, frames, positions, channels, factor } => {
                (outer, frames * positions, channels, vec![channels, factor])
            }
        };
        let parameter = |seed, shape: &[usize]| {
            let tensor = Tensor::from_f32(shape, &half_values(seed, shape.iter().product(), half));
            backend.weight(vec![tensor])
        };
        let x = backend.upload(&half_values(1, outer * tokens * channels, half))?;
        let (weight, bias) = (parameter(2, &shape)?, parameter(3, &[channels])?);
        let mut out = backend.alloc(outer * op.out_tokens() * channels)?;
        backend.depthwise_conv(op, DepthwiseConvArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })?;
        host(backend, &out)
    }
}

/// Channels and factors, for the kernel for vectors and, because of the channels or of the factor, for the ragged one.
const SIZES: [(usize, usize); 7] = [(8, 2), (144, 2), (1152, 2), (7, 2), (8, 3), (7, 3), (8, 1)];

fn depthwise_conv_in_space_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for (channels, factor) in SIZES {
        // Sizes that the factor divides, and sizes whose last rows and columns are dropped.
        for [outer, height, width] in [[1, 6, 6], [3, 7, 5], [2, 3, 4]] {
            let case = Case(DepthwiseConv::Space { outer, height, width, channels, factor });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

fn depthwise_conv_in_time_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for (channels, factor) in SIZES {
        // One frame, odd and even numbers of frames.
        for [outer, frames, positions] in [[1, 1, 5], [2, 5, 3], [1, 17, 2], [2, 6, 3], [1, 4, 1]] {
            let case = Case(DepthwiseConv::Time { outer, frames, positions, channels, factor });
            trial.against_the_cpu(&case)?;
        }
    }
    Ok(())
}

/// Keys and values of 17 frames.
pub(super) fn work() -> Vec<Work> {
    let [outer, height, width, channels, factor] = [17, 32, 32, 1152, 2];
    let time = DepthwiseConv::Time { outer: 1, frames: outer, positions: height * width, channels, factor };
    vec![
        Work::of("17 frames of 32x32 tokens", Case(DepthwiseConv::Space { outer, height, width, channels, factor })),
        Work::of("1,024 positions of 17 frames", Case(time)),
    ]
}

checks! {
    depthwise_conv_in_space_agrees_with_the_cpu,
    depthwise_conv_in_time_agrees_with_the_cpu,
}
