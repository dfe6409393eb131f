//! Bulk copies to shared memory that are on their way.
//!
//! From its issue until a warp has waited for the phase of its barrier, a copy conflicts with every other access to its
//! bytes. The seed decides when its bytes arrive; at the latest when no warp can run.

use super::clocks::{Clocks, Stamp};
use super::cluster::{Cluster, early};
use super::mbarrier::{By, Failure};
use super::memory::{Accessing, Memory, Place};
use super::random::Random;
use super::shadow::Use;
use super::tensor::Boxed;

/// What a copy brings.
#[derive(Clone, Debug)]
pub enum Source {
    /// Plain bytes from an address on.
    Bytes(u64),
    Box(Boxed),
}

impl Source {
    /// The bytes, as they will lie in shared memory.
    fn bytes(&self, count: usize, memory: &mut Memory<'_>) -> Vec<u8> {
        let mut bytes = vec![0; count];
        match self {
            Self::Bytes(from) => memory.read_bytes(*from, &mut bytes),
            Self::Box(boxed) => {
                for row in boxed.rows() {
                    memory.read_bytes(row.address, &mut bytes[row.offset..row.offset + row.bytes]);
                }
                bytes = boxed.swizzled(&bytes);
            }
        }
        bytes
    }
}

/// A copy: by whom, which barrier counts it, and where it goes.
#[derive(Debug)]
struct Flight {
    by: By,
    source: Source,
    to: usize,
    bytes: usize,
}

/// The copies that have not arrived, the first issued first.
#[derive(Debug, Default)]
pub struct Flights {
    flying: Vec<Flight>,
}

/// What is done with memory and clocks.
pub struct Around<'a, 'm> {
    pub memory: &'a mut Memory<'m>,
    pub clocks: &'a mut Clocks,
    pub random: &'a mut Random,
}

const WHAT: &str = "cp.async.bulk";

impl Cluster {
    /// Issues a copy of `bytes` bytes to `to`, or to the same place of each block in `ranks`. `by.at`: the barrier in the
    /// block of `to`.
    pub fn load(
        &mut self,
        by: By,
        source: Source,
        (to, bytes): (usize, usize),
        ranks: Option<u32>,
        Around { memory, clocks, random }: &mut Around<'_, '_>,
    ) -> Result<(), Failure> {
        let failed = |problem| (by.who, by.line, problem);
        let home = memory.home(to).0;
        if memory.home(by.at).0 != home {
            return Err(failed("cp.async.bulk with its mbarrier in another block than its bytes".to_owned()));
        }
        let ranks = ranks.unwrap_or(1 << home);
        let blocks = self.blocks();
        if ranks == 0 || ranks >> blocks != 0 {
            return Err(failed(format!("cp.async.bulk to the blocks {ranks:#b} of a cluster of {blocks}")));
        }
        let accessing = |of| Accessing { what: WHAT, of, who: by.who, line: by.line };
        for rank in (0..blocks).filter(|rank| ranks >> rank & 1 != 0) {
            let (to, by) = (memory.in_block(to, rank), By { at: memory.in_block(by.at, rank), ..by });
            if self.has_ended(rank) {
                return Err(failed(early(rank)));
            }
            let clock = self.barriers.check(by, clocks).map_err(failed)?;
            let read = accessing(Use::BulkRead(clock));
            match &source {
                Source::Bytes(from) => memory.check_global(*from, bytes, read, clocks).map_err(failed)?,
                Source::Box(boxed) => boxed
                    .rows()
                    .try_for_each(|row| memory.check_global(row.address, row.bytes, read, clocks))
                    .map_err(failed)?,
            }
            memory.check_shared(to, bytes, accessing(Use::BulkFly), clocks).map_err(failed)?;
            self.flights.flying.push(Flight { by, source: source.clone(), to, bytes });
            if random.shuffles() && random.below(3) == 0 {
                self.land(self.flights.flying.len() - 1, memory, clocks)?;
            }
        }
        Ok(())
    }

    /// Lets a copy arrive.
    fn land(&mut self, number: usize, memory: &mut Memory<'_>, clocks: &mut Clocks) -> Result<(), Failure> {
        let Flight { by, source, to, bytes } = self.flights.flying.remove(number);
        let rank = memory.home(to).0;
        if self.has_ended(rank) {
            return Err((by.who, by.line, early(rank)));
        }
        let found = source.bytes(bytes, memory);
        memory.write(Place::Shared(to), &found);
        let failed = |problem| (by.who, by.line, problem);
        let clock = self.barriers.check(by, clocks).map_err(failed)?;
        memory.land(to, bytes, Stamp::of(clocks.now, clock, by.line));
        self.events += u64::from(self.barriers.complete(by, bytes, clocks)?);
        Ok(())
    }

    /// Lets a random copy arrive.
    pub fn drift(&mut self, around: &mut Around<'_, '_>) -> Result<(), Failure> {
        match self.flights.flying.len() {
            0 => Ok(()),
            count => self.land(around.random.below(count), around.memory, around.clocks),
        }
    }

    /// Lets a copy arrive because no warp can run; false if there is none.
    pub fn land_next(&mut self, around: &mut Around<'_, '_>) -> Result<bool, Failure> {
        if self.flights.flying.is_empty() {
            return Ok(false);
        }
        if around.random.shuffles() {
            self.drift(around)?;
        } else {
            self.land(0, around.memory, around.clocks)?;
        }
        Ok(true)
    }
}

impl Flights {
    /// Fails if a copy is on its way.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.flying.first() {
            None => Ok(()),
            Some(Flight { by, .. }) => {
                Err((by.who, by.line, "the block ends while this copy is on its way".to_owned()))
            }
        }
    }
}
