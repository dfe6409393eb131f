//! A device that executes nothing. It checks every call as far as that is possible without running a kernel, and keeps
//! a log.
//!
//! Full-size models run on it in seconds, without their memory and (see [`crate::weights::shapes`]) without their
//! weights. It counts the cost of a request, and shows what the request would allocate.

use super::driver::shared_on_all;
use super::{Device, Emulated, H100_MOST_SHARED, H100_MULTIPROCESSORS, Launch, Memory, MemoryInfo};
use crate::cuda::Variant;
use crate::cuda::params::{Addresses, Fields};
use crate::error::{Error, Relief, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most blocks in x, y and z.
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// The most threads of a block.
const MOST_THREADS: u32 = 1024;
/// Allocations start at multiples of this. A gap of at least this size lies behind each, so that an address just beyond
/// its end is in no allocation.
const ALIGNMENT: u64 = 256;

/// The first user of memory that the host writes to.
pub const COPY: &str = "copy";

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Memory was allocated.
    Alloc {
        /// Its first byte. No two allocations have the same address, even if one was freed before the other.
        address: u64,
        /// Its size.
        bytes: usize,
        /// Whether it is a parameter.
        weight: bool,
    },
    /// Memory of an activation is used for the first time.
    FirstUse {
        /// Its first byte.
        address: u64,
        /// The kernel that uses it; [`COPY`] if the host writes to it.
        by: &'static str,
    },
    /// Memory was freed.
    Free {
        /// Its first byte.
        address: u64,
    },
    /// Every run passes this place.
    Landmark,
    /// A kernel was launched.
    Launch {
        /// Entry point.
        kernel: &'static str,
        /// Blocks.
        grid: [u32; 3],
        /// Floating-point operations.
        flops: u64,
        /// The least bytes of global memory that it moves.
        bytes: u64,
    },
}

#[derive(Debug)]
struct State {
    /// All allocations, by their first byte.
    live: BTreeMap<u64, Live>,
    /// First byte of the next allocation.
    next: u64,
    live_bytes: u64,
    peak_bytes: u64,
    log: Vec<Event>,
    /// Kernels that were launched so far.
    known: HashMap<&'static str, Known>,
}

#[derive(Debug)]
struct Live {
    bytes: usize,
    /// Whether the log already has its first use, or needs none.
    used: bool,
}

/// A kernel, and the addresses in its parameters.
#[derive(Clone, Debug)]
struct Known {
    name: &'static str,
    threads: u32,
    fields: Fields,
    params_bytes: usize,
    addresses: Arc<Addresses>,
    /// The shared memory that a block may have on every GPU that the kernel is compiled for.
    most_shared: u32,
}

impl Known {
    fn fits(&self, launch: &Launch<'_>) -> bool {
        self.threads == launch.threads
            && self.params_bytes == launch.params.len()
            && std::ptr::eq(self.fields, launch.fields)
    }
}

/// A device that only counts.
#[derive(Debug)]
pub struct Dry {
    state: Arc<Mutex<State>>,
    /// The emulator, to look up kernels.
    kernels: Emulated,
    total: u64,
    multiprocessors: usize,
    most_shared: usize,
    variant: Variant,
}

impl Default for Dry {
    fn default() -> Self {
        Self::new()
    }
}

impl Dry {
    /// A device with unlimited memory.
    pub fn new() -> Self {
        Self::with_memory(u64::MAX)
    }

    /// A device with `total` bytes of memory, and the multiprocessors of an H100 with their shared memory.
    pub fn with_memory(total: u64) -> Self {
        let state = State {
            live: BTreeMap::new(),
            next: 1 << 40,
            live_bytes: 0,
            peak_bytes: 0,
            log: Vec::new(),
            known: HashMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            kernels: Emulated::new(0),
            total,
            multiprocessors: H100_MULTIPROCESSORS,
            most_shared: H100_MOST_SHARED,
            variant: Variant::default(),
        }
    }

    /// This device with another number of multiprocessors, at least one. Tiles are then chosen for such a GPU.
    #[must_use]
    pub fn with_multiprocessors(self, multiprocessors: usize) -> Self {
        Self { multiprocessors, ..self }
    }

    /// This device with at most `bytes` of shared memory for a block. Tiles are then chosen for such a GPU.
    #[must_use]
    pub fn with_most_shared(self, bytes: usize) -> Self {
        Self { most_shared: bytes, ..self }
    }

    /// This device with another variant of its kernels.
    #[must_use]
    pub fn with_variant(self, variant: Variant) -> Self {
        Self { variant, ..self }
    }

    /// This device, launching what `device` launches.
    #[must_use]
    pub fn like(self, device: &dyn Device) -> Self {
        let (multiprocessors, most_shared) = (device.multiprocessors(), device.most_shared());
        Self { multiprocessors, most_shared, variant: device.variant(), ..self }
    }

    /// All allocations, frees and launches, in order.
    pub fn log(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// Takes the log so far, and starts a new one.
    pub fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().log)
    }

    /// The most bytes that were allocated at once, without any rounding.
    pub fn peak_bytes(&self) -> u64 {
        self.state().peak_bytes
    }

    /// The number of allocations in the log.
    pub fn allocations(&self) -> usize {
        self.state().log.iter().filter(|event| matches!(event, Event::Alloc { .. })).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Allocates memory.
    fn give(&self, bytes: usize, weight: bool) -> Result<Box<dyn Memory>> {
        let mut state = self.state();
        let (needed, free) = (bytes as u64, self.total - state.live_bytes);
        if needed > free {
            return Err(Error::OutOfMemory { stage: "dry run".into(), needed, free, relief: Relief::Video });
        }
        let address = state.next;
        state.next += needed.next_multiple_of(ALIGNMENT) + ALIGNMENT;
        state.live.insert(address, Live { bytes, used: weight });
        state.live_bytes += needed;
        state.peak_bytes = state.peak_bytes.max(state.live_bytes);
        state.log.push(Event::Alloc { address, bytes, weight });
        Ok(Box::new(DryMemory { address, len: bytes, state: self.state.clone() }))
    }

    /// The kernel of a launch.
    fn known(&self, state: &mut State, launch: &Launch<'_>) -> Result<Known> {
        if let Some(known) = state.known.get(launch.kernel).filter(|known| known.fits(launch)) {
            return Ok(known.clone());
        }
        let name = self.kernels.find(launch)?.name();
        let Launch { threads, fields, params, .. } = *launch;
        let addresses = Arc::new(Addresses::among(fields));
        let (params_bytes, most_shared) = (params.len(), shared_on_all(name));
        let known = Known { name, threads, fields, params_bytes, addresses, most_shared };
        state.known.insert(name, known.clone());
        Ok(known)
    }
}

/// Refuses a launch that no GPU would take.
fn check_limits(launch: &Launch<'_>, most_shared: u32) -> std::result::Result<(), String> {
    let Launch { grid, threads, shared_bytes, .. } = *launch;
    if grid.iter().zip(MOST_BLOCKS).any(|(&blocks, most)| blocks == 0 || blocks > most) {
        return Err(format!("the grid must have between 1 and {MOST_BLOCKS:?} blocks in x, y and z"));
    }
    if threads == 0 || threads > MOST_THREADS {
        return Err(format!("a block must have between 1 and {MOST_THREADS} threads"));
    }
    if shared_bytes > most_shared {
        return Err(format!("a block may have at most {most_shared} bytes of shared memory"));
    }
    for (map, (_, name)) in launch.tensor_maps().zip(launch.fields) {
        map.check().map_err(|problem| format!("the tensor map {name}: {problem}"))?;
    }
    Ok(())
}

impl State {
    /// Logs that `by` uses the buffer at `address`, if that is its first use. False if the address is neither null nor
    /// in a buffer.
    fn touch(&mut self, address: u64, by: &'static str) -> bool {
        let below = self.live.range_mut(..=address).next_back();
        // A buffer of 0 bytes has an address, too.
        match below.filter(|(start, live)| address < **start + live.bytes.max(1) as u64) {
            Some((&start, live)) => {
                if !std::mem::replace(&mut live.used, true) {
                    self.log.push(Event::FirstUse { address: start, by });
                }
                true
            }
            None => address == 0,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A range of addresses with nothing behind it.
#[derive(Debug)]
struct DryMemory {
    address: u64,
    len: usize,
    state: Arc<Mutex<State>>,
}

impl Memory for DryMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DryMemory {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.live.remove(&self.address);
        state.live_bytes -= self.len as u64;
        state.log.push(Event::Free { address: self.address });
    }
}

impl Device for Dry {
    fn name(&self) -> String {
        "dry run".into()
    }

    fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    fn most_shared(&self) -> usize {
        self.most_shared
    }

    fn variant(&self) -> Variant {
        self.variant
    }

    fn set_variant(&mut self, variant: Variant) -> Result<()> {
        self.variant = variant;
        Ok(())
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.give(bytes, false)
    }

    fn alloc_weight(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        self.give(bytes, true)
    }

    fn landmark(&self, _: bool) {
        self.state().log.push(Event::Landmark);
    }

    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        assert!(offset + host.len() <= memory.len(), "the copy lies in the buffer");
        self.state().touch(memory.address(), COPY);
        Ok(())
    }

    /// Fills `host` with zeros.
    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()> {
        assert!(offset + host.len() <= memory.len(), "the copy lies in the buffer");
        host.fill(0);
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let state = &mut *self.state();
        let Known { name: kernel, addresses, most_shared, .. } = self.known(state, launch)?;
        check_limits(launch, most_shared).map_err(|problem| launch.error(problem))?;
        if let Some((name, address)) = addresses.read(launch.params).find(|&(_, address)| !state.touch(address, kernel))
        {
            return Err(launch.error(format!("{name} is {address:#x}, which is not in a buffer")));
        }
        let Launch { grid, flops, bytes, .. } = *launch;
        state.log.push(Event::Launch { kernel, grid, flops, bytes });
        Ok(())
    }

    /// Always zero.
    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        work().map(|()| Duration::ZERO)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        Ok(MemoryInfo { free: self.total - self.state().live_bytes, total: self.total })
    }
}
