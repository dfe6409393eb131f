//! The images that `cuModuleLoadData` takes: a fat binary, machine code (a cubin), or PTX.

mod cubin;
mod fat;
mod ptx;

use crate::card;
use cudarc::driver::sys::CUresult;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};

/// A kernel of a loaded image.
pub struct Function {
    /// Bytes of its static shared memory, and of those that the system keeps.
    pub own_shared: u32,
    /// The most dynamic shared memory that a launch may ask for.
    pub most_dynamic: u32,
}

/// Why an image does not load: the driver's error, and the line for the log of its compiler.
pub struct Refusal {
    pub code: CUresult,
    pub log: String,
}

/// The GPU and the driver that an image is loaded for.
#[derive(Clone, Copy)]
pub struct Target {
    pub capability: (i32, i32),
    pub driver: (i32, i32),
}

/// Kernels by name, with the bytes of their own shared memory.
type Kernels = BTreeMap<String, u32>;

fn refused<T>(code: CUresult, log: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, log: log.into() })
}

/// The functions of the image at `image` for a target.
///
/// # Safety
/// It is a fat binary or a cubin of the length that its headers say, or text that ends in a zero.
pub unsafe fn load(image: *const u8, target: Target) -> Result<BTreeMap<String, Function>, Refusal> {
    // SAFETY: no byte behind the zero of a text is read.
    let starts = |magic: &[u8; 4]| unsafe { begins(image, magic) };
    let kernels = if starts(&fat::MAGIC) || starts(&cubin::MAGIC) {
        // The documentation names no alignment. Headers hold 64-bit numbers, which a driver may read in place.
        if !image.addr().is_multiple_of(align_of::<u64>()) {
            return refused(CUresult::CUDA_ERROR_INVALID_IMAGE, "the image is not aligned to 8 bytes");
        }
        // SAFETY: the caller vouches for the image.
        unsafe { if starts(&fat::MAGIC) { fat::load(image, target) } else { cubin::load_at(image, target) } }
    } else {
        // SAFETY: as above.
        ptx::kernels(unsafe { CStr::from_ptr(image.cast::<c_char>()) }.to_bytes(), target)
    }?;
    let function = |own_shared| Function { own_shared, most_dynamic: card::SHARED_FOR_ALL.saturating_sub(own_shared) };
    Ok(kernels.into_iter().map(|(name, own)| (name, function(own))).collect())
}

/// Whether the bytes at `image` begin with `magic`, which holds no zero.
///
/// # Safety
/// Bytes exist up to the first one that differs.
unsafe fn begins(image: *const u8, magic: &[u8; 4]) -> bool {
    // SAFETY: the caller vouches for each byte that is read, because `all` stops at the first that differs.
    magic.iter().enumerate().all(|(i, &byte)| unsafe { *image.add(i) } == byte)
}

/// Whether machine code for `architecture` runs on a GPU: code of an earlier minor version does, and code with features
/// of one architecture (`specific`, such as `90a`) only on that one.
fn runs(architecture: u32, specific: bool, (major, minor): (i32, i32)) -> bool {
    let (of_major, of_minor) = ((architecture / 10) as i32, (architecture % 10) as i32);
    of_major == major && if specific { of_minor == minor } else { of_minor <= minor }
}
