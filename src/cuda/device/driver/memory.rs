//! Memory of the GPU.

use crate::cuda::device::{FOREIGN, Memory};
use cudarc::driver::{CudaStream, result, sys};
use std::any::Any;
use std::sync::Arc;

/// Memory of the GPU, given back to the stream's pool when dropped.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    pub address: sys::CUdeviceptr,
    pub len: usize,
    /// The stream that allocated it.
    pub stream: Arc<CudaStream>,
}

impl Memory for DeviceMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // This thread may not have used the GPU yet. A first failure may be that of an earlier call which could not report it, and then
        // nothing was bound.
        let context = self.stream.context();
        let _ = context.bind_to_thread().or_else(|_| context.bind_to_thread());
        // SAFETY: it came from this stream. Everything that uses it was put on the stream before, or on the stream of
        // prefetched copies, for which this one waits.
        let _ = unsafe { result::free_async(self.address, self.stream.cu_stream()) };
    }
}

/// The address of `bytes` bytes of a buffer of this device, from `offset` on. Panics if it has fewer, or is not of this
/// device.
pub(super) fn place(memory: &dyn Memory, offset: usize, bytes: usize) -> sys::CUdeviceptr {
    let memory: &dyn Any = memory;
    let memory: &DeviceMemory = memory.downcast_ref().expect(FOREIGN);
    assert!(offset.saturating_add(bytes) <= memory.len, "the copy lies in the buffer");
    memory.address + offset as u64
}
