//! The kernels on an NVIDIA GPU, through the driver's API. Opening the device loads the driver; the program does not
//! link CUDA.

use super::{Device, Launch, Memory, MemoryInfo};
use crate::arriving::Arriving;
use crate::cuda::Variant;
use crate::error::{Error, Relief, Result};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use kernels::Kernels;
use landing::Landings;
use memory::{DeviceMemory, place};
use pinned::Ring;
use prefetch::Prefetch;
use std::ffi::c_void;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

mod compiled;
mod encoded;
mod image;
mod kernels;
mod landing;
mod memory;
mod pinned;
mod prefetch;
mod replaced;

pub(super) use compiled::shared_on_all;
pub use replaced::Replacement;
#[cfg(feature = "ptx")]
pub(super) use replaced::{list, of_environment};

/// The oldest CUDA version whose drivers have every function that this module calls.
const OLDEST_CUDA: i32 = 12;

/// The first GPU that the driver offers (`CUDA_VISIBLE_DEVICES` chooses), with one stream for launches and one for
/// prefetched copies.
pub struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// The pool of all allocations.
    pool: sys::CUmemoryPool,
    /// Copies to the GPU in the order of launches.
    writes: Ring,
    /// Copies from the GPU in the order of launches, which the host takes later.
    landings: Landings,
    prefetch: Prefetch,
    kernels: Kernels,
    card: String,
    multiprocessors: usize,
    variant: Variant,
    /// The buffer that replaces all others in the caches.
    swept: Mutex<Option<Box<dyn Memory>>>,
}

// SAFETY: only the pool and the functions of `kernels` are not `Send` by themselves. They are handles, which belong to
// no thread: any thread to which the context is bound may use them, and every call binds it.
unsafe impl Send for Driver {}
// SAFETY: as above. The driver's functions may be called by several threads at once.
unsafe impl Sync for Driver {}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("card", &self.card).finish_non_exhaustive()
    }
}

/// The facts that `osp doctor` prints about a GPU.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Its memory.
    pub memory: MemoryInfo,
    /// Which of the compiled kernels it runs, e.g. `sm_90a`.
    pub code: String,
    /// Files of kernels that replace the program's own.
    pub replaced: Vec<PathBuf>,
}

/// The architectures that the kernels were compiled for, e.g. `sm_80`; none in a build without nvcc.
pub fn architectures() -> Vec<String> {
    let all = compiled::ARCHITECTURES.iter().map(|architecture| format!("sm_{architecture}"));
    if compiled::all() { all.collect() } else { Vec::new() }
}

/// The kernels of the file `kernels/STEM.cu`, by name; `None` if there is no such file.
pub fn entry_points(stem: &str) -> Option<&'static [&'static str]> {
    Some(compiled::file(stem)?.entries)
}

/// The newest CUDA that the driver supports, as (major, minor); `None` without a driver.
pub fn driver_version() -> Option<(i32, i32)> {
    // SAFETY: it only tries to load the library, whose own code is NVIDIA's.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    let mut version = 0;
    // SAFETY: the library is there. The call writes one number, and may come before any other.
    let result = unsafe { sys::cuDriverGetVersion(&mut version) };
    (result == sys::CUresult::CUDA_SUCCESS).then_some((version / 1000, version % 1000 / 10))
}

/// The code that a GPU of this compute capability runs: machine code of its generation, else PTX.
fn code_for(capability: (i32, i32)) -> String {
    let runs = |name: &&&str| compiled::runs(name, capability);
    let best =
        compiled::ARCHITECTURES.iter().filter(runs).max_by_key(|name| name.trim_end_matches('a').parse::<i32>().ok());
    best.map_or_else(|| "PTX, compiled by the driver at the first start".to_owned(), |name| format!("sm_{name}"))
}

impl Driver {
    /// The facts about this GPU.
    ///
    /// # Errors
    /// [`Error::Device`] if the GPU does not answer.
    pub fn gpu(&self) -> Result<Gpu> {
        let failed = |error| device_error("the GPU does not answer", error);
        let capability = self.context.compute_capability().map_err(failed)?;
        Ok(Gpu {
            name: self.card.clone(),
            capability,
            multiprocessors: self.multiprocessors,
            memory: self.memory_info()?,
            code: code_for(capability),
            replaced: self.kernels.replaced.iter().map(|file| file.path().to_owned()).collect(),
        })
    }

    /// Opens the GPU and loads the kernels. Files in the folder that `OSP_KERNELS` names replace the program's own.
    ///
    /// # Errors
    /// As for [`Self::open_with`]; [`Error::Usage`] or [`Error::Io`] for a folder or a file that cannot be used.
    pub fn open() -> Result<Self> {
        // Without a GPU, the missing driver is the error to report, not a damaged file in the folder.
        check_driver()?;
        Self::open_with(replaced::of_environment()?)
    }

    /// Opens the GPU and loads the kernels. For each file of kernels, the first of `replacements` with its stem
    /// replaces it.
    ///
    /// # Errors
    /// [`Error::Device`] if the program was built without nvcc, if there is no driver or no GPU, if the driver is too
    /// old, or if the kernels were not compiled for the GPU.
    pub fn open_with(replacements: Vec<Replacement>) -> Result<Self> {
        check_driver()?;
        let context = CudaContext::new(0).map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => no_gpu(),
            _ => device_error("the GPU cannot be opened", error),
        })?;
        if !compiled::all() {
            return Err(Error::Device(
                "this binary holds no GPU kernels: it was built without nvcc; run scripts/get-nvcc and build again"
                    .into(),
            ));
        }
        // One stream orders everything except prefetched copies, which `Prefetch` orders. Events for each buffer would
        // only cost time.
        // SAFETY: the events order the use of cudarc's own buffers, and this program has none.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(|error| device_error("no stream", error))?;
        let prefetch = Prefetch::new(&context)?;
        let pool = pool_that_keeps_freed_memory(&context)?;
        let kernels = Kernels::load(&context, replacements)?;
        let card = context.name().map_err(|error| device_error("the GPU has no name", error))?;
        let multiprocessors = multiprocessors(&context)?;
        let (writes, landings) = (Ring::new(stream.clone()), Landings::new(stream.clone()));
        let swept = Mutex::new(None);
        let variant = Variant::default();
        Ok(Self { context, stream, pool, writes, landings, prefetch, kernels, card, multiprocessors, variant, swept })
    }

    /// The GPU's name, without the list of replaced kernels.
    pub fn card(&self) -> &str {
        &self.card
    }

    /// Gives the pool's unused memory back to the driver. Freed memory counts as unused once the stream has reached its
    /// free, so this waits for the stream.
    fn trim(&self) -> std::result::Result<(), DriverError> {
        self.stream.synchronize()?;
        // SAFETY: it is the device's own pool, which always exists. The call touches only memory that nobody has.
        unsafe { result::mem_pool::trim_to(self.pool, 0) }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| device_error("the GPU does not answer", error))
    }
}

/// Fails unless there is a driver that is new enough for the kernels.
fn check_driver() -> Result<()> {
    let Some((major, minor)) = driver_version() else {
        return Err(Error::Device("there is no NVIDIA driver on this machine (libcuda.so.1 is not found)".into()));
    };
    let needed = compiled::NVCC_MAJOR.max(OLDEST_CUDA);
    if major < needed {
        return Err(Error::Device(format!(
            "the NVIDIA driver is too old: it supports CUDA {major}.{minor}, this program needs {needed}.0; update the \
             driver"
        )));
    }
    Ok(())
}

fn no_gpu() -> Error {
    Error::Device("the NVIDIA driver sees no GPU (is CUDA_VISIBLE_DEVICES set?)".into())
}

/// The error of a call that does `what`, or of earlier work, which any call may report.
fn device_error(what: &str, error: DriverError) -> Error {
    let what = if of_earlier_work(error) { "a kernel failed" } else { what };
    Error::Device(format!("{what}: the NVIDIA driver says {:?}", error.0))
}

/// Whether work failed on the GPU. NVIDIA's documentation says of these errors that all later calls return them.
fn of_earlier_work(error: DriverError) -> bool {
    use sys::CUresult::*;
    matches!(
        error.0,
        CUDA_ERROR_ILLEGAL_ADDRESS
            | CUDA_ERROR_LAUNCH_TIMEOUT
            | CUDA_ERROR_ASSERT
            | CUDA_ERROR_ECC_UNCORRECTABLE
            | CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUDA_ERROR_EXTERNAL_DEVICE
            | CUDA_ERROR_CONTAINED
            | CUDA_ERROR_TENSOR_MEMORY_LEAK
            | CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUDA_ERROR_MISALIGNED_ADDRESS
            | CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUDA_ERROR_INVALID_PC
            | CUDA_ERROR_LAUNCH_FAILED
    )
}

fn multiprocessors(context: &CudaContext) -> Result<usize> {
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    let count = context.attribute(attribute).map_err(|error| device_error("the GPU's limits", error))?;
    usize::try_from(count).ok().filter(|&count| count > 0).ok_or_else(|| {
        Error::Device(format!("the NVIDIA driver says that the GPU has {count} multiprocessors; update the driver"))
    })
}

/// Calls `allocate`. If memory has run out, calls `make_room` and then `allocate` once more.
fn or_after<T>(
    mut allocate: impl FnMut() -> std::result::Result<T, DriverError>,
    make_room: impl FnOnce() -> std::result::Result<(), DriverError>,
) -> std::result::Result<T, DriverError> {
    match allocate() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => make_room().and_then(|()| allocate()),
        other => other,
    }
}

/// The pool of all allocations. It keeps freed memory, so that a step's buffers cost nothing from the second step on.
fn pool_that_keeps_freed_memory(context: &CudaContext) -> Result<sys::CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    let mut most = u64::MAX;
    // SAFETY: the context's device exists, and there is room for its pool. The attribute is a u64, which outlives the
    // call.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device())
            .result()
            .map_err(|error| device_error("the GPU has no pool of memory", error))?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut most).cast::<c_void>())
            .map_err(|error| device_error("the pool of memory", error))?;
    }
    Ok(pool)
}

impl Device for Driver {
    /// The card, and the replaced kernels, because their results and times may differ from the program's own.
    fn name(&self) -> String {
        match &self.kernels.replaced[..] {
            [] => self.card.clone(),
            replaced => format!("{} with other kernels: {}", self.card, replaced::list(replaced)),
        }
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn most_shared(&self) -> usize {
        self.kernels.most_shared as usize
    }

    fn variant(&self) -> Variant {
        self.variant
    }

    fn set_variant(&mut self, variant: Variant) -> Result<()> {
        if !self.runs(variant) {
            return Err(Error::Device(format!("{} has no {variant} kernels: they need another GPU", self.card)));
        }
        self.variant = variant;
        Ok(())
    }

    fn has(&self, kernel: &str) -> bool {
        self.kernels.has(kernel)
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.bind()?;
        // SAFETY: the stream exists, and `DeviceMemory` keeps it. An allocation of 0 bytes would have no address.
        let allocate = || unsafe { result::malloc_async(self.stream.cu_stream(), bytes.max(1)) };
        // The pool's free memory may lie in pieces that are too short.
        match or_after(allocate, || self.trim()) {
            Ok(address) => Ok(Box::new(DeviceMemory { address, len: bytes, stream: self.stream.clone() })),
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(Error::OutOfMemory {
                stage: "GPU".into(),
                needed: bytes as u64,
                free: self.memory_info()?.free,
                relief: Relief::Video,
            }),
            Err(error) => Err(device_error("allocation", error)),
        }
    }

    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.writes.send(place(memory, offset, host.len()), host)
    }

    fn order_prefetch(&self) -> Result<()> {
        self.prefetch.order(&self.stream)
    }

    fn write_prefetched(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.prefetch.write(place(memory, offset, host.len()), host)
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.prefetch.finish(&self.stream)
    }

    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()> {
        let from = place(memory, offset, host.len());
        self.bind()?;
        // SAFETY: the buffer has as many bytes as `host`. A copy to memory that is not pinned returns when it is done,
        // and this function waits for one that is.
        unsafe { result::memcpy_dtoh_async(host, from, self.stream.cu_stream()) }
            .map_err(|error| device_error("copy from the GPU", error))?;
        self.synchronize()
    }

    fn read_behind(&self, memory: &dyn Memory, offset: usize, bytes: usize) -> Result<Box<dyn Arriving>> {
        self.landings.receive(place(memory, offset, bytes), bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.bind()?;
        let function = self.kernels.function(launch)?;
        let [x, y, z] = launch.grid;
        let bytes = encoded::params(launch)?;
        let mut params = [bytes.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the one parameter has the size of the kernel's struct, which `Kernels::function` compared; the user
        // of a replacement vouches for its struct. The call copies it. The caller of the launch has the buffers at its
        // addresses, and frees them later on the same stream.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                self.stream.cu_stream(),
                &mut params,
            )
        }
        .map_err(|error| match of_earlier_work(error) {
            true => device_error("launch", error),
            false => launch.error(format!("the NVIDIA driver says {:?}", error.0)),
        })
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        let failed = |error| device_error("timing", error);
        let event = || self.context.new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed);
        let (start, end) = (event()?, event()?);
        start.record(&self.stream).map_err(failed)?;
        work()?;
        end.record(&self.stream).map_err(failed)?;
        let milliseconds = start.elapsed_ms(&end).map_err(failed)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1000.0))
    }

    /// Writes twice as many bytes as the second-level cache holds.
    fn clear_caches(&self) -> Result<()> {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match &mut *swept {
            Some(memory) => memory,
            none => {
                let cache =
                    self.context.attribute(attribute).map_err(|error| device_error("the GPU's limits", error))?;
                none.insert(self.alloc(2 * usize::try_from(cache).expect("sizes are not negative"))?)
            }
        };
        self.bind()?;
        // SAFETY: the memory has this length. Only this call uses it, always on this stream, and `swept` keeps it.
        unsafe { result::memset_d8_async(memory.address(), 0, memory.len(), self.stream.cu_stream()) }
            .map_err(|error| device_error("clearing the caches", error))
    }

    fn synchronize(&self) -> Result<()> {
        self.stream.synchronize().map_err(|error| device_error("a kernel failed", error))
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        let (free, total) = self.context.mem_get_info().map_err(|error| device_error("memory", error))?;
        Ok(MemoryInfo { free: free as u64, total: total as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::{DriverError, code_for, device_error, or_after, sys};
    use std::cell::Cell;

    #[test]
    fn no_later_call_is_blamed_for_a_kernel_that_failed() {
        let said = |code| device_error("allocation", DriverError(code)).to_string();
        for code in [sys::CUresult::CUDA_ERROR_LAUNCH_FAILED, sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE] {
            assert!(said(code).starts_with("a kernel failed: the NVIDIA driver says "));
        }
        assert!(said(sys::CUresult::CUDA_ERROR_INVALID_VALUE).starts_with("allocation: the NVIDIA driver says "));
    }

    #[test]
    fn an_allocation_without_room_is_tried_once_more() {
        let [short, broken] = [sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY, sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS];
        for (first, then, tried, expected) in [
            (Ok(1), Ok(2), 1, Ok(1)),
            (Err(short), Ok(2), 2, Ok(2)),
            (Err(short), Err(short), 2, Err(short)),
            (Err(broken), Ok(2), 1, Err(broken)),
        ] {
            let (tries, room) = (Cell::new(0), Cell::new(0));
            let allocate = || {
                tries.set(tries.get() + 1);
                if tries.get() == 1 { first.map_err(DriverError) } else { then.map_err(DriverError) }
            };
            let make_room = || {
                room.set(room.get() + 1);
                Ok(())
            };
            let found = or_after(allocate, make_room).map_err(|error| error.0);
            assert_eq!((found, tries.get(), room.get()), (expected, tried, tried - 1));
        }
    }

    #[test]
    fn every_gpu_runs_the_nearest_code() {
        for (capability, code) in [
            ((8, 0), "sm_80"),
            ((8, 6), "sm_86"),
            ((8, 7), "sm_86"),
            ((8, 9), "sm_89"),
            ((9, 0), "sm_90a"),
            ((10, 0), "sm_100"),
            ((10, 3), "sm_100"),
            ((12, 0), "sm_120"),
            ((12, 1), "sm_120"),
        ] {
            assert_eq!(code_for(capability), code);
        }
        for capability in [(7, 5), (9, 1), (11, 0), (13, 0)] {
            assert!(code_for(capability).starts_with("PTX"), "{capability:?}");
        }
    }
}
