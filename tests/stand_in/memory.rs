//! Memory of the GPU, in one pool, and pinned memory of the host.
//!
//! Memory of the GPU is a buffer of the emulator. Kernels may touch it only while it is live: from the moment when its
//! allocation runs on the stream until its free runs. Both fill it with wild values.

use crate::Outcome;
use crate::streams::Point;
use cudarc::driver::sys::CUresult;
use osp::cuda::device::{Device, Emulated, Memory};
use std::collections::BTreeMap;

/// The GPU's only pool, which holds all of its memory.
pub struct Pool {
    pub emulated: Emulated,
    blocks: BTreeMap<u64, Block>,
    /// Memory that was lost, which keeps its address.
    lost: Vec<Box<dyn Memory>>,
    total: usize,
    /// Bytes that the pool keeps when the host synchronises.
    pub threshold: u64,
}

/// Memory that the pool has from the GPU.
struct Block {
    memory: Box<dyn Memory>,
    /// Bytes that the host has allocated and not freed.
    held: Option<usize>,
    /// Bytes that the stream has allocated and not freed. The host is ahead of it.
    live: Option<usize>,
    /// Where the stream frees what the host freed last.
    freed: Option<Point>,
}

impl Pool {
    pub fn new(total: usize) -> Self {
        Self { emulated: Emulated::new(0), blocks: BTreeMap::new(), lost: Vec::new(), total, threshold: 0 }
    }

    /// Free and total bytes. Memory that the pool keeps is not free.
    pub fn info(&self) -> (usize, usize) {
        (self.total - self.reserved(), self.total)
    }

    fn reserved(&self) -> usize {
        self.blocks.values().map(|block| block.memory.len()).sum()
    }

    /// Hands out the address of `bytes` bytes for a stream. Memory that was freed may be handed out again if its free
    /// has run, or comes earlier on the same stream ("Stream Ordered Memory Allocator" in the CUDA C++ Programming
    /// Guide). `reuse`: whether it is, where there is a choice.
    pub fn allocate(
        &mut self,
        bytes: usize,
        stream: usize,
        reuse: bool,
        reached: impl Fn(Point) -> bool,
    ) -> Outcome<u64> {
        if bytes == 0 {
            return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
        }
        let fits = |block: &Block| {
            let usable = block.freed.is_some_and(|point| point.stream == stream || reached(point));
            block.held.is_none() && usable && (bytes..=2 * bytes).contains(&block.memory.len())
        };
        let old = self.blocks.iter().filter(|(_, block)| fits(block)).min_by_key(|(_, block)| block.memory.len());
        let old = old.map(|(&address, _)| address);
        let room = self.reserved().saturating_add(bytes) <= self.total;
        let address = match old {
            Some(address) if reuse || !room => address,
            _ if room => self.extend(bytes),
            _ => return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY),
        };
        let block = self.blocks.get_mut(&address).expect("it was just found or made");
        (block.held, block.freed) = (Some(bytes), None);
        Ok(address)
    }

    fn extend(&mut self, bytes: usize) -> u64 {
        let mut memory = self.emulated.alloc(bytes).expect("the emulator has the host's memory");
        // No kernel may touch it before its allocation runs.
        self.emulated.hand_out(&mut *memory, 0..0);
        self.emulated.take_back(&*memory, 0..0);
        let address = memory.address();
        self.blocks.insert(address, Block { memory, held: None, live: None, freed: None });
        address
    }

    /// Notes that the host frees the memory at `address`, when its stream reaches `point`.
    pub fn release(&mut self, address: u64, point: Point) -> Outcome<()> {
        let block = self.blocks.get_mut(&address).filter(|block| block.held.is_some());
        let block = block.ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)?;
        (block.held, block.freed) = (None, Some(point));
        Ok(())
    }

    /// Gives the memory at `address` back to the GPU, whatever uses it. Nobody gets this address again, so every later
    /// use of it is an error.
    pub fn lose(&mut self, address: u64) {
        let Some(Block { memory, live, .. }) = self.blocks.remove(&address) else { return };
        if let Some(bytes) = live {
            self.emulated.take_back(&*memory, 0..bytes);
        }
        self.lost.push(memory);
    }

    /// Gives memory back to the GPU that nobody uses, until the pool keeps at most `kept` bytes.
    pub fn trim(&mut self, kept: u64, reached: impl Fn(Point) -> bool) {
        let mut reserved = self.reserved() as u64;
        self.blocks.retain(|_, block| {
            let unused = block.held.is_none() && block.live.is_none() && block.freed.is_none_or(&reached);
            let keep = !unused || reserved <= kept;
            reserved -= if keep { 0 } else { block.memory.len() as u64 };
            keep
        });
    }

    /// Whether an allocation of the host begins at this address.
    pub fn allocated(&self, address: u64) -> bool {
        self.blocks.get(&address).is_some_and(|block| block.held.is_some())
    }

    /// Whether the host has allocated these bytes.
    pub fn holds(&self, address: u64, bytes: usize) -> bool {
        let block = self.blocks.range(..=address).next_back();
        let held = block.and_then(|(start, block)| Some(((address - start) as usize, block.held?)));
        held.is_some_and(|(offset, held)| offset < held && offset + bytes <= held)
    }

    /// Runs an allocation of `bytes` bytes.
    pub fn begin(&mut self, address: u64, bytes: usize) {
        let Some(block) = self.blocks.get_mut(&address) else { return };
        // Fills it with wild values.
        self.emulated.hand_out(&mut *block.memory, 0..bytes);
        block.live = Some(bytes);
    }

    /// Runs a free.
    pub fn end(&mut self, address: u64) {
        let Some(block) = self.blocks.get_mut(&address) else { return };
        let Some(bytes) = block.live.take() else { return };
        self.emulated.hand_out(&mut *block.memory, 0..bytes);
        self.emulated.take_back(&*block.memory, 0..bytes);
    }

    /// The live memory with these bytes, and where they begin in it.
    fn live(&mut self, address: u64, bytes: usize) -> Outcome<(&Emulated, &mut dyn Memory, usize)> {
        let block = self.blocks.range_mut(..=address).next_back();
        let block = block.map(|(&start, block)| ((address - start) as usize, block));
        let block = block.filter(|(offset, block)| block.live.is_some_and(|live| offset + bytes <= live));
        let (offset, block) = block.ok_or(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)?;
        Ok((&self.emulated, &mut *block.memory, offset))
    }

    pub fn write(&mut self, address: u64, host: &[u8]) -> Outcome<()> {
        let (emulated, memory, offset) = self.live(address, host.len())?;
        emulated.write(memory, offset, host).map_err(|_| CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)
    }

    pub fn read(&mut self, address: u64, host: &mut [u8]) -> Outcome<()> {
        let (emulated, memory, offset) = self.live(address, host.len())?;
        emulated.read(memory, offset, host).map_err(|_| CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)
    }
}

/// Pinned memory of the host, by address.
#[derive(Default)]
pub struct Pinned(BTreeMap<usize, Vec<Line>>);

/// Bytes with the alignment of pinned memory.
#[derive(Clone, Copy)]
#[repr(align(512))]
struct Line(#[allow(dead_code, reason = "the caller reads it by its address")] [u8; 512]);

impl Pinned {
    pub fn allocate(&mut self, bytes: usize) -> usize {
        let mut lines = vec![Line([0xCD; 512]); bytes.div_ceil(size_of::<Line>())];
        let address = lines.as_mut_ptr().addr();
        lines.as_mut_ptr().expose_provenance();
        self.0.insert(address, lines);
        address
    }

    pub fn free(&mut self, address: usize) -> Outcome<()> {
        self.0.remove(&address).map(drop).ok_or(CUresult::CUDA_ERROR_INVALID_VALUE)
    }

    /// Whether these bytes lie in pinned memory.
    pub fn holds(&self, address: usize, bytes: usize) -> bool {
        let below = self.0.range(..=address).next_back();
        below.is_some_and(|(start, lines)| address + bytes <= start + size_of_val(&lines[..]))
    }
}
