//! `copy_box` and `blend_box`.

use super::super::trial::{Body, host};
use super::Known;
use super::bounded::{Bounded, Exact, Precision};
use super::hostile::{Draw, Kind, OF_MOVES, fill};
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};

#[derive(Clone, Copy, Debug)]
enum Op {
    Copy(CopyBox),
    Blend(BlendBox),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    op: Op,
    kind: Kind,
    seed: u64,
}

const OF_BLENDS: [Kind; 5] = [Kind::Edge, Kind::Zeros, Kind::Denormal, Kind::Cancelling, Kind::Plain];

impl Case {
    /// What is read, and what the box changes.
    fn inputs(&self, half: Half) -> [Vec<f32>; 2] {
        let ([from, to], channels) = match self.op {
            Op::Copy(op) => ([op.from.size, op.to.size], op.channels),
            Op::Blend(op) => ([op.neighbour, op.tile], op.channels),
        };
        let video = |seed: u64, size: [usize; 3]| {
            fill(self.kind, seed, size.iter().product::<usize>() * channels, channels, half)
        };
        [video(self.seed, from), video(self.seed + 1, to)]
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let [from, to] = self.inputs(half);
        let (from, mut to) = (backend.upload(&from)?, backend.upload(&to)?);
        match &self.op {
            Op::Copy(op) => backend.copy_box(op, CopyBoxArgs { x: &from, out: &mut to })?,
            Op::Blend(op) => backend.blend_box(op, BlendBoxArgs { neighbour: &from, tile: &mut to })?,
        }
        host(backend, &to)
    }
}

impl Known for Case {
    fn draw(draw: &mut Draw) -> Self {
        let channels = draw.pick(&[8, 3, 7, 4]);
        let mut side = || [draw.pick(&[1, 2, 3]), draw.pick(&[2, 5, 8]), draw.pick(&[3, 4, 8])];
        let (from, to) = (side(), side());
        let (op, kind) = if draw.coin() {
            let extent = [0, 1, 2].map(|axis| from[axis].min(to[axis]));
            // Each box lies at the end of the larger video.
            let at = |size: [usize; 3]| BoxAt { size, origin: [0, 1, 2].map(|axis| size[axis] - extent[axis]) };
            (Op::Copy(CopyBox { extent, channels, from: at(from), to: at(to) }), draw.turn(&OF_MOVES))
        } else {
            let axis = draw.pick(&[BlendAxis::Rows, BlendAxis::Columns]);
            let mut op = BlendBox { neighbour: from, tile: to, channels, axis, blend: 0 };
            let most = from[op.axis_index()].min(to[op.axis_index()]);
            op.blend = draw.pick(&[most, 1, most / 2]);
            (Op::Blend(op), draw.turn(&OF_BLENDS))
        };
        Self { op, kind, seed: draw.next() >> 1 }
    }

    fn exact(&self, half: Half, precision: Precision) -> Exact {
        let [from, to] = self.inputs(half);
        let values = match &self.op {
            Op::Copy(op) => {
                changed(&to, [op.to.size, op.extent], op.channels, op.to.origin, |[t, y, x], channel, _| {
                    let [first, row, column] = op.from.origin;
                    let [_, height, width] = op.from.size;
                    Bounded::exactly(
                        from[(((first + t) * height + row + y) * width + column + x) * op.channels + channel],
                    )
                })
            }
            Op::Blend(op) => {
                changed(&to, [op.tile, op.extent()], op.channels, [0; 3], |place, channel, old| {
                    let axis = op.axis_index();
                    let step = place[axis];
                    let mut there = place;
                    there[axis] += op.neighbour[axis] - op.blend;
                    let [t, y, x] = there;
                    let [_, height, width] = op.neighbour;
                    let neighbour = from[((t * height + y) * width + x) * op.channels + channel];
                    // Both shares are quotients of whole numbers, rounded once.
                    let share = |steps: usize| {
                        let share = steps as f64 / op.blend as f64;
                        Bounded::rounded(share, 0.0, if steps == 0 || steps == op.blend { 0.0 } else { 1.0 })
                    };
                    let faded = Bounded::exactly(neighbour).times(share(op.blend - step));
                    faded.plus(Bounded::exactly(old).times(share(step)))
                })
            }
        };
        Exact::numbers(values, precision)
    }
}

/// A video `[size, channels]` whose box of `extent` at `origin` has the values of `change(place in the box, channel, old
/// value)`. The rest keeps its bits.
fn changed(
    video: &[f32],
    [size, extent]: [[usize; 3]; 2],
    channels: usize,
    origin: [usize; 3],
    change: impl Fn([usize; 3], usize, f32) -> Bounded,
) -> Vec<Bounded> {
    let [_, height, width] = size;
    let value = |(i, &old): (usize, &f32)| {
        let (channel, pixel) = (i % channels, i / channels);
        let place = [pixel / width / height, pixel / width % height, pixel % width];
        let inside = (0..3).all(|axis| (origin[axis]..origin[axis] + extent[axis]).contains(&place[axis]));
        if !inside {
            return Bounded::exactly(old);
        }
        change([0, 1, 2].map(|axis| place[axis] - origin[axis]), channel, old)
    };
    video.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::refused;
    use super::*;

    /// How many copies of a kind are refused, if `moved` replaces the values.
    fn refused_copies(kind: Kind, moved: impl Fn(f32) -> f32) -> [usize; 2] {
        let copy = |case: &Case| matches!(case.op, Op::Copy(_)) && case.kind == kind;
        refused(copy, |case| {
            let exact = case.exact(Half::F16, Precision::F16).values;
            exact.into_iter().map(|exact| moved(exact.value as f32)).collect()
        })
    }

    #[test]
    fn moves_that_change_special_values_are_refused() {
        assert_eq!(refused_copies(Kind::Special, |value| value)[0], 0);
        let changes: [fn(f32) -> f32; 3] = [
            |value| value.max(-65504.0),
            |value| if value.is_finite() { value } else { 0.0 },
            |value| if value.is_nan() { f32::INFINITY } else { value },
        ];
        for change in changes {
            let [refused, all] = refused_copies(Kind::Special, change);
            assert!(refused > all / 2, "{refused} of {all}");
        }
    }

    #[test]
    fn moves_that_add_zero_are_refused() {
        // −0 + 0 = +0
        let [refused, all] = refused_copies(Kind::Zeros, |value| value + 0.0);
        assert!(refused > all / 2, "{refused} of {all}");
        let [refused, all] =
            refused_copies(Kind::Denormal, |value| if value.abs() < 2f32.powi(-14) { 0.0 } else { value });
        assert_eq!(refused, all);
    }
}
