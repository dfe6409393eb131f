//! Copies to the GPU beside what it computes: a stream of their own, and two pinned buffers that they pass through.
//!
//! Three orders make this right, whatever the host does meanwhile:
//!
//! - Memory is reused. What was freed on the stream of launches may still be read there by kernels that were launched
//!   before, and memory exists only once that stream has come to its allocation. [`Ahead::begin`] is called after the
//!   allocation: copies wait for an event behind everything on that stream at that moment. What is launched later does
//!   not know this memory, and they do not wait for it.
//! - Kernels must not see memory before it is written: [`Ahead::join`] lets the stream of launches wait for an event
//!   behind all copies. Memory is freed on that stream, after a join, so never while it is being written.
//! - A pinned buffer is filled anew only after the host has seen the event behind its last copy. While one is filled,
//!   from a file that may have to be read first, the other is copied.

use super::device_error;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a pinned buffer: long enough that starting a copy costs nothing beside it.
const STAGING_BYTES: usize = 32 << 20;

/// The stream of copies, and what orders it with that of launches.
pub(super) struct Ahead {
    context: Arc<CudaContext>,
    copies: Arc<CudaStream>,
    /// Behind what was launched before copies may start.
    begun: CudaEvent,
    /// Behind all copies.
    done: CudaEvent,
    /// Made when something is copied for the first time.
    staging: Mutex<Option<Staging>>,
}

/// Two buffers that take turns.
struct Staging {
    buffers: [Pinned; 2],
    next: usize,
}

/// Host memory that the GPU reads by itself.
struct Pinned {
    first: *mut u8,
    /// Behind the last copy out of it. Waiting for an event that nothing was recorded in returns at once.
    copied: CudaEvent,
}

fn failed(error: DriverError) -> crate::Error {
    device_error("copy to the GPU", error)
}

impl Ahead {
    pub fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let stream = || context.new_stream().map_err(|error| device_error("no stream", error));
        let event = || context.new_event(None).map_err(|error| device_error("no event", error));
        Ok(Self {
            context: context.clone(),
            copies: stream()?,
            begun: event()?,
            done: event()?,
            staging: Mutex::new(None),
        })
    }

    /// Copies from here on wait for what is on `launches` now.
    pub fn begin(&self, launches: &CudaStream) -> Result<()> {
        self.begun.record(launches).map_err(failed)?;
        // It waits for the event as it was just recorded, also if it is recorded again.
        self.copies.wait(&self.begun).map_err(failed)
    }

    /// Starts to copy `host` to `address`; `host` may change when this returns.
    pub fn write(&self, address: sys::CUdeviceptr, host: &[u8]) -> Result<()> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = match &mut *staging {
            Some(staging) => staging,
            none => none.insert(Staging::new(&self.context)?),
        };
        let mut to = address;
        for piece in host.chunks(STAGING_BYTES) {
            staging.buffers[staging.next].send(piece, to, &self.copies)?;
            staging.next = 1 - staging.next;
            to += piece.len() as u64;
        }
        Ok(())
    }

    /// What is put on `launches` from here on waits for all copies.
    pub fn join(&self, launches: &CudaStream) -> Result<()> {
        self.done.record(&self.copies).map_err(failed)?;
        launches.wait(&self.done).map_err(failed)
    }
}

impl Staging {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        Ok(Self { buffers: [Pinned::new(context)?, Pinned::new(context)?], next: 0 })
    }
}

impl Pinned {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let copied = context.new_event(None).map_err(|error| device_error("no event", error))?;
        // SAFETY: the context is bound to this thread by the call above. `drop` frees the memory.
        let first = unsafe { result::malloc_host(STAGING_BYTES, 0) };
        let first = first.map_err(|error| device_error("no pinned memory", error))?.cast::<u8>();
        // SAFETY: so many bytes were just allocated, for nobody else; zeros make them all initialized.
        unsafe { first.write_bytes(0, STAGING_BYTES) };
        Ok(Self { first, copied })
    }

    /// Takes in `piece` and starts its copy on `copies`.
    fn send(&mut self, piece: &[u8], address: sys::CUdeviceptr, copies: &CudaStream) -> Result<()> {
        self.copied.synchronize().map_err(failed)?;
        // SAFETY: the memory is initialized, ours alone, and as long as this or longer; the copy that read it is over.
        let staged = unsafe { std::slice::from_raw_parts_mut(self.first, piece.len().min(STAGING_BYTES)) };
        staged.copy_from_slice(piece);
        // SAFETY: the caller gives memory of the GPU that has room. The copy reads this buffer until `copied` is reached,
        // before which nobody writes to it or frees it; `synchronize` has bound the context to this thread.
        unsafe { result::memcpy_htod_async(address, staged, copies.cu_stream()) }.map_err(failed)?;
        self.copied.record(copies).map_err(failed)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The copy out of it may be under way. Failures can only repeat those of earlier calls, which were reported.
        let _ = self.copied.synchronize();
        // SAFETY: it is from `malloc_host`, and no copy reads it any more.
        let _ = unsafe { result::free_host(self.first.cast()) };
    }
}
