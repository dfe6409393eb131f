//! `copy_box`: `kernels/tile.cu`.

use super::device::Device;
use super::params::{Address, params};
use super::{Buffer, Cuda, int};
use crate::error::Result;
use crate::ops::tile::{BoxAt, CopyBox};

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

/// Where a box starts, and its strides from frame to frame and from row to row, in elements.
fn places(at: &BoxAt, channels: usize) -> [usize; 3] {
    let [_, height, width] = at.size;
    let [frame, row, column] = at.origin;
    [((frame * height + row) * width + column) * channels, height * width * channels, width * channels]
}

/// Launches [`CopyBox`].
pub(super) fn copy_box<D: Device>(
    cuda: &Cuda<D>,
    op: &CopyBox,
    x: &Buffer<D::Memory>,
    out: &mut Buffer<D::Memory>,
) -> Result<()> {
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
