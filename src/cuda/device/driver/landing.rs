//! Copies from the GPU that the host does not wait for.

use super::device_error;
use super::pinned::Pinned;
use crate::arriving::Arriving;
use crate::error::Result;
use cudarc::driver::{CudaStream, sys};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pinned memory that copies land in. It is kept for later copies, because making it takes longer than a copy.
pub(super) struct Landings {
    stream: Arc<CudaStream>,
    kept: Kept,
}

type Kept = Arc<Mutex<Vec<Pinned>>>;

/// What a copy brings.
struct Landing {
    /// There until it is dropped.
    pinned: Option<Pinned>,
    bytes: usize,
    kept: Kept,
}

impl Landings {
    /// For the copies of `stream`.
    pub fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, kept: Kept::default() }
    }

    /// Puts a copy of the `bytes` bytes at `address` on the stream. What is launched next waits for it, 2 ms for the frames of
    /// a window. In return, the memory may be freed at once.
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

    /// Of what is kept, which is of a few sizes, the smallest that has room. If none has, the largest is given back for the
    /// larger one that will be made.
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
        self.pinned.as_mut().expect("it is there until the drop").arrived(self.bytes)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // The copy may be under way, if nobody took what it brings: the next one into this memory comes after it.
        lock(&self.kept).extend(self.pinned.take());
    }
}

fn lock(kept: &Mutex<Vec<Pinned>>) -> MutexGuard<'_, Vec<Pinned>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
