//! What happens before what among the threads of a cluster; without clusters, of a block.
//!
//! Time is a number that grows at every synchronisation. A warp knows, for each warp, the time up to which its accesses
//! happened before. Barriers of the block are by whole warps; within a warp, only `bar.warp.sync` orders the lanes.
//! Shuffles, votes and matrix instructions order no memory.
//!
//! Other things have clocks, too ([`Other`]): what a barrier's copies wrote is known to a warp that has waited for their
//! phase, and to no other. What one lane learns by a wait counts for its whole warp; what one lane releases does not.

use super::registers::{ALL, LANES};
use std::collections::HashMap;

/// A thread of a cluster: its warp and lane. `lane` is [`WHOLE`] for what a warp reads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    pub warp: usize,
    pub lane: usize,
}

/// All lanes of a warp, as one reader.
pub const WHOLE: usize = LANES;

/// What has a clock, besides the warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Other {
    /// What a lane of a warp released alone.
    Lane(Who),
    /// The stores that a thread, or a whole warp, has shown to asynchronous copies and products.
    Shown(Who),
    /// The copies that the barrier at this byte counts.
    Barrier(usize),
    /// What the products of a warp read.
    Products(usize),
    /// What the asynchronous stores of a thread read.
    Stores(Who),
}

/// The number of an [`Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock(u16);

impl Clock {
    /// Its number, from 0 on.
    pub fn number(self) -> usize {
        self.0.into()
    }
}

/// When something was accessed, by which thread or by what else, and from which line: 28, 15 and 21 bits. Zero: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// A lane that stands for several.
    const SEVERAL: u64 = 1 << 35;
    /// Another block read before.
    const ELSEWHERE: u64 = 1 << 34;
    /// The number is that of a [`Clock`].
    const OTHER: u64 = 1 << 33;
    /// Not yet over: an asynchronous copy in flight.
    pub const FLYING: u64 = (1 << 28) - 1;
    /// Threads, clocks and lines that a stamp can name.
    pub const THREADS: usize = 1 << 12;
    pub const LINES: u32 = 1 << 21;

    pub fn new(time: u64, who: Who, line: u32) -> Self {
        let several = if who.lane == WHOLE { Self::SEVERAL } else { 0 };
        let thread = (who.warp * LANES + who.lane % LANES) as u64;
        Self(time << 36 | several | thread << 21 | u64::from(line))
    }

    /// A stamp of something that is not a thread.
    pub fn of(time: u64, Clock(number): Clock, line: u32) -> Self {
        Self(time << 36 | Self::OTHER | u64::from(number) << 21 | u64::from(line))
    }

    pub fn time(self) -> u64 {
        self.0 >> 36
    }

    /// The thread; of an asynchronous operation, a number that no thread has.
    pub fn thread(self) -> usize {
        (self.0 >> 21 & 0x1FFF) as usize
    }

    /// The clock, if it is not a thread's.
    #[inline(always)]
    pub fn clock(self) -> Option<Clock> {
        (self.0 & Self::OTHER != 0).then_some(Clock((self.0 >> 21 & 0xFFF) as u16))
    }

    fn warp(self) -> usize {
        self.thread() / LANES
    }

    pub fn line(self) -> u32 {
        (self.0 & 0x1F_FFFF) as u32
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

/// For each warp and each other clock, the time up to which its accesses happened before. Clocks beyond the end: none of
/// this cluster's.
#[derive(Clone, Debug, Default)]
pub struct Known {
    warps: Vec<u64>,
    others: Vec<u64>,
}

impl Known {
    /// Adds what another knows.
    pub fn join(&mut self, other: &Self) {
        join(&mut self.warps, &other.warps);
        join(&mut self.others, &other.others);
    }

    fn other(&self, Clock(number): Clock) -> u64 {
        self.others.get(usize::from(number)).copied().unwrap_or(0)
    }

    /// Learns that what `clock` did up to `time` happened before.
    pub fn learn(&mut self, Clock(number): Clock, time: u64) {
        let number = usize::from(number);
        if self.others.len() <= number {
            self.others.resize(number + 1, 0);
        }
        self.others[number] = self.others[number].max(time);
    }
}

fn join(times: &mut Vec<u64>, more: &[u64]) {
    if times.len() < more.len() {
        times.resize(more.len(), 0);
    }
    times.iter_mut().zip(more).for_each(|(time, &more)| *time = more.max(*time));
}

/// What a warp knows about its own lanes: `[a][b]`, the time up to which b's accesses happened before what a does.
type Lanes = Box<[[u64; LANES]; LANES]>;

/// The clocks of a cluster.
#[derive(Debug, Default)]
pub struct Clocks {
    /// The time.
    pub now: u64,
    /// When the cluster began.
    pub base: u64,
    /// What happened before what each warp does.
    seen: Vec<Known>,
    /// For each warp, the time up to which the accesses of all its lanes happened before what any of them does.
    full: Vec<u64>,
    /// More, for warps some of whose lanes have met alone.
    lanes: Vec<Option<Lanes>>,
    others: HashMap<Other, Clock>,
}

impl Clocks {
    /// Begins a cluster of this many warps. All earlier ones are over.
    pub fn begin(&mut self, warps: usize) {
        self.now += 1;
        self.base = self.now;
        let before = self.now - 1;
        self.seen = vec![Known { warps: vec![before; warps], others: Vec::new() }; warps];
        self.full = vec![before; warps];
        self.lanes = (0..warps).map(|_| None).collect();
        self.others.clear();
    }

    /// The number of warps.
    pub fn warps(&self) -> usize {
        self.full.len()
    }

    /// The clock of something.
    ///
    /// # Errors
    /// A message if there are too many.
    pub fn of(&mut self, other: Other) -> Result<Clock, String> {
        let next = self.others.len();
        let clock = self.others.get(&other).copied().or_else(|| (next < Stamp::THREADS).then_some(Clock(next as u16)));
        let clock =
            clock.ok_or("the cluster has more barriers and asynchronous operations than the PTX machine's clocks")?;
        self.others.insert(other, clock);
        Ok(clock)
    }

    /// Ends a moment: what follows is later.
    pub fn advance(&mut self) -> u64 {
        self.now += 1;
        self.now - 1
    }

    /// Orders what these warps did, and what is known to `released`, before what they will do.
    pub fn meet(&mut self, warps: &[usize], released: &Known) {
        let mut joined = released.clone();
        for &warp in warps {
            joined.join(&self.seen[warp]);
        }
        for &warp in warps {
            joined.warps[warp] = self.now;
        }
        for &warp in warps {
            self.seen[warp].clone_from(&joined);
            self.full[warp] = self.now;
            self.lanes[warp] = None;
        }
        self.now += 1;
    }

    /// Adds to `into` what happened before what the lanes of `mask` do now, and what they did.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn release(&mut self, warp: usize, mask: u32, into: &mut Known) -> Result<(), String> {
        into.join(&self.seen[warp]);
        let together = if mask == ALL { self.now } else { self.full[warp] };
        into.warps[warp] = into.warps[warp].max(together);
        if mask != ALL {
            for lane in (0..LANES).filter(|lane| mask >> lane & 1 != 0) {
                let clock = self.of(Other::Lane(Who { warp, lane }))?;
                into.learn(clock, self.now);
            }
        }
        self.now += 1;
        Ok(())
    }

    /// Orders what `released` knows before what a warp will do.
    pub fn acquire(&mut self, warp: usize, released: &Known) {
        self.seen[warp].join(released);
    }

    /// Orders what a clock did up to `time` before what a warp will do.
    pub fn learn(&mut self, warp: usize, clock: Clock, time: u64) {
        self.seen[warp].learn(clock, time);
    }

    /// Whether a warp knows what a clock did up to `time`.
    pub fn knows(&self, warp: usize, clock: Clock, time: u64) -> bool {
        self.seen[warp].other(clock) >= time
    }

    /// Shows what the lanes of `mask` have stored to asynchronous copies and products.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn show(&mut self, warp: usize, mask: u32) -> Result<(), String> {
        let lanes = if mask == ALL { WHOLE..WHOLE + 1 } else { 0..LANES };
        for lane in lanes.filter(|lane| *lane == WHOLE || mask >> lane & 1 != 0) {
            let clock = self.of(Other::Shown(Who { warp, lane }))?;
            self.seen[warp].learn(clock, self.now);
        }
        self.now += 1;
        Ok(())
    }

    /// Whether the thread that stored at `stamp` has shown it to asynchronous operations before what a warp does now.
    pub fn shown(&self, stamp: Stamp, warp: usize) -> bool {
        let (time, writer) = (stamp.time(), Who { warp: stamp.warp(), lane: stamp.thread() % LANES });
        let known = |who: Who| {
            let clock = self.others.get(&Other::Shown(who));
            clock.is_some_and(|&clock| time <= self.seen[warp].other(clock))
        };
        stamp.clock().is_some() || time < self.base || known(Who { lane: WHOLE, ..writer }) || known(writer)
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
        if let Some(clock) = stamp.clock() {
            return time <= self.seen[who.warp].other(clock) || time < self.base;
        }
        if stamp.warp() != who.warp {
            let known = self.seen[who.warp].warps.get(stamp.warp()).is_none_or(|&seen| time <= seen);
            return known || time < self.base || self.released_alone(stamp, who.warp);
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
        if !several && lane == who.lane || time <= self.seen[who.warp].warps[who.warp] {
            return true;
        }
        if self.released_alone(stamp, who.warp) {
            return true;
        }
        let Some(known) = &self.lanes[who.warp] else { return false };
        let readers = |lane: usize| if several { 0..LANES } else { lane..lane + 1 };
        let now = if who.lane == WHOLE { 0..LANES } else { who.lane..who.lane + 1 };
        now.into_iter().all(|a| readers(lane).all(|b| a == b || time <= known[a][b]))
    }

    /// Whether a lane's access happened before because the lane has released it alone.
    fn released_alone(&self, stamp: Stamp, warp: usize) -> bool {
        let writer = Who { warp: stamp.warp(), lane: stamp.thread() % LANES };
        let clock = self.others.get(&Other::Lane(writer)).filter(|_| stamp.0 & Stamp::SEVERAL == 0);
        clock.is_some_and(|&clock| stamp.time() <= self.seen[warp].other(clock))
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
        clocks.meet(&[0, 1], &Known::default());
        assert!(clocks.ordered(stamp, who(1, 6)) && clocks.ordered(stamp, who(0, 5)));
        assert!(!clocks.ordered(stamp, who(2, 0)));
        // Through warp 0.
        clocks.meet(&[0, 2], &Known::default());
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
        clocks.meet(&[0], &Known::default());
        assert!(clocks.ordered(second, who(0, 2)) && clocks.ordered(whole, who(0, 0)));
        let third = Stamp::new(clocks.now, who(0, 2), 4).after(second, clocks.base);
        assert!(clocks.ordered(third, who(0, 2)));
    }

    #[test]
    fn earlier_blocks_are_over_and_flying_copies_are_not() {
        let mut clocks = clocks();
        let old = Stamp::new(clocks.now, who(2, 0), 1);
        let flying = Stamp::new(Stamp::FLYING, who(0, 0), 1);
        clocks.meet(&[0, 1, 2], &Known::default());
        assert!(!clocks.ordered(flying, who(0, 0)) && !clocks.ordered(flying, who(1, 0)));
        clocks.begin(2);
        assert!(clocks.ordered(old, who(0, 0)) && clocks.ordered(old, who(1, 0)));
        let read = Stamp::new(clocks.now, who(0, 0), 1).after(old, clocks.base);
        assert!(read.was_elsewhere());
    }

    /// What warp 1 does after it has acquired what `lanes` of warp 0 released.
    fn acquired(lanes: u32) -> [bool; 3] {
        let mut clocks = clocks();
        let stamps = [1, 2].map(|lane| Stamp::new(clocks.now, who(0, lane), 1));
        let mut released = Known::default();
        clocks.release(0, lanes, &mut released).unwrap();
        let later = Stamp::new(clocks.now, who(0, 1), 1);
        clocks.acquire(1, &released);
        assert!(!clocks.ordered(stamps[0], who(2, 0)));
        [stamps[0], stamps[1], later].map(|stamp| clocks.ordered(stamp, who(1, 7)))
    }

    #[test]
    fn a_lane_releases_what_it_did_alone() {
        assert_eq!(acquired(0b0010), [true, false, false]);
        assert_eq!(acquired(0b0110), [true, true, false]);
        assert_eq!(acquired(ALL), [true, true, false]);
    }

    #[test]
    fn other_clocks_are_known_after_their_own_wait() {
        let mut clocks = clocks();
        let [first, second] = [64, 72].map(|at| clocks.of(Other::Barrier(at)).unwrap());
        let copied = [first, second].map(|clock| Stamp::of(clocks.now, clock, 9));
        let time = clocks.advance();
        clocks.learn(1, first, time);
        assert_eq!(copied.map(|stamp| clocks.ordered(stamp, who(1, 0))), [true, false]);
        assert!(!clocks.ordered(copied[0], who(0, 0)));
        clocks.meet(&[0, 1], &Known::default());
        assert!(clocks.ordered(copied[0], who(0, 0)) && !clocks.ordered(copied[1], who(0, 0)));
        assert_eq!((copied[0].line(), copied[0].clock()), (9, Some(first)));
    }

    #[test]
    fn stores_are_shown_before_their_barrier() {
        let mut clocks = clocks();
        let stored = [1, 2].map(|lane| Stamp::new(clocks.now, who(0, lane), 1));
        clocks.show(0, 0b0010).unwrap();
        assert_eq!(stored.map(|stamp| clocks.shown(stamp, 1)), [false; 2]);
        clocks.meet(&[0, 1], &Known::default());
        assert_eq!(stored.map(|stamp| clocks.shown(stamp, 1)), [true, false]);
        clocks.show(0, ALL).unwrap();
        assert_eq!(stored.map(|stamp| clocks.shown(stamp, 0)), [true; 2]);
        assert!(!clocks.shown(stored[1], 1));
    }
}
