//! What lanes ask of barriers in shared memory and of bulk copies.

use super::clocks::Who;
use super::cluster::Cluster;
use super::flights::{Around, Source};
use super::mbarrier::{Arrival, By, Failure};
use super::memory::{Accessing, Failed};
use super::program::{Bulk, Running};
use super::registers::{LANES, Registers};
use super::shadow::Use;
use super::stores::Stores;
use super::tensor::{self, Boxed};

/// The alignment of a tensor map.
const MAP_ALIGNMENT: u64 = 64;
const MAP_BYTES: usize = 128;

/// What an operation works on.
pub struct Working<'a, 'm> {
    pub registers: &'a mut Registers,
    pub cluster: &'a mut Cluster,
    pub stores: &'a mut Stores,
    pub around: Around<'a, 'm>,
}

/// Executes an operation. Returns the lanes that must wait before they go on.
pub fn execute(bulk: Bulk, running: Running<'_>, with: &mut Working<'_, '_>) -> Result<u32, Failure> {
    let Running { i, warp, mask } = running;
    let failed = |(lane, problem): Failed| (Who { warp, lane }, i.line, problem);
    match bulk {
        Bulk::Publish => {
            running.lanes().for_each(|lane| with.cluster.barriers.publish(Who { warp, lane }));
        }
        Bulk::Show => {
            let lane = mask.trailing_zeros() as usize;
            with.around.clocks.show(warp, mask).map_err(|problem| failed((lane, problem)))?;
            running.lanes().for_each(|lane| with.cluster.barriers.publish(Who { warp, lane }));
        }
        Bulk::Commit => with.stores.commit(mask),
        Bulk::WaitStores { pending, only_reads } => {
            let Around { memory, clocks, .. } = &mut with.around;
            with.stores.wait((pending, only_reads), mask, memory, clocks).map_err(failed)?;
        }
        Bulk::Arrive { .. } | Bulk::Wait { .. } => return with.each_barrier(bulk, running),
        _ => {
            for lane in running.lanes() {
                with.lane(bulk, running, lane)?;
            }
        }
    }
    Ok(0)
}

impl Working<'_, '_> {
    /// The value of a source of 32 bits in a lane.
    fn word(&self, running: Running<'_>, source: usize, lane: usize) -> u32 {
        self.registers.words[running.i.s[source].row as usize][lane]
    }

    fn double(&self, running: Running<'_>, source: usize, lane: usize) -> u64 {
        self.registers.doubles[running.i.s[source].row as usize][lane]
    }

    /// The barrier at an address, which is in the own block's shared memory unless it may be `far`.
    fn barrier(&self, address: u32, far: bool, (who, line): (Who, u32)) -> Result<By, String> {
        let memory = &self.around.memory;
        let at = memory.shared(address, 8, 8, who.warp, "mbarrier")?;
        if !far && memory.home(at).0 != memory.rank(who.warp) {
            return Err("an mbarrier of another block, expected one of this block".to_owned());
        }
        Ok(By { at, who, line })
    }

    /// The map and the coordinates from source `first` on.
    fn boxed(&self, running: Running<'_>, first: usize, rank: u8, lane: usize) -> Result<Boxed, String> {
        let map = self.double(running, first, lane);
        let map = self.around.memory.parameter(map, MAP_BYTES, MAP_ALIGNMENT, "the tensor map")?;
        let at: Vec<i32> = (1..=usize::from(rank)).map(|i| self.word(running, first + i, lane).cast_signed()).collect();
        Boxed::new(map, &at)
    }

    /// Executes an operation for one lane.
    fn lane(&mut self, bulk: Bulk, running: Running<'_>, lane: usize) -> Result<(), Failure> {
        let (who, line) = (Who { warp: running.warp, lane }, running.i.line);
        let failed = |problem| (who, line, problem);
        match bulk {
            Bulk::Begin | Bulk::End | Bulk::Expect => self.change(bulk, running, lane).map_err(failed),
            Bulk::LoadBytes => {
                let (from, bytes) = (self.double(running, 1, lane), self.word(running, 2, lane) as usize);
                if !from.is_multiple_of(16) || !bytes.is_multiple_of(16) || bytes == 0 {
                    return Err(failed(format!(
                        "cp.async.bulk of {bytes} bytes, expected multiples of 16 in number and address"
                    )));
                }
                let to = (self.word(running, 0, lane), 16);
                self.load(running, lane, to, bytes, 3, Source::Bytes(from), None)
            }
            Bulk::LoadBox { rank, multicast } => {
                let boxed = self.boxed(running, 1, rank, lane).map_err(failed)?;
                let barrier = 2 + usize::from(rank);
                let ranks = multicast.then(|| self.word(running, barrier + 1, lane));
                let (to, bytes) = ((self.word(running, 0, lane), boxed.alignment()), boxed.bytes());
                self.load(running, lane, to, bytes, barrier, Source::Box(boxed), ranks)
            }
            Bulk::StoreBox { rank } => self.store(running, lane, rank).map_err(failed),
            Bulk::CheckMap => {
                let map = self.double(running, 0, lane);
                let map = self.around.memory.parameter(map, MAP_BYTES, MAP_ALIGNMENT, "the tensor map");
                map.and_then(tensor::map).map(drop).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    /// Changes a barrier.
    fn change(&mut self, bulk: Bulk, running: Running<'_>, lane: usize) -> Result<(), String> {
        let (who, line) = (Who { warp: running.warp, lane }, running.i.line);
        let by = self.barrier(self.word(running, 0, lane), false, (who, line))?;
        let Around { memory, clocks, .. } = &mut self.around;
        match bulk {
            Bulk::Begin => {
                let count = self.registers.words[running.i.s[1].row as usize][lane];
                if !memory.reserved.contains(&by.at) {
                    let store = Accessing { what: "mbarrier.init", of: Use::Write, who, line };
                    memory.check_shared(by.at, 8, store, clocks)?;
                }
                self.cluster.barriers.begin(by, count, clocks, memory)
            }
            Bulk::End => self.cluster.barriers.end(by, clocks, memory),
            _ => {
                let bytes = self.registers.words[running.i.s[1].row as usize][lane];
                self.cluster.barriers.expect(by, bytes, clocks)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of the instruction")]
    fn load(
        &mut self,
        running: Running<'_>,
        lane: usize,
        (to, alignment): (u32, usize),
        bytes: usize,
        barrier: usize,
        source: Source,
        ranks: Option<u32>,
    ) -> Result<(), Failure> {
        let (who, line) = (Who { warp: running.warp, lane }, running.i.line);
        let failed = |problem| (who, line, problem);
        let by = self.barrier(self.word(running, barrier, lane), true, (who, line)).map_err(failed)?;
        let to = self.around.memory.shared(to, bytes, alignment, who.warp, "cp.async.bulk").map_err(failed)?;
        self.cluster.load(by, source, (to, bytes), ranks, &mut self.around)
    }

    fn store(&mut self, running: Running<'_>, lane: usize, rank: u8) -> Result<(), String> {
        let (who, line) = (Who { warp: running.warp, lane }, running.i.line);
        let boxed = self.boxed(running, 0, rank, lane)?;
        let from = self.word(running, 1 + usize::from(rank), lane);
        let Around { memory, clocks, random } = &mut self.around;
        let from = memory.shared(from, boxed.bytes(), boxed.alignment(), who.warp, "cp.async.bulk.tensor")?;
        if memory.home(from).0 != memory.rank(who.warp) {
            return Err("cp.async.bulk.tensor from another block's shared memory".to_owned());
        }
        self.stores.issue((boxed, from), (who, line), memory, clocks, random)
    }

    /// Arrives at barriers, or looks at them: the lanes with the same operands together.
    fn each_barrier(&mut self, bulk: Bulk, running: Running<'_>) -> Result<u32, Failure> {
        let (mut left, mut blocked) = (running.mask, 0);
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let sources = || 0..running.i.read().len();
            let equal =
                |other| sources().all(|source| self.word(running, source, lane) == self.word(running, source, other));
            let mask = (0..LANES).filter(|&other| left >> other & 1 != 0 && equal(other)).fold(0, |m, l| m | 1 << l);
            left &= !mask;
            if self.one_barrier(bulk, running, mask)? {
                blocked |= mask;
            }
        }
        Ok(blocked)
    }

    /// Arrives at a barrier, or looks at it, in the lanes of `mask`. Returns whether they must wait.
    fn one_barrier(&mut self, bulk: Bulk, running: Running<'_>, mask: u32) -> Result<bool, Failure> {
        let lane = mask.trailing_zeros() as usize;
        let (who, line) = (Who { warp: running.warp, lane }, running.i.line);
        let failed = |problem| (who, line, problem);
        let far = matches!(bulk, Bulk::Arrive { far: true, .. });
        let by = self.barrier(self.word(running, 0, lane), far, (who, line)).map_err(failed)?;
        let value = if running.i.read().len() > 1 { self.word(running, 1, lane) } else { 1 };
        let Around { memory, clocks, .. } = &mut self.around;
        let barriers = &mut self.cluster.barriers;
        match bulk {
            Bulk::Wait { suspends } => {
                let over = barriers.is_over(by, mask, value, suspends, clocks).map_err(failed)?;
                self.registers.set_predicate(running.i.d[0], mask, if over { u32::MAX } else { 0 });
                Ok(suspends && !over)
            }
            Bulk::Arrive { counted, expects, .. } => {
                let rank = memory.home(by.at).0;
                let is_far = rank != memory.rank(who.warp);
                if is_far {
                    self.cluster.reach(rank, who, line, clocks).map_err(failed)?;
                }
                let (count, bytes) = (if counted { value } else { 1 }, if expects { value } else { 0 });
                let arrival = Arrival { count, mask, bytes };
                let over = self.cluster.barriers.arrive(by, is_far, arrival, clocks)?;
                self.cluster.events += u64::from(over);
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}
