//! Copies to the GPU beside what it computes: a stream of their own, and pinned buffers of their own.
//!
//! Two orders make this right, whatever the host does meanwhile:
//!
//! - Memory is reused. What was freed on the stream of launches may still be read there by kernels that were launched
//!   before, and memory exists only once that stream has come to its allocation. [`Prefetch::order`] is called after the
//!   allocation: copies wait for an event behind everything on that stream at that moment. What is launched later does
//!   not know this memory, and they do not wait for it.
//! - Kernels must not see memory before it is written: [`Prefetch::finish`] lets the stream of launches wait for an event
//!   behind all copies. Memory is freed on that stream, after `finish`, so never while it is being written.
//!
//! A [`Ring`] for both streams would let these copies wait for a buffer whose bytes are behind launches.

use super::device_error;
use super::pinned::Ring;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, sys};
use std::sync::Arc;

/// The stream of copies, and what orders it with that of launches.
pub(super) struct Prefetch {
    copies: Ring,
    /// Behind what was launched before copies may start.
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

    /// Copies from here on wait for what is on `launches` now.
    pub fn order(&self, launches: &CudaStream) -> Result<()> {
        self.begun.record(launches).map_err(failed)?;
        // It waits for the event as it was just recorded, also if it is recorded again.
        self.copies.stream().wait(&self.begun).map_err(failed)
    }

    /// Starts to copy `host` to `address`; `host` may change when this returns.
    pub fn write(&self, address: sys::CUdeviceptr, host: &[u8]) -> Result<()> {
        self.copies.send(address, host)
    }

    /// What is put on `launches` from here on waits for all copies.
    pub fn finish(&self, launches: &CudaStream) -> Result<()> {
        self.done.record(self.copies.stream()).map_err(failed)?;
        launches.wait(&self.done).map_err(failed)
    }
}
