//! Copies of whole buffers.

use crate::backend::Backend;
use crate::error::Result;
use crate::ops::DeviceBuffer;
use crate::ops::sampler::{Combine, CombineArgs};

/// A buffer's values on the host, which waits for the device.
pub(super) fn host<B: Backend>(backend: &B, buffer: &B::Buffer) -> Result<Vec<f32>> {
    let mut values = vec![0.0; buffer.len()];
    backend.download(buffer, 0, &mut values)?;
    Ok(values)
}

/// `to = from`, rounded to the precision of `to`.
pub(super) fn copy<B: Backend>(backend: &B, from: &B::Buffer, to: &mut B::Buffer) -> Result<()> {
    let op = Combine { len: to.len(), coefficients: &[1.0], clamp: None };
    backend.combine(&op, CombineArgs { inputs: &[from], out: to })
}
