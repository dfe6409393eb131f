//! A block: which warp runs, and the barriers between warps.

use super::clocks::{Clocks, Stamp};
use super::memory::Memory;
use super::program::Program;
use super::random::Random;
use super::registers::LANES;
use super::text::Text;
use super::warp::{Fault, Position, Stop, Surroundings, Warp};

/// The barriers of a block.
const BARRIERS: usize = 16;
/// Under a seed, the most instructions that a warp executes before another may run: up to two to this power.
const AHEAD: usize = 12;

/// A barrier: the number of threads that it expects, and the warps that wait.
#[derive(Clone, Debug, Default)]
struct Barrier {
    threads: u32,
    waiting: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waits,
    Ended,
}

/// Runs the blocks of a launch, one after the other.
pub struct Worker<'a> {
    text: &'a Text,
    program: &'a Program,
    pub memory: Memory<'a>,
    clocks: Clocks,
    warps: Vec<Warp>,
    states: Vec<State>,
    barriers: Vec<Barrier>,
    random: Random,
    seed: u64,
}

impl<'a> Worker<'a> {
    pub fn new(text: &'a Text, program: &'a Program, memory: Memory<'a>, threads: u32, seed: u64) -> Self {
        let count = (threads as usize).div_ceil(LANES);
        Self {
            text,
            program,
            memory,
            clocks: Clocks::default(),
            warps: (0..count).map(|number| Warp::new(number, program)).collect(),
            states: vec![State::Ready; count],
            barriers: vec![Barrier::default(); BARRIERS],
            random: Random::new(seed, 0),
            seed,
        }
    }

    /// Runs the block of this number.
    ///
    /// # Errors
    /// What went wrong, with the block, the thread and the line.
    pub fn run(&mut self, number: u64, position: Position) -> Result<(), String> {
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
        self.warps.iter_mut().for_each(|warp| warp.begin(self.program, position));
        self.states.fill(State::Ready);
        self.barriers.fill(Barrier::default());
        let [x, y, z] = position.block;
        let place = format!("block ({x}, {y}, {z})");
        self.warps_in_turn(position.threads).map_err(|Fault { warp, lane, line, problem }| {
            let thread = warp * LANES + lane;
            format!("{place}, thread {thread}: {problem}; at {}", self.text.place(line))
        })?;
        for (number, warp) in self.warps.iter_mut().enumerate() {
            warp.copies.end(number, &mut self.memory, &self.clocks);
        }
        Ok(())
    }

    fn warps_in_turn(&mut self, threads: u32) -> Result<(), Fault> {
        while let Some(warp) = self.pick() {
            let most = if self.random.shuffles() { 1 << self.random.below(AHEAD + 1) } else { usize::MAX };
            let Self { program, memory, clocks, random, .. } = self;
            let stop = self.warps[warp].run(&mut Surroundings { program, memory, clocks, random }, most)?;
            match stop {
                Stop::Ended => self.states[warp] = State::Ended,
                Stop::Paused => self.warps[warp].copies.drift(&mut self.memory, &mut self.random),
                Stop::Barrier { id, threads: count } => self.arrive(warp, id, count.unwrap_or(threads), threads)?,
            }
        }
        match self.states.iter().position(|&state| state == State::Waits) {
            None => Ok(()),
            Some(waiting) => Err(self.stuck(waiting)),
        }
    }

    /// The warp that runs next.
    fn pick(&mut self) -> Option<usize> {
        let ready = || (0..self.states.len()).filter(|&warp| self.states[warp] == State::Ready);
        match ready().count() {
            0 => None,
            count if self.random.shuffles() => {
                let chosen = self.random.below(count);
                (0..self.states.len()).filter(|&warp| self.states[warp] == State::Ready).nth(chosen)
            }
            _ => ready().next(),
        }
    }

    /// Lets a warp arrive at a barrier, and wakes all that wait there if it is the last.
    fn arrive(&mut self, warp: usize, id: u32, count: u32, threads: u32) -> Result<(), Fault> {
        let line = self.warps[warp].line(self.program);
        let fault = |problem| Fault { warp, lane: 0, line, problem };
        if id as usize >= BARRIERS || count == 0 || !count.is_multiple_of(LANES as u32) || count > threads {
            return Err(fault(format!("barrier {id} for {count} threads does not exist")));
        }
        let barrier = &mut self.barriers[id as usize];
        if !barrier.waiting.is_empty() && barrier.threads != count {
            let other = barrier.threads;
            return Err(fault(format!("barrier {id} is awaited by {other} threads and by {count}")));
        }
        barrier.threads = count;
        barrier.waiting.push(warp);
        self.states[warp] = State::Waits;
        if barrier.waiting.len() * LANES == count as usize {
            let met = std::mem::take(&mut barrier.waiting);
            met.iter().for_each(|&warp| self.states[warp] = State::Ready);
            self.clocks.meet(&met);
        }
        Ok(())
    }

    /// The block cannot go on: some warps wait at a barrier that others never reach.
    fn stuck(&self, waiting: usize) -> Fault {
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
