//! The errors that the documentation names, for calls that break a rule.

use super::alone;
use super::raw::{self, SUCCESS};
use cudarc::driver::sys::{self, CUresult};
use std::ffi::{CStr, c_void};
use std::ptr::{null_mut, without_provenance_mut};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
const NO_HANDLE: CUresult = CUresult::CUDA_ERROR_INVALID_HANDLE;

/// A handle that no call returned.
fn wrong<T>() -> *mut T {
    without_provenance_mut(7)
}

#[test]
fn calls_need_the_library_a_gpu_and_a_context() {
    let body = || {
        let (mut count, mut device, mut stream, mut bytes) = (0, 0, null_mut(), 0);
        // SAFETY: there is room for each result.
        unsafe {
            assert_eq!(sys::cuDeviceGetCount(&mut count), CUresult::CUDA_ERROR_NOT_INITIALIZED);
            assert_eq!([sys::cuInit(1), sys::cuInit(0)], [INVALID, SUCCESS]);
            assert_eq!((sys::cuDeviceGetCount(&mut count), count), (SUCCESS, 2));
            assert_eq!(sys::cuDeviceGet(&mut device, 2), CUresult::CUDA_ERROR_INVALID_DEVICE);
            assert_eq!(sys::cuDeviceGet(null_mut(), 0), INVALID);
            assert_eq!((sys::cuDeviceTotalMem_v2(&mut bytes, 0), bytes), (SUCCESS, 5 << 30));
            assert_eq!(sys::cuStreamCreate(&mut stream, 1), CUresult::CUDA_ERROR_INVALID_CONTEXT);
            assert_eq!(sys::cuDevicePrimaryCtxRelease_v2(0), CUresult::CUDA_ERROR_INVALID_CONTEXT);
            let mut name = [1_i8; 4];
            assert_eq!(sys::cuDeviceGetName(name.as_mut_ptr(), 4, 0), SUCCESS);
            assert_eq!(CStr::from_ptr(name.as_ptr()), c"lon");
            raw::open();
            assert_eq!(sys::cuCtxSetCurrent(wrong()), CUresult::CUDA_ERROR_INVALID_CONTEXT);
            assert_eq!([sys::cuStreamCreate(&mut stream, 1), sys::cuDevicePrimaryCtxRelease_v2(0)], [SUCCESS; 2]);
            assert_eq!(sys::cuStreamSynchronize(stream), CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
            // What the stand-in lacks, it says.
            raw::open();
            assert_eq!(sys::cuStreamCreate(&mut stream, 0), CUresult::CUDA_ERROR_NOT_SUPPORTED);
            assert_eq!(raw::synchronize(null_mut()), CUresult::CUDA_ERROR_NOT_SUPPORTED);
        }
    };
    let test = "driver::rules::calls_need_the_library_a_gpu_and_a_context";
    let said = alone(test, "cards=2 memory=5GiB name=longer", body);
    assert!(said.is_none_or(|said| said.contains("stand-in: the default stream is not modelled")));
}

#[test]
fn errors_have_names_and_descriptions() {
    let body = || {
        let mut text = std::ptr::null();
        // SAFETY: there is room for the result, which is a text that ends in a zero.
        unsafe {
            assert_eq!(sys::cuGetErrorName(CUresult::CUDA_ERROR_NOT_READY, &mut text), SUCCESS);
            assert_eq!(CStr::from_ptr(text), c"CUDA_ERROR_NOT_READY");
            assert_eq!(sys::cuGetErrorString(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, &mut text), SUCCESS);
            assert_eq!(CStr::from_ptr(text), c"an illegal memory access was encountered");
            assert_eq!(sys::cuGetErrorName(CUresult::CUDA_ERROR_TIMEOUT, &mut text), INVALID);
        }
    };
    alone("driver::rules::errors_have_names_and_descriptions", "", body);
}

#[test]
fn handles_and_events_are_checked() {
    let body = || {
        raw::open();
        let (stream, timed, untimed) = (raw::stream(), raw::event(0), raw::event(2));
        let mut ms = 0.0;
        // SAFETY: the calls take any handle, and there is room for each result.
        unsafe {
            assert_eq!([raw::synchronize(wrong()), sys::cuStreamDestroy_v2(wrong())], [NO_HANDLE; 2]);
            assert_eq!([sys::cuEventSynchronize(wrong()), sys::cuEventDestroy_v2(wrong())], [NO_HANDLE; 2]);
            assert_eq!([sys::cuEventRecord(wrong(), stream), sys::cuEventRecord(timed, wrong())], [NO_HANDLE; 2]);
            assert_eq!([sys::cuStreamWaitEvent(stream, wrong(), 0), sys::cuModuleUnload(wrong())], [NO_HANDLE; 2]);
            assert_eq!(
                [sys::cuStreamWaitEvent(stream, timed, 9), sys::cuEventCreate(&mut null_mut(), 64)],
                [INVALID; 2]
            );
            assert_eq!(sys::cuEventElapsedTime(&mut ms, timed, timed), NO_HANDLE, "it was never recorded");
            raw::record(untimed, stream);
            raw::record(timed, stream);
            assert_eq!(sys::cuEventElapsedTime(&mut ms, untimed, timed), NO_HANDLE, "it has no time");
            assert_eq!(sys::cuEventElapsedTime(&mut ms, timed, timed), CUresult::CUDA_ERROR_NOT_READY);
            assert_eq!([sys::cuEventSynchronize(timed), sys::cuEventElapsedTime(&mut ms, timed, timed)], [SUCCESS; 2]);
            assert_eq!([sys::cuEventDestroy_v2(timed), sys::cuEventSynchronize(timed)], [SUCCESS, NO_HANDLE]);
        }
    };
    alone("driver::rules::handles_and_events_are_checked", "seed=0", body);
}

#[test]
fn addresses_and_sizes_are_checked() {
    let body = || {
        raw::open();
        let stream = raw::stream();
        let memory = raw::alloc(100, stream).unwrap();
        assert_eq!(raw::alloc(0, stream), Err(INVALID));
        assert_eq!(raw::alloc(2 << 20, stream), Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        assert_eq!([raw::write(memory + 50, &[0; 51], stream), raw::write(9, &[0], stream)], [INVALID; 2]);
        assert_eq!([raw::read(&mut [0; 101], memory, stream), raw::free(memory + 1, stream)], [INVALID; 2]);
        assert_eq!([raw::free(memory, stream), raw::free(memory, stream)], [SUCCESS, INVALID]);
        assert_eq!([raw::write(memory, &[0], stream), raw::write(memory, &[], stream)], [INVALID, SUCCESS]);
        let mut address = null_mut();
        // SAFETY: there is room for each result, and an attribute that is not known reads no value.
        unsafe {
            assert_eq!(sys::cuMemHostAlloc(&mut address, 0, 0), INVALID);
            assert_eq!([sys::cuMemFreeHost(wrong()), sys::cuMemPoolTrimTo(wrong(), 0)], [INVALID; 2]);
            assert_eq!(sys::cuMemsetD8Async(memory, 0, 1, stream), INVALID);
            let mut pool = null_mut();
            assert_eq!(sys::cuDeviceGetDefaultMemPool(&mut pool, 1), CUresult::CUDA_ERROR_INVALID_DEVICE);
            assert_eq!(sys::cuDeviceGetDefaultMemPool(&mut pool, 0), SUCCESS);
            // The pool keeps nothing beyond its threshold once the host has synchronised.
            let (mut left, mut total) = (0, 0);
            assert_eq!(raw::synchronize(stream), SUCCESS);
            assert_eq!((sys::cuMemGetInfo_v2(&mut left, &mut total), left, total), (SUCCESS, 1 << 20, 1 << 20));
        }
    };
    alone("driver::rules::addresses_and_sizes_are_checked", "seed=0 memory=1MiB", body);
}

/// A copy out of pinned memory that was freed fails when it runs.
#[test]
fn pinned_memory_is_gone_once_it_is_freed() {
    let body = || {
        raw::open();
        let (stream, host) = (raw::stream(), raw::pinned(4));
        let memory = raw::alloc(4, stream).unwrap();
        assert_eq!(raw::write(memory, host, stream), SUCCESS);
        // SAFETY: the memory came from `cuMemHostAlloc`, and nobody reads it again.
        assert_eq!(unsafe { sys::cuMemFreeHost(host.as_mut_ptr().cast::<c_void>()) }, SUCCESS);
        assert_eq!(raw::synchronize(stream), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    };
    alone("driver::rules::pinned_memory_is_gone_once_it_is_freed", "seed=0", body);
}
