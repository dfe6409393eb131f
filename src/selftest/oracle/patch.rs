//! `patch_embed` and `unpatchify`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_MOVES, OF_SUMS, fill, weights};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
enum Op {
    Embed(PatchEmbed),
    Back(Unpatchify),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Op,
    kind: Kind,
    seed: u64,
}

struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn inputs(&self, half: Half) -> Inputs {
        let Self { kind, seed, .. } = *self;
        let bias = if kind == Kind::Denormal { kind } else { Kind::Plain };
        match self.op {
            Op::Embed(PatchEmbed { frames, height, width, cin, cout, patch }) => Inputs {
                x: fill(kind, seed, frames * height * width * cin, cin, half),
                weight: weights(kind, seed + 1, cout * patch * patch * cin, cin, half),
                bias: fill(bias, seed + 2, cout, cout, half),
            },
            Op::Back(Unpatchify { frames, rows, columns, patch, channels, .. }) => {
                let len = frames * rows * columns * patch * patch * channels;
                Inputs { x: fill(kind, seed, len, channels, half), weight: Vec::new(), bias: Vec::new() }
            }
        }
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let inputs = self.inputs(half);
        let x = backend.upload(&inputs.x)?;
        match &self.op {
            Op::Embed(op) => {
                let parameter = |shape: &[usize], values: &[f32]| backend.weight(vec![Tensor::from_f32(shape, values)]);
                let weight = parameter(&[op.cout, op.patch, op.patch, op.cin], &inputs.weight)?;
                let bias = parameter(&[op.cout], &inputs.bias)?;
                let mut out = backend.alloc(op.frames * op.tokens() * op.cout)?;
                backend.patch_embed(op, PatchEmbedArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })?;
                host(backend, &out)
            }
            Op::Back(op) => {
                let mut out = backend.alloc(inputs.x.len() / op.channels * op.kept)?;
                backend.unpatchify(op, UnpatchifyArgs { x: &x, out: &mut out })?;
                host(backend, &out)
            }
        }
    }
}

/// The sum over a patch, for each token and channel.
fn embedded(op: &PatchEmbed, inputs: &Inputs) -> Vec<Bounded> {
    let PatchEmbed { frames, height, width, cin, cout, patch } = *op;
    let (rows, columns) = (height / patch, width / patch);
    let value = |i: usize| {
        let (channel, token) = (i % cout, i / cout);
        let [frame, row, column] = [token / columns / rows, token / columns % rows, token % columns];
        let mut terms = vec![Bounded::exactly(inputs.bias[channel])];
        for (tap, weight) in
            inputs.weight.chunks_exact(cin).skip(channel * patch * patch).take(patch * patch).enumerate()
        {
            let (y, x) = (row * patch + tap / patch, column * patch + tap % patch);
            let x = &inputs.x[((frame * height + y) * width + x) * cin..][..cin];
            terms.extend(x.iter().zip(weight).map(|(&x, &weight)| Bounded::exactly(x).times(Bounded::exactly(weight))));
        }
        Bounded::sum(&terms, terms.len() as f64)
    };
    (0..frames * rows * columns * cout).map(value).collect()
}

/// Each kept channel of each pixel.
fn pixels(op: &Unpatchify, x: &[f32]) -> Vec<Bounded> {
    let Unpatchify { frames, rows, columns, patch, channels, kept } = *op;
    let (height, width) = (rows * patch, columns * patch);
    let value = |i: usize| {
        let (channel, pixel) = (i % kept, i / kept);
        let [frame, y, column] = [pixel / width / height, pixel / width % height, pixel % width];
        let token = (frame * rows + y / patch) * columns + column / patch;
        let feature = (y % patch * patch + column % patch) * channels + channel;
        Bounded::exactly(x[token * patch * patch * channels + feature])
    };
    (0..frames * height * width * kept).map(value).collect()
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let [frames, rows, columns] = [draw.pick(&[1, 2]), draw.pick(&[1, 3, 4]), draw.pick(&[1, 5, 6])];
        let patch = draw.pick(&[2, 2, 1, 3]);
        let (op, kind) = if draw.coin() {
            let (cin, cout) = (draw.pick(&[4, 3, 5]), draw.pick(&[8, 144, 7]));
            let op = PatchEmbed { frames, height: rows * patch, width: columns * patch, cin, cout, patch };
            (Op::Embed(op), draw.turn(&OF_SUMS))
        } else {
            let (channels, kept) = draw.pick(&[(8, 4), (8, 8), (7, 3)]);
            (Op::Back(Unpatchify { frames, rows, columns, patch, channels, kept }), draw.turn(&OF_MOVES))
        };
        Self { op, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let inputs = self.inputs(half);
        let values = match &self.op {
            Op::Embed(op) => embedded(op, &inputs),
            Op::Back(op) => pixels(op, &inputs.x),
        };
        Exact::numbers(values, precision)
    }
}
