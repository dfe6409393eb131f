//! `depthwise_conv`: a sum over the taps of each channel.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_SUMS, fill, weights};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::conv3d::{DepthwiseConv, DepthwiseConvArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    outer: usize,
    /// Rows and columns, or frames and positions.
    size: [usize; 2],
    channels: usize,
    factor: usize,
    in_time: bool,
    kind: Kind,
    seed: u64,
}

struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn op(&self) -> DepthwiseConv {
        let Self { outer, size: [first, second], channels, factor, .. } = *self;
        if self.in_time {
            DepthwiseConv::Time { outer, frames: first, positions: second, channels, factor }
        } else {
            DepthwiseConv::Space { outer, height: first, width: second, channels, factor }
        }
    }

    /// Taps in rows and in columns, or in frames.
    fn kernel(&self) -> [usize; 2] {
        [self.factor, if self.in_time { 1 } else { self.factor }]
    }

    fn inputs(&self, half: Half) -> Inputs {
        let Self { outer, size: [first, second], channels, kind, seed, .. } = *self;
        let taps: usize = self.kernel().iter().product();
        let bias = if kind == Kind::Denormal { kind } else { Kind::Plain };
        Inputs {
            x: fill(kind, seed, outer * first * second * channels, channels, half),
            weight: weights(kind, seed + 1, channels * taps, taps, half),
            bias: fill(bias, seed + 2, channels, channels, half),
        }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (op, inputs, [first, second]) = (self.op(), self.inputs(half), self.kernel());
        let shape = [self.channels, first, second];
        let shape = if self.in_time { &shape[..2] } else { &shape };
        let weight = backend.weight(vec![Tensor::from_f32(shape, &inputs.weight)])?;
        let bias = backend.weight(vec![Tensor::from_f32(&[self.channels], &inputs.bias)])?;
        let x = backend.upload(&inputs.x)?;
        let mut out = backend.alloc(self.outer * op.out_tokens() * self.channels)?;
        backend.depthwise_conv(&op, DepthwiseConvArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })?;
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        Self {
            outer: draw.pick(&[1, 2]),
            size: [draw.pick(&[3, 4, 6, 7]), draw.pick(&[3, 4, 5])],
            channels: draw.pick(&[8, 7, 144, 1]),
            factor: draw.pick(&[2, 3, 1]),
            in_time: draw.coin(),
            kind: draw.turn(&OF_SUMS),
            seed: draw.next() >> 1,
        }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let Self { outer, size: [first, second], channels, factor, in_time, .. } = *self;
        let (inputs, [rows, columns]) = (self.inputs(half), self.kernel());
        // An odd number of frames has copies of the first in front.
        let front = if in_time && first % 2 == 1 { factor - 1 } else { 0 };
        let out = [(first + front) / factor, second / columns];
        let value = |i: usize| {
            let (channel, token) = (i % channels, i / channels);
            let [sample, y, x] = [token / out[1] / out[0], token / out[1] % out[0], token % out[1]];
            let mut terms = vec![Bounded::exactly(inputs.bias[channel])];
            for tap in 0..rows * columns {
                let row = (y * factor + tap / columns).saturating_sub(front);
                let column = x * columns + tap % columns;
                let x = inputs.x[((sample * first + row) * second + column) * channels + channel];
                let weight = inputs.weight[channel * rows * columns + tap];
                terms.push(Bounded::exactly(x).times(Bounded::exactly(weight)));
            }
            Bounded::sum(&terms, terms.len() as f64)
        };
        Exact::numbers((0..outer * out[0] * out[1] * channels).map(value).collect(), precision)
    }
}
