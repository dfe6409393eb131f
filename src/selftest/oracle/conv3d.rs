//! `conv3d`: the sum over taps and channels, with every padding, stride and epilogue.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_SUMS, fill, weights};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::conv3d::{Conv3d, ConvArgs, SpacePadding};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Conv3d,
    bias: bool,
    other: bool,
    kind: Kind,
    seed: u64,
}

struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    other: Vec<f32>,
}

/// The most products of a case, so that the emulator takes milliseconds.
const PRODUCTS: usize = 150_000;

impl Case {
    fn inputs(&self, half: Half) -> Inputs {
        let Self { op, kind, seed, .. } = *self;
        let depth = op.weight_shape()[1..].iter().product::<usize>();
        let len: usize = op.out_shape().iter().product();
        let others = if kind == Kind::Denormal { kind } else { Kind::Plain };
        Inputs {
            // What hurts a sum lies in the channels of one tap, and in the taps of one channel.
            x: fill(kind, seed, op.frames * op.height * op.width * op.cin, op.cin, half),
            weight: weights(kind, seed + 1, op.phases() * op.cout * depth, depth.min(op.cin), half),
            bias: fill(others, seed + 2, op.cout, op.cout, half),
            other: fill(others, seed + 3, len, op.cout, half),
        }
    }

    /// The pixel of x under tap (t, y, x) of an output's pixel, without channels; `None` in the padding.
    fn pixel(&self, [t, y, x]: [usize; 3], tap: [usize; 3]) -> Option<usize> {
        let op = &self.op;
        let [top, left] = op.pad_front();
        let frame = (t * op.stride[0] + tap[0]).saturating_sub(op.kernel[0] - 1);
        // Where a row or column of the output begins to read.
        let first = |at: usize| if op.upsample { at / 2 + at % 2 } else { at * op.stride[1] };
        let row = (first(y) + tap[1]).checked_sub(top).filter(|&row| row < op.height)?;
        let column = (first(x) + tap[2]).checked_sub(left).filter(|&column| column < op.width)?;
        Some((frame * op.height + row) * op.width + column)
    }

    /// The sum over all taps and channels.
    fn product(&self, inputs: &Inputs, place: [usize; 3], channel: usize) -> Bounded {
        let (op, [kt, kh, kw]) = (&self.op, self.op.taps());
        let phase = if op.upsample { place[1] % 2 * 2 + place[2] % 2 } else { 0 };
        let channel = phase * op.cout + channel;
        let mut terms = Vec::new();
        for tap in 0..kt * kh * kw {
            let Some(pixel) = self.pixel(place, [tap / kw / kh, tap / kw % kh, tap % kw]) else { continue };
            let x = &inputs.x[pixel * op.cin..][..op.cin];
            let weight = &inputs.weight[(channel * kt * kh * kw + tap) * op.cin..][..op.cin];
            terms.extend(x.iter().zip(weight).map(|(&x, &w)| Bounded::exactly(f64::from(x) * f64::from(w))));
        }
        Bounded::product(&terms)
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let (op, inputs) = (&self.op, self.inputs(half));
        let parameter = |shape: &[usize], values: &[f32]| backend.weight(vec![Tensor::from_f32(shape, values)]);
        let weight = parameter(&op.weight_shape(), &inputs.weight)?;
        let bias = self.bias.then(|| parameter(&[op.cout], &inputs.bias)).transpose()?;
        let other = self.other.then(|| backend.upload(&inputs.other)).transpose()?;
        let (x, mut out) = (backend.upload(&inputs.x)?, backend.alloc(inputs.other.len())?);
        let args = ConvArgs::new(&x, &weight, &mut out);
        backend.conv3d(op, ConvArgs { bias: bias.as_ref(), other: other.as_ref(), ..args })?;
        host(backend, &out)
    }
}

/// The turns of cases that also the kernels in boxes can compute, which Hopper has. These are larger, so they are few.
const IN_BOXES: [bool; 8] = [false, false, false, true, false, false, false, false];

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&OF_SUMS);
        if draw.turn(&IN_BOXES) {
            let size = [draw.pick(&[1, 2]), draw.pick(&[1, 2, 3]), draw.pick(&[16, 17])];
            let op = Conv3d::new(size[0], size[1], size[2], 64, draw.pick(&[64, 72]), [draw.pick(&[1, 2]), 3, 3]);
            let op = Conv3d { upsample: op.cout == 64 && draw.coin(), ..op };
            return Self { op, bias: draw.coin(), other: draw.coin(), kind, seed: draw.next() >> 1 };
        }
        let kernel = draw.pick(&[[3, 3, 3], [1, 1, 1], [1, 3, 3], [3, 1, 1], [2, 3, 3]]);
        let [cin, cout] = [&[8, 3, 16, 24, 40, 1, 72][..], &[8, 3, 33, 64, 9, 72, 97]].map(|sizes| draw.pick(sizes));
        let mut size = [draw.pick(&[1, 2, 3]), draw.pick(&[1, 2, 5, 8]), draw.pick(&[9, 1, 3, 17])];
        let products = |size: [usize; 3]| size.iter().chain(&kernel).product::<usize>() * cin * cout;
        while products(size) > PRODUCTS && size != [1, 1, 1] {
            let largest = (0..3).max_by_key(|&axis| size[axis]).unwrap_or(0);
            size[largest] = size[largest].div_ceil(2);
        }
        let mut op = Conv3d::new(size[0], size[1], size[2], cin, cout, kernel);
        op.upsample = kernel[1..] == [3, 3] && products(size) < PRODUCTS / 2 && draw.coin();
        op.stride = [draw.pick(&[1, 1, 2]), if op.upsample { 1 } else { draw.pick(&[1, 1, 2]) }];
        op.padding = if op.stride[1] == 2 { SpacePadding::RightBottom } else { SpacePadding::Same };
        let other = draw.coin();
        (op.conv_scale, op.other_scale) = draw.pick(&[(1.0, 1.0), (0.75, 0.25), (0.75, -0.5)]);
        Self { op, bias: draw.coin(), other, kind, seed: draw.next() >> 1 }
    }

    fn has_variants(&self) -> bool {
        self.op.cin == 64
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let inputs = self.inputs(half);
        let [frames, rows, columns, channels] = self.op.out_shape();
        let value = |i: usize| {
            let (channel, pixel) = (i % channels, i / channels);
            let place = [pixel / columns / rows, pixel / columns % rows, pixel % columns];
            let mut sum = self.product(&inputs, place, channel);
            if self.bias {
                sum = sum.plus(Bounded::exactly(inputs.bias[channel]));
            }
            sum = sum.times(Bounded::exactly(self.op.conv_scale));
            if !self.other {
                return sum;
            }
            sum.plus(Bounded::exactly(inputs.other[i]).times(Bounded::exactly(self.op.other_scale)))
        };
        Exact::numbers((0..frames * rows * columns * channels).map(value).collect(), precision)
    }
}
