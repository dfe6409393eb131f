//! The kernels on the CPU: the same sources, compiled by the host's compiler against `kernels/emulator`.
//!
//! The emulator is slow and strict. Accesses outside of buffers, diverging barriers, missing lanes and misaligned
//! vectors are errors that name kernel, block and thread.
//!
//! `OSP_EMULATOR` names a library whose emulator and kernels replace the program's own. scripts/emulator-asan builds
//! such a library with AddressSanitizer.

use super::{Device, FOREIGN, H100_MOST_SHARED, H100_MULTIPROCESSORS, Launch, Memory, MemoryInfo};
use crate::cuda::Variant;
use crate::cuda::params::Addresses;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `emulator::Kernel` of kernels/emulator/kernel.h.
#[repr(C)]
pub(super) struct Kernel {
    name: *const c_char,
    threads: u32,
    /// Blocks for which a multiprocessor has registers; 0 if the compiler decides.
    blocks: u32,
    /// Blocks of a cluster.
    cluster: u32,
    params_bytes: usize,
    entry: unsafe extern "C" fn(*const c_void),
    next: *const Kernel,
}

impl Kernel {
    /// Its entry point.
    pub(super) fn name(&self) -> &'static str {
        // SAFETY: the name is a string literal of the macro `KERNEL`, so it ends in a zero and lives as long as its
        // library, which is never unloaded.
        let name: &'static CStr = unsafe { CStr::from_ptr(self.name) };
        name.to_str().expect("names of kernels are ASCII")
    }
}

/// `emulator::Region` of kernels/emulator/block.h.
#[repr(C)]
pub(super) struct Region {
    pub(super) start: usize,
    pub(super) bytes: u64,
}

/// `emulator::Launch` of kernels/emulator/block.h.
#[repr(C)]
struct RawLaunch {
    kernel: *const c_char,
    entry: unsafe extern "C" fn(*const c_void),
    params: *const c_void,
    params_bytes: u64,
    grid: [u32; 3],
    threads: u32,
    blocks: u32,
    cluster: u32,
    shared_bytes: u32,
    regions: *const Region,
    region_count: u64,
    seed: u64,
}

// SAFETY: threads only read it, and nobody writes to what it points to: the kernel's name and entry are the library's,
// and `launch` keeps parameters and regions until all clusters have run.
unsafe impl Sync for RawLaunch {}

/// `osp_emulator_find` of kernels/emulator/launch.cpp.
type Find = unsafe extern "C" fn(name: *const c_char) -> *const Kernel;
/// `osp_emulator_run_cluster` of kernels/emulator/launch.cpp.
type RunCluster = unsafe extern "C" fn(*const RawLaunch, *const [u32; 3], message: *mut c_char, bytes: usize) -> bool;
/// `osp_emulator_toolchain` of kernels/emulator/launch.cpp.
type Toolchain = unsafe extern "C" fn() -> *const c_char;

// SAFETY: the types are those of kernels/emulator/launch.cpp.
unsafe extern "C" {
    fn osp_emulator_find(name: *const c_char) -> *const Kernel;
    fn osp_emulator_run_cluster(_: *const RawLaunch, _: *const [u32; 3], message: *mut c_char, bytes: usize) -> bool;
    fn osp_emulator_toolchain() -> *const c_char;
}

mod kept {
    //! One function for each file of kernels. A program that calls it keeps the file when it is linked.
    include!(concat!(env!("OUT_DIR"), "/emulated.rs"));
}

/// The emulator's functions.
#[derive(Debug)]
struct Library {
    find: Find,
    run_cluster: RunCluster,
    toolchain: Toolchain,
}

/// This program's functions, or those of the library that `OSP_EMULATOR` names.
static LIBRARY: LazyLock<std::result::Result<Library, String>> = LazyLock::new(|| {
    let Some(file) = std::env::var_os("OSP_EMULATOR").filter(|file| !file.is_empty()) else {
        let (find, run_cluster, toolchain) = (osp_emulator_find, osp_emulator_run_cluster, osp_emulator_toolchain);
        return Ok(Library { find, run_cluster, toolchain });
    };
    let failed = |error: libloading::Error| {
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!("OSP_EMULATOR does not name a library of kernels: {reason}")
    };
    // SAFETY: the user who sets the variable vouches for the code that loading the file runs, and for its functions'
    // types. They stay valid, because the library is never unloaded.
    let library = unsafe {
        libloading::Library::new(&file).and_then(|file| {
            let (find, run_cluster) = (*file.get(b"osp_emulator_find")?, *file.get(b"osp_emulator_run_cluster")?);
            let toolchain = *file.get(b"osp_emulator_toolchain")?;
            // Its kernels are used as long as the program runs.
            std::mem::forget(file);
            Ok(Library { find, run_cluster, toolchain })
        })
    };
    library.map_err(failed)
});

/// Every byte of a new buffer. As 16-bit or 32-bit numbers these bytes are large and odd, as indices out of range.
pub(super) const POISON: u8 = 0xCB;

/// All allocations.
#[derive(Debug, Default)]
struct Buffers {
    /// Starts and sizes of the memory that kernels may access: buffers, or the ranges of a buffer that were handed out.
    regions: BTreeMap<usize, usize>,
    bytes: usize,
}

/// A CPU that runs kernels block by block, or cluster by cluster, on all threads of rayon's pool.
#[derive(Clone, Debug, Default)]
pub struct Emulated {
    buffers: Arc<Mutex<Buffers>>,
    seed: u64,
    variant: Variant,
}

impl Emulated {
    /// An emulator that runs the threads of a block in an order that follows from `seed`. 0 is the plain order, odd
    /// seeds shuffle the threads, and other even seeds let single warps run ahead of the others.
    ///
    /// A kernel that lacks a barrier may give other results with another seed.
    pub fn new(seed: u64) -> Self {
        kept::keep_kernels();
        Self { buffers: Arc::default(), seed, variant: Variant::default() }
    }

    /// What the bits of results may depend on besides the kernels, such as `GCC 12.2.0, glibc 2.36, x86-64 with FMA`.
    ///
    /// # Errors
    /// [`Error::Usage`] if `OSP_EMULATOR` does not name a library of kernels.
    pub fn toolchain() -> Result<String> {
        let library = LIBRARY.as_ref().map_err(|problem| Error::Usage(problem.clone()))?;
        // SAFETY: the function takes nothing and returns a string that ends in a zero and lives as long as its library,
        // which is never unloaded.
        let toolchain = unsafe { CStr::from_ptr((library.toolchain)()) };
        Ok(toolchain.to_string_lossy().into_owned())
    }

    /// Threads of a block and bytes of parameters of the kernel with this name, if there is one.
    pub fn kernel(&self, name: &str) -> Option<(u32, usize)> {
        let kernel = find(&CString::new(name).ok()?).ok()??;
        Some((kernel.threads, kernel.params_bytes))
    }

    /// The kernel of a launch. Fails if its threads or the size of its parameters differ from the launch's.
    pub(super) fn find(&self, launch: &Launch<'_>) -> Result<&'static Kernel> {
        let name = CString::new(launch.kernel).expect("names of kernels hold no zeros");
        let kernel = find(&name).map_err(|problem| launch.error(problem))?;
        let kernel = kernel.ok_or_else(|| launch.error("there is no such kernel"))?;
        if kernel.threads != launch.threads || kernel.params_bytes != launch.params.len() {
            let (threads, bytes) = (kernel.threads, kernel.params_bytes);
            return Err(launch.error(format!("the kernel takes {threads} threads and {bytes} parameter bytes")));
        }
        if !launch.grid[0].is_multiple_of(kernel.cluster) {
            let (blocks, cluster) = (launch.grid[0], kernel.cluster);
            return Err(launch.error(format!("{blocks} blocks along x are no whole number of clusters of {cluster}")));
        }
        Ok(kernel)
    }

    /// The memory that a launch may access, by address: the buffers that its parameters point into, or all buffers if
    /// the launch does not list its fields.
    pub(super) fn regions(&self, launch: &Launch<'_>) -> Vec<Region> {
        let buffers = lock(&self.buffers);
        let regions = &buffers.regions;
        let region = |(&start, &bytes): (&usize, &usize)| Region { start, bytes: bytes as u64 };
        if launch.fields.is_empty() {
            return regions.iter().map(region).collect();
        }
        let addresses = Addresses::among(launch.fields);
        let named = addresses.read(launch.params).filter_map(|(_, address)| {
            let below = regions.range(..=address as usize).next_back();
            below.filter(|&(start, bytes)| (address as usize) < start + bytes)
        });
        named.collect::<BTreeMap<_, _>>().into_iter().map(region).collect()
    }
}

fn lock(buffers: &Mutex<Buffers>) -> MutexGuard<'_, Buffers> {
    buffers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes with the alignment of every buffer.
#[repr(C, align(256))]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Line([u8; 256]);

/// A buffer of the emulator.
#[derive(Debug)]
struct HostMemory {
    lines: Vec<Line>,
    len: usize,
    /// Whether it is handed out in pieces.
    in_pieces: bool,
    buffers: Arc<Mutex<Buffers>>,
}

impl HostMemory {
    fn of(memory: &dyn Memory) -> &Self {
        let memory: &dyn Any = memory;
        memory.downcast_ref().expect(FOREIGN)
    }

    fn of_mut(memory: &mut dyn Memory) -> &mut Self {
        let memory: &mut dyn Any = memory;
        memory.downcast_mut().expect(FOREIGN)
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl Memory for HostMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.lines.as_ptr() as u64
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let mut buffers = lock(&self.buffers);
        buffers.bytes -= self.len;
        let start = self.address() as usize;
        if self.in_pieces {
            buffers.regions.retain(|piece, _| !(start..start + self.len).contains(piece));
        } else {
            buffers.regions.remove(&start);
        }
    }
}

impl Device for Emulated {
    fn name(&self) -> String {
        format!("emulated GPU ({} threads)", rayon::current_num_threads())
    }

    /// The number of an H100, so that tests on the CPU see its choices.
    fn multiprocessors(&self) -> usize {
        H100_MULTIPROCESSORS
    }

    fn most_shared(&self) -> usize {
        H100_MOST_SHARED
    }

    fn variant(&self) -> Variant {
        self.variant
    }

    fn set_variant(&mut self, variant: Variant) -> Result<()> {
        self.variant = variant;
        Ok(())
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        // A buffer of 0 bytes has its own address, too.
        let lines = vec![Line([POISON; 256]); bytes.div_ceil(size_of::<Line>()).max(1)];
        let memory = HostMemory { lines, len: bytes, in_pieces: false, buffers: self.buffers.clone() };
        let mut buffers = lock(&self.buffers);
        buffers.regions.insert(memory.address() as usize, bytes);
        buffers.bytes += bytes;
        Ok(Box::new(memory))
    }

    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        HostMemory::of_mut(memory).bytes_mut()[offset..offset + host.len()].copy_from_slice(host);
        Ok(())
    }

    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()> {
        host.copy_from_slice(&HostMemory::of(memory).bytes()[offset..offset + host.len()]);
        Ok(())
    }

    fn hand_out(&self, memory: &mut dyn Memory, range: Range<usize>) {
        let memory = HostMemory::of_mut(memory);
        memory.bytes_mut()[range.clone()].fill(POISON);
        let start = memory.address() as usize;
        let mut buffers = lock(&self.buffers);
        if !std::mem::replace(&mut memory.in_pieces, true) {
            buffers.regions.remove(&start);
        }
        buffers.regions.insert(start + range.start, range.len());
    }

    fn take_back(&self, memory: &dyn Memory, range: Range<usize>) {
        lock(&self.buffers).regions.remove(&(memory.address() as usize + range.start));
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let kernel = self.find(launch)?;
        // Lines have the alignment of every parameter.
        let mut params = vec![Line([0; 256]); launch.params.len().div_ceil(size_of::<Line>())];
        bytemuck::cast_slice_mut(&mut params)[..launch.params.len()].copy_from_slice(launch.params);
        let regions = self.regions(launch);
        let raw = RawLaunch {
            kernel: kernel.name,
            entry: kernel.entry,
            params: params.as_ptr().cast(),
            params_bytes: launch.params.len() as u64,
            grid: launch.grid,
            threads: launch.threads,
            blocks: kernel.blocks,
            cluster: kernel.cluster,
            shared_bytes: launch.shared_bytes,
            regions: regions.as_ptr(),
            region_count: regions.len() as u64,
            seed: self.seed,
        };
        let blocks = launch.grid.iter().map(|&blocks| u64::from(blocks)).product::<u64>();
        (0..blocks / u64::from(kernel.cluster))
            .into_par_iter()
            .try_for_each(|index| run_cluster(&raw, index).map_err(|problem| launch.error(problem)))
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        let used = lock(&self.buffers).bytes as u64;
        Ok(MemoryInfo { free: u64::MAX - used, total: u64::MAX })
    }
}

fn find(name: &CStr) -> std::result::Result<Option<&'static Kernel>, &'static str> {
    let library = LIBRARY.as_ref().map_err(String::as_str)?;
    // SAFETY: the name ends in a zero. The result is null or an entry of the list of kernels, which is complete before
    // `main` or when its library is loaded, and stays as long as the program runs.
    Ok(unsafe { (library.find)(name.as_ptr()).as_ref() })
}

/// Runs cluster number `index` of a launch, x fastest.
fn run_cluster(raw: &RawLaunch, index: u64) -> std::result::Result<(), String> {
    let [x, y, _] = raw.grid.map(u64::from);
    let index = index * u64::from(raw.cluster);
    let block = [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
    let mut message = [0u8; 512];
    let run_cluster = LIBRARY.as_ref().map_err(String::clone)?.run_cluster;
    // SAFETY: the launch and everything that it points to live until this returns, and the parameters have the size
    // that the kernel takes, which `find` compared. The message has as many bytes as the call is told. The emulator
    // lets a kernel access only the launch's regions: they are buffers that the caller of the launch keeps.
    let done = unsafe { run_cluster(raw, &block, message.as_mut_ptr().cast(), message.len()) };
    if done {
        return Ok(());
    }
    let message = CStr::from_bytes_until_nul(&message).unwrap_or_default();
    Err(message.to_string_lossy().into_owned())
}
