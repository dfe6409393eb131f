//! How a warp executes barriers in shared memory, bulk copies, and what it does together with its warpgroup or cluster.

use super::{Fault, Group, Instruction, Step, Surroundings, Waits, Warp};
use crate::cuda::device::ptx::bulk::{self, Working};
use crate::cuda::device::ptx::clocks::Who;
use crate::cuda::device::ptx::cluster::Cluster;
use crate::cuda::device::ptx::flights::Around;
use crate::cuda::device::ptx::gather::first;
use crate::cuda::device::ptx::program::{Action, Bulk, Gather, Program, Running, Warpgroup};
use crate::cuda::device::ptx::registers::LANES;
use crate::cuda::device::ptx::wgmma::Multiplying;

impl Warp {
    /// Notes that an instruction uses its registers, for the products of the warp.
    #[inline(always)]
    pub(super) fn touch(&mut self, i: &Instruction, mask: u32, program: &Program) -> Result<(), Fault> {
        self.products.touch(i, program).map_err(|problem| self.fault(first(mask), i.line, problem))
    }

    /// Executes an operation on barriers or bulk copies.
    pub(super) fn bulk(
        &mut self,
        bulk: Bulk,
        running: Running<'_>,
        group: &mut Group,
        with: &mut Surroundings<'_, '_>,
    ) -> Result<Step, Fault> {
        let Running { i, mask, .. } = running;
        self.touch(i, mask, with.program)?;
        for source in i.read() {
            self.check_defined(source.id, i, mask, with.program)?;
        }
        let around = Around { memory: with.memory, clocks: with.clocks, random: with.random };
        let (registers, stores) = (&mut self.registers, &mut self.stores);
        let mut working = Working { registers, cluster: with.cluster, stores, around };
        let blocked = bulk::execute(bulk, running, &mut working)?;
        for result in i.written() {
            self.registers.defined[usize::from(result.id)] |= mask & !blocked;
        }
        if blocked == group.mask {
            return Ok(Step::Block);
        }
        if blocked != 0 {
            self.groups.push(Group { at: group.at, mask: blocked, waits: Waits::Event(with.cluster.events) });
            group.mask &= !blocked;
        }
        if bulk == (Bulk::Wait { suspends: false }) && self.registers.predicate(i.d[0]) & mask != mask {
            return Ok(Step::Yield);
        }
        group.at += 1;
        Ok(Step::Continue)
    }

    /// Executes an instruction of the cluster or the warpgroup.
    pub(super) fn together(
        &mut self,
        kind: Gather,
        running: Running<'_>,
        group: &mut Group,
        with: &mut Surroundings<'_, '_>,
    ) -> Result<Step, Fault> {
        let (warp, line) = (self.number, running.i.line);
        let done = match kind {
            Gather::ClusterArrive { releases } => with.cluster.arrive(warp, releases, with.clocks).map(|()| true),
            Gather::ClusterWait { acquires } => with.cluster.wait(warp, acquires, with.clocks),
            Gather::Warpgroup(kind) => self.warpgroup(kind, running, with),
            _ => Ok(true),
        };
        if !done.map_err(|problem| self.fault(0, line, problem))? {
            return Ok(Step::Block);
        }
        group.at += 1;
        Ok(Step::Continue)
    }

    /// False if the warp must wait.
    fn warpgroup(
        &mut self,
        kind: Warpgroup,
        running: Running<'_>,
        with: &mut Surroundings<'_, '_>,
    ) -> Result<bool, String> {
        let Surroundings { program, memory, clocks, cluster, .. } = with;
        let mut multiplying = Multiplying { program, registers: &mut self.registers, memory, clocks, cluster };
        match kind {
            Warpgroup::Fence => self.products.fence(),
            Warpgroup::Commit => self.products.commit(),
            Warpgroup::Multiply(number) => self.products.multiply(number, running, &mut multiplying)?,
            Warpgroup::Wait(pending) => return self.products.wait(pending, running.warp, &mut multiplying),
            Warpgroup::Registers { count, takes } => {
                let done = cluster.groups.change(running.warp, count.into(), takes, running.i.line)?;
                cluster.events += u64::from(done);
                return Ok(done);
            }
        }
        Ok(true)
    }

    /// What a lane of the warp waits for, if it waits for an event.
    pub fn awaited(&self, program: &Program, cluster: &Cluster) -> Option<Awaited> {
        let group = self.groups.iter().find(|group| matches!(group.waits, Waits::Event(_)))?;
        let i = &program.code[group.at];
        let mut lanes = (0..LANES).filter(|lane| group.mask >> lane & 1 != 0);
        let phase = lanes.find_map(|lane| cluster.barriers.awaited(Who { warp: self.number, lane }));
        let (depth, what) = match (i.action, phase) {
            (_, Some(phase)) => (2, phase),
            (Action::Gather(Gather::Warpgroup(Warpgroup::Registers { .. })), _) => {
                (0, cluster.groups.lacking(self.number))
            }
            (Action::Gather(Gather::Warpgroup(_)), _) => (1, "the other warps of its warpgroup".to_owned()),
            _ => (3, "the other warps of its cluster".to_owned()),
        };
        Some(Awaited { lane: first(group.mask), line: i.line, what, depth })
    }
}

/// What a lane waits for, and at which line.
pub struct Awaited {
    pub lane: usize,
    pub line: u32,
    pub what: String,
    /// Where several lanes wait, one with a smaller number is more likely the cause.
    pub depth: u8,
}
