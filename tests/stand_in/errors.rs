//! Names and descriptions of the errors that the stand-in returns.

use cudarc::driver::sys::CUresult;
use std::ffi::CStr;

macro_rules! errors {
    ($($code:ident $text:literal,)*) => {
        /// The error with this number: its name, and a description.
        pub fn described(number: u32) -> Option<(&'static CStr, &'static CStr)> {
            $(if number == CUresult::$code as u32 {
                let name = CStr::from_bytes_with_nul(concat!(stringify!($code), "\0").as_bytes());
                let text = CStr::from_bytes_with_nul(concat!($text, "\0").as_bytes());
                return Some((name.ok()?, text.ok()?));
            })*
            None
        }
    };
}

errors! {
    CUDA_SUCCESS "no error",
    CUDA_ERROR_INVALID_VALUE "invalid argument",
    CUDA_ERROR_OUT_OF_MEMORY "out of memory",
    CUDA_ERROR_NOT_INITIALIZED "initialization error",
    CUDA_ERROR_NO_DEVICE "no CUDA-capable device is detected",
    CUDA_ERROR_INVALID_DEVICE "invalid device ordinal",
    CUDA_ERROR_INVALID_IMAGE "device kernel image is invalid",
    CUDA_ERROR_INVALID_CONTEXT "invalid device context",
    CUDA_ERROR_NO_BINARY_FOR_GPU "no kernel image is available for execution on the device",
    CUDA_ERROR_INVALID_PTX "a PTX JIT compilation failed",
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION "the provided PTX was compiled with an unsupported toolchain",
    CUDA_ERROR_INVALID_HANDLE "invalid resource handle",
    CUDA_ERROR_NOT_FOUND "named symbol not found",
    CUDA_ERROR_NOT_READY "device not ready",
    CUDA_ERROR_ILLEGAL_ADDRESS "an illegal memory access was encountered",
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES "too many resources requested for launch",
    CUDA_ERROR_CONTEXT_IS_DESTROYED "context is destroyed",
    CUDA_ERROR_MISALIGNED_ADDRESS "misaligned address",
    CUDA_ERROR_LAUNCH_FAILED "unspecified launch failure",
    CUDA_ERROR_NOT_SUPPORTED "operation not supported",
}
