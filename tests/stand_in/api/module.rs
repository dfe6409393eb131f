//! Modules and functions.

use super::put;
use crate::image::{self, Function, Target};
use crate::state::{State, in_context, not_modelled};
use crate::{Outcome, card};
use cudarc::driver::sys::{CUfunction_attribute, CUjit_option, CUresult};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: *mut usize, image: *const c_void) -> CUresult {
    // SAFETY: as the caller vouches for; there are no options.
    unsafe { cuModuleLoadDataEx(module, image, 0, std::ptr::null(), std::ptr::null()) }
}

/// Of the options, only the buffer for errors is used.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut usize,
    image: *const c_void,
    count: c_uint,
    options: *const c_uint,
    values: *const *mut c_void,
) -> CUresult {
    in_context("cuModuleLoadDataEx", |state| {
        if image.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let target = Target { capability: state.settings.capability, driver: state.settings.driver };
        // SAFETY: the caller vouches for the image.
        let loaded = unsafe { image::load(image.cast(), target) };
        let functions = loaded.or_else(|refusal| {
            // SAFETY: the caller passes `count` options with their values.
            unsafe { write_log(&refusal.log, count as usize, options, values) };
            state.refuse(refusal.code, &refusal.log)
        })?;
        let handle = state.new_handle();
        state.modules.insert(handle, functions);
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(module, handle) }
    })
}

/// Writes `log` to the buffer for errors, if the caller passes one with its size.
///
/// # Safety
/// There are `count` options and values, and the buffer has the size that they say.
unsafe fn write_log(log: &str, count: usize, options: *const c_uint, values: *const *mut c_void) {
    let option = |wanted: CUjit_option| {
        // SAFETY: the caller vouches for `count` options.
        let index = (0..count).find(|&i| unsafe { *options.add(i) } == wanted as c_uint)?;
        // SAFETY: as above, for the values.
        Some(unsafe { *values.add(index) })
    };
    let buffer = option(CUjit_option::CU_JIT_ERROR_LOG_BUFFER);
    let size = option(CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
    let (Some(buffer), Some(size)) = (buffer.filter(|buffer| !buffer.is_null()), size.map(|size| size.addr())) else {
        return;
    };
    for (i, &byte) in log.as_bytes().iter().take(size.saturating_sub(1)).chain(&[0]).enumerate().take(size) {
        // SAFETY: the buffer has `size` bytes.
        unsafe { buffer.cast::<u8>().add(i).write(byte) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: usize) -> CUresult {
    in_context("cuModuleUnload", |state| {
        state.functions.retain(|_, (of, _)| *of != module);
        state.modules.remove(&module).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(function: *mut usize, module: usize, name: *const c_char) -> CUresult {
    in_context("cuModuleGetFunction", |state| {
        let functions = state.modules.get(&module).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        if name.is_null() {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller passes a text that ends in a zero.
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        if !functions.contains_key(&name) {
            return state.refuse(CUresult::CUDA_ERROR_NOT_FOUND, &format!("the function {name}"));
        }
        let handle = state.new_handle();
        state.functions.insert(handle, (module, name));
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(function, handle) }
    })
}

impl State {
    /// A function by its handle, with its name.
    pub fn function(&mut self, handle: usize) -> Outcome<(&str, &mut Function)> {
        let (module, name) = self.functions.get(&handle).ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?;
        let function = self.modules.get_mut(module).and_then(|functions| functions.get_mut(name));
        Ok((name, function.ok_or(CUresult::CUDA_ERROR_INVALID_HANDLE)?))
    }
}

const OWN_SHARED: c_uint = CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES as c_uint;
const MOST_DYNAMIC: c_uint = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_uint;

#[unsafe(no_mangle)]
unsafe extern "C" fn cuFuncGetAttribute(value: *mut c_int, attribute: c_uint, function: usize) -> CUresult {
    in_context("cuFuncGetAttribute", |state| {
        let (_, function) = state.function(function)?;
        let found = match attribute {
            OWN_SHARED => function.own_shared,
            MOST_DYNAMIC => function.most_dynamic,
            _ => return Err(not_modelled(&format!("attribute {attribute} of a function"))),
        };
        // SAFETY: the caller passes null or room for the result.
        unsafe { put(value, found as c_int) }
    })
}

/// The sum of this limit and the function's own shared memory may not exceed what the GPU gives a block.
#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: usize, attribute: c_uint, value: c_int) -> CUresult {
    in_context("cuFuncSetAttribute", |state| {
        let most = card::most_shared(state.settings.capability);
        let (name, function) = state.function(function)?;
        if attribute != MOST_DYNAMIC {
            return Err(not_modelled(&format!("a change of attribute {attribute} of a function")));
        }
        let limit = u32::try_from(value).ok().filter(|limit| limit.saturating_add(function.own_shared) <= most);
        function.most_dynamic = limit.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        let line = format!("{name} may ask for {value} bytes");
        state.explain(&line);
        Ok(())
    })
}
