//! Copies from the GPU for which the host does not wait at once.

use super::device_error;
use super::pinned::Pinned;
use crate::arriving::Arriving;
use crate::error::Result;
use cudarc::driver::{CudaStream, sys};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pinned memory for copies from the GPU. It is kept for later copies, because its allocation takes longer than a copy.
pub(super) struct Landings {
    stream: Arc<CudaStream>,
    kept: Kept,
}

type Kept = Arc<Mutex<Vec<Pinned>>>;

/// A copy that is in flight or has arrived.
struct Landing {
    /// `Some` until this is dropped.
    pinned: Option<Pinned>,
    bytes: usize,
    kept: Kept,
}

impl Landings {
    /// Pinned memory for the copies of `stream`.
    pub fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, kept: Kept::default() }
    }

    /// Puts a copy of the `bytes` bytes at `address` on the stream. The next launch waits for it, 2 ms for the frames
    /// of a window. In return, the caller may free the memory at once.
    pub fn receive(&self, address: sys::CUdeviceptr, bytes: usize) -> Result<Box<dyn Arriving>> {
        let context = self.stream.context();
        context.bind_to_thread().map_err(|error| device_error("copy from the GPU", error))?;
        let mut pinned = match self.kept_for(bytes) {
            Some(pinned) => pinned,
            None => Pinned::new(context, bytes)?,
        };
        pinned.receive(address, bytes, &self.stream)?;
        Ok(Box::new(Landing { pinned: Some(pinned), bytes, kept: self.kept.clone() }))
    }

    /// Takes the smallest kept buffer with room for `bytes`. If none has room, this frees the largest one, because the
    /// caller allocates a larger one in its place. Buffers have only a few sizes.
    fn kept_for(&self, bytes: usize) -> Option<Pinned> {
        let mut kept = lock(&self.kept);
        kept.sort_by_key(Pinned::len);
        let first = kept.iter().position(|pinned| pinned.len() >= bytes);
        if first.is_none() {
            kept.pop();
        }
        first.map(|index| kept.remove(index))
    }
}

impl Arriving for Landing {
    fn bytes(&mut self) -> Result<&[u8]> {
        self.pinned.as_mut().expect("it is `Some` until the drop").arrived(self.bytes)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // The copy may still be in flight if nobody took its bytes. The next copy into this memory comes after it.
        lock(&self.kept).extend(self.pinned.take());
    }
}

fn lock(kept: &Mutex<Vec<Pinned>>) -> MutexGuard<'_, Vec<Pinned>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
