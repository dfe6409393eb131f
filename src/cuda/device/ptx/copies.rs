//! Asynchronous copies from global to shared memory.
//!
//! From its issue until its thread waits for it, a copy conflicts with every other access to its bytes in shared memory.
//! The seed decides when its bytes move.

use super::clocks::{Clocks, Stamp, Who};
use super::memory::{Accessing, Failed, Memory, Place};
use super::program::{Running, Space};
use super::random::Random;
use super::registers::{LANES, Registers};
use super::shadow::Use;

/// A copy in flight: `copied` bytes, then zeros.
#[derive(Clone, Copy, Debug)]
struct Copy {
    lane: usize,
    to: usize,
    bytes: usize,
    /// Its first bytes, as parts that are aligned to their size.
    from: u64,
    copied: usize,
    /// The number of its group, counted from the thread's first.
    group: u32,
    line: u32,
    moved: bool,
}

/// The copies of a warp that no thread has waited for.
#[derive(Debug, Default)]
pub struct Copies {
    flying: Vec<Copy>,
    /// Groups that each lane has formed.
    groups: [u32; LANES],
}

impl Copies {
    /// Issues a copy in each lane. The pair holds its bytes, and whether a source says how many of them to read.
    pub fn issue(
        &mut self,
        (bytes, partial): (u8, bool),
        running: Running<'_>,
        registers: &Registers,
        memory: &mut Memory<'_>,
        clocks: &Clocks,
        random: &mut Random,
    ) -> Result<(), Failed> {
        let Running { i, warp, .. } = running;
        let bytes = usize::from(bytes);
        for lane in running.lanes() {
            let to = registers.words[i.s[0].row as usize][lane];
            let from = registers.doubles[i.s[1].row as usize][lane];
            let copied = if partial { registers.words[i.s[2].row as usize][lane] as usize } else { bytes };
            let failed = |problem| (lane, problem);
            if copied > bytes {
                return Err(failed(format!("cp.async of {copied} bytes into {bytes}")));
            }
            if !from.is_multiple_of(bytes as u64) {
                return Err(failed(format!("cp.async from an address that is not a multiple of {bytes} bytes")));
            }
            let who = Who { warp, lane };
            let accessing = |of| Accessing { what: "cp.async", of, who, line: i.line };
            for (at, part) in parts(copied) {
                let read = memory.check(Space::Global, from + at as u64, part, accessing(Use::Read), clocks);
                read.map_err(failed)?;
            }
            let place = memory.check(Space::Shared, to.into(), bytes, accessing(Use::Fly), clocks).map_err(failed)?;
            let Place::Shared(to) = place else { unreachable!("it is in shared memory") };
            let group = self.groups[lane];
            let mut copy = Copy { lane, to, bytes, from, copied, group, line: i.line, moved: false };
            if random.shuffles() && random.below(3) == 0 {
                copy.arrive(memory);
            }
            self.flying.push(copy);
        }
        Ok(())
    }

    /// Forms a group of the copies of each lane in `mask`.
    pub fn commit(&mut self, mask: u32) {
        (0..LANES).filter(|lane| mask >> lane & 1 != 0).for_each(|lane| self.groups[lane] += 1);
    }

    /// Waits until at most the `pending` newest groups of each lane in `mask` are in flight.
    pub fn wait(&mut self, pending: u32, mask: u32, warp: usize, memory: &mut Memory<'_>, clocks: &Clocks) {
        let groups = self.groups;
        self.flying.retain_mut(|copy| {
            if mask >> copy.lane & 1 == 0 || copy.group + pending >= groups[copy.lane] {
                return true;
            }
            copy.arrive(memory);
            memory.land(copy.to, copy.bytes, Stamp::new(clocks.now, Who { warp, lane: copy.lane }, copy.line));
            false
        });
    }

    /// Lets a random copy arrive.
    pub fn drift(&mut self, memory: &mut Memory<'_>, random: &mut Random) {
        if !self.flying.is_empty() {
            let chosen = random.below(self.flying.len());
            self.flying[chosen].arrive(memory);
        }
    }

    /// Ends all copies, because the block ends.
    pub fn end(&mut self, warp: usize, memory: &mut Memory<'_>, clocks: &Clocks) {
        for copy in self.flying.drain(..) {
            memory.land(copy.to, copy.bytes, Stamp::new(clocks.now, Who { warp, lane: copy.lane }, copy.line));
        }
        self.groups = [0; LANES];
    }
}

impl Copy {
    /// Moves the bytes, once.
    fn arrive(&mut self, memory: &mut Memory<'_>) {
        if std::mem::replace(&mut self.moved, true) {
            return;
        }
        let mut whole = [0; 16];
        for (at, part) in parts(self.copied) {
            let place = memory.found(self.from + at as u64);
            whole[at..at + part].copy_from_slice(&memory.read(place, part)[..part]);
        }
        memory.write(Place::Shared(self.to), &whole[..self.bytes]);
    }
}

/// Cuts the first `bytes` bytes of an aligned vector into parts that are aligned to their size: offset and size of each.
fn parts(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    [16, 8, 4, 2, 1].into_iter().filter(move |part| bytes & part != 0).map(move |part| {
        at += part;
        (at - part, part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_to_their_size() {
        for bytes in 0..=16 {
            let parts: Vec<_> = parts(bytes).collect();
            assert_eq!(parts.iter().map(|(_, part)| part).sum::<usize>(), bytes);
            assert!(parts.iter().all(|(at, part)| at % part == 0), "{parts:?}");
        }
    }
}
