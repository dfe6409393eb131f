//! `time_average`, `time_double` and `regroup_frames`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_MOVES, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::resample::{
    RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs,
};

#[derive(Clone, Copy, Debug)]
enum Op {
    Average(TimeAverage),
    Double(TimeDouble),
    Regroup(RegroupFrames),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Op,
    kind: Kind,
    seed: u64,
}

const OF_MEANS: [Kind; 6] = [Kind::Edge, Kind::Zeros, Kind::Denormal, Kind::Cancelling, Kind::Large, Kind::Plain];

impl Case {
    fn x(&self, half: Half) -> Vec<f32> {
        let (frames, frame_len) = match self.op {
            Op::Average(TimeAverage { frames, frame_len }) | Op::Double(TimeDouble { frames, frame_len }) => {
                (frames, frame_len)
            }
            Op::Regroup(op) => (op.frames, op.positions * op.channels),
        };
        let mut x = fill(self.kind, self.seed, frames * frame_len, frame_len, half);
        if self.kind == Kind::Edge && half == Half::Bf16 {
            // A sum of three such numbers is beyond f32.
            x.iter_mut().for_each(|value| *value /= 4.0);
        }
        x
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let x = backend.upload(&self.x(half))?;
        let out = match &self.op {
            Op::Average(op) => {
                let mut out = backend.alloc(op.out_frames() * op.frame_len)?;
                backend.time_average(op, TimeAverageArgs { x: &x, out: &mut out })?;
                out
            }
            Op::Double(op) => {
                let mut out = backend.alloc(op.out_frames() * op.frame_len)?;
                backend.time_double(op, TimeDoubleArgs { x: &x, out: &mut out })?;
                out
            }
            Op::Regroup(op) => {
                let mut out = backend.alloc(op.frames * op.positions * op.channels)?;
                backend.regroup_frames(op, RegroupFramesArgs { x: &x, out: &mut out })?;
                out
            }
        };
        host(backend, &out)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let (frames, frame_len) = (draw.pick(&[1, 2, 3, 4, 5, 9, 10, 17]), draw.pick(&[8, 7, 264, 259]));
        let average = Op::Average(TimeAverage { frames, frame_len });
        let double = Op::Double(TimeDouble { frames, frame_len });
        let (positions, channels, inverse) = (draw.pick(&[1, 2, 3]), draw.pick(&[8, 7, 64, 136]), draw.coin());
        let op = draw.pick(&[average, double, Op::Regroup(RegroupFrames { frames, positions, channels, inverse })]);
        let kind = if matches!(op, Op::Regroup(_)) { draw.turn(&OF_MOVES) } else { draw.turn(&OF_MEANS) };
        Self { op, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let x = self.x(half);
        let values = match &self.op {
            Op::Average(op) => averages(op, &x),
            Op::Double(op) => doubled(op, &x),
            Op::Regroup(op) => regrouped(op, &x),
        };
        Exact::numbers(values, precision)
    }
}

/// The mean of frames 2j − 2, 2j − 1 and 2j, of which those before the first are the first.
fn averages(op: &TimeAverage, x: &[f32]) -> Vec<Bounded> {
    let mean = |i: usize| {
        let (frame, at) = (i / op.frame_len, i % op.frame_len);
        let taps = [2, 1, 0].map(|back| Bounded::exactly(x[(2 * frame).saturating_sub(back) * op.frame_len + at]));
        let [first, second, third] = taps;
        // A quotient, or a product with a third, which is rounded, too.
        let third_of = Bounded::rounded(1.0 / 3.0, 0.0, 1.0);
        first.plus(second).plus(third).times(third_of)
    };
    (0..op.out_frames() * op.frame_len).map(mean).collect()
}

/// The first frame, then ¾ of the nearer frame and ¼ of the other, without the first.
fn doubled(op: &TimeDouble, x: &[f32]) -> Vec<Bounded> {
    let last = op.frames as isize - 1;
    let value = |i: usize| {
        let (frame, at) = (i / op.frame_len, i % op.frame_len);
        let of = |frame: isize| Bounded::exactly(x[frame.clamp(1, last) as usize * op.frame_len + at]);
        if frame == 0 {
            return Bounded::exactly(x[at]);
        }
        // Output 2j or 2j + 1 of the slice without the first frame.
        let (j, odd) = ((frame - 1) / 2, frame % 2 == 0);
        let near = j as isize + 1;
        let far = if odd { near + 1 } else { near - 1 };
        of(near).times(Bounded::exactly(0.75)).plus(of(far).times(Bounded::exactly(0.25)))
    };
    (0..op.out_frames() * op.frame_len).map(value).collect()
}

/// At each position, the memory of frames × channels read as channels × frames, or back.
fn regrouped(op: &RegroupFrames, x: &[f32]) -> Vec<Bounded> {
    let RegroupFrames { frames, positions, channels, inverse } = *op;
    let mut out = vec![Bounded::exactly(0.0); x.len()];
    for (i, &value) in x.iter().enumerate() {
        let (frame, position, channel) = (i / channels / positions, i / channels % positions, i % channels);
        let (flat, width) =
            if inverse { (frame * channels + channel, frames) } else { (channel * frames + frame, channels) };
        // The inverse takes the flat place as channel · frames + frame.
        let (to_frame, to_channel) = if inverse { (flat % width, flat / width) } else { (flat / width, flat % width) };
        out[(to_frame * positions + position) * channels + to_channel] = Bounded::exactly(value);
    }
    out
}
