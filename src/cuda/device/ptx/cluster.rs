//! What the warps of a cluster share besides memory: barriers, copies in flight, and the state of each warpgroup.

use super::clocks::{Clocks, Known, Stamp, WHOLE, Who};
use super::flights::Flights;
use super::mbarrier::{Barriers, Failure};
use super::memory::{Memory, Shape};
use super::warpgroup::Warpgroups;
use std::collections::HashMap;

/// The state of a cluster.
#[derive(Debug)]
pub struct Cluster {
    pub barriers: Barriers,
    pub flights: Flights,
    pub groups: Warpgroups,
    meeting: Meeting,
    /// Which warps have ended.
    ended: Vec<bool>,
    /// The last arrival of each warp at a barrier of another block, by that block's rank.
    far: HashMap<(usize, usize), Stamp>,
    /// Grows whenever something happens that a lane may wait for.
    pub events: u64,
    shape: Shape,
}

/// The barrier of the cluster.
#[derive(Debug, Default)]
struct Meeting {
    phase: u64,
    /// For each warp, the phase for which it has arrived.
    arrived: Vec<Option<u64>>,
    released: Known,
    over: Known,
}

impl Cluster {
    /// `registers`: of a thread at the start, if warps may change it.
    pub fn new(shape: Shape, registers: Option<u32>) -> Self {
        let warps = shape.blocks * shape.warps;
        Self {
            barriers: Barriers::default(),
            flights: Flights::default(),
            groups: Warpgroups::new(shape, registers),
            meeting: Meeting { arrived: vec![None; warps], ..Meeting::default() },
            ended: vec![false; warps],
            far: HashMap::new(),
            events: 0,
            shape,
        }
    }

    /// Lets a warp arrive at the cluster's barrier.
    pub fn arrive(&mut self, warp: usize, releases: bool, clocks: &mut Clocks) -> Result<(), String> {
        if self.meeting.arrived[warp].is_some() {
            return Err("arrives at the cluster's barrier again without a wait".to_owned());
        }
        self.meeting.arrived[warp] = Some(self.meeting.phase);
        if releases {
            clocks.release(warp, u32::MAX, &mut self.meeting.released)?;
        }
        self.turn();
        Ok(())
    }

    /// Whether all warps have arrived at the barrier for which a warp waits.
    pub fn wait(&mut self, warp: usize, acquires: bool, clocks: &mut Clocks) -> Result<bool, String> {
        let Some(phase) = self.meeting.arrived[warp] else {
            return Err("waits at the cluster's barrier without an arrival".to_owned());
        };
        if phase == self.meeting.phase {
            return Ok(false);
        }
        self.meeting.arrived[warp] = None;
        if acquires {
            clocks.acquire(warp, &self.meeting.over);
        }
        Ok(true)
    }

    /// Begins the next phase of the cluster's barrier if all warps that have not ended have arrived.
    fn turn(&mut self) {
        let Meeting { phase, arrived, .. } = &self.meeting;
        let here = |(arrived, &ended): (&Option<u64>, &bool)| ended || *arrived == Some(*phase);
        if arrived.iter().zip(&self.ended).all(here) {
            self.meeting.phase += 1;
            self.meeting.over = std::mem::take(&mut self.meeting.released);
            self.events += 1;
        }
    }

    /// Ends a warp.
    pub fn end(&mut self, warp: usize) {
        self.ended[warp] = true;
        if self.ended.iter().any(|ended| !ended) {
            self.turn();
        }
    }

    /// Whether all warps of a block have ended.
    pub fn has_ended(&self, rank: usize) -> bool {
        self.warps(rank).all(|warp| self.ended[warp])
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.shape.blocks
    }

    fn warps(&self, rank: usize) -> std::ops::Range<usize> {
        rank * self.shape.warps..(rank + 1) * self.shape.warps
    }

    /// Notes that a thread arrives at a barrier of another block.
    pub fn reach(&mut self, rank: usize, who: Who, line: u32, clocks: &Clocks) -> Result<(), String> {
        self.far.insert((rank, who.warp), Stamp::new(clocks.now, who, line));
        if self.has_ended(rank) { Err(early(rank)) } else { Ok(()) }
    }

    /// Ends the cluster.
    pub fn finish(&mut self, memory: &Memory<'_>, clocks: &Clocks) -> Result<(), Failure> {
        self.flights.finish()?;
        self.groups.finish()?;
        for (&(rank, warp), &stamp) in &self.far {
            let knows = |warp| clocks.ordered(stamp, Who { warp, lane: WHOLE });
            if !self.warps(rank).any(knows) {
                return Err((Who { warp, lane: stamp.thread() % WHOLE }, stamp.line(), early(rank)));
            }
        }
        self.barriers.finish(self.shape.warps, memory, clocks)
    }
}

/// The problem of what reaches a block that does not wait for it.
pub fn early(rank: usize) -> String {
    format!("block {rank} of the cluster may end before this reaches it")
}
