//! Streams and events.

use super::put;
use crate::settings::Plant;
use crate::state::{in_context, not_modelled};
use crate::work::Work;
use cudarc::driver::sys::{CUevent_flags, CUresult, CUstream_flags};
use std::ffi::c_uint;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut usize, flags: c_uint) -> CUresult {
    in_context("cuStreamCreate", |state| {
        if flags != CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint {
            return Err(not_modelled("a stream that waits for the default stream"));
        }
        let (handle, seed) = (state.new_handle(), state.settings.seed);
        state.streams.open(handle, seed);
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(stream, handle) }
    })
}

/// The call returns at once, and the stream's work still runs.
#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: usize) -> CUresult {
    in_context("cuStreamDestroy_v2", |state| state.streams.destroy(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: usize) -> CUresult {
    in_context("cuStreamSynchronize", |state| {
        let end = state.streams.end(stream)?;
        state.synchronize(end)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(stream: usize) -> CUresult {
    in_context("cuStreamQuery", |state| {
        let end = state.streams.end(stream)?;
        state.query(end)
    })
}

/// The stream waits for the event's last record at the time of this call. Without one, the call does nothing.
#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, flags: c_uint) -> CUresult {
    in_context("cuStreamWaitEvent", |state| {
        state.streams.end(stream)?;
        if flags != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        match state.streams.recorded(event)? {
            Some(point) if !state.plants(Plant::IgnoreWaits) => state.streams.put(stream, Work::Wait(point)).map(drop),
            _ => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut usize, flags: c_uint) -> CUresult {
    in_context("cuEventCreate", |state| {
        let (blocking, untimed) = (CUevent_flags::CU_EVENT_BLOCKING_SYNC, CUevent_flags::CU_EVENT_DISABLE_TIMING);
        if flags & !(blocking as c_uint | untimed as c_uint) != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let handle = state.new_handle();
        state.streams.open_event(handle, flags & untimed as c_uint == 0);
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(event, handle) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: usize) -> CUresult {
    in_context("cuEventDestroy_v2", |state| state.streams.close_event(event))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: usize, stream: usize) -> CUresult {
    in_context("cuEventRecord", |state| state.record(event, stream))
}

/// A wait for an event that was never recorded returns at once.
#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: usize) -> CUresult {
    in_context("cuEventSynchronize", |state| match state.streams.recorded(event)? {
        Some(point) if !state.plants(Plant::NoEventSync) => state.synchronize(point),
        _ => Ok(()),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: usize) -> CUresult {
    in_context("cuEventQuery", |state| match state.streams.recorded(event)? {
        Some(point) => state.query(point),
        None => Ok(()),
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, start: usize, end: usize) -> CUresult {
    in_context("cuEventElapsedTime", |state| {
        let time = state.streams.elapsed(start, end)?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(milliseconds, time) }
    })
}
