//! The blocks of a cluster, or a block alone: which warp runs, and the barriers between the warps of a block.

use super::clocks::{Clocks, Known, Stamp, Who};
use super::cluster::Cluster;
use super::flights::Around;
use super::mbarrier::Failure;
use super::memory::{Memory, Shape};
use super::program::Program;
use super::random::Random;
use super::registers::LANES;
use super::text::Text;
use super::warp::{Awaited, Fault, Position, Stop, Surroundings, Warp};

/// The barriers of a block.
const BARRIERS: usize = 16;
/// Under a seed, the most instructions that a warp executes before another may run: up to two to this power.
const AHEAD: usize = 12;

/// How often warps that look at barriers in turn may find nothing new before the block counts as stuck.
const FRUITLESS: u32 = 1000;

/// A barrier: the number of threads that it expects, the warps that wait, and how many have only arrived, with what they
/// released.
#[derive(Clone, Debug, Default)]
struct Barrier {
    threads: u32,
    waiting: Vec<usize>,
    arrived: Vec<usize>,
    released: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waits,
    /// Until the cluster has had more events than this number.
    Blocked(u64),
    /// As `Blocked`, or until no other warp can run.
    Yielded(u64),
    Ended,
}

/// Runs the clusters of a launch, one after the other.
pub struct Worker<'a> {
    text: &'a Text,
    program: &'a Program,
    pub memory: Memory<'a>,
    clocks: Clocks,
    shape: Shape,
    cluster: Cluster,
    warps: Vec<Warp>,
    states: Vec<State>,
    /// Those of each block.
    barriers: Vec<Barrier>,
    random: Random,
    seed: u64,
}

impl<'a> Worker<'a> {
    pub fn new(text: &'a Text, program: &'a Program, memory: Memory<'a>, shape: Shape, seed: u64) -> Self {
        let count = shape.blocks * shape.warps;
        Self {
            text,
            program,
            memory,
            clocks: Clocks::default(),
            shape,
            cluster: Cluster::new(shape, program.entry_registers),
            warps: (0..count).map(|number| Warp::new(number, number % shape.warps, program)).collect(),
            states: vec![State::Ready; count],
            barriers: vec![Barrier::default(); shape.blocks * BARRIERS],
            random: Random::new(seed, 0),
            seed,
        }
    }

    /// Runs the cluster whose first block has this number. `positions`: of its blocks.
    ///
    /// # Errors
    /// What went wrong, with the block, the thread and the line.
    pub fn run(&mut self, number: u64, positions: &[Position]) -> Result<(), String> {
        // A block never needs half of all times.
        if self.clocks.now > Stamp::FLYING / 2 {
            return Err(
                "the launch has too many blocks and barriers for the clocks of the PTX machine; launch fewer blocks"
                    .to_owned(),
            );
        }
        self.random = Random::new(self.seed, number);
        self.clocks.begin(self.warps.len());
        self.memory.begin(number, &self.clocks);
        self.cluster = Cluster::new(self.shape, self.program.entry_registers);
        for (number, warp) in self.warps.iter_mut().enumerate() {
            warp.begin(self.program, positions[number / self.shape.warps]);
        }
        self.states.fill(State::Ready);
        self.barriers.fill(Barrier::default());
        let done = self.warps_in_turn(positions[0].threads).and_then(|()| self.finish());
        done.map_err(|Fault { warp, lane, line, problem }| {
            let [x, y, z] = positions[warp / self.shape.warps].block;
            let thread = warp % self.shape.warps * LANES + lane;
            format!("block ({x}, {y}, {z}), thread {thread}: {problem}; at {}", self.text.place(line))
        })
    }

    /// Fails if something is not over although all warps have ended.
    fn finish(&mut self) -> Result<(), Fault> {
        for (number, warp) in self.warps.iter_mut().enumerate() {
            warp.copies.end(number, &mut self.memory, &self.clocks);
            warp.stores.finish()?;
        }
        Ok(self.cluster.finish(&self.memory, &self.clocks)?)
    }

    fn warps_in_turn(&mut self, threads: u32) -> Result<(), Fault> {
        let (mut fruitless, mut events) = (0, 0);
        loop {
            while let Some(warp) = self.pick() {
                self.turn(warp, threads)?;
            }
            if self.states.iter().all(|&state| state == State::Ended) {
                return Ok(());
            }
            if self.cluster.events != events {
                (fruitless, events) = (0, self.cluster.events);
            }
            let Self { memory, clocks, random, .. } = self;
            if self.cluster.land_next(&mut Around { memory, clocks, random })? {
                continue;
            }
            fruitless += 1;
            if fruitless > FRUITLESS || !self.wake() {
                return Err(self.stuck());
            }
        }
    }

    /// Lets the warps go on that have looked at a barrier; false if there are none.
    fn wake(&mut self) -> bool {
        let yielded = |state: &&mut State| matches!(state, State::Yielded(_));
        self.states.iter_mut().filter(yielded).map(|state| *state = State::Ready).count() > 0
    }

    /// Runs a warp until it stops.
    fn turn(&mut self, warp: usize, threads: u32) -> Result<(), Fault> {
        let most = if self.random.shuffles() { 1 << self.random.below(AHEAD + 1) } else { usize::MAX };
        let Self { program, memory, clocks, random, cluster, .. } = self;
        let stop = self.warps[warp].run(&mut Surroundings { program, memory, clocks, random, cluster }, most)?;
        match stop {
            Stop::Ended => {
                self.states[warp] = State::Ended;
                self.cluster.end(warp);
            }
            Stop::Paused => self.drift(warp)?,
            Stop::Blocked | Stop::Yielded => {
                let events = self.cluster.events;
                self.states[warp] = if stop == Stop::Blocked { State::Blocked(events) } else { State::Yielded(events) };
                if self.random.shuffles() {
                    self.drift(warp)?;
                }
            }
            Stop::Barrier { id, threads: count, waits } => {
                self.arrive(warp, (id, count.unwrap_or(threads)), waits, threads)?;
            }
        }
        Ok(())
    }

    /// Lets random copies arrive.
    fn drift(&mut self, warp: usize) -> Result<(), Failure> {
        let Self { memory, clocks, random, .. } = self;
        self.warps[warp].copies.drift(memory, random);
        self.warps[warp].stores.drift(memory, random);
        self.cluster.drift(&mut Around { memory, clocks, random })
    }

    /// The warp that runs next.
    fn pick(&mut self) -> Option<usize> {
        let events = self.cluster.events;
        let is_ready = |state: State| match state {
            State::Ready => true,
            State::Blocked(since) | State::Yielded(since) => since != events,
            State::Waits | State::Ended => false,
        };
        let mut ready = (0..self.states.len()).filter(|&warp| is_ready(self.states[warp]));
        if self.random.shuffles() {
            let count = ready.clone().count();
            if count > 0 { ready.nth(self.random.below(count)) } else { None }
        } else {
            ready.next()
        }
    }

    /// Lets a warp arrive at a barrier of its block, and wakes all that wait there if it is the last.
    fn arrive(&mut self, warp: usize, (id, count): (u32, u32), waits: bool, threads: u32) -> Result<(), Fault> {
        let line = self.warps[warp].line(self.program);
        let fault = |problem| Fault { warp, lane: 0, line, problem };
        if id as usize >= BARRIERS || count == 0 || !count.is_multiple_of(LANES as u32) || count > threads {
            return Err(fault(format!("barrier {id} for {count} threads does not exist")));
        }
        let barrier = &mut self.barriers[warp / self.shape.warps * BARRIERS + id as usize];
        let here = |barrier: &Barrier| barrier.waiting.len() + barrier.arrived.len();
        if here(barrier) != 0 && barrier.threads != count {
            let other = barrier.threads;
            return Err(fault(format!("barrier {id} is awaited by {other} threads and by {count}")));
        }
        if barrier.arrived.contains(&warp) {
            return Err(fault(format!("arrives at barrier {id} again before it is complete")));
        }
        barrier.threads = count;
        if waits {
            barrier.waiting.push(warp);
            self.states[warp] = State::Waits;
        } else {
            barrier.arrived.push(warp);
            self.clocks.release(warp, u32::MAX, &mut barrier.released).map_err(fault)?;
        }
        if here(barrier) * LANES == count as usize {
            let met = std::mem::take(barrier);
            met.waiting.iter().for_each(|&warp| self.states[warp] = State::Ready);
            if !met.waiting.is_empty() {
                self.clocks.meet(&met.waiting, &met.released);
            }
        }
        Ok(())
    }

    /// The block cannot go on: some warps wait for what never happens.
    fn stuck(&self) -> Fault {
        let waiting = self.states.iter().position(|&state| state != State::Ended).unwrap_or(0);
        let blocked = (0..self.warps.len()).filter(|&warp| matches!(self.states[warp], State::Blocked(_)));
        let awaited = blocked.filter_map(|warp| Some((warp, self.warps[warp].awaited(self.program, &self.cluster)?)));
        if let Some((warp, Awaited { lane, line, what, .. })) = awaited.min_by_key(|(_, awaited)| awaited.depth) {
            let ended = self.states.iter().filter(|&&state| state == State::Ended).count();
            let problem = format!("stuck: waits for {what}; {ended} warps have ended");
            return Fault { warp, lane, line, problem };
        }
        let count = |state| self.states.iter().filter(|&&other| other == state).count();
        let (waits, ended) = (count(State::Waits), count(State::Ended));
        let line = self.warps[waiting].line(self.program);
        let lines: Vec<String> = (0..self.states.len())
            .filter(|&warp| self.states[warp] == State::Waits)
            .map(|warp| self.warps[warp].line(self.program).to_string())
            .collect();
        let lines: std::collections::BTreeSet<String> = lines.into_iter().collect();
        let lines = lines.into_iter().collect::<Vec<_>>().join(", ");
        let problem =
            format!("stuck: {waits} warps wait at barriers (lines {lines}) that are not complete, {ended} have ended");
        Fault { warp: waiting, lane: 0, line, problem }
    }
}

impl From<Failure> for Fault {
    fn from((Who { warp, lane }, line, problem): Failure) -> Self {
        Self { warp, lane, line, problem }
    }
}
