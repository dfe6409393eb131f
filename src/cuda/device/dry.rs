//! A device that executes nothing: it checks every call as far as that goes without running a kernel, and keeps a log.
//!
//! Full-size models pass over it in seconds, with neither their memory nor (see [`crate::weights::shapes`]) their weights:
//! to count what a request costs, and to see what it would allocate.

use super::{Device, Emulated, Launch, Memory, MemoryInfo};
use crate::cuda::params::addresses;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most blocks in x, y and z.
const MOST_BLOCKS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Most threads of a block.
const MOST_THREADS: u32 = 1024;
/// Most shared memory of a block on every GPU that the kernels are compiled for.
const MOST_SHARED: u32 = 99 << 10;
/// Allocations start on multiples of this, and as much lies between them, so that a step beyond one is in none.
const ALIGNMENT: u64 = 256;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Memory was given out.
    Alloc {
        /// Its first byte; no two allocations have the same, even if one comes after the other.
        address: u64,
        /// Its size.
        bytes: usize,
    },
    /// Memory was given back.
    Free {
        /// Its first byte.
        address: u64,
    },
    /// A kernel was launched.
    Launch {
        /// Entry point.
        kernel: String,
        /// Blocks.
        grid: [u32; 3],
        /// Floating-point operations.
        flops: u64,
        /// Bytes of global memory moved at least.
        bytes: u64,
    },
}

#[derive(Debug)]
struct State {
    /// Starts and sizes of all that is allocated.
    live: BTreeMap<u64, usize>,
    /// Where the next allocation starts.
    next: u64,
    live_bytes: u64,
    peak_bytes: u64,
    log: Vec<Event>,
}

/// A device that only counts.
#[derive(Debug)]
pub struct Dry {
    state: Arc<Mutex<State>>,
    /// Knows all kernels.
    kernels: Emulated,
    total: u64,
}

impl Default for Dry {
    fn default() -> Self {
        Self::new()
    }
}

impl Dry {
    /// A device on which everything has room.
    pub fn new() -> Self {
        Self::with_memory(u64::MAX)
    }

    /// A device with so many bytes.
    pub fn with_memory(total: u64) -> Self {
        let state = State { live: BTreeMap::new(), next: 1 << 40, live_bytes: 0, peak_bytes: 0, log: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), kernels: Emulated::new(0), total }
    }

    /// All allocations, frees and launches, in order.
    pub fn log(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// Most bytes that were allocated at once, as they were asked for.
    pub fn peak_bytes(&self) -> u64 {
        self.state().peak_bytes
    }

    /// How often memory was asked for.
    pub fn allocations(&self) -> usize {
        self.state().log.iter().filter(|event| matches!(event, Event::Alloc { .. })).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What no GPU would take, or what would go wrong on one.
    fn check(&self, launch: &Launch<'_>) -> std::result::Result<(), String> {
        let Launch { grid, threads, shared_bytes, .. } = *launch;
        if grid.iter().zip(MOST_BLOCKS).any(|(&blocks, most)| blocks == 0 || blocks > most) {
            return Err(format!("the grid has a side of none, or of more than {MOST_BLOCKS:?} blocks"));
        }
        if threads == 0 || threads > MOST_THREADS {
            return Err(format!("a block has between 1 and {MOST_THREADS} threads"));
        }
        if shared_bytes > MOST_SHARED {
            return Err(format!("a block may have {MOST_SHARED} bytes of shared memory"));
        }
        let state = self.state();
        match addresses(launch.fields, launch.params).into_iter().find(|&(_, address)| !state.holds(address)) {
            Some((name, address)) => Err(format!("{name} is {address:#x}, which is in no buffer")),
            None => Ok(()),
        }
    }
}

impl State {
    /// Whether an address is null or lies in something that is allocated.
    fn holds(&self, address: u64) -> bool {
        let below = self.live.range(..=address).next_back();
        // A buffer of nothing has an address too.
        address == 0 || below.is_some_and(|(&start, &bytes)| address < start + bytes.max(1) as u64)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A range of addresses with nothing behind it.
#[derive(Debug)]
pub struct DryMemory {
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
    type Memory = DryMemory;

    fn name(&self) -> String {
        "dry run".into()
    }

    fn alloc(&self, bytes: usize) -> Result<DryMemory> {
        let mut state = self.state();
        let (needed, free) = (bytes as u64, self.total - state.live_bytes);
        if needed > free {
            let suggestion = "ask for fewer frames or a smaller size".into();
            return Err(Error::OutOfMemory { stage: "dry run".into(), needed, free, suggestion });
        }
        let address = state.next;
        state.next += needed.next_multiple_of(ALIGNMENT) + ALIGNMENT;
        state.live.insert(address, bytes);
        state.live_bytes += needed;
        state.peak_bytes = state.peak_bytes.max(state.live_bytes);
        state.log.push(Event::Alloc { address, bytes });
        Ok(DryMemory { address, len: bytes, state: self.state.clone() })
    }

    fn write(&self, memory: &mut DryMemory, offset: usize, host: &[u8]) -> Result<()> {
        assert!(offset + host.len() <= memory.len, "the copy lies in the buffer");
        Ok(())
    }

    /// Zeros.
    fn read(&self, memory: &DryMemory, offset: usize, host: &mut [u8]) -> Result<()> {
        assert!(offset + host.len() <= memory.len, "the copy lies in the buffer");
        host.fill(0);
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        self.kernels.find(launch)?;
        self.check(launch).map_err(|problem| Error::launch(launch, problem))?;
        let Launch { kernel, grid, flops, bytes, .. } = *launch;
        self.state().log.push(Event::Launch { kernel: kernel.to_owned(), grid, flops, bytes });
        Ok(())
    }

    /// No time at all.
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
