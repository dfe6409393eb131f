//! `from_bytes`, `to_bytes`: `kernels/pixels.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, int};
use crate::arriving::Arriving;
use crate::error::Result;
use crate::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};

params! {
    /// See `kernels/pixels.cu`.
    PixelsParams {
        x: Address,
        out: Address,
        count: i32,
        padding: i32,
    }
}

/// Copies the bytes to the device, and launches [`FromBytes`] behind the copy.
pub(super) fn from_bytes(cuda: &Cuda, op: &FromBytes, args: FromBytesArgs<'_, Buffer>) -> Result<()> {
    let FromBytesArgs { bytes, out } = args;
    let wide = op.len.is_multiple_of(8);
    let count = op.len / if wide { 8 } else { 1 };
    let mut on_device = cuda.device.alloc(op.len)?;
    cuda.device.write(&mut *on_device, 0, bytes)?;
    let params = PixelsParams { x: Address(on_device.address()), out: out.half(), count: int(count)?, padding: 0 };
    cuda.launch(&cuda.flat("from_bytes", wide, count, op.flops(), op.bytes(2)), &params)
}

/// Launches [`ToBytes`], and starts the copy of its bytes to the host.
pub(super) fn to_bytes(cuda: &Cuda, op: &ToBytes, args: ToBytesArgs<'_, Buffer>) -> Result<Box<dyn Arriving>> {
    let ToBytesArgs { x } = args;
    if op.len == 0 {
        return Ok(Box::new(Vec::new()));
    }
    let wide = [op.offset, op.len].iter().all(|len| len.is_multiple_of(8));
    let count = op.len / if wide { 8 } else { 1 };
    let bytes = cuda.device.alloc(op.len)?;
    let params = PixelsParams {
        x: Address(x.half().0 + 2 * op.offset as u64),
        out: Address(bytes.address()),
        count: int(count)?,
        padding: 0,
    };
    cuda.launch(&cuda.flat("to_bytes", wide, count, 4 * op.len as u64, op.bytes(2)), &params)?;
    cuda.device.read_behind(&*bytes, 0, op.len)
}
