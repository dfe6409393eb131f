//! `embedding`, `add_rows`: `kernels/embed.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, Weight, int};
use crate::error::Result;
use crate::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};

params! {
    /// See `kernels/embed.cu`.
    EmbeddingParams {
        ids: Address,
        table: Address,
        out: Address,
        count: i32,
        channels: i32,
    }
}

params! {
    /// See `kernels/embed.cu`.
    AddRowsParams {
        table: Address,
        x: Address,
        count: i32,
        rows: i32,
        inner: i32,
        channels: i32,
    }
}

/// Channels that one thread handles.
fn width(channels: usize) -> usize {
    if channels.is_multiple_of(8) { 8 } else { 1 }
}

/// Launches [`Embedding`].
pub(super) fn embedding(cuda: &Cuda, op: &Embedding, args: EmbeddingArgs<'_, Buffer, Weight>) -> Result<()> {
    let EmbeddingArgs { ids, table, out } = args;
    let width = width(op.channels);
    let count = op.tokens * op.channels / width;
    let mut on_device = cuda.device.alloc(size_of_val(ids))?;
    cuda.device.write(&mut *on_device, 0, bytemuck::cast_slice(ids))?;
    let params = EmbeddingParams {
        ids: Address(on_device.address()),
        table: table.address(),
        out: out.half(),
        count: int(count)?,
        channels: int(op.channels)?,
    };
    cuda.launch(&cuda.flat("embedding", width > 1, count, 0, op.bytes(2)), &params)
}

/// Launches [`AddRows`].
pub(super) fn add_rows(cuda: &Cuda, op: &AddRows, args: AddRowsArgs<'_, Buffer>) -> Result<()> {
    let AddRowsArgs { table, x } = args;
    let width = width(op.channels);
    let count = op.outer * op.rows * op.inner * op.channels / width;
    let params = AddRowsParams {
        table: table.half(),
        x: x.half(),
        count: int(count)?,
        rows: int(op.rows)?,
        inner: int(op.inner)?,
        channels: int(op.channels)?,
    };
    cuda.launch(&cuda.flat("add_rows", width > 1, count, op.flops(), op.bytes(2)), &params)
}
