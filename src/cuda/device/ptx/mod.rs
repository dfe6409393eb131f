//! The PTX machine: runs the PTX that nvcc makes of the kernels on the CPU, instruction by instruction.
//!
//! The emulator runs the kernels' sources; this machine runs what a GPU's assembler gets. It checks what the emulator
//! cannot: registers that are read before they are written, the alignment of every access as compiled, the lanes that
//! meet at each instruction, parameters as declared, and races in shared and global memory, by vector clocks.
//!
//! A warp's instruction is a loop over rows of 32 lanes. Matrix products are the emulator's. Memory, too: the machine
//! contains an emulator, and only launches differ.

mod block;
mod bulk;
mod clocks;
mod cluster;
mod compare;
mod copies;
mod decode;
mod flights;
mod forms;
mod gather;
mod kernels;
mod mbarrier;
mod memory;
mod parse;
mod program;
mod random;
mod registers;
mod shadow;
mod stores;
mod tensor;
mod text;
mod warp;
mod warpgroup;
mod wgmma;

pub use kernels::Compiled;

use super::driver::list;
use super::emulated::Region;
use super::{Device, Emulated, Launch, Memory as DeviceMemory, MemoryInfo};
use crate::cuda::Variant;
use crate::error::Result;
use block::Worker;
use clocks::Stamp;
use kernels::Kernels;
use memory::{Memory, Shape};
use program::Program;
use rayon::prelude::*;
use registers::LANES;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use text::Text;
use warp::Position;

/// A machine that runs PTX on all threads of rayon's pool.
#[derive(Clone, Debug)]
pub struct PtxMachine {
    memory: Emulated,
    kernels: Arc<Kernels>,
    seed: u64,
    /// Whether each launch also runs on the emulator, and must give the same bits there.
    compares: bool,
}

impl PtxMachine {
    /// A machine that runs the program's own PTX, except for the files of the folder `OSP_KERNELS`. `seed` decides which
    /// warp runs, how far it runs ahead, and which lanes go first after a branch; 0 is the plain order.
    ///
    /// # Errors
    /// [`Error::Device`] if the program was built without nvcc; [`Error::Usage`] if a replacement is not PTX.
    pub fn new(compiled: Compiled, seed: u64) -> Result<Self> {
        Ok(Self::of(Kernels::of_program(compiled)?, seed))
    }

    /// A machine that runs other PTX: the name of each file, for messages, and its text.
    pub fn with_texts(texts: Vec<(String, String)>, seed: u64) -> Self {
        Self::of(Kernels::new(texts.into_iter().map(|(name, text)| Text::new(name, text)).collect()), seed)
    }

    fn of(kernels: Kernels, seed: u64) -> Self {
        Self { memory: Emulated::new(seed), kernels: Arc::new(kernels), seed, compares: false }
    }

    /// This machine, but each launch also runs on the emulator, and must leave the same bits in all buffers.
    #[must_use]
    pub fn comparing(self) -> Self {
        Self { compares: true, ..self }
    }

    /// A message for each instruction of its kernels that the machine does not know.
    pub fn unknown(&self) -> Vec<String> {
        self.kernels.unknown()
    }

    /// Runs a launch, and checks what its blocks did to each other.
    fn run(&self, launch: &Launch<'_>, regions: &[Region]) -> std::result::Result<(), String> {
        let (text, program) = self.kernels.find(launch.kernel)?;
        check_declaration(launch, &program)?;
        let blocks = launch.grid.iter().map(|&blocks| u64::from(blocks)).product::<u64>();
        let cluster = u64::from(program.cluster);
        let (next, workers) = (AtomicU64::new(0), (blocks / cluster).min(rayon::current_num_threads() as u64));
        let shape = Shape {
            blocks: program.cluster as usize,
            warps: (launch.threads as usize).div_ceil(LANES),
            shared_bytes: launch.shared_bytes as usize,
        };
        let work = |_| {
            let memory = Memory::new(text, launch.params, regions, shape);
            let mut worker = Worker::new(text, &program, memory, shape, self.seed);
            loop {
                let first = next.fetch_add(cluster, Ordering::Relaxed);
                if first >= blocks {
                    return Ok(worker.memory);
                }
                let positions: Vec<_> =
                    (first..first + cluster).map(|number| position(launch, number, program.cluster)).collect();
                if let Err(problem) = worker.run(first, &positions) {
                    // The other workers stop, too.
                    next.store(blocks, Ordering::Relaxed);
                    return Err(format!("{}, {problem}", launch.kernel));
                }
            }
        };
        let mut memories = (0..workers).into_par_iter().map(work).collect::<std::result::Result<Vec<_>, _>>()?;
        check_blocks(text, &mut memories).map_err(|problem| format!("{}: {problem}", launch.kernel))
    }
}

/// Block number `number`, x fastest.
fn position(launch: &Launch<'_>, number: u64, cluster: u32) -> Position {
    let [x, y, _] = launch.grid.map(u64::from);
    let block = [(number % x) as u32, (number / x % y) as u32, (number / x / y) as u32];
    Position { threads: launch.threads, grid: launch.grid, block, cluster }
}

/// Fails if the launch differs from what the kernel declares.
fn check_declaration(launch: &Launch<'_>, program: &Program) -> std::result::Result<(), String> {
    let (bytes, found) = (program.parameter_bytes, launch.params.len());
    if bytes != found {
        return Err(format!("the kernel declares {bytes} parameter bytes, the launch has {found}"));
    }
    if !launch.grid[0].is_multiple_of(program.cluster) {
        let (cluster, grid) = (program.cluster, launch.grid[0]);
        return Err(format!("the kernel declares clusters of {cluster} blocks, the launch has {grid} blocks along x"));
    }
    let warps = launch.threads.div_ceil(LANES as u32) * program.cluster;
    if warps as usize * LANES > Stamp::THREADS {
        return Err(format!("a cluster of {warps} warps, the PTX machine has clocks for {}", Stamp::THREADS / LANES));
    }
    match program.threads {
        Some(threads) if threads != u64::from(launch.threads) => {
            Err(format!("the kernel declares {threads} threads, the launch has {}", launch.threads))
        }
        _ => Ok(()),
    }
}

/// Fails if blocks of different workers touched the same byte, and one of them wrote. Each worker has compared its own
/// blocks.
fn check_blocks(text: &Text, memories: &mut [Memory<'_>]) -> std::result::Result<(), String> {
    for second in 1..memories.len() {
        let (before, after) = memories.split_at_mut(second);
        for first in before {
            let histories = first.histories.iter_mut().zip(&mut after[0].histories).enumerate();
            let found = histories.into_iter().find_map(|(buffer, (a, b))| Some((buffer, a.conflict_with(b)?)));
            if let Some((buffer, (a, b, at))) = found {
                let (block_a, block_b) = (first.block_at(a), after[0].block_at(b));
                let (a, b) = (text.place(a.line()), text.place(b.line()));
                return Err(format!(
                    "race: byte {at} of the launch's buffer {buffer} is touched by block number {block_a}, {a}, and by \
                     block number {block_b}, {b}"
                ));
            }
        }
    }
    Ok(())
}

impl Device for PtxMachine {
    fn name(&self) -> String {
        let replaced = match &self.kernels.replaced[..] {
            [] => String::new(),
            replaced => format!(" with other kernels: {}", list(replaced)),
        };
        let compares = if self.compares { ", compared with the emulator" } else { "" };
        format!("PTX machine ({} threads{compares}){replaced}", rayon::current_num_threads())
    }

    fn multiprocessors(&self) -> usize {
        self.memory.multiprocessors()
    }

    fn most_shared(&self) -> usize {
        self.memory.most_shared()
    }

    fn variant(&self) -> Variant {
        self.memory.variant()
    }

    fn set_variant(&mut self, variant: Variant) -> Result<()> {
        self.memory.set_variant(variant)
    }

    fn has(&self, kernel: &str) -> bool {
        self.kernels.has(kernel)
    }

    fn alloc(&self, bytes: usize) -> Result<Box<dyn DeviceMemory>> {
        self.memory.alloc(bytes)
    }

    fn hand_out(&self, memory: &mut dyn DeviceMemory, range: Range<usize>) {
        self.memory.hand_out(memory, range);
    }

    fn take_back(&self, memory: &dyn DeviceMemory, range: Range<usize>) {
        self.memory.take_back(memory, range);
    }

    fn write(&self, memory: &mut dyn DeviceMemory, offset: usize, host: &[u8]) -> Result<()> {
        self.memory.write(memory, offset, host)
    }

    fn read(&self, memory: &dyn DeviceMemory, offset: usize, host: &mut [u8]) -> Result<()> {
        self.memory.read(memory, offset, host)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let regions = self.memory.regions(launch);
        let run = || self.run(launch, &regions).map_err(|problem| launch.error(problem));
        if self.compares { compare::both(launch, &regions, &self.memory, run) } else { run() }
    }

    fn timed(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.memory.timed(work)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory_info(&self) -> Result<MemoryInfo> {
        self.memory.memory_info()
    }
}
