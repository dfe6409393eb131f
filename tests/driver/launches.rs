//! Launches that break a rule, and failures on the GPU, which stay.

use super::alone;
use super::raw::{self, FiniteParams, SUCCESS};
use cudarc::driver::sys::{self, CUfunction, CUresult, CUstream};

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;
/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MOST_DYNAMIC: sys::CUfunction_attribute =
    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;

fn finite() -> (CUfunction, CUstream) {
    raw::open();
    (raw::function(&raw::text(raw::PTX), "finite_f16").unwrap(), raw::stream())
}

/// Looks for NaN in eight f16 numbers at `x`.
fn params(x: u64, out: u64) -> FiniteParams {
    FiniteParams { x, out, len: 8, single: 0, padding: 0 }
}

#[test]
fn launches_are_checked_and_run() {
    let body = || {
        let (finite, stream) = finite();
        let memory = raw::alloc(64, stream).unwrap();
        let launch =
            |grid, block, shared| raw::launch(finite, grid, block, shared, stream, params(memory, memory + 32));
        for (grid, block) in [
            ([0, 1, 1], [256, 1, 1]),
            ([1, 65_536, 1], [256, 1, 1]),
            ([1, 1, 65_536], [256, 1, 1]),
            ([1, 1, 1], [2048, 1, 1]),
            ([1, 1, 1], [1024, 2, 1]),
            ([1, 1, 1], [1, 1, 65]),
            ([1, 1, 1], [0, 1, 1]),
        ] {
            assert_eq!(launch(grid, block, 64), INVALID, "{grid:?}, {block:?}");
        }
        assert_eq!(launch([1; 3], [1024, 1, 1], 64), CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
        // 1 KiB of 48 and of 227 is the system's.
        assert_eq!(launch([1; 3], [256, 1, 1], (47 << 10) + 1), INVALID);
        // SAFETY: the function is loaded.
        let raise = |bytes| unsafe { sys::cuFuncSetAttribute(finite, MOST_DYNAMIC, bytes) };
        assert_eq!([raise((226 << 10) + 1), raise(-1), raise(226 << 10)], [INVALID, INVALID, SUCCESS]);
        let nan = [0x00, 0x7E];
        assert_eq!(raw::write(memory, &[0; 16], stream), SUCCESS);
        assert_eq!([launch([1; 3], [256, 1, 1], 226 << 10), raw::write(memory + 6, &nan, stream)], [SUCCESS; 2]);
        assert_eq!(raw::bytes(memory + 32, stream), 0_u32.to_le_bytes());
        assert_eq!(launch([1; 3], [256, 1, 1], 64), SUCCESS);
        // Counted from the end of a block of 2,048 elements; the NaN is the fourth.
        assert_eq!(raw::bytes(memory + 32, stream), 2045_u32.to_le_bytes());
    };
    alone("driver::launches::launches_are_checked_and_run", "seed=3", body);
}

/// Fails on the GPU, and returns the errors of the next calls: an event, and then a wait.
fn after(failure: impl Fn(CUfunction, CUstream)) -> [CUresult; 2] {
    let (finite, stream) = finite();
    failure(finite, stream);
    let mut event = std::ptr::null_mut();
    // SAFETY: there is room for the result.
    let next = unsafe { sys::cuEventCreate(&mut event, 0) };
    let waited = raw::synchronize(stream);
    // From here on, every call has the same error.
    // SAFETY: as above.
    unsafe {
        assert_eq!([sys::cuEventCreate(&mut event, 0), sys::cuCtxSynchronize()], [waited; 2]);
        assert_eq!(raw::alloc(4, stream), Err(waited));
        let mut count = 0;
        assert_eq!(sys::cuDeviceGetCount(&mut count), SUCCESS, "it needs no context");
    }
    [next, waited]
}

/// Reads memory that was never allocated.
fn outside(finite: CUfunction, stream: CUstream) {
    let out = raw::alloc(4, stream).unwrap();
    assert_eq!(raw::launch(finite, [1; 3], [256, 1, 1], 64, stream, params(4096, out)), SUCCESS);
}

/// Reads vectors at an odd address.
fn misaligned(finite: CUfunction, stream: CUstream) {
    let memory = raw::alloc(64, stream).unwrap();
    assert_eq!(raw::launch(finite, [1; 3], [256, 1, 1], 64, stream, params(memory + 2, memory + 32)), SUCCESS);
}

/// Leaves out most threads, for which the kernel was not written.
fn too_few_threads(finite: CUfunction, stream: CUstream) {
    let memory = raw::alloc(64, stream).unwrap();
    assert_eq!(raw::launch(finite, [1; 3], [32, 1, 1], 64, stream, params(memory, memory + 32)), SUCCESS);
}

const ILLEGAL: CUresult = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;

#[test]
fn late_failures_appear_at_the_wait() {
    let body = || assert_eq!(after(outside), [SUCCESS, ILLEGAL]);
    alone("driver::launches::late_failures_appear_at_the_wait", "seed=0", body);
}

#[test]
fn early_failures_appear_at_the_next_call() {
    let body = || assert_eq!(after(outside), [ILLEGAL; 2]);
    alone("driver::launches::early_failures_appear_at_the_next_call", "seed=1", body);
}

#[test]
fn misaligned_vectors_have_their_own_error() {
    let body = || assert_eq!(after(misaligned)[1], CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    alone("driver::launches::misaligned_vectors_have_their_own_error", "seed=2", body);
}

#[test]
fn other_failures_are_failed_launches() {
    let body = || assert_eq!(after(too_few_threads)[1], CUresult::CUDA_ERROR_LAUNCH_FAILED);
    let said = alone("driver::launches::other_failures_are_failed_launches", "seed=5 log=1", body);
    assert!(said.is_none_or(|said| said.contains("the kernel takes 256 threads")));
}
