//! `kernels/tile.cu`: boxes by the kernels for vectors and the ragged ones. The rest of the videos must stay.

use super::Work;
use super::trial::{Body, Trial, host};
use super::values::half_values;
use crate::backend::Backend;
use crate::cuda::Half;
use crate::error::Result;
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};

#[derive(Clone, Copy, Debug)]
struct Case(CopyBox);

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let video = |seed, size: [usize; 3]| {
            backend.upload(&half_values(seed, size.iter().product::<usize>() * op.channels, half))
        };
        let x = video(1, op.from.size)?;
        let mut out = video(2, op.to.size)?;
        backend.copy_box(op, CopyBoxArgs { x: &x, out: &mut out })?;
        host(backend, &out)
    }
}

/// The size of a video, and the corner where a box starts.
type Corner = ([usize; 3], [usize; 3]);

fn check(trial: &mut Trial, extent: [usize; 3], channels: usize, from: Corner, to: Corner) -> Result<()> {
    let at = |(size, origin)| BoxAt { size, origin };
    let case = Case(CopyBox { extent, channels, from: at(from), to: at(to) });
    trial.exactly_the_cpu(&case)
}

fn copy_box_moves_vectors(trial: &mut Trial) -> Result<()> {
    for channels in [8, 144, 1152] {
        check(trial, [2, 3, 2], channels, ([3, 4, 5], [1, 1, 3]), ([2, 5, 3], [0, 2, 1]))?;
    }
    // Pixels with fewer elements than a vector, but lines that are whole vectors.
    check(trial, [1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 4]))?;
    check(trial, [1; 3], 4096, ([2, 1, 1], [1, 0, 0]), ([1; 3], [0; 3]))
}

fn copy_box_moves_single_elements(trial: &mut Trial) -> Result<()> {
    for channels in [1, 7, 1153] {
        check(trial, [2, 3, 2], channels, ([3, 4, 5], [1, 1, 3]), ([2, 5, 3], [0, 2, 1]))?;
    }
    // The line, or a start or a stride of either video, is not a multiple of a vector.
    check(trial, [1, 5, 5], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 4]))?;
    check(trial, [1, 5, 6], 4, ([2, 7, 8], [1, 2, 1]), ([1, 5, 10], [0, 0, 4]))?;
    check(trial, [1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 10], [0, 0, 3]))?;
    check(trial, [1, 5, 6], 4, ([2, 7, 9], [0, 2, 2]), ([1, 5, 10], [0, 0, 4]))?;
    check(trial, [1, 5, 6], 4, ([2, 7, 8], [1, 2, 2]), ([1, 5, 11], [0, 0, 4]))
}

fn an_empty_box_changes_nothing(trial: &mut Trial) -> Result<()> {
    check(trial, [0, 3, 2], 8, ([1, 3, 2], [0; 3]), ([1, 3, 2], [0; 3]))
}

#[derive(Clone, Copy, Debug)]
struct Blend(BlendBox);

impl Body for Blend {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let Self(op) = self;
        let video = |seed, size: [usize; 3]| {
            backend.upload(&half_values(seed, size.iter().product::<usize>() * op.channels, half))
        };
        let mut tile = video(2, op.tile)?;
        backend.blend_box(op, BlendBoxArgs { neighbour: &video(1, op.neighbour)?, tile: &mut tile })?;
        host(backend, &tile)
    }
}

fn blend(
    trial: &mut Trial,
    neighbour: [usize; 3],
    tile: [usize; 3],
    channels: usize,
    axis: BlendAxis,
    blend: usize,
) -> Result<()> {
    let case = Blend(BlendBox { neighbour, tile, channels, axis, blend });
    trial.against_the_cpu(&case)
}

fn blend_box_fades_rows_and_columns(trial: &mut Trial) -> Result<()> {
    for axis in [BlendAxis::Rows, BlendAxis::Columns] {
        // Vectors that cross pixels, and vectors that do not.
        blend(trial, [2, 16, 16], [2, 16, 16], 3, axis, 8)?;
        blend(trial, [2, 9, 8], [1, 12, 16], 4, axis, 6)?;
        blend(trial, [1, 5, 6], [3, 4, 5], 8, axis, 3)?;
        blend(trial, [1, 5, 6], [3, 4, 5], 24, axis, 3)?;
        blend(trial, [2, 64, 64], [2, 64, 64], 1, axis, 64)?;
        // The line, a stride or the start is not a multiple of a vector.
        blend(trial, [2, 7, 9], [2, 8, 6], 3, axis, 5)?;
        blend(trial, [1, 6, 9], [1, 6, 8], 1, axis, 4)?;
        blend(trial, [1, 8, 8], [1, 8, 12], 2, axis, 3)?;
        blend(trial, [1, 3, 3], [1, 3, 3], 7, axis, 1)?;
        // Nothing fades.
        blend(trial, [1, 3, 3], [1, 3, 3], 8, axis, 0)?;
    }
    Ok(())
}

/// A tile of a window of frames: copied, and faded in.
pub(super) fn work() -> Vec<Work> {
    let corner = BoxAt { size: [17, 256, 256], origin: [0; 3] };
    let copy = CopyBox { extent: [17, 192, 192], channels: 3, from: corner, to: corner };
    let blend =
        BlendBox { neighbour: [17, 256, 256], tile: [17, 256, 256], channels: 3, axis: BlendAxis::Rows, blend: 64 };
    vec![
        Work::of("17x192x192 pixels copied", Case(copy)),
        Work::of("17 frames of 256x256, 64 rows faded in", Blend(blend)),
    ]
}

checks! {
    copy_box_moves_vectors,
    copy_box_moves_single_elements,
    an_empty_box_changes_nothing,
    blend_box_fades_rows_and_columns,
}
