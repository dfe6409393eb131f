//! Copies to the GPU while it computes, on a second stream with its own pinned buffers.
//!
//! Two orders keep the copies correct:
//!
//! - A copy must not write to memory that an earlier kernel still reads, or that is not allocated yet: the pool reuses
//!   memory, and the stream of launches frees and allocates it. So the host calls [`Prefetch::order`] after the
//!   allocation, and the copies wait for an event behind everything on that stream at that moment. Later launches do
//!   not use this memory, so the copies do not wait for them.
//! - Kernels must not read memory before it is written. So [`Prefetch::finish`] makes the stream of launches wait for
//!   an event behind all copies. That stream also frees the memory, after `finish`, so never while a copy writes to it.
//!
//! If both streams shared one [`Ring`], these copies could wait for a buffer whose own copy waits behind launches.

use super::device_error;
use super::pinned::Ring;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, sys};
use std::sync::Arc;

/// The stream of prefetched copies, and the events that order it with the stream of launches.
pub(super) struct Prefetch {
    copies: Ring,
    /// Behind the launches that copies wait for.
    begun: CudaEvent,
    /// Behind all copies.
    done: CudaEvent,
}

fn failed(error: DriverError) -> crate::Error {
    device_error("copy to the GPU", error)
}

impl Prefetch {
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let stream = context.new_stream().map_err(|error| device_error("no stream", error))?;
        let event = || context.new_event(None).map_err(|error| device_error("no event", error));
        Ok(Self { copies: Ring::new(stream), begun: event()?, done: event()? })
    }

    /// Makes later copies wait for everything that is on `launches` now.
    pub fn order(&self, launches: &CudaStream) -> Result<()> {
        self.begun.record(launches).map_err(failed)?;
        // The stream waits for this record of the event, even if the event is recorded again.
        self.copies.stream().wait(&self.begun).map_err(failed)
    }

    /// Starts to copy `host` to `address`; `host` may change when this returns.
    pub fn write(&self, address: sys::CUdeviceptr, host: &[u8]) -> Result<()> {
        self.copies.send(address, host)
    }

    /// Makes later work on `launches` wait for all copies.
    pub fn finish(&self, launches: &CudaStream) -> Result<()> {
        self.done.record(self.copies.stream()).map_err(failed)?;
        launches.wait(&self.done).map_err(failed)
    }
}
