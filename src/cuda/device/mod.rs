//! Where kernels run: a device interface of a dozen calls, and what implements it.
//!
//! Everything goes through one stream in order, but for prefetched copies. A launch says what it costs, so that
//! whoever counts (benches, profiles) need not know the operation.

mod driver;
mod dry;
mod emulated;

pub use driver::{Driver, Gpu, Replacement, architectures, driver_version, entry_points};
pub use dry::{COPY, Dry, Event};
pub use emulated::Emulated;

use super::choice::Choice;
use super::params::Fields;
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

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kernels take for its first byte.
    fn address(&self) -> u64;
}

/// One launch of a kernel: `grid` blocks of the kernel's own number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Entry point.
    pub kernel: &'a str,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// The kernel's one parameter, as its bytes.
    pub params: &'a [u8],
    /// What these bytes are.
    pub fields: Fields,
    /// Floating-point operations of the whole launch.
    pub flops: u64,
    /// Bytes of global memory that it must move at least.
    pub bytes: u64,
    /// Why this kernel, where there was a choice.
    pub choice: Option<&'a Choice>,
}

impl Launch<'_> {
    /// An [`Error::Launch`] for this launch.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        let Self { grid, threads, shared_bytes, .. } = *self;
        Error::Launch { kernel: self.kernel.to_owned(), grid, threads, shared_bytes, problem: problem.into() }
    }
}

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Not in use by anyone.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// Multiprocessors of an H100, for which the kernels are made: devices that are no GPU choose tiles as it would.
pub const H100_MULTIPROCESSORS: usize = 132;

/// A device that kernels run on.
///
/// It takes the memory that it gave, and no other device's.
pub trait Device: Debug + Send + Sync {
    /// What this is, for messages and records.
    fn name(&self) -> String;

    /// Multiprocessors, which the blocks of a launch share; at least one.
    fn multiprocessors(&self) -> usize;

    /// `bytes` bytes with unspecified contents, aligned to 256.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Device`] if it does not answer.
    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>>;

    /// The same for a parameter, for whoever tells parameters from activations.
    ///
    /// # Errors
    /// As for [`Self::alloc`].
    fn alloc_weight(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.alloc(bytes)
    }

    /// Hands out a range of a buffer as if it were a buffer, with unspecified contents, until [`Self::take_back`].
    ///
    /// From the first range on, kernels have no business with what of the buffer is not handed out. A device that can tell
    /// refuses such accesses, and makes the range unlike anything sensible, to show what reads it before it is written.
    fn hand_out(&self, memory: &mut dyn Memory, range: Range<usize>) {
        let _ = (memory, range);
    }

    /// Ends what [`Self::hand_out`] began.
    fn take_back(&self, memory: &dyn Memory, range: Range<usize>) {
        let _ = (memory, range);
    }

    /// Copies `host` to `offset` and on.
    ///
    /// # Errors
    /// [`Error::Device`] if the copy fails.
    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()>;

    /// Orders the prefetched copies that follow: they wait for everything that was launched before this call, and run beside
    /// what is launched after it. They may write to memory that was allocated before this call.
    ///
    /// # Errors
    /// [`Error::Device`] if it does not answer.
    fn order_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// Prefetch: as [`Self::write`], but kernels see the bytes only after [`Self::finish_prefetch`].
    ///
    /// # Errors
    /// [`Error::Device`] if the copy fails.
    fn write_prefetched(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        self.write(memory, offset, host)
    }

    /// Kernels that are launched after this call see all prefetched bytes.
    ///
    /// # Errors
    /// [`Error::Device`] if it does not answer.
    fn finish_prefetch(&self) -> Result<()> {
        Ok(())
    }

    /// Copies from `offset` on into `host`, when everything launched before is done.
    ///
    /// # Errors
    /// [`Error::Device`] if the copy fails, or a kernel that was launched before.
    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()>;

    /// Starts a copy of `bytes` bytes from `offset` on, in the order of launches: what is launched from here on may change
    /// the memory, and the memory may be freed.
    ///
    /// # Errors
    /// As for [`Self::read`]. [`Arriving::bytes`] tells what goes wrong later.
    fn read_behind(&self, memory: &dyn Memory, offset: usize, bytes: usize) -> Result<Box<dyn Arriving>> {
        let mut host = vec![0; bytes];
        self.read(memory, offset, &mut host)?;
        Ok(Box::new(host))
    }

    /// Launches a kernel.
    ///
    /// # Errors
    /// [`Error::Launch`]; [`Error::Device`] if it does not answer.
    fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// How long the device takes for what `work` puts on it, copies and waits of the host left out where the device can
    /// tell.
    ///
    /// # Errors
    /// Those of `work`; [`Error::Device`] if it does not answer.
    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration>;

    /// Leaves nothing of any buffer in the device's caches, where a device has some that matter.
    ///
    /// # Errors
    /// [`Error::Device`] if it does not answer, [`Error::OutOfMemory`] if there is no room for what takes their place.
    fn clear_caches(&self) -> Result<()> {
        Ok(())
    }

    /// Waits until everything launched is done.
    ///
    /// # Errors
    /// [`Error::Device`] if a kernel went wrong.
    fn synchronize(&self) -> Result<()>;

    /// How much memory there is.
    ///
    /// # Errors
    /// [`Error::Device`] if it does not answer.
    fn memory_info(&self) -> Result<MemoryInfo>;
}
