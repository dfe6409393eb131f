//! The memory of a block: parameters, the launch's buffers, and shared memory, with every access checked.

use super::clocks::{Clocks, Stamp, Who};
use super::program::{Access, Instruction, PARAMETERS, Running, SHARED, Space};
use super::registers::Registers;
use super::shadow::{Conflict, Shadow, Use};
use super::text::Text;
use crate::cuda::device::emulated::{POISON, Region};
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
    shared: Vec<u8>,
    shared_history: Shadow,
    /// When each block began, and its number.
    pub blocks: Vec<(u64, u64)>,
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
    pub fn new(text: &'a Text, parameters: &'a [u8], regions: &'a [Region], shared_bytes: usize) -> Self {
        Self {
            text,
            parameters,
            regions,
            histories: regions.iter().map(|region| Shadow::new(region.bytes as usize, true)).collect(),
            last: 0,
            shared: vec![POISON; shared_bytes],
            shared_history: Shadow::new(shared_bytes, false),
            blocks: Vec::new(),
        }
    }

    /// Begins the block of this number.
    pub fn begin(&mut self, block: u64, clocks: &Clocks) {
        self.shared.fill(POISON);
        self.blocks.push((clocks.base, block));
    }

    /// The number of the block that accessed something at this stamp.
    pub fn block_at(&self, stamp: Stamp) -> u64 {
        let after = self.blocks.partition_point(|&(begin, _)| begin <= stamp.time());
        self.blocks.get(after.saturating_sub(1)).map_or(0, |&(_, block)| block)
    }

    /// Finds the place of an aligned access.
    fn place(&mut self, space: Space, address: u64, bytes: usize, what: &str) -> Result<Place, String> {
        if !address.is_multiple_of(bytes as u64) {
            return Err(format!("{what} at an address that is not a multiple of {bytes} bytes"));
        }
        match space {
            Space::Global => self.global(address, bytes, what),
            Space::Shared => match address.checked_sub(SHARED.into()) {
                Some(at) if at as usize + bytes <= self.shared.len() => Ok(Place::Shared(at as usize)),
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
        let place = self.place(space, address, bytes, accessing.what)?;
        let Accessing { of, who, line, .. } = accessing;
        let noted = match place {
            Place::Parameter(_) => Ok(()),
            Place::Global(region, at) => self.histories[region].note(of, at, bytes, who, line, clocks),
            Place::Shared(at) => self.shared_history.note(of, at, bytes, who, line, clocks),
        };
        noted.map_err(|conflict| self.race(place, conflict, accessing.what, clocks)).map(|()| place)
    }

    fn race(&self, place: Place, Conflict { earlier, wrote, at }: Conflict, what: &str, clocks: &Clocks) -> String {
        let byte = match place {
            Place::Global(region, _) => format!("byte {at} of the launch's buffer {region}"),
            _ => format!("byte {at} of shared memory"),
        };
        let (thread, line) = (earlier.thread(), self.text.place(earlier.line()));
        let verb = if wrote { "wrote" } else { "read" };
        if earlier.time() == Stamp::FLYING {
            return format!(
                "race: {what} of {byte}, to which an asynchronous copy of thread {thread} is on its way, {line}"
            );
        }
        if matches!(place, Place::Global(..)) && (earlier.time() < clocks.base || earlier.was_elsewhere()) {
            let block = self.block_at(earlier);
            return format!(
                "race: {what} of {byte}, which another block {verb} (block number {block}, thread {thread}), {line}"
            );
        }
        format!("race: {what} of {byte}, which thread {thread} {verb} without a barrier between, {line}")
    }

    /// Reads the bytes of a checked access.
    pub fn read(&self, place: Place, bytes: usize) -> [u8; LARGEST] {
        let mut out = [0; LARGEST];
        match place {
            Place::Parameter(at) => out[..bytes].copy_from_slice(&self.parameters[at..at + bytes]),
            Place::Shared(at) => out[..bytes].copy_from_slice(&self.shared[at..at + bytes]),
            Place::Global(region, at) => read_global(self.regions[region].start + at, &mut out[..bytes]),
        }
        out
    }

    /// Writes the bytes of a checked access.
    pub fn write(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Parameter(_) => {}
            Place::Shared(at) => self.shared[at..at + bytes.len()].copy_from_slice(bytes),
            Place::Global(region, at) => write_global(self.regions[region].start + at, bytes),
        }
    }

    /// Ends an asynchronous copy to shared memory.
    pub fn land(&mut self, at: usize, bytes: usize, who: Who, line: u32, clocks: &Clocks) {
        self.shared_history.land(at, bytes, who, line, clocks);
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

/// Reads bytes of a buffer. Blocks run in parallel, and a kernel with a race must not be undefined behaviour here, so
/// the accesses are atomic.
fn read_global(address: usize, out: &mut [u8]) {
    // SAFETY: `place` found the bytes in a buffer of this launch, which lives until the launch ends, and the address is
    // a multiple of their number.
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
    // SAFETY: as in `read_global`.
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
