//! `depthwise_conv`: `kernels/depthwise.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, Weight, int};
use crate::error::Result;
use crate::ops::conv3d::{DepthwiseConv, DepthwiseConvArgs};

params! {
    /// See `kernels/depthwise.cu`.
    DepthwiseConvParams {
        x: Address,
        weight: Address,
        bias: Address,
        out: Address,
        count: i32,
        channels: i32,
        rows: i32,
        columns: i32,
        tokens: i32,
        width: i32,
        factor: i32,
        across: i32,
        front: i32,
        padding: i32,
    }
}

/// Launches [`DepthwiseConv`].
pub(super) fn depthwise_conv(
    cuda: &Cuda,
    op: &DepthwiseConv,
    args: DepthwiseConvArgs<'_, Buffer, Weight>,
) -> Result<()> {
    let DepthwiseConvArgs { x, weight, bias, out } = args;
    // Space: rows and columns. Time: frames and positions.
    let (height, width, channels, factor, across) = match *op {
        DepthwiseConv::Space { height, width, channels, factor, .. } => (height, width, channels, factor, factor),
        DepthwiseConv::Time { frames, positions, channels, factor, .. } => (frames, positions, channels, factor, 1),
    };
    let wide = channels.is_multiple_of(8) && factor == 2;
    let count = out.len / if wide { 8 } else { 1 };
    let params = DepthwiseConvParams {
        x: x.half(),
        weight: weight.address(),
        bias: bias.address(),
        out: out.half(),
        count: int(count)?,
        channels: int(channels)?,
        rows: int((height + op.front()) / factor)?,
        columns: int(width / across)?,
        tokens: int(height * width)?,
        width: int(width)?,
        factor: int(factor)?,
        across: int(across)?,
        front: int(op.front())?,
        padding: 0,
    };
    cuda.launch(&cuda.flat("depthwise_conv", wide, count, op.flops(), op.bytes(2)), &params)
}
