//! The memory of a cluster's blocks: parameters, the launch's buffers, and shared memory, with every access checked.

use super::clocks::{Clocks, Stamp, Who};
use super::program::{Access, FAR_BITS, Instruction, PARAMETERS, Running, SHARED, Space};
use super::registers::{LANES, Registers};
use super::shadow::{Conflict, PAGE, Shadow, Use, pieces};
use super::text::Text;
use crate::cuda::device::emulated::{POISON, Region};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bytes of the largest access.
pub const LARGEST: usize = 16;

/// Checked memory.
pub struct Memory<'a> {
    text: &'a Text,
    parameters: &'a [u8],
    /// The launch's buffers, by address, and the history of each.
    regions: &'a [Region],
    pub histories: Vec<Shadow>,
    /// The region of the last access: the next access is mostly to the same.
    last: usize,
    cluster: Shape,
    /// Bytes from the shared memory of a block to that of the next in its cluster.
    stride: usize,
    shared: Vec<u8>,
    shared_history: Shadow,
    /// Where barriers begin in shared memory, each of 8 bytes.
    pub reserved: BTreeSet<usize>,
    /// When each cluster began, and the number of its first block.
    pub blocks: Vec<(u64, u64)>,
}

/// Blocks that run together, and what each of them has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub blocks: usize,
    pub warps: usize,
    pub shared_bytes: usize,
}

/// Where an access goes: to a byte of the parameters, of a region, or of shared memory.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Parameter(usize),
    Global(usize, usize),
    Shared(usize),
}

/// What an access is, for messages, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Accessing {
    pub what: &'static str,
    pub of: Use,
    pub who: Who,
    pub line: u32,
}

/// A lane, and what went wrong there.
pub type Failed = (usize, String);

impl<'a> Memory<'a> {
    pub fn new(text: &'a Text, parameters: &'a [u8], regions: &'a [Region], cluster: Shape) -> Self {
        let stride = cluster.shared_bytes.next_multiple_of(PAGE);
        Self {
            text,
            parameters,
            regions,
            histories: regions.iter().map(|region| Shadow::new(region.bytes as usize, true)).collect(),
            last: 0,
            cluster,
            stride,
            shared: vec![POISON; cluster.blocks * stride],
            shared_history: Shadow::new(cluster.blocks * stride, false),
            reserved: BTreeSet::new(),
            blocks: Vec::new(),
        }
    }

    /// Begins the cluster whose first block has this number.
    pub fn begin(&mut self, block: u64, clocks: &Clocks) {
        self.shared.fill(POISON);
        self.reserved.clear();
        self.blocks.push((clocks.base, block));
    }

    /// The number of the block that accessed something at this stamp; of an asynchronous operation, the first block of
    /// its cluster.
    pub fn block_at(&self, stamp: Stamp) -> u64 {
        let after = self.blocks.partition_point(|&(begin, _)| begin <= stamp.time());
        let first = self.blocks.get(after.saturating_sub(1)).map_or(0, |&(_, block)| block);
        first + stamp.clock().map_or(stamp.thread() / LANES / self.cluster.warps, |_| 0) as u64
    }

    /// The rank of a warp's block in its cluster.
    pub fn rank(&self, warp: usize) -> usize {
        warp / self.cluster.warps
    }

    /// The rank of the block that this byte of shared memory belongs to, and its offset there.
    pub fn home(&self, at: usize) -> (usize, usize) {
        (at / self.stride, at % self.stride)
    }

    /// The place in another block's memory of what is at `at` in a block's.
    pub fn in_block(&self, at: usize, rank: usize) -> usize {
        rank * self.stride + at % self.stride
    }

    /// The byte of shared memory at an address that a warp's block uses, which may be another block's.
    ///
    /// # Errors
    /// A message if the bytes are outside of shared memory, or the address is not a multiple of `alignment`.
    pub fn shared(
        &self,
        address: u32,
        bytes: usize,
        alignment: usize,
        warp: usize,
        what: &str,
    ) -> Result<usize, String> {
        let (far, near) = ((address >> FAR_BITS) as usize, address & ((1 << FAR_BITS) - 1));
        let rank = far.checked_sub(1).unwrap_or(self.rank(warp));
        if !near.is_multiple_of(alignment as u32) {
            return Err(format!("{what} at a shared address that is not a multiple of {alignment} bytes"));
        }
        match near.checked_sub(SHARED) {
            Some(at) if at as usize + bytes <= self.cluster.shared_bytes && rank < self.cluster.blocks => {
                Ok(rank * self.stride + at as usize)
            }
            _ => Err(format!(
                "{what} of {bytes} bytes outside of shared memory, at offset {} of block {rank} of its cluster",
                i64::from(near) - i64::from(SHARED)
            )),
        }
    }

    /// Bytes of the parameters, at a generic address.
    ///
    /// # Errors
    /// A message if they are not in the parameters.
    pub fn parameter(&self, address: u64, bytes: usize, alignment: u64, what: &str) -> Result<&[u8], String> {
        let at = address.checked_sub(PARAMETERS).filter(|at| at.is_multiple_of(alignment)).map(|at| at as usize);
        let found = at.and_then(|at| self.parameters.get(at..at.checked_add(bytes)?));
        found.ok_or_else(|| format!("{what} is not in the parameters, at a multiple of {alignment} bytes"))
    }

    /// Finds the place of an aligned access of a warp.
    fn place(
        &mut self,
        space: Space,
        address: u64,
        bytes: usize,
        Accessing { what, who, .. }: Accessing,
    ) -> Result<Place, String> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(format!("{what} at an address that is not a multiple of {bytes} bytes"));
        }
        match space {
            Space::Global => self.global(address, bytes, what),
            Space::Shared => match address.checked_sub(SHARED.into()) {
                Some(at) if at as usize + bytes <= self.cluster.shared_bytes => {
                    Ok(Place::Shared(self.rank(who.warp) * self.stride + at as usize))
                }
                _ => Err(format!(
                    "{what} of {bytes} bytes outside of shared memory, at offset {}",
                    address as i64 - i64::from(SHARED)
                )),
            },
            Space::Parameter => match address.checked_sub(PARAMETERS) {
                Some(at) if at as usize + bytes <= self.parameters.len() => Ok(Place::Parameter(at as usize)),
                _ => Err(format!("{what} of {bytes} bytes outside of the parameters")),
            },
        }
    }

    fn global(&mut self, address: u64, bytes: usize, what: &str) -> Result<Place, String> {
        let start = address as usize;
        let holds = |region: &Region| start >= region.start && start - region.start + bytes <= region.bytes as usize;
        if !self.regions.get(self.last).is_some_and(holds) {
            let after = self.regions.partition_point(|region| region.start <= start);
            let below = after.checked_sub(1).map(|last| &self.regions[last]);
            if !below.is_some_and(holds) {
                let beside = below.map_or_else(String::new, |region| {
                    format!(", {} bytes into a buffer of {}", start - region.start, region.bytes)
                });
                return Err(format!("{what} of {bytes} bytes outside of the launch's buffers{beside}"));
            }
            self.last = after - 1;
        }
        Ok(Place::Global(self.last, start - self.regions[self.last].start))
    }

    /// The place of bytes in a buffer that were checked before.
    pub fn found(&mut self, address: u64) -> Place {
        self.global(address, 1, "").expect("it was checked")
    }

    /// Checks an access and notes it in the history of its bytes.
    pub fn check(
        &mut self,
        space: Space,
        address: u64,
        bytes: usize,
        accessing: Accessing,
        clocks: &Clocks,
    ) -> Result<Place, String> {
        let place = self.place(space, address, bytes, accessing)?;
        self.note(place, bytes, accessing, clocks).map(|()| place)
    }

    /// Checks the access of an asynchronous operation to any bytes of a buffer.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn check_global(&mut self, address: u64, bytes: usize, by: Accessing, clocks: &Clocks) -> Result<(), String> {
        let Place::Global(region, at) = self.global(address, bytes, by.what)? else { return Ok(()) };
        pieces(at, bytes).try_for_each(|(at, bytes)| self.note(Place::Global(region, at), bytes, by, clocks))
    }

    /// Checks the access of an asynchronous operation to bytes of shared memory that [`Self::shared`] found.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn check_shared(&mut self, at: usize, bytes: usize, by: Accessing, clocks: &Clocks) -> Result<(), String> {
        pieces(at, bytes).try_for_each(|(at, bytes)| self.note(Place::Shared(at), bytes, by, clocks))
    }

    fn note(&mut self, place: Place, bytes: usize, by: Accessing, clocks: &Clocks) -> Result<(), String> {
        let Accessing { what, of, who, line } = by;
        let noted = match place {
            Place::Parameter(_) => Ok(()),
            Place::Global(region, at) => self.histories[region].note(of, at, bytes, who, line, clocks),
            Place::Shared(at) => {
                if !self.reserved.is_empty() {
                    self.check_reserved(at, bytes, what)?;
                }
                self.shared_history.note(of, at, bytes, who, line, clocks)
            }
        };
        noted.map_err(|conflict| self.race(place, conflict, what, clocks))
    }

    fn check_reserved(&self, at: usize, bytes: usize, what: &str) -> Result<(), String> {
        match self.reserved.range((at + 1).saturating_sub(8)..at + bytes).next() {
            None => Ok(()),
            Some(&barrier) => {
                Err(format!("{what} of byte {} of shared memory, which is part of an mbarrier", self.home(barrier).1))
            }
        }
    }

    /// A thread, for messages.
    fn thread(&self, stamp: Stamp) -> String {
        let threads = self.cluster.warps * LANES;
        let (rank, thread) = (stamp.thread() / threads, stamp.thread() % threads);
        if self.cluster.blocks == 1 {
            format!("thread {thread}")
        } else {
            format!("thread {thread} of block {rank} of its cluster")
        }
    }

    fn race(&self, place: Place, conflict: Conflict, what: &str, clocks: &Clocks) -> String {
        let Conflict { earlier, wrote, hidden, at } = conflict;
        let byte = match place {
            Place::Global(region, _) => format!("byte {at} of the launch's buffer {region}"),
            _ => format!("byte {} of shared memory", self.home(at).1),
        };
        let (thread, line) = (self.thread(earlier), self.text.place(earlier.line()));
        let verb = if wrote { "wrote" } else { "read" };
        if hidden {
            return format!("race: {what} of {byte}, which {thread} wrote without fence.proxy.async after it, {line}");
        }
        if earlier.time() == Stamp::FLYING {
            return format!("race: {what} of {byte}, to which an asynchronous copy of {thread} is on its way, {line}");
        }
        if matches!(place, Place::Global(..)) && (earlier.time() < clocks.base || earlier.was_elsewhere()) {
            let block = self.block_at(earlier);
            return format!("race: {what} of {byte}, which another block {verb} (block number {block}), {line}");
        }
        if earlier.clock().is_some() {
            let verb = if wrote { "wrote" } else { "reads" };
            return format!(
                "race: {what} of {byte}, which an asynchronous operation {verb} that was not waited for, {line}"
            );
        }
        format!("race: {what} of {byte}, which {thread} {verb} without a barrier between, {line}")
    }

    /// Reads the bytes of a checked access.
    pub fn read(&self, place: Place, bytes: usize) -> [u8; LARGEST] {
        let mut out = [0; LARGEST];
        match place {
            Place::Parameter(at) => out[..bytes].copy_from_slice(&self.parameters[at..at + bytes]),
            Place::Shared(at) => out[..bytes].copy_from_slice(&self.shared[at..at + bytes]),
            Place::Global(region, at) => read_global(self.inside(region, at, bytes), &mut out[..bytes]),
        }
        out
    }

    /// Writes the bytes of a checked access.
    pub fn write(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Parameter(_) => {}
            Place::Shared(at) => self.shared[at..at + bytes.len()].copy_from_slice(bytes),
            Place::Global(region, at) => write_global(self.inside(region, at, bytes.len()), bytes),
        }
    }

    /// The address of some bytes of a region. Panics if they lie outside.
    fn inside(&self, region: usize, at: usize, bytes: usize) -> usize {
        let Region { start, bytes: size } = self.regions[region];
        assert!(at + bytes <= size as usize, "they were checked");
        start + at
    }

    /// Reads any bytes of a buffer that were checked before.
    pub fn read_bytes(&mut self, address: u64, out: &mut [u8]) {
        self.global(address, out.len(), "").expect("they were checked");
        parts(address, out.len()).for_each(|(at, bytes)| read_global(address as usize + at, &mut out[at..at + bytes]));
    }

    /// Writes any bytes of a buffer that were checked before.
    pub fn write_bytes(&mut self, address: u64, bytes: &[u8]) {
        self.global(address, bytes.len(), "").expect("they were checked");
        parts(address, bytes.len()).for_each(|(at, part)| write_global(address as usize + at, &bytes[at..at + part]));
    }

    /// Ends an asynchronous copy to shared memory, which is a write with this stamp from now on.
    pub fn land(&mut self, at: usize, bytes: usize, stamp: Stamp) {
        self.shared_history.land(at, bytes, stamp);
    }

    /// Ends an asynchronous copy to bytes of a buffer that were checked before.
    pub fn land_global(&mut self, address: u64, bytes: usize, stamp: Stamp) {
        if let Place::Global(region, at) = self.found(address) {
            self.histories[region].land(at, bytes, stamp);
        }
    }

    /// Bytes of shared memory that were checked before.
    pub fn shared_bytes(&self, at: usize, bytes: usize) -> &[u8] {
        &self.shared[at..at + bytes]
    }

    /// The address that a lane accesses.
    fn address(access: &Access, i: &Instruction, registers: &Registers, lane: usize) -> u64 {
        let row = i.s[0].row as usize;
        if access.wide_base {
            registers.doubles[row][lane].wrapping_add_signed(access.offset.into())
        } else {
            registers.words[row][lane].wrapping_add_signed(access.offset).into()
        }
    }

    /// Loads values into the registers of the lanes in `mask`.
    pub fn load(
        &mut self,
        access: &Access,
        running: Running<'_>,
        registers: &mut Registers,
        clocks: &Clocks,
    ) -> Result<(), Failed> {
        let Running { i, warp, .. } = running;
        let size = usize::from(access.bytes);
        let total = size * usize::from(access.count);
        for lane in running.lanes() {
            let address = Self::address(access, i, registers, lane);
            let accessing = Accessing { what: "load", of: Use::Read, who: Who { warp, lane }, line: i.line };
            let place =
                self.check(access.space, address, total, accessing, clocks).map_err(|problem| (lane, problem))?;
            let bytes = self.read(place, total);
            for (d, bytes) in i.written().iter().zip(bytes.chunks_exact(size)) {
                let mut word = [0; 8];
                word[..size].copy_from_slice(bytes);
                let mut value = u64::from_le_bytes(word);
                if access.signed {
                    let unused = 64 - 8 * size as u32;
                    value = ((value << unused).cast_signed() >> unused).cast_unsigned();
                }
                if access.wide {
                    registers.doubles[d.row as usize][lane] = value;
                } else {
                    registers.words[d.row as usize][lane] = value as u32;
                }
            }
        }
        Ok(())
    }

    /// Stores values of the lanes in `mask`.
    pub fn store(
        &mut self,
        access: &Access,
        running: Running<'_>,
        registers: &Registers,
        clocks: &Clocks,
    ) -> Result<(), Failed> {
        let Running { i, warp, .. } = running;
        let size = usize::from(access.bytes);
        let total = size * usize::from(access.count);
        for lane in running.lanes() {
            let address = Self::address(access, i, registers, lane);
            let accessing = Accessing { what: "store", of: Use::Write, who: Who { warp, lane }, line: i.line };
            let place =
                self.check(access.space, address, total, accessing, clocks).map_err(|problem| (lane, problem))?;
            let mut bytes = [0; LARGEST];
            for (s, bytes) in i.read()[1..].iter().zip(bytes.chunks_exact_mut(size)) {
                let row = s.row as usize;
                let value = if access.wide { registers.doubles[row][lane] } else { registers.words[row][lane].into() };
                bytes.copy_from_slice(&value.to_le_bytes()[..size]);
            }
            self.write(place, &bytes[..total]);
        }
        Ok(())
    }
}

/// Cuts bytes into parts of at most [`LARGEST`] bytes that are aligned to their size: offset and size of each.
fn parts(address: u64, bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = (bytes - at).checked_ilog2()?;
        let part = 1 << (address + at as u64).trailing_zeros().min(left).min(LARGEST.ilog2());
        at += part;
        Some((at - part, part))
    })
}

/// Reads bytes of a buffer. Blocks run in parallel, and a kernel may have a race, so the accesses are atomic. Rust leaves undefined what
/// atomics of different sizes in one place do; processors read some mixture of the bytes, and the kernel fails its test.
fn read_global(address: usize, out: &mut [u8]) {
    // SAFETY: `inside` or `global` found the bytes in a region of this launch: a buffer, which the caller of the launch
    // keeps until the launch ends, and which nobody accesses meanwhile except by these atomics. The address is a
    // multiple of their number, as `place` and `parts` see to.
    unsafe {
        match out.len() {
            1 => out[0] = AtomicU8::from_ptr(address as *mut u8).load(Relaxed),
            2 => out.copy_from_slice(&AtomicU16::from_ptr(address as *mut u16).load(Relaxed).to_le_bytes()),
            4 => out.copy_from_slice(&AtomicU32::from_ptr(address as *mut u32).load(Relaxed).to_le_bytes()),
            _ => out.chunks_exact_mut(8).enumerate().for_each(|(i, out)| {
                let word = AtomicU64::from_ptr((address as *mut u64).add(i)).load(Relaxed);
                out.copy_from_slice(&word.to_le_bytes());
            }),
        }
    }
}

/// Writes bytes of a buffer, as [`read_global`] reads them.
fn write_global(address: usize, bytes: &[u8]) {
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    // SAFETY: as in `read_global`. The buffer may be written to, because kernels are there to write.
    unsafe {
        match bytes.len() {
            1 => AtomicU8::from_ptr(address as *mut u8).store(bytes[0], Relaxed),
            2 => AtomicU16::from_ptr(address as *mut u16).store(word(bytes) as u16, Relaxed),
            4 => AtomicU32::from_ptr(address as *mut u32).store(word(bytes) as u32, Relaxed),
            _ => bytes.chunks_exact(8).enumerate().for_each(|(i, bytes)| {
                AtomicU64::from_ptr((address as *mut u64).add(i)).store(word(bytes), Relaxed);
            }),
        }
    }
}
