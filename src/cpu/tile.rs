//! `copy_box`, `blend_box`: copies and blends boxes of videos.

use super::Buffer;
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};
use rayon::prelude::*;

/// Calls `write(frame, row, line)` for every line of a box, in parallel; `line` is the box's columns of one row of
/// `video`.
fn for_each_line(
    video: &mut [f32],
    at: BoxAt,
    extent: [usize; 3],
    channels: usize,
    write: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    if extent.contains(&0) || channels == 0 {
        return;
    }
    let [_, height, width] = at.size;
    let columns = at.origin[2] * channels..(at.origin[2] + extent[2]) * channels;
    let frames = video.par_chunks_mut(height * width * channels).skip(at.origin[0]).take(extent[0]);
    frames.enumerate().for_each(|(frame, pixels)| {
        let rows = pixels.par_chunks_mut(width * channels).skip(at.origin[1]).take(extent[1]);
        rows.with_min_len(8).enumerate().for_each(|(row, line)| write(frame, row, &mut line[columns.clone()]));
    });
}

/// The first element of (frame, row, column) in a video of `size`.
fn element([_, height, width]: [usize; 3], channels: usize, [frame, row, column]: [usize; 3]) -> usize {
    ((frame * height + row) * width + column) * channels
}

pub(super) fn copy_box(op: &CopyBox, CopyBoxArgs { x, out }: CopyBoxArgs<'_, Buffer>) {
    let [frame0, row0, column0] = op.from.origin;
    for_each_line(out, op.to, op.extent, op.channels, |frame, row, line| {
        let start = element(op.from.size, op.channels, [frame0 + frame, row0 + row, column0]);
        line.copy_from_slice(&x[start..start + line.len()]);
    });
}

pub(super) fn blend_box(op: &BlendBox, BlendBoxArgs { neighbour, tile }: BlendBoxArgs<'_, Buffer>) {
    let axis = op.axis_index();
    let first = op.neighbour[axis] - op.blend;
    let shares: Vec<[f32; 2]> = (0..op.blend).map(|step| shares(step, op.blend)).collect();
    // For a blend across columns: the shares of each element of a line.
    let [old, new] = [0, 1].map(|of| -> Vec<f32> {
        shares.iter().flat_map(|shares| std::iter::repeat_n(shares[of], op.channels)).collect()
    });
    for_each_line(tile, BoxAt::whole(op.tile), op.extent(), op.channels, |frame, row, line| {
        let start = match op.axis {
            BlendAxis::Rows => [frame, first + row, 0],
            BlendAxis::Columns => [frame, row, first],
        };
        let start = element(op.neighbour, op.channels, start);
        let pairs = line.iter_mut().zip(&neighbour[start..]);
        match op.axis {
            BlendAxis::Rows => pairs.for_each(|(to, from)| *to = from * shares[row][0] + *to * shares[row][1]),
            BlendAxis::Columns => {
                pairs.zip(&old).zip(&new).for_each(|(((to, from), old), new)| *to = from * old + *to * new);
            }
        }
    });
}

/// The shares of the neighbour and of the tile in row or column `step` of `steps`, rounded once from f64.
fn shares(step: usize, steps: usize) -> [f32; 2] {
    let share = step as f64 / steps as f64;
    [(1.0 - share) as f32, share as f32]
}
