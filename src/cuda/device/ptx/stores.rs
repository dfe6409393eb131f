//! Bulk copies from shared to global memory.
//!
//! Until its thread has waited, a copy reads its bytes of shared memory, and writes its bytes of global memory. The seed
//! decides when the bytes move.

use super::clocks::{Clocks, Other, Stamp, Who};
use super::mbarrier::Failure;
use super::memory::{Accessing, Failed, Memory};
use super::random::Random;
use super::registers::LANES;
use super::shadow::Use;
use super::tensor::Boxed;

#[derive(Debug)]
struct Store {
    who: Who,
    line: u32,
    boxed: Boxed,
    from: usize,
    /// The number of its group, counted from the thread's first, and when it was issued.
    group: u32,
    time: u64,
    moved: bool,
}

/// The copies of a warp that no thread has waited for.
#[derive(Debug, Default)]
pub struct Stores {
    flying: Vec<Store>,
    /// Groups that each lane has formed.
    groups: [u32; LANES],
}

impl Stores {
    /// Issues a copy of the box at `from`.
    pub fn issue(
        &mut self,
        (boxed, from): (Boxed, usize),
        (who, line): (Who, u32),
        memory: &mut Memory<'_>,
        clocks: &mut Clocks,
        random: &mut Random,
    ) -> Result<(), String> {
        if !boxed.is_storable() {
            return Err("cp.async.bulk.tensor to a negative coordinate".to_owned());
        }
        let clock = clocks.of(Other::Stores(who))?;
        let accessing = |of| Accessing { what: "cp.async.bulk.tensor", of, who, line };
        memory.check_shared(from, boxed.bytes(), accessing(Use::BulkRead(clock)), clocks)?;
        for row in boxed.rows() {
            memory.check_global(row.address, row.bytes, accessing(Use::BulkFly), clocks)?;
        }
        let (group, time) = (self.groups[who.lane], clocks.advance());
        let mut store = Store { who, line, boxed, from, group, time, moved: false };
        if random.shuffles() && random.below(3) == 0 {
            store.arrive(memory);
        }
        self.flying.push(store);
        Ok(())
    }

    /// Forms a group of the copies of each lane in `mask`.
    pub fn commit(&mut self, mask: u32) {
        (0..LANES).filter(|lane| mask >> lane & 1 != 0).for_each(|lane| self.groups[lane] += 1);
    }

    /// Waits until at most the `pending` newest groups of each lane in `mask` are in flight, or still read.
    pub fn wait(
        &mut self,
        (pending, only_reads): (u32, bool),
        mask: u32,
        memory: &mut Memory<'_>,
        clocks: &mut Clocks,
    ) -> Result<(), Failed> {
        let groups = self.groups;
        let covers = |store: &Store| mask >> store.who.lane & 1 != 0 && store.group + pending < groups[store.who.lane];
        for store in self.flying.iter_mut().filter(|store| covers(store)) {
            store.arrive(memory);
            let clock = clocks.of(Other::Stores(store.who)).map_err(|problem| (store.who.lane, problem))?;
            clocks.learn(store.who.warp, clock, store.time);
            if !only_reads {
                store.land(memory, clocks);
            }
        }
        if !only_reads {
            self.flying.retain(|store| !covers(store));
        }
        Ok(())
    }

    /// Lets a random copy move.
    pub fn drift(&mut self, memory: &mut Memory<'_>, random: &mut Random) {
        if !self.flying.is_empty() {
            let chosen = random.below(self.flying.len());
            self.flying[chosen].arrive(memory);
        }
    }

    /// Fails if a copy is in flight when the block ends.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.groups = [0; LANES];
        let problem = || "the block ends without cp.async.bulk.wait_group for this copy".to_owned();
        self.flying.first().map_or(Ok(()), |store| Err((store.who, store.line, problem())))
    }
}

impl Store {
    /// Moves the bytes, once.
    fn arrive(&mut self, memory: &mut Memory<'_>) {
        if std::mem::replace(&mut self.moved, true) {
            return;
        }
        let bytes = self.boxed.swizzled(memory.shared_bytes(self.from, self.boxed.bytes()));
        for row in self.boxed.rows() {
            memory.write_bytes(row.address, &bytes[row.offset..row.offset + row.bytes]);
        }
    }

    /// From now on the copy is a write of its thread.
    fn land(&self, memory: &mut Memory<'_>, clocks: &Clocks) {
        let stamp = Stamp::new(clocks.now, self.who, self.line);
        self.boxed.rows().for_each(|row| memory.land_global(row.address, row.bytes, stamp));
    }
}
