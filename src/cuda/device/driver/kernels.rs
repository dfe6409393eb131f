//! The functions of the compiled kernels, loaded by the driver.

use super::compiled::{FILES, File, holder};
use super::device_error;
use super::replaced::Replacement;
use crate::cuda::device::{Emulated, Launch};
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, result, sys};
use std::collections::HashMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared memory that every block may have, the kernel's static shared memory included.
const SHARED_FOR_ALL: u32 = 48 << 10;

/// Every entry point, by name.
pub(super) struct Kernels {
    functions: HashMap<String, Function>,
    /// Files that replace the program's own images.
    pub replaced: Vec<Replacement>,
    /// The most shared memory that the GPU gives a block.
    pub most_shared: u32,
}

struct Function {
    handle: sys::CUfunction,
    /// Bytes of the parameters. The driver does not say how many it reads; the emulator has the same kernels.
    params_bytes: usize,
    /// Bytes of shared memory that a block has besides the dynamic ones: the kernel's static shared memory, and the
    /// bytes that its code reserves for the system.
    own_shared: u32,
    /// Whether launches may ask for all shared memory of the GPU.
    raised: AtomicBool,
}

impl Kernels {
    /// Loads all images that have code for the GPU, or their replacements, into the context, which must be bound to this
    /// thread. All files must be compiled.
    pub fn load(context: &CudaContext, replaced: Vec<Replacement>) -> Result<Self> {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most = context.attribute(attribute).map_err(|error| device_error("the GPU's limits", error))?;
        let capability = context.compute_capability().map_err(|error| device_error("the GPU's limits", error))?;
        let (emulated, mut functions) = (Emulated::new(0), HashMap::new());
        for File { stem, image, entries, .. } in FILES.iter().filter(|file| file.runs_on(capability)) {
            let other = replaced.iter().find(|other| other.stem() == *stem);
            let image = other.map(Replacement::image).or(*image).expect("all files are compiled");
            let what = other.map_or_else(
                || "the kernels were not compiled for this GPU".to_owned(),
                |other| format!("{} does not load", other.path().display()),
            );
            // SAFETY: nvcc made the image; that of a file is whole, as `Replacement::read` checked. So the driver finds
            // its end: by its headers, or by the zero that follows PTX. It is aligned, which a test checks.
            let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
            let module = module.map_err(|error| device_error(&what, error))?;
            for name in *entries {
                let (_, params_bytes) = emulated.kernel(name).ok_or_else(|| no_size(name))?;
                functions.insert((*name).to_owned(), Function::of(module, name, params_bytes)?);
            }
        }
        Ok(Self { functions, replaced, most_shared: bytes(most) })
    }

    /// Whether the GPU runs this kernel.
    pub fn has(&self, kernel: &str) -> bool {
        self.functions.contains_key(kernel)
    }

    /// The function of a launch, whose parameters have the right size, after it was allowed the launch's shared memory.
    /// The context must be bound to this thread.
    pub fn function(&self, launch: &Launch<'_>) -> Result<sys::CUfunction> {
        let refused = |problem: String| launch.error(problem);
        let absent = || match holder(launch.kernel) {
            Some(file) => refused(format!("kernels/{}.cu has no code for this GPU", file.stem)),
            None => refused("there is no such kernel".to_owned()),
        };
        let function = self.functions.get(launch.kernel).ok_or_else(absent)?;
        if launch.params.len() != function.params_bytes {
            return Err(refused(format!("the kernel takes {} parameter bytes", function.params_bytes)));
        }
        let limit = shared_limit(launch.shared_bytes, function.own_shared, self.most_shared);
        let limit = limit.map_err(|room| refused(format!("this GPU has {room} bytes of shared memory for a block")))?;
        if let Some(limit) = limit.filter(|_| !function.raised.load(Ordering::Acquire)) {
            function.raise(limit).map_err(|error| refused(format!("the NVIDIA driver says {:?}", error.0)))?;
        }
        Ok(function.handle)
    }
}

impl Function {
    fn of(module: sys::CUmodule, name: &str, params_bytes: usize) -> Result<Self> {
        let failed = |error| device_error(&format!("kernel {name}"), error);
        let c_name = CString::new(name).expect("names of kernels hold no zeros");
        // SAFETY: the module is loaded, and the name ends in a zero.
        let handle = unsafe { result::module::get_function(module, c_name) }.map_err(failed)?;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
        // SAFETY: the function was just found, and modules are never unloaded.
        let own = unsafe { result::function::get_function_attribute(handle, attribute) }.map_err(failed)?;
        Ok(Self { handle, params_bytes, own_shared: bytes(own), raised: AtomicBool::new(false) })
    }

    /// Lets launches ask for up to `limit` bytes. Two threads that call this at once have the same limit.
    fn raise(&self, limit: u32) -> std::result::Result<(), cudarc::driver::DriverError> {
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let limit = i32::try_from(limit).expect("it is less than the driver's own number");
        // SAFETY: the function exists, because modules are never unloaded.
        unsafe { result::function::set_function_attribute(self.handle, attribute, limit) }?;
        self.raised.store(true, Ordering::Release);
        Ok(())
    }
}

fn no_size(kernel: &str) -> Error {
    Error::Device(format!(
        "the emulator that OSP_EMULATOR names lacks the kernel {kernel}, so the size of its parameters is not known; unset \
         the variable"
    ))
}

/// Converts a size that the driver gives.
fn bytes(size: i32) -> u32 {
    u32::try_from(size).expect("sizes are not negative")
}

/// The limit of dynamic shared memory that a kernel needs for a launch of `asked` bytes; `None` if the driver's default
/// suffices. The kernel's blocks have `own` bytes besides, and the GPU gives a block at most `most` bytes for both.
///
/// # Errors
/// The most bytes that a launch may ask for, if it asks for more.
fn shared_limit(asked: u32, own: u32, most: u32) -> std::result::Result<Option<u32>, u32> {
    let room = most.saturating_sub(own);
    match asked {
        _ if asked > room => Err(room),
        _ if asked > SHARED_FOR_ALL.saturating_sub(own) => Ok(Some(room)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compiled::{FILES, File};
    use super::shared_limit;

    #[test]
    fn images_are_aligned() {
        for File { stem, image, .. } in FILES {
            assert!(image.is_none_or(|image| image.as_ptr().addr().is_multiple_of(64)), "the image of {stem}");
        }
    }

    #[test]
    fn a_block_gets_no_more_shared_memory_than_the_gpu_has() {
        let (hopper, reserved) = (227 << 10, 1 << 10);
        for asked in [0, 16 << 10, 47 << 10] {
            assert_eq!(shared_limit(asked, reserved, hopper), Ok(None));
        }
        for asked in [(47 << 10) + 1, 48 << 10, 100 << 10, 226 << 10] {
            assert_eq!(shared_limit(asked, reserved, hopper), Ok(Some(226 << 10)));
        }
        assert_eq!(shared_limit((226 << 10) + 1, reserved, hopper), Err(226 << 10));
        assert_eq!(shared_limit(48 << 10, 0, 99 << 10), Ok(None));
        assert_eq!(shared_limit(99 << 10, 0, 99 << 10), Ok(Some(99 << 10)));
        assert_eq!(shared_limit(1, 50 << 10, 48 << 10), Err(0));
    }
}
