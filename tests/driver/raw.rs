//! The driver's own functions, for tests of the stand-in's rules.

use cudarc::driver::sys::{self, CUdeviceptr, CUevent, CUfunction, CUresult, CUstream};
use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};

pub use CUresult::CUDA_SUCCESS as SUCCESS;

/// PTX with the kernel that the raw launches use.
pub const PTX: &str = ".version 8.0\n.target sm_80\n.visible .entry finite_f16(.param .b64 p)\n{\n\tret;\n}\n";

/// `FiniteParams` of kernels/finite.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct FiniteParams {
    pub x: u64,
    pub out: u64,
    pub len: i64,
    pub single: i32,
    pub padding: i32,
}

/// Opens the first GPU, and makes its context current.
pub fn open() {
    // SAFETY: there is room for each result, and the context is the driver's.
    unsafe {
        assert_eq!(sys::cuInit(0), SUCCESS);
        let (mut device, mut context) = (0, null_mut());
        assert_eq!(sys::cuDeviceGet(&mut device, 0), SUCCESS);
        assert_eq!(sys::cuDevicePrimaryCtxRetain(&mut context, device), SUCCESS);
        assert_eq!(sys::cuCtxSetCurrent(context), SUCCESS);
    }
}

pub fn stream() -> CUstream {
    let mut stream = null_mut();
    // SAFETY: there is room for the result; 1 is `CU_STREAM_NON_BLOCKING`.
    assert_eq!(unsafe { sys::cuStreamCreate(&mut stream, 1) }, SUCCESS);
    stream
}

/// An event; 2 is `CU_EVENT_DISABLE_TIMING`.
pub fn event(flags: u32) -> CUevent {
    let mut event = null_mut();
    // SAFETY: there is room for the result.
    assert_eq!(unsafe { sys::cuEventCreate(&mut event, flags) }, SUCCESS);
    event
}

pub fn record(event: CUevent, stream: CUstream) {
    // SAFETY: the handles are the driver's.
    assert_eq!(unsafe { sys::cuEventRecord(event, stream) }, SUCCESS);
}

pub fn wait(stream: CUstream, event: CUevent) {
    // SAFETY: the handles are the driver's.
    assert_eq!(unsafe { sys::cuStreamWaitEvent(stream, event, 0) }, SUCCESS);
}

pub fn synchronize(stream: CUstream) -> CUresult {
    // SAFETY: the call takes any handle.
    unsafe { sys::cuStreamSynchronize(stream) }
}

pub fn alloc(bytes: usize, stream: CUstream) -> Result<CUdeviceptr, CUresult> {
    let mut address = 0;
    // SAFETY: there is room for the result.
    let result = unsafe { sys::cuMemAllocAsync(&mut address, bytes, stream) };
    if result == SUCCESS { Ok(address) } else { Err(result) }
}

pub fn free(address: CUdeviceptr, stream: CUstream) -> CUresult {
    // SAFETY: the call takes any address.
    unsafe { sys::cuMemFreeAsync(address, stream) }
}

/// Pinned memory for `len` bytes, which is never freed.
pub fn pinned(len: usize) -> &'static mut [u8] {
    let mut address = null_mut();
    // SAFETY: there is room for the result, and the memory has this length.
    unsafe {
        assert_eq!(sys::cuMemHostAlloc(&mut address, len, 0), SUCCESS);
        std::slice::from_raw_parts_mut(address.cast(), len)
    }
}

pub fn write(to: CUdeviceptr, host: &[u8], stream: CUstream) -> CUresult {
    // SAFETY: the tests keep the host's memory until they have synchronised.
    unsafe { sys::cuMemcpyHtoDAsync_v2(to, host.as_ptr().cast(), host.len(), stream) }
}

pub fn read(host: &mut [u8], from: CUdeviceptr, stream: CUstream) -> CUresult {
    // SAFETY: as in `write`.
    unsafe { sys::cuMemcpyDtoHAsync_v2(host.as_mut_ptr().cast(), from, host.len(), stream) }
}

/// The bytes of the GPU at `from`, after a wait for the stream.
pub fn bytes<const N: usize>(from: CUdeviceptr, stream: CUstream) -> [u8; N] {
    let mut host = [0; N];
    assert_eq!(read(&mut host, from, stream), SUCCESS);
    assert_eq!(synchronize(stream), SUCCESS);
    host
}

/// Loads an image, and looks up a kernel.
pub fn function(image: &[u8], name: &str) -> Result<CUfunction, CUresult> {
    let name = CString::new(name).unwrap();
    let (mut module, mut function) = (null_mut(), null_mut());
    // SAFETY: the image has the length that it says, and text ends in a zero.
    match unsafe { sys::cuModuleLoadData(&mut module, image.as_ptr().cast()) } {
        SUCCESS => {}
        refused => return Err(refused),
    }
    // SAFETY: the module is loaded.
    let result = unsafe { sys::cuModuleGetFunction(&mut function, module, name.as_ptr()) };
    if result == SUCCESS { Ok(function) } else { Err(result) }
}

/// Text as an image: aligned, and with a zero behind it.
pub fn text(text: &str) -> Vec<u8> {
    let bytes = [text.as_bytes(), &[0]].concat();
    assert!(bytes.as_ptr().addr().is_multiple_of(8));
    bytes
}

/// A launch with one parameter.
pub fn launch(
    function: CUfunction,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    stream: CUstream,
    params: FiniteParams,
) -> CUresult {
    let mut list = [(&raw const params).cast_mut().cast::<c_void>()];
    let ([x, y, z], [bx, by, bz]) = (grid, block);
    // SAFETY: the parameter is the kernel's struct.
    unsafe {
        sys::cuLaunchKernel(
            function,
            x,
            y,
            z,
            bx,
            by,
            bz,
            shared,
            stream,
            list.as_mut_ptr(),
            null::<*mut c_void>().cast_mut(),
        )
    }
}
