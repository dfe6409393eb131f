//! Host memory that the GPU reads and writes by itself: the ring that copies to the GPU pass through, and what copies from
//! it land in.
//!
//! The driver does not promise that a copy out of ordinary memory has read it when the call returns: it may have, and may
//! have waited for the stream, too. So bytes are first copied here, where nothing changes them while the GPU reads them, and
//! the host waits for the GPU only when both buffers of the ring are full.

use super::device_error;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a buffer: long enough that waiting for a copy and starting one cost nothing beside it.
const BUFFER_BYTES: usize = 16 << 20;
/// What pieces in a buffer start at multiples of.
const PIECE_ALIGNMENT: usize = 256;

/// Two buffers that take turns, for the copies of one stream.
pub(super) struct Ring {
    stream: Arc<CudaStream>,
    /// Made when something is copied for the first time.
    buffers: Mutex<Option<Buffers>>,
}

struct Buffers {
    pinned: [Pinned; 2],
    next: Place,
}

/// Host memory that the GPU reads and writes by itself.
pub(super) struct Pinned {
    first: *mut u8,
    bytes: usize,
    /// Behind the last copy out of it, or into it. Waiting for an event that nothing was recorded in returns at once.
    copied: CudaEvent,
}

fn failed(error: DriverError) -> crate::Error {
    device_error("copy to the GPU", error)
}

impl Ring {
    /// For the copies of `stream`.
    pub fn new(stream: Arc<CudaStream>) -> Self {
        Self { stream, buffers: Mutex::new(None) }
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Puts a copy of `host` to `address`, which has room for it, on the stream; `host` may change when this returns.
    pub fn send(&self, mut address: sys::CUdeviceptr, mut host: &[u8]) -> Result<()> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let context = self.stream.context();
        context.bind_to_thread().map_err(failed)?;
        let buffers = match &mut *buffers {
            Some(buffers) => buffers,
            none => none.insert(Buffers {
                pinned: [Pinned::new(context, BUFFER_BYTES)?, Pinned::new(context, BUFFER_BYTES)?],
                next: Place::FIRST,
            }),
        };
        while !host.is_empty() {
            let (buffer, range) = buffers.next.room(host.len());
            let (piece, rest) = host.split_at(range.len());
            let pinned = &mut buffers.pinned[buffer];
            if range.start == 0 {
                pinned.copied.synchronize().map_err(failed)?;
            }
            buffers.next = Place::after(buffer, range.clone());
            pinned.send(range.start, piece, address, &self.stream)?;
            address += piece.len() as u64;
            host = rest;
        }
        Ok(())
    }
}

/// Where the next bytes go. A buffer is filled from its start to its end, then the other.
#[derive(Clone, Copy)]
struct Place {
    buffer: usize,
    used: usize,
}

impl Place {
    const FIRST: Self = Self { buffer: 0, used: 0 };

    /// Room for `wanted` bytes or as many as the buffer still takes. Whoever writes to a buffer's start has waited for all
    /// copies out of it.
    fn room(self, wanted: usize) -> (usize, Range<usize>) {
        let Self { buffer, used } = match self.used < BUFFER_BYTES {
            true => self,
            false => Self { buffer: 1 - self.buffer, used: 0 },
        };
        (buffer, used..used + wanted.min(BUFFER_BYTES - used))
    }

    /// The place behind `range` of `buffer`.
    fn after(buffer: usize, range: Range<usize>) -> Self {
        Self { buffer, used: range.end.next_multiple_of(PIECE_ALIGNMENT) }
    }
}

// SAFETY: the memory is its owner's alone, and may be used and freed on any thread.
unsafe impl Send for Pinned {}

impl Pinned {
    /// The context is bound to this thread.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let copied = context.new_event(None).map_err(|error| device_error("no event", error))?;
        // SAFETY: the context is bound to this thread. `drop` frees the memory.
        let first = unsafe { result::malloc_host(bytes, 0) };
        let first = first.map_err(|error| device_error("no pinned memory", error))?.cast::<u8>();
        Ok(Self { first, bytes, copied })
    }

    /// Bytes that it holds.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Puts a copy of the `bytes` bytes at `address` on `stream`. The context is bound to this thread.
    pub fn receive(&mut self, address: sys::CUdeviceptr, bytes: usize, stream: &CudaStream) -> Result<()> {
        assert!(bytes <= self.bytes, "the copy has room");
        let failed = |error| device_error("copy from the GPU", error);
        // SAFETY: the memory is ours alone and nobody reads it before `copied` is reached; earlier copies into it are earlier
        // on the same stream.
        unsafe {
            let to = std::slice::from_raw_parts_mut(self.first, bytes);
            result::memcpy_dtoh_async(to, address, stream.cu_stream()).map_err(failed)?;
        }
        self.copied.record(stream).map_err(failed)
    }

    /// The first bytes, when what was received is there.
    pub fn arrived(&mut self, bytes: usize) -> Result<&[u8]> {
        assert!(bytes <= self.bytes, "no more than was received");
        self.copied.synchronize().map_err(|error| device_error("copy from the GPU", error))?;
        // SAFETY: a copy has written all of them, and the next one needs this object.
        Ok(unsafe { std::slice::from_raw_parts(self.first, bytes) })
    }

    /// Takes in `piece` at `start`, and starts its copy on `stream`. No copy reads that part, which the buffer has.
    fn send(&mut self, start: usize, piece: &[u8], address: sys::CUdeviceptr, stream: &CudaStream) -> Result<()> {
        assert!(start + piece.len() <= self.bytes, "the piece lies in the buffer");
        // SAFETY: that part lies in memory that is ours alone, and no copy reads it; `piece` is nowhere in this memory, which
        // is never lent.
        let staged = unsafe {
            let to = self.first.add(start);
            to.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
            std::slice::from_raw_parts(to, piece.len())
        };
        // SAFETY: the ring's caller gives memory of the GPU that has room, and has bound the context. The copy reads this part
        // until `copied` is reached, and nobody writes to it or frees it before.
        unsafe { result::memcpy_htod_async(address, staged, stream.cu_stream()) }.map_err(failed)?;
        self.copied.record(stream).map_err(failed)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The last copy may be under way; waiting also binds the context to this thread. Failures can only repeat those
        // of earlier calls, which were reported.
        let _ = self.copied.synchronize();
        // SAFETY: it is from `malloc_host`, and no copy uses it any more.
        let _ = unsafe { result::free_host(self.first.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES, Place};
    use proptest::prelude::*;

    proptest! {
        /// Pieces that were put into a buffer since somebody waited for its copies share no byte.
        #[test]
        fn no_byte_is_written_to_before_its_copy_is_over(
            sizes in prop::collection::vec(prop_oneof![1..5000_usize, 1..3 * BUFFER_BYTES], 1..100),
        ) {
            let mut in_flight = [0, 0];
            let (mut next, mut waits) = (Place::FIRST, Vec::new());
            for &size in &sizes {
                let mut left = size;
                while left > 0 {
                    let (buffer, range) = next.room(left);
                    if range.start == 0 {
                        waits.push(buffer);
                        in_flight[buffer] = 0;
                    }
                    prop_assert!(!range.is_empty() && range.start >= in_flight[buffer] && range.end <= BUFFER_BYTES);
                    in_flight[buffer] = range.end;
                    left -= range.len();
                    next = Place::after(buffer, range);
                }
            }
            prop_assert!(waits.iter().enumerate().all(|(i, &buffer)| buffer == i % 2), "buffers take turns: {:?}", waits);
            let most: usize = sizes.iter().map(|size| size.next_multiple_of(256)).sum();
            prop_assert!((waits.len() - 1) * BUFFER_BYTES <= most, "one is full before the other is used");
        }
    }
}
