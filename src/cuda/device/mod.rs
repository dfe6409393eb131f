//! Where kernels run: a device interface of a dozen calls, and its implementations.
//!
//! One stream executes everything in order, except prefetched copies. A launch says what it costs, so benches and
//! profiles need not know the operation.

mod driver;
mod dry;
mod emulated;
#[cfg(feature = "ptx")]
mod ptx;

pub use driver::{Driver, Gpu, Replacement, architectures, driver_version, entry_points};
pub use dry::{COPY, Dry, Event};
pub use emulated::Emulated;
#[cfg(feature = "ptx")]
pub use ptx::{Compiled, PtxMachine};

use super::choice::Choice;
use super::params::{Fields, TensorMap, integers, tensor_maps};
use super::variant::Variant;
use crate::arriving::Arriving;
use crate::error::{Error, Result};
use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

/// Memory on a device; freed when dropped.
pub trait Memory: Any + Debug + Send {
    /// Bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address of its first byte, for kernels.
    fn address(&self) -> u64;
}

/// The panic's message for memory of another device.
const FOREIGN: &str = "a device takes only the memory that it allocated";

/// One launch of a kernel: `grid` blocks of `threads` threads.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Entry point.
    pub kernel: &'a str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block. Each kernel takes one number only.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The bytes of the kernel's one parameter, a struct.
    pub params: &'a [u8],
    /// The fields of that struct.
    pub fields: Fields,
    /// Floating-point operations of the whole launch.
    pub flops: u64,
    /// The least bytes of global memory that it must move.
    pub bytes: u64,
    /// How its tile was chosen, if the operation has several.
    pub choice: Option<&'a Choice>,
}

impl Launch<'_> {
    /// The tensor maps at the head of the parameters, in this program's form.
    pub(crate) fn tensor_maps(&self) -> impl Iterator<Item = TensorMap> {
        let maps = self.params.chunks_exact(size_of::<TensorMap>()).map(bytemuck::pod_read_unaligned);
        maps.take(tensor_maps(self.fields))
    }

    /// The integers among the parameters, such as sizes: their names and values.
    pub fn integers(&self) -> Vec<(&'static str, i32)> {
        integers(self.fields, self.params)
    }

    /// An [`Error::Launch`] for this launch.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        let Self { grid, threads, shared_bytes, .. } = *self;
        Error::Launch { kernel: self.kernel.to_owned(), grid, threads, shared_bytes, problem: problem.into() }
    }
}

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Bytes that nobody uses.
    pub free: u64,
    /// All bytes.
    pub total: u64,
}

/// Multiprocessors of an H100, for which the kernels are made. The devices that are not GPUs choose tiles as it would.
pub const H100_MULTIPROCESSORS: usize = 132;

/// The most shared memory of a block on an H100, in bytes.
pub const H100_MOST_SHARED: usize = 227 << 10;

/// A device that kernels run on.
///
/// It takes only the memory that it allocated.
pub trait Device: Debug + Send + Sync {
    /// The device's name, for messages and records.
    fn name(&self) -> String;

    /// Multiprocessors, which the blocks of a launch share; at least one.
    fn multiprocessors(&self) -> usize;

    /// The most shared memory of a block, in bytes. A multiprocessor has 1 KiB more, which every block takes in addition
    /// to its own.
    fn most_shared(&self) -> usize;

    /// Which variant of a kernel it runs, where there are several.
    fn variant(&self) -> Variant;

    /// Makes the device run `variant` of each kernel that has it.
    ///
    /// # Errors
    /// [`Error::Device`] if the device cannot run it.
    fn set_variant(&mut self, variant: Variant) -> Result<()>;

    /// Whether it can run kernels of this variant.
    fn runs(&self, variant: Variant) -> bool {
        variant.kernels().iter().any(|kernel| self.has(kernel))
    }

    /// Whether it can run this kernel: a file of kernels may be for one architecture only.
    fn has(&self, kernel: &str) -> bool {
        let _ = kernel;
        true
    }

    /// Allocates `bytes` bytes with unspecified contents, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`] if the device does not answer.
    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>>;

    /// As [`Self::alloc`], for a parameter. A device may log parameters and activations separately.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_weight(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.alloc(bytes)
    }

    /// Hands out a range of a buffer as if it were a buffer, with unspecified contents, until [`Self::take_back`].
    ///
    /// From the first range on, kernels must not touch the rest of the buffer. The emulator refuses such accesses, and
    /// fills the range with wild values, which show where a kernel reads it before it is written.
    fn hand_out(&self, memory: &mut dyn Memory, range: Range<usize>) {
        let _ = (memory, range);
    }

    /// Takes back a range that [`Self::hand_out`] handed out.
    fn take_back(&self, memory: &dyn Memory, range: Range<usize>) {
        let _ = (memory, range);
    }

    /// A run of loaded weights begins; all that was allocated since the last such call is free again. A planned memory starts
    /// again at its place of the first call, so one plan serves any number of equal runs.
    fn begin_run(&self) {}

    /// A place that every run of a memory plan passes; whether it may have allocated less than was rehearsed since the last one.
    fn landmark(&self, _less: bool) {}

    /// Copies `host` to the memory, from byte `offset` on.
    ///
    /// # Errors
    /// [`Error::Device`] if the copy fails.
    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()>;

    /// Orders the prefetched copies that follow. They wait for every launch before this call, and run beside the
    /// launches after it. They may write to memory that was allocated before this call.
    ///
    /// # Errors
    /// [`Error::Device`] if the device does not answer.
    fn order_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// Prefetches: as [`Self::write`], but kernels see the bytes only after [`Self::finish_prefetch`].
    ///
    /// # Errors
    /// [`Error::Device`] if the copy fails.
    fn write_prefetched(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.write(memory, offset, host)
    }

    /// Makes all prefetched bytes visible to the kernels that are launched after this call.
    ///
    /// # Errors
    /// [`Error::Device`] if the device does not answer.
    fn finish_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// Waits for every earlier launch, then copies the memory from byte `offset` on into `host`.
    ///
    /// # Errors
    /// [`Error::Device`] if the copy or an earlier kernel fails.
    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()>;

    /// Starts a copy of `bytes` bytes from `offset` on, in the order of launches. Later launches may change the memory,
    /// and the caller may free it.
    ///
    /// # Errors
    /// As for [`Self::read`]. [`Arriving::bytes`] reports later failures.
    fn read_behind(&self, memory: &dyn Memory, offset: usize, bytes: usize) -> Result<Box<dyn Arriving>> {
        let mut host = vec![0; bytes];
        self.read(memory, offset, &mut host)?;
        Ok(Box::new(host))
    }

    /// Launches a kernel.
    ///
    /// # Errors
    /// [`Error::Launch`]; [`Error::Device`] if the device does not answer.
    fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Measures how long the device works on the launches of `work`. A device with its own clock leaves out the host's
    /// copies and waits.
    ///
    /// # Errors
    /// The errors of `work`; [`Error::Device`] if the device does not answer.
    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration>;

    /// Evicts all buffers from the device's caches, if the device has any.
    ///
    /// # Errors
    /// [`Error::Device`] if the device does not answer, [`Error::OutOfMemory`] if there is no room for the buffer that
    /// replaces them.
    fn clear_caches(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until every launch is done.
    ///
    /// # Errors
    /// [`Error::Device`] if a kernel failed.
    fn synchronize(&self) -> Result<()>;

    /// The free and the total memory.
    ///
    /// # Errors
    /// [`Error::Device`] if the device does not answer.
    fn memory_info(&self) -> Result<MemoryInfo>;
}
