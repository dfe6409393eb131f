//! `group_moments`, `group_statistics`, `group_norm`: together, because each backend has its own form of moments.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, fill};
use super::spread::Spread;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::groupnorm::{GroupNorm, GroupNormArgs, MomentsArgs, Statistics, StatisticsArgs};
use crate::tensor::Tensor;

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    whole: Statistics,
    silu: bool,
    /// Frames of the first stretch, whose moments are taken on their own.
    first: usize,
    kind: Kind,
    seed: u64,
}

struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

const KINDS: [Kind; 8] =
    [Kind::LargeMean, Kind::Tail, Kind::Denormal, Kind::Equal, Kind::Cancelling, Kind::Large, Kind::Zeros, Kind::Plain];

/// Channels and groups: for stretches and for the ragged kernels.
const CHANNELS: [(usize, usize); 8] = [(8, 8), (32, 8), (64, 32), (128, 32), (96, 32), (7, 7), (12, 3), (20, 2)];

impl Case {
    fn inputs(&self, half: Half) -> Inputs {
        let Statistics { frames, positions, channels, .. } = self.whole;
        // A row of the values is a frame.
        let x = fill(self.kind, self.seed, frames * positions * channels, positions * channels, half);
        let kind = if self.kind == Kind::Large { Kind::Large } else { Kind::Plain };
        let weight = fill(kind, self.seed + 1, channels, channels, half);
        let weight = weight.iter().map(|weight| weight * 64.0).collect();
        Inputs { x, weight, bias: fill(Kind::Plain, self.seed + 2, channels, channels, half) }
    }

    /// The statistics of a group in some frames.
    fn spread(&self, x: &[f32], frames: std::ops::Range<usize>, group: usize) -> Spread {
        let Statistics { positions, channels, groups, eps, .. } = self.whole;
        let width = channels / groups;
        let rows = frames.start * positions..frames.end * positions;
        let values: Vec<f64> = rows
            .flat_map(|row| x[row * channels + group * width..][..width].iter().map(|&value| f64::from(value)))
            .collect();
        // At most one addition for each position and for each channel of the group; trees join warps, slabs and frames.
        Spread::of(&values, eps, (positions + width + 64) as f64)
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Statistics { frames, positions, channels, groups, .. } = self.whole;
        let inputs = self.inputs(half);
        let split = self.first * positions * channels;
        let mut stretches = Vec::new();
        let parts = [(&inputs.x[..split], self.first), (&inputs.x[split..], frames - self.first)];
        for (x, frames) in parts.into_iter().filter(|&(_, frames)| frames > 0) {
            let op = self.whole.moments(frames);
            let mut moments = backend.alloc_moments(&op)?;
            backend.group_moments(&op, MomentsArgs { x: &backend.upload(x)?, moments: &mut moments })?;
            stretches.push((moments, frames));
        }
        let stretches: Vec<_> = stretches.iter().map(|(moments, frames)| (moments, *frames)).collect();
        let mut statistics = backend.alloc_statistics(&self.whole)?;
        backend.group_statistics(&self.whole, StatisticsArgs { stretches: &stretches, statistics: &mut statistics })?;
        let vector = |values: &[f32]| backend.weight(vec![Tensor::from_f32(&[channels], values)]);
        let (weight, bias) = (vector(&inputs.weight)?, vector(&inputs.bias)?);
        let (x, mut out) = (backend.upload(&inputs.x)?, backend.alloc(inputs.x.len())?);
        let silu = self.silu;
        let op = GroupNorm { frames, positions, channels, groups, silu, x_frame: 0, out_frame: 0, video_frame: 0 };
        let args = GroupNormArgs { x: &x, statistics: &statistics, weight: &weight, bias: &bias, out: &mut out };
        backend.group_norm(&op, args)?;
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let kind = draw.turn(&KINDS);
        let ((channels, groups), frames) = (draw.pick(&CHANNELS), draw.pick(&[1, 2, 3]));
        let positions = draw.pick(&[1, 2, 9, 127, 128, 129, 300]);
        let whole = Statistics { frames, positions, channels, groups, eps: 1e-6, per_frame: draw.coin() };
        Self { whole, silu: draw.coin(), first: draw.pick(&[0, 1, frames]), kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let Statistics { frames, positions, channels, groups, per_frame, .. } = self.whole;
        let Inputs { x, weight, bias } = self.inputs(half);
        let of_frame = |frame: usize| -> Vec<Spread> {
            let frames = if per_frame { frame..frame + 1 } else { 0..frames };
            (0..groups).map(|group| self.spread(&x, frames.clone(), group)).collect()
        };
        let spreads: Vec<_> = (0..frames).map(of_frame).collect();
        let value = |(i, &x): (usize, &f32)| {
            let (channel, frame) = (i % channels, i / channels / positions);
            let normed = spreads[frame][channel / (channels / groups)].normed(x);
            let y = normed.times(Bounded::exactly(weight[channel])).plus(Bounded::exactly(bias[channel]));
            if self.silu { y.silu() } else { y }
        };
        Exact::numbers(x.iter().enumerate().map(value).collect(), precision)
    }
}
