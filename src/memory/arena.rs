//! One allocation for a whole stage. The memory plan says where each buffer lies in it.

use super::plan::{ALIGNMENT, MemoryPlan};
use crate::arriving::Arriving;
use crate::cuda::Variant;
use crate::cuda::device::{Device, Launch, Memory, MemoryInfo};
use crate::cuda::params::Addresses;
use crate::error::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A device whose memory is one block of another device's memory.
///
/// Allocations must come in the order of the plan, and none may be larger than planned: a run that differs from its rehearsal
/// is a bug of ours, and panics. Smaller ones occur, because a run is rehearsed with the longest caption of a batch. Some landmarks
/// of the rehearsal say that allocations since the last one may be missing.
#[derive(Debug)]
pub struct Arena {
    block: Arc<Block>,
}

#[derive(Debug)]
struct Block {
    device: Arc<dyn Device>,
    plan: Arc<MemoryPlan>,
    address: u64,
    memory: Mutex<Box<dyn Memory>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Allocations so far, those included that were left out before a landmark.
    allocations: usize,
    /// Landmarks so far.
    landmarks: usize,
    /// Where every run begins: allocations before it, and ranges that are handed out for all runs.
    run: Option<[usize; 2]>,
    /// The ranges that are handed out, as offsets: start to end.
    live: BTreeMap<u64, u64>,
}

/// A range of the block.
#[derive(Debug)]
struct Region {
    block: Arc<Block>,
    offset: u64,
    len: usize,
}

impl Arena {
    /// Allocates the planned number of bytes on `device`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(device: Arc<dyn Device>, plan: Arc<MemoryPlan>) -> Result<Self> {
        let memory = device.alloc(usize::try_from(plan.bytes).expect("an arena fits into the address space"))?;
        let address = memory.address();
        assert_eq!(address % ALIGNMENT, 0, "a device aligns its allocations");
        let (memory, state) = (Mutex::new(memory), Mutex::default());
        Ok(Self { block: Arc::new(Block { device, plan, address, memory, state }) })
    }

    /// Allocations so far.
    pub fn allocations(&self) -> usize {
        lock(&self.block.state).allocations
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Marks a free range as handed out.
    fn take(&mut self, range: Range<u64>) {
        let below = self.live.range(..range.end).next_back();
        assert!(below.is_none_or(|(_, &end)| end <= range.start), "the plan gives {range:?} to two buffers at once");
        self.live.insert(range.start, range.end);
    }

    fn holds(&self, offset: u64) -> bool {
        self.live.range(..=offset).next_back().is_some_and(|(_, &end)| offset < end)
    }
}

impl Block {
    /// Whether every address of a launch is null or in a range that is handed out.
    fn holds(&self, launch: &Launch<'_>) -> bool {
        let state = lock(&self.state);
        let inside = |address: u64| address.checked_sub(self.address).is_some_and(|offset| state.holds(offset));
        Addresses::among(launch.fields).read(launch.params).all(|(_, address)| address == 0 || inside(address))
    }

    /// The offset in the block of a byte of a buffer.
    fn at(&self, piece: &dyn Memory, offset: usize, len: usize) -> usize {
        assert!(offset + len <= piece.len(), "the copy lies in the buffer");
        (piece.address() - self.address) as usize + offset
    }
}

impl Memory for Region {
    fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.block.address + self.offset
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Block { device, memory, state, .. } = &*self.block;
        let (mut state, start) = (lock(state), self.offset as usize);
        device.take_back(&**lock(memory), start..start + self.len);
        state.live.remove(&self.offset);
    }
}

impl Device for Arena {
    fn name(&self) -> String {
        self.block.device.name()
    }

    fn multiprocessors(&self) -> usize {
        self.block.device.multiprocessors()
    }

    fn most_shared(&self) -> usize {
        self.block.device.most_shared()
    }

    fn variant(&self) -> Variant {
        self.block.device.variant()
    }

    fn set_variant(&mut self, _: Variant) -> Result<()> {
        unreachable!("a variant is chosen before the device is shared")
    }

    fn has(&self, kernel: &str) -> bool {
        self.block.device.has(kernel)
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn Memory>> {
        let block = &self.block;
        let mut state = lock(&block.state);
        let number = state.allocations;
        let Some(planned) = block.plan.buffers.get(number).filter(|planned| bytes <= planned.bytes) else {
            panic!(
                "allocation {number} of {bytes} bytes is not in the rehearsal: {:?}",
                block.plan.buffers.get(number)
            );
        };
        state.allocations += 1;
        state.take(planned.offset..planned.offset + planned.room());
        let start = planned.offset as usize;
        block.device.hand_out(&mut **lock(&block.memory), start..start + bytes);
        Ok(Box::new(Region { block: block.clone(), offset: planned.offset, len: bytes }))
    }

    fn begin_run(&self) {
        let state = &mut *lock(&self.block.state);
        let now = [state.allocations, state.live.len()];
        let [first, live] = *state.run.get_or_insert(now);
        assert_eq!(state.live.len(), live, "a run has freed all of its buffers");
        state.allocations = first;
        state.landmarks = self.block.plan.landmarks.partition_point(|&before| before < first);
    }

    fn landmark(&self, less: bool) {
        let state = &mut *lock(&self.block.state);
        let (number, made) = (state.landmarks, state.allocations);
        let planned = self.block.plan.landmarks.get(number).copied();
        let planned = planned.filter(|&planned| made == planned || less && made < planned);
        let there =
            planned.unwrap_or_else(|| panic!("landmark {number} after {made} allocations is not in the rehearsal"));
        (state.allocations, state.landmarks) = (there, number + 1);
    }

    fn write(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        let offset = self.block.at(memory, offset, host.len());
        self.block.device.write(&mut **lock(&self.block.memory), offset, host)
    }

    fn order_prefetch(&self) -> Result<()> {
        self.block.device.order_prefetch()
    }

    fn write_prefetched(&self, memory: &mut dyn Memory, offset: usize, host: &[u8]) -> Result<()> {
        let offset = self.block.at(memory, offset, host.len());
        self.block.device.write_prefetched(&mut **lock(&self.block.memory), offset, host)
    }

    fn finish_prefetch(&self) -> Result<()> {
        self.block.device.finish_prefetch()
    }

    fn read(&self, memory: &dyn Memory, offset: usize, host: &mut [u8]) -> Result<()> {
        let offset = self.block.at(memory, offset, host.len());
        self.block.device.read(&**lock(&self.block.memory), offset, host)
    }

    fn read_behind(&self, memory: &dyn Memory, offset: usize, bytes: usize) -> Result<Box<dyn Arriving>> {
        let offset = self.block.at(memory, offset, bytes);
        self.block.device.read_behind(&**lock(&self.block.memory), offset, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        debug_assert!(self.block.holds(launch), "{} gets an address outside of every buffer", launch.kernel);
        self.block.device.launch(launch)
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.block.device.timed(work)
    }

    fn synchronize(&self) -> Result<()> {
        self.block.device.synchronize()
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        self.block.device.memory_info()
    }
}
