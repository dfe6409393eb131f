//! What happens before what among the threads of a block.
//!
//! Time is a number that grows at every synchronisation. A warp knows, for each warp, the time up to which its accesses
//! happened before. Barriers of the block are by whole warps; within a warp, only `bar.warp.sync` orders the lanes.
//! Shuffles, votes and matrix instructions order no memory.

use super::registers::{ALL, LANES};

/// A thread of a block: its warp and lane. `lane` is [`WHOLE`] for what a warp reads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub warp: usize,
    pub lane: usize,
}

/// All lanes of a warp, as one reader.
pub const WHOLE: usize = LANES;

/// When something was accessed, by which thread, and from which line: 28, 12 and 24 bits. Zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// A lane that stands for several.
    const SEVERAL: u64 = 1 << 34;
    /// Another block read before.
    const ELSEWHERE: u64 = 1 << 35;
    /// Not yet over: an asynchronous copy in flight.
    pub const FLYING: u64 = (1 << 28) - 1;

    pub fn new(time: u64, who: Who, line: u32) -> Self {
        let several = if who.lane == WHOLE { Self::SEVERAL } else { 0 };
        let thread = (who.warp * LANES + who.lane % LANES) as u64;
        Self(time << 36 | several | thread << 24 | u64::from(line))
    }

    pub fn time(self) -> u64 {
        self.0 >> 36
    }

    pub fn thread(self) -> usize {
        (self.0 >> 24 & 0x3FF) as usize
    }

    fn warp(self) -> usize {
        self.thread() / LANES
    }

    pub fn line(self) -> u32 {
        (self.0 & 0xFF_FFFF) as u32
    }

    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    pub fn was_elsewhere(self) -> bool {
        self.0 & Self::ELSEWHERE != 0
    }

    /// This stamp of a read, with the knowledge of an earlier one by the same warp. `base`: when this block began.
    pub fn after(self, earlier: Self, base: u64) -> Self {
        if earlier.is_never() {
            return self;
        }
        let elsewhere = earlier.was_elsewhere() || earlier.time() < base;
        let other = earlier.thread() != self.thread() || earlier.0 & Self::SEVERAL != 0;
        let several = other && earlier.time() == self.time();
        Self(self.0 | if elsewhere { Self::ELSEWHERE } else { 0 } | if several { Self::SEVERAL } else { 0 })
    }
}

/// What a warp knows about its own lanes: `[a][b]`, the time up to which b's accesses happened before what a does.
type Lanes = Box<[[u64; LANES]; LANES]>;

/// The clocks of a block.
#[derive(Debug, Default)]
pub struct Clocks {
    /// The time.
    pub now: u64,
    /// When the block began.
    pub base: u64,
    /// `[a][b]`: the time up to which warp b's accesses happened before what warp a does.
    seen: Vec<Vec<u64>>,
    /// For each warp, the time up to which the accesses of all its lanes happened before what any of them does.
    full: Vec<u64>,
    /// More, for warps some of whose lanes have met alone.
    lanes: Vec<Option<Lanes>>,
}

impl Clocks {
    /// Begins a block of this many warps. All earlier blocks are over.
    pub fn begin(&mut self, warps: usize) {
        self.now += 1;
        self.base = self.now;
        let before = self.now - 1;
        self.seen = vec![vec![before; warps]; warps];
        self.full = vec![before; warps];
        self.lanes = (0..warps).map(|_| None).collect();
    }

    /// Orders what these warps did before what they will do.
    pub fn meet(&mut self, warps: &[usize]) {
        let mut joined = self.seen[warps[0]].clone();
        for &warp in warps {
            joined.iter_mut().zip(&self.seen[warp]).for_each(|(joined, &seen)| *joined = seen.max(*joined));
        }
        for &warp in warps {
            joined[warp] = self.now;
        }
        for &warp in warps {
            self.seen[warp].clone_from(&joined);
            self.full[warp] = self.now;
            self.lanes[warp] = None;
        }
        self.now += 1;
    }

    /// Orders what the lanes of `mask` did before what they will do.
    pub fn meet_lanes(&mut self, warp: usize, mask: u32) {
        if mask == ALL {
            self.full[warp] = self.now;
            self.lanes[warp] = None;
        } else {
            let full = self.full[warp];
            let known = self.lanes[warp].get_or_insert_with(|| Box::new([[full; LANES]; LANES]));
            let members = || (0..LANES).filter(|lane| mask >> lane & 1 != 0);
            let mut joined = [full; LANES];
            for member in members() {
                joined.iter_mut().zip(&known[member]).for_each(|(joined, &seen)| *joined = seen.max(*joined));
            }
            members().for_each(|member| joined[member] = self.now);
            members().for_each(|member| known[member] = joined);
        }
        self.now += 1;
    }

    /// Whether an access at `stamp` happened before what `who` does now. Accesses of earlier blocks did.
    #[inline(always)]
    pub fn ordered(&self, stamp: Stamp, who: Who) -> bool {
        let time = stamp.time();
        if stamp.warp() != who.warp {
            return self.seen[who.warp].get(stamp.warp()).is_none_or(|&seen| time <= seen) || time < self.base;
        }
        time <= self.full[who.warp] || self.ordered_lanes(stamp, who)
    }

    fn ordered_lanes(&self, stamp: Stamp, who: Who) -> bool {
        let time = stamp.time();
        if time == Stamp::FLYING {
            return false;
        }
        let several = stamp.0 & Stamp::SEVERAL != 0;
        let lane = stamp.thread() % LANES;
        if !several && lane == who.lane {
            return true;
        }
        let Some(known) = &self.lanes[who.warp] else { return false };
        let readers = |lane: usize| if several { 0..LANES } else { lane..lane + 1 };
        let now = if who.lane == WHOLE { 0..LANES } else { who.lane..who.lane + 1 };
        now.into_iter().all(|a| readers(lane).all(|b| a == b || time <= known[a][b]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(warp: usize, lane: usize) -> Who {
        Who { warp, lane }
    }

    fn clocks() -> Clocks {
        let mut clocks = Clocks::default();
        clocks.begin(3);
        clocks
    }

    #[test]
    fn a_thread_is_ordered_with_itself_and_with_others_by_barriers() {
        let mut clocks = clocks();
        let stamp = Stamp::new(clocks.now, who(1, 5), 7);
        assert_eq!((stamp.thread(), stamp.line()), (37, 7));
        assert!(clocks.ordered(stamp, who(1, 5)));
        assert!(!clocks.ordered(stamp, who(1, 6)) && !clocks.ordered(stamp, who(0, 5)));
        clocks.meet(&[0, 1]);
        assert!(clocks.ordered(stamp, who(1, 6)) && clocks.ordered(stamp, who(0, 5)));
        assert!(!clocks.ordered(stamp, who(2, 0)));
        // Through warp 0.
        clocks.meet(&[0, 2]);
        assert!(clocks.ordered(stamp, who(2, 0)));
        let later = Stamp::new(clocks.now, who(1, 5), 7);
        assert!(!clocks.ordered(later, who(2, 0)));
    }

    #[test]
    fn lanes_meet_alone_or_together() {
        let mut clocks = clocks();
        let stamp = Stamp::new(clocks.now, who(0, 1), 1);
        clocks.meet_lanes(0, 0b0110);
        assert!(clocks.ordered(stamp, who(0, 2)) && !clocks.ordered(stamp, who(0, 3)));
        clocks.meet_lanes(0, 0b1100);
        assert!(clocks.ordered(stamp, who(0, 3)) && !clocks.ordered(stamp, who(0, 4)));
        assert!(!clocks.ordered(stamp, who(0, WHOLE)));
        let second = Stamp::new(clocks.now, who(0, 1), 1);
        assert!(!clocks.ordered(second, who(0, 2)));
        clocks.meet_lanes(0, ALL);
        assert!(clocks.ordered(second, who(0, WHOLE)) && !clocks.ordered(second, who(1, 1)));
    }

    #[test]
    fn several_readers_are_all_remembered() {
        let mut clocks = clocks();
        let first = Stamp::new(clocks.now, who(0, 1), 1);
        let second = Stamp::new(clocks.now, who(0, 2), 2).after(first, clocks.base);
        assert!(!clocks.ordered(second, who(0, 2)));
        let whole = Stamp::new(clocks.now, who(0, WHOLE), 3);
        assert!(!clocks.ordered(whole, who(0, 0)));
        clocks.meet(&[0]);
        assert!(clocks.ordered(second, who(0, 2)) && clocks.ordered(whole, who(0, 0)));
        let third = Stamp::new(clocks.now, who(0, 2), 4).after(second, clocks.base);
        assert!(clocks.ordered(third, who(0, 2)));
    }

    #[test]
    fn earlier_blocks_are_over_and_flying_copies_are_not() {
        let mut clocks = clocks();
        let old = Stamp::new(clocks.now, who(2, 0), 1);
        let flying = Stamp::new(Stamp::FLYING, who(0, 0), 1);
        clocks.meet(&[0, 1, 2]);
        assert!(!clocks.ordered(flying, who(0, 0)) && !clocks.ordered(flying, who(1, 0)));
        clocks.begin(2);
        assert!(clocks.ordered(old, who(0, 0)) && clocks.ordered(old, who(1, 0)));
        let read = Stamp::new(clocks.now, who(0, 0), 1).after(old, clocks.base);
        assert!(read.was_elsewhere());
    }
}
