//! `copy_box`, `blend_box`: `kernels/tile.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, int};
use crate::error::Result;
use crate::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};

params! {
    /// See `kernels/tile.cu`.
    CopyBoxParams {
        x: Address,
        out: Address,
        from_start: i64,
        from_frame: i64,
        from_row: i64,
        to_start: i64,
        to_frame: i64,
        to_row: i64,
        count: i32,
        rows: i32,
        line: i32,
        padding: i32,
    }
}

params! {
    /// See `kernels/tile.cu`.
    BlendBoxParams {
        neighbour: Address,
        tile: Address,
        from_start: i64,
        from_frame: i64,
        from_row: i64,
        to_frame: i64,
        to_row: i64,
        count: i32,
        rows: i32,
        line: i32,
        channels: i32,
        blend: i32,
        across: i32,
    }
}

/// The start of a box, and its strides from frame to frame and from row to row, in elements.
fn places(at: &BoxAt, channels: usize) -> [usize; 3] {
    let [_, height, width] = at.size;
    let [frame, row, column] = at.origin;
    [((frame * height + row) * width + column) * channels, height * width * channels, width * channels]
}

/// Launches [`CopyBox`].
pub(super) fn copy_box(cuda: &Cuda, op: &CopyBox, args: CopyBoxArgs<'_, Buffer>) -> Result<()> {
    let CopyBoxArgs { x, out } = args;
    let [frames, rows, columns] = op.extent;
    let line = columns * op.channels;
    let [from, to] = [&op.from, &op.to].map(|at| places(at, op.channels));
    let wide = [from, to].iter().flatten().chain([&line]).all(|len| len.is_multiple_of(8));
    let count = frames * rows * line / if wide { 8 } else { 1 };
    let [[from_start, from_frame, from_row], [to_start, to_frame, to_row]] =
        [from, to].map(|places| places.map(|len| len as i64));
    let params = CopyBoxParams {
        x: x.half(),
        out: out.half(),
        from_start,
        from_frame,
        from_row,
        to_start,
        to_frame,
        to_row,
        count: int(count)?,
        rows: int(rows)?,
        line: int(line)?,
        padding: 0,
    };
    cuda.launch(&cuda.flat("copy_box", wide, count, 0, op.bytes(2)), &params)
}

/// Launches [`BlendBox`].
pub(super) fn blend_box(cuda: &Cuda, op: &BlendBox, args: BlendBoxArgs<'_, Buffer>) -> Result<()> {
    let BlendBoxArgs { neighbour, tile } = args;
    let [frames, rows, columns] = op.extent();
    let line = columns * op.channels;
    let mut origin = [0; 3];
    origin[op.axis_index()] = op.neighbour[op.axis_index()] - op.blend;
    let from = places(&BoxAt { size: op.neighbour, origin }, op.channels);
    let to = places(&BoxAt::whole(op.tile), op.channels);
    let wide = [from, to].iter().flatten().chain([&line]).all(|len| len.is_multiple_of(8));
    let count = frames * rows * line / if wide { 8 } else { 1 };
    let [from_start, from_frame, from_row] = from.map(|len| len as i64);
    let [_, to_frame, to_row] = to.map(|len| len as i64);
    let params = BlendBoxParams {
        neighbour: neighbour.half(),
        tile: tile.half(),
        from_start,
        from_frame,
        from_row,
        to_frame,
        to_row,
        count: int(count)?,
        rows: int(rows)?,
        line: int(line)?,
        channels: int(op.channels)?,
        blend: int(op.blend)?,
        across: i32::from(op.axis == BlendAxis::Columns),
    };
    cuda.launch(&cuda.flat("blend_box", wide, count, op.flops(), op.bytes(2)), &params)
}
