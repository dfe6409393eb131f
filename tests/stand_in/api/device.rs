//! Version, errors, GPUs and contexts.

use super::put;
use crate::Outcome;
use crate::errors::described;
use crate::state::{State, at_any_time, in_context, initialized, not_modelled};
use crate::{card, settings::Settings};
use cudarc::driver::sys::CUresult;
use std::ffi::{CStr, c_char, c_int, c_uint};

/// The GPU that can be opened.
const FIRST: c_int = 0;

/// Fails unless the GPU exists.
fn exists(settings: &Settings, device: c_int) -> Outcome<()> {
    let there = (0..card::visible(settings.cards)?).contains(&device);
    if there { Ok(()) } else { Err(CUresult::CUDA_ERROR_INVALID_DEVICE) }
}

/// Fails for a GPU that cannot be opened.
fn opens(state: &State, device: c_int) -> Outcome<()> {
    exists(&state.settings, device)?;
    if device == FIRST { Ok(()) } else { Err(not_modelled("a context on the second GPU")) }
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: c_uint) -> CUresult {
    at_any_time(|state| {
        if flags != 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        if card::visible(state.settings.cards)? == 0 {
            return Err(CUresult::CUDA_ERROR_NO_DEVICE);
        }
        state.initialized = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    at_any_time(|state| {
        let (major, minor) = state.settings.driver;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(version, 1000 * major + 10 * minor) }
    })
}

/// The text of an error: its name, or else its description.
///
/// # Safety
/// As for [`put`].
unsafe fn text_of(error: c_uint, place: *mut *const c_char, name: bool) -> CUresult {
    let Some(texts) = described(error) else { return CUresult::CUDA_ERROR_INVALID_VALUE };
    let text: &CStr = if name { texts.0 } else { texts.1 };
    // SAFETY: the caller vouches for the place.
    unsafe { put(place, text.as_ptr()) }.err().unwrap_or(CUresult::CUDA_SUCCESS)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: c_uint, text: *mut *const c_char) -> CUresult {
    // SAFETY: the caller passes null or room for the result.
    unsafe { text_of(error, text, true) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: c_uint, text: *mut *const c_char) -> CUresult {
    // SAFETY: the caller passes null or room for the result.
    unsafe { text_of(error, text, false) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    initialized("cuDeviceGetCount", |state| {
        let visible = card::visible(state.settings.cards)?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(count, visible) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> CUresult {
    initialized("cuDeviceGet", |state| {
        exists(&state.settings, ordinal)?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(device, ordinal) }
    })
}

/// The name may be cut off, and ends in a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, len: c_int, device: c_int) -> CUresult {
    initialized("cuDeviceGetName", |state| {
        exists(&state.settings, device)?;
        let room = usize::try_from(len).ok().filter(|&len| len > 0 && !name.is_null());
        let room = room.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        for (i, &byte) in state.settings.name.as_bytes().iter().take(room - 1).chain(&[0]).enumerate() {
            // SAFETY: the caller passes room for `len` bytes, and no more are written.
            unsafe { name.add(i).write(byte as c_char) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> CUresult {
    initialized("cuDeviceTotalMem_v2", |state| {
        exists(&state.settings, device)?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(bytes, state.settings.memory) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_uint, device: c_int) -> CUresult {
    initialized("cuDeviceGetAttribute", |state| {
        exists(&state.settings, device)?;
        let found = card::attribute(&state.settings, attribute)?;
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(value, found) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, device: c_int) -> CUresult {
    initialized("cuDevicePrimaryCtxRetain", |state| {
        opens(state, device)?;
        let handle = state.retain();
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(context, handle) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> CUresult {
    initialized("cuDevicePrimaryCtxRelease_v2", |state| {
        opens(state, device)?;
        state.release()
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuCtxGetCurrent(context: *mut usize) -> CUresult {
    initialized("cuCtxGetCurrent", |state| {
        let current = state.current();
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(context, current) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: usize) -> CUresult {
    initialized("cuCtxSetCurrent", |state| state.set_current(context))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> CUresult {
    in_context("cuCtxSynchronize", State::synchronize_all)
}
