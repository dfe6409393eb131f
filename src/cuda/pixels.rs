//! `from_bytes`: `kernels/pixels.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, int};
use crate::error::Result;
use crate::ops::pixels::{FromBytes, FromBytesArgs};

params! {
    /// See `kernels/pixels.cu`.
    FromBytesParams {
        x: Address,
        out: Address,
        count: i32,
        padding: i32,
    }
}

/// Launches [`FromBytes`] behind the copy of its bytes to the device.
pub(super) fn from_bytes(cuda: &Cuda, op: &FromBytes, args: FromBytesArgs<'_, Buffer>) -> Result<()> {
    let FromBytesArgs { bytes, out } = args;
    let wide = op.len.is_multiple_of(8);
    let count = op.len / if wide { 8 } else { 1 };
    let mut on_device = cuda.device.alloc(op.len)?;
    cuda.device.write(&mut *on_device, 0, bytes)?;
    let params = FromBytesParams { x: Address(on_device.address()), out: out.half(), count: int(count)?, padding: 0 };
    cuda.launch(&cuda.flat("from_bytes", wide, count, op.flops(), op.bytes(2)), &params)
}
