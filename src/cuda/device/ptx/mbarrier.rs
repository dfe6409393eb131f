//! Barriers in shared memory that count arrivals and bytes of copies. PTX ISA 9.0, section 9.7.13.15.
//!
//! A barrier is {phase, count, arrivals that are missing, bytes that are on their way}. A phase is over when both numbers
//! are zero. Every rule that the ISA leaves to the program is an error here.

use super::clocks::{Clock, Clocks, Known, Other, Stamp, Who};
use super::memory::Memory;
use std::collections::BTreeMap;

/// Bytes that a phase may have on their way, more or fewer, and the most arrivals.
const MOST: u32 = (1 << 20) - 1;

/// A thread that waits for a phase, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiter {
    who: Who,
    line: u32,
    phase: u64,
}

#[derive(Debug)]
struct Barrier {
    count: u32,
    missing: u32,
    bytes: i64,
    phase: u64,
    /// Whether a wait has seen the end of the phase before.
    seen: bool,
    /// When it was prepared.
    begun: Stamp,
    /// Whether the thread that prepared it has shown it to copies and to other blocks.
    published: bool,
    /// The clock of its copies, and when the last of them arrived.
    clock: Clock,
    copied: u64,
    /// What was released into this phase, and into the one before.
    released: Known,
    over: Known,
    waiters: Vec<Waiter>,
}

/// The barriers of a cluster, by their place in its shared memory.
#[derive(Debug, Default)]
pub struct Barriers {
    by_place: BTreeMap<usize, Barrier>,
}

/// What went wrong, for which thread, at which line.
pub type Failure = (Who, u32, String);

/// A use of a barrier: its place, by whom, and from which line.
#[derive(Clone, Copy, Debug)]
pub struct By {
    pub at: usize,
    pub who: Who,
    pub line: u32,
}

/// How a thread arrives: how often, in which lanes, and how many bytes each announces first.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub count: u32,
    pub mask: u32,
    pub bytes: u32,
}

impl Barriers {
    /// Prepares a barrier. The caller has checked that this is a store.
    pub fn begin(&mut self, by: By, count: u32, clocks: &mut Clocks, memory: &mut Memory<'_>) -> Result<(), String> {
        if count == 0 || count > MOST {
            return Err(format!("an mbarrier of {count} arrivals, expected 1 to {MOST}"));
        }
        let clock = clocks.of(Other::Barrier(by.at))?;
        let barrier = Barrier {
            count,
            missing: count,
            bytes: 0,
            phase: 0,
            seen: true,
            begun: Stamp::new(clocks.now, by.who, by.line),
            published: false,
            clock,
            copied: 0,
            released: Known::default(),
            over: Known::default(),
            waiters: Vec::new(),
        };
        memory.reserved.insert(by.at);
        match self.by_place.insert(by.at, barrier) {
            None => Ok(()),
            Some(_) => Err("mbarrier.init of an mbarrier that is in use".to_owned()),
        }
    }

    /// Ends the use of a barrier.
    pub fn end(&mut self, by: By, clocks: &Clocks, memory: &mut Memory<'_>) -> Result<(), String> {
        let barrier = self.used(by, false, clocks)?;
        let (bytes, waits) = (barrier.bytes, !barrier.waiters.is_empty());
        if bytes != 0 || waits {
            return Err(format!("mbarrier.inval while threads wait or {bytes} bytes are on their way"));
        }
        self.by_place.remove(&by.at);
        memory.reserved.remove(&by.at);
        Ok(())
    }

    /// Shows the barriers that a thread has prepared to copies and other blocks.
    pub fn publish(&mut self, who: Who) {
        let own = Stamp::new(0, who, 0).thread();
        self.by_place.values_mut().filter(|barrier| barrier.begun.thread() == own).for_each(|one| one.published = true);
    }

    /// The barrier that a thread uses, maybe for others than its block's threads.
    fn used(&mut self, by: By, by_others: bool, clocks: &Clocks) -> Result<&mut Barrier, String> {
        let barrier =
            self.by_place.get_mut(&by.at).ok_or("there is no mbarrier at this address: mbarrier.init is missing")?;
        if !clocks.ordered(barrier.begun, by.who) {
            return Err(
                "race: the mbarrier is used without a barrier of the threads after its mbarrier.init".to_owned()
            );
        }
        if by_others && !barrier.published {
            return Err("the mbarrier is used by a copy or another block without fence.mbarrier_init".to_owned());
        }
        Ok(barrier)
    }

    /// Whether a copy may use the barrier.
    pub fn check(&mut self, by: By, clocks: &Clocks) -> Result<Clock, String> {
        self.used(by, true, clocks).map(|barrier| barrier.clock)
    }

    /// Announces bytes.
    pub fn expect(&mut self, by: By, bytes: u32, clocks: &Clocks) -> Result<(), String> {
        let barrier = self.used(by, false, clocks)?;
        barrier.add(i64::from(bytes))
    }

    /// Arrives, and says whether the phase is over.
    pub fn arrive(&mut self, by: By, far: bool, arrival: Arrival, clocks: &mut Clocks) -> Result<bool, Failure> {
        let failed = |problem| (by.who, by.line, problem);
        let barrier = self.used(by, far, clocks).map_err(failed)?;
        let Barrier { count, missing, phase, seen, .. } = *barrier;
        if !seen {
            let before = phase - 1;
            return Err(failed(format!(
                "arrives for phase {phase} of an mbarrier, but nobody saw the end of phase {before}"
            )));
        }
        if arrival.count == 0 || arrival.count > MOST {
            return Err(failed(format!("{} arrivals, expected 1 to {MOST}", arrival.count)));
        }
        let lanes = arrival.mask.count_ones();
        barrier.add(i64::from(arrival.bytes) * i64::from(lanes)).map_err(failed)?;
        let arrivals = u64::from(arrival.count) * u64::from(lanes);
        if arrivals > missing.into() {
            return Err(failed(format!(
                "{arrivals} arrivals at an mbarrier whose phase {phase} lacks {missing} of {count}"
            )));
        }
        barrier.missing -= arrivals as u32;
        clocks.release(by.who.warp, arrival.mask, &mut barrier.released).map_err(failed)?;
        barrier.turn(clocks)
    }

    /// Counts the bytes of a copy that has arrived, and says whether the phase is over.
    pub fn complete(&mut self, by: By, bytes: usize, clocks: &mut Clocks) -> Result<bool, Failure> {
        let failed = |problem| (by.who, by.line, problem);
        let barrier = self.by_place.get_mut(&by.at).ok_or_else(|| failed("the copy's mbarrier is gone".to_owned()))?;
        barrier.add(-(bytes as i64)).map_err(failed)?;
        barrier.copied = clocks.advance();
        barrier.turn(clocks)
    }

    /// Whether the phase of this parity is over, for the lanes of `mask`, of which `by` is the first. One that is to wait
    /// is remembered.
    pub fn is_over(
        &mut self,
        by: By,
        mask: u32,
        parity: u32,
        suspends: bool,
        clocks: &mut Clocks,
    ) -> Result<bool, String> {
        if parity > 1 {
            return Err(format!("a parity of {parity}, expected 0 or 1"));
        }
        let barrier = self.used(by, false, clocks)?;
        let waiter = Waiter { who: by.who, line: by.line, phase: barrier.phase };
        if barrier.phase % 2 == u64::from(parity) {
            if suspends && !barrier.waiters.contains(&waiter) {
                barrier.waiters.push(waiter);
            }
            return Ok(false);
        }
        // Lanes that began to wait separately may go on together.
        barrier.waiters.retain(|other| other.who.warp != by.who.warp || mask >> other.who.lane & 1 == 0);
        barrier.seen = true;
        clocks.acquire(by.who.warp, &barrier.over);
        Ok(true)
    }

    /// What a thread that waits forever waits for.
    pub fn awaited(&self, who: Who) -> Option<String> {
        let waits = |barrier: &&Barrier| barrier.waiters.iter().any(|waiter| waiter.who == who);
        let Barrier { phase, missing, count, bytes, .. } = self.by_place.values().find(waits)?;
        Some(format!("phase {phase} of an mbarrier, which lacks {missing} of {count} arrivals and {bytes} bytes"))
    }

    /// Fails if a barrier in the blocks of a cluster that ends still expects bytes, or if no warp of its block waited
    /// for its last copy. `warps`: those of a block.
    pub fn finish(&mut self, warps: usize, memory: &Memory<'_>, clocks: &Clocks) -> Result<(), Failure> {
        for (&at, barrier) in &self.by_place {
            let (rank, offset) = memory.home(at);
            let place = |problem: String| {
                (
                    Who { warp: rank * warps, lane: 0 },
                    barrier.begun.line(),
                    format!("{problem} (mbarrier at byte {offset})"),
                )
            };
            if barrier.bytes != 0 {
                return Err(place(format!("the block ends while an mbarrier expects {} bytes", barrier.bytes)));
            }
            let waited =
                (rank * warps..(rank + 1) * warps).any(|warp| clocks.knows(warp, barrier.clock, barrier.copied));
            if barrier.copied != 0 && !waited {
                return Err(place("the block ends without a wait for a copy to its shared memory".to_owned()));
            }
        }
        self.by_place.clear();
        Ok(())
    }
}

impl Barrier {
    fn add(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes.unsigned_abs() > MOST.into() {
            return Err(format!("an mbarrier with {} bytes on their way, expected at most {MOST}", self.bytes));
        }
        Ok(())
    }

    /// Begins the next phase if this one is over.
    fn turn(&mut self, clocks: &mut Clocks) -> Result<bool, Failure> {
        if self.missing != 0 || self.bytes != 0 {
            return Ok(false);
        }
        self.phase += 1;
        self.missing = self.count;
        self.seen = false;
        self.over = std::mem::take(&mut self.released);
        self.over.learn(self.clock, clocks.advance());
        match self.waiters.iter().find(|waiter| waiter.phase + 1 < self.phase) {
            None => Ok(true),
            Some(late) => {
                let problem = format!(
                    "waits for phase {} of an mbarrier, and phase {} is over, too, before the wait ends",
                    late.phase,
                    self.phase - 1
                );
                Err((late.who, late.line, problem))
            }
        }
    }
}
