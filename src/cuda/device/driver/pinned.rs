//! Pinned host memory, which the GPU reads and writes directly: a ring of buffers for copies to the GPU, and buffers
//! for copies from the GPU.
//!
//! The driver does not say whether a copy from ordinary memory has read it when the call returns, or whether the call
//! waits for the stream. So the host first copies the bytes to pinned memory, where nothing changes them while the GPU
//! reads them. The host waits for the GPU only when both buffers of the ring are full.

use super::device_error;
use crate::error::Result;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a buffer. A copy of this size takes much longer than to start it and to wait for it.
const BUFFER_BYTES: usize = 16 << 20;
/// The alignment of the pieces in a buffer.
const PIECE_ALIGNMENT: usize = 256;

/// Two buffers that take turns, for the copies of one stream.
pub(super) struct Ring {
    stream: Arc<CudaStream>,
    /// Allocated by the first copy.
    buffers: Mutex<Option<Buffers>>,
}

struct Buffers {
    pinned: [Pinned; 2],
    next: Place,
}

/// Pinned host memory.
pub(super) struct Pinned {
    first: *mut u8,
    bytes: usize,
    /// Recorded behind the last copy out of this memory, or into it. A wait for an event that was never recorded
    /// returns at once.
    copied: CudaEvent,
}

fn failed(error: DriverError) -> crate::Error {
    device_error("copy to the GPU", error)
}

impl Ring {
    /// A ring for the copies of `stream`.
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

/// The place for the next bytes. The host fills one buffer from its start to its end, then the other.
#[derive(Clone, Copy)]
struct Place {
    buffer: usize,
    used: usize,
}

impl Place {
    const FIRST: Self = Self { buffer: 0, used: 0 };

    /// Room for `wanted` bytes, or for fewer if the buffer is nearly full. Before the caller writes to a buffer's
    /// start, it waits for all copies out of that buffer.
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

// SAFETY: nobody else has its pointer. Pinned memory belongs to no thread: any may use it, and any to which the context
// is bound may free it.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Allocates `bytes` bytes. The context must be bound to this thread.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self> {
        let copied = context.new_event(None).map_err(|error| device_error("no event", error))?;
        // SAFETY: the context is bound to this thread, as the caller promises; without one, the call would only fail.
        let first = unsafe { result::malloc_host(bytes, 0) };
        let first = first.map_err(|error| device_error("no pinned memory", error))?.cast::<u8>();
        Ok(Self { first, bytes, copied })
    }

    /// Bytes of the memory.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Puts a copy of the `bytes` bytes at `address` on `stream`. The context must be bound to this thread.
    pub fn receive(&mut self, address: sys::CUdeviceptr, bytes: usize, stream: &CudaStream) -> Result<()> {
        assert!(bytes <= self.bytes, "the copy has room");
        let failed = |error| device_error("copy from the GPU", error);
        // SAFETY: the memory has room for the copy, and `address` is the first of as many bytes, which the device
        // checked. Only this object uses the memory: `arrived` waits for `copied` before it reads, `drop` before it
        // frees, and earlier copies into it are earlier on the same stream.
        unsafe {
            let to = std::slice::from_raw_parts_mut(self.first, bytes);
            result::memcpy_dtoh_async(to, address, stream.cu_stream()).map_err(failed)?;
        }
        self.copied.record(stream).map_err(failed)
    }

    /// Waits for the copy, and returns its first `bytes` bytes.
    pub fn arrived(&mut self, bytes: usize) -> Result<&[u8]> {
        assert!(bytes <= self.bytes, "no more than was received");
        self.copied.synchronize().map_err(|error| device_error("copy from the GPU", error))?;
        // SAFETY: they lie in the memory, no copy writes to them any more, and the next one needs this object mutably.
        Ok(unsafe { std::slice::from_raw_parts(self.first, bytes) })
    }

    /// Stores `piece` at `start`, and starts its copy on `stream`. No copy may be reading that range, which must lie in
    /// the buffer.
    fn send(&mut self, start: usize, piece: &[u8], address: sys::CUdeviceptr, stream: &CudaStream) -> Result<()> {
        assert!(start + piece.len() <= self.bytes, "the piece lies in the buffer");
        // SAFETY: the range lies in the memory, which only this object uses, and by the caller's promise no copy reads
        // it. `piece` does not overlap it, because the memory is lent only by `arrived`, while this object is borrowed.
        let staged = unsafe {
            let to = self.first.add(start);
            to.copy_from_nonoverlapping(piece.as_ptr(), piece.len());
            std::slice::from_raw_parts(to, piece.len())
        };
        // SAFETY: the ring's caller gives an address of the GPU with room for the piece, which the device checked, and
        // the ring has bound the context. The copy reads this range until `copied` is reached, and nobody writes to it
        // or frees it before.
        unsafe { result::memcpy_htod_async(address, staged, stream.cu_stream()) }.map_err(failed)?;
        self.copied.record(stream).map_err(failed)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The last copy may be in flight; the wait also binds the context to this thread. A first failure may be that of an earlier
        // call which could not report it, and then nothing was waited for.
        let _ = self.copied.synchronize().or_else(|_| self.copied.synchronize());
        // SAFETY: the memory is from `malloc_host`, and no copy uses it any more.
        let _ = unsafe { result::free_host(self.first.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::{BUFFER_BYTES, Place};
    use proptest::prelude::*;

    proptest! {
        /// Pieces in a buffer do not overlap until the host has waited for its copies.
        #[test]
        fn no_byte_is_overwritten_before_its_copy_is_done(
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
