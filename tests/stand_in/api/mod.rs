//! The exported functions. Arguments are those of NVIDIA's header; handles are numbers, and enumerations are plain
//! integers, because a caller may pass any. Each function says which rule of "CUDA Driver API" it follows where the
//! rule leaves a choice.

mod device;
mod launch;
mod memory;
mod module;
mod stream;
mod tensor;

use crate::Outcome;
use cudarc::driver::sys::CUresult;

/// Stores a result of a call.
///
/// # Safety
/// `place` is null or points to room for a value.
unsafe fn put<T>(place: *mut T, value: T) -> Outcome<()> {
    if place.is_null() {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    // SAFETY: it is not null, and the caller vouches for the room.
    unsafe { place.write(value) };
    Ok(())
}
