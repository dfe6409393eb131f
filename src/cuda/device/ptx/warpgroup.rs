//! Warpgroups: four warps that execute the same products, and exchange registers with the others of their block.

use super::clocks::Who;
use super::mbarrier::Failure;
use super::memory::Shape;
use std::collections::VecDeque;

/// Warps of a warpgroup.
const WARPS: usize = 4;

/// An instruction of a warpgroup: its line, and what must be the same in all warps.
pub type Record = (u32, [u64; 3]);

/// The instructions that some warps of a warpgroup have executed and others have not.
#[derive(Clone, Debug, Default)]
struct Log {
    records: VecDeque<Record>,
    /// Instructions before the first record.
    before: u64,
    /// Instructions of each warp.
    done: [u64; WARPS],
    last: [u32; WARPS],
}

/// The warpgroups of a cluster.
#[derive(Debug)]
pub struct Warpgroups {
    shape: Shape,
    logs: Vec<Log>,
    /// Registers of a thread, by warp; and, by block, those that are free, counted for a thread of a warp.
    registers: Vec<u32>,
    free: Vec<u32>,
}

impl Warpgroups {
    pub fn new(shape: Shape, registers: Option<u32>) -> Self {
        let warps = shape.blocks * shape.warps;
        Self {
            shape,
            logs: vec![Log::default(); shape.blocks * shape.warps.div_ceil(WARPS)],
            registers: vec![registers.unwrap_or(0); warps],
            free: vec![0; shape.blocks],
        }
    }

    /// The warp's place in its warpgroup.
    pub fn place(&self, warp: usize) -> usize {
        warp % self.shape.warps % WARPS
    }

    fn log(&self, warp: usize) -> usize {
        warp / self.shape.warps * self.shape.warps.div_ceil(WARPS) + warp % self.shape.warps / WARPS
    }

    /// Notes that a warp executes an instruction of its warpgroup. Returns its number, from 1 on.
    pub fn step(&mut self, warp: usize, record: Record) -> Result<u64, String> {
        let (place, log) = (self.place(warp), self.log(warp));
        if warp % self.shape.warps - place + WARPS > self.shape.warps {
            return Err("the block does not have all four warps of this warpgroup".to_owned());
        }
        let log = &mut self.logs[log];
        let number = (log.done[place] - log.before) as usize;
        match log.records.get(number) {
            None => log.records.push_back(record),
            Some(other) if *other == record => {}
            Some((line, _)) if *line != record.0 => {
                return Err(format!("another warp of the warpgroup is at line {line}"));
            }
            Some(_) => return Err("the warps of the warpgroup have different operands".to_owned()),
        }
        log.done[place] += 1;
        log.last[place] = record.0;
        let all = log.done.iter().copied().min().unwrap_or(0);
        while log.before < all {
            log.records.pop_front();
            log.before += 1;
        }
        Ok(log.done[place])
    }

    /// Whether all warps of the warpgroup have executed as many instructions.
    pub fn have_all_done(&self, warp: usize, number: u64) -> bool {
        self.logs[self.log(warp)].before >= number
    }

    /// Changes the registers of a warp; false if not enough are free.
    pub fn change(&mut self, warp: usize, count: u32, takes: bool, line: u32) -> Result<bool, String> {
        let (has, free) = (self.registers[warp], self.free[warp / self.shape.warps]);
        if takes && count < has || !takes && count > has {
            let way = if takes { "inc" } else { "dec" };
            return Err(format!("setmaxnreg.{way} to {count} registers in a warp that has {has}"));
        }
        if takes && count - has > free {
            return Ok(false);
        }
        self.step(warp, (line, [count.into(), takes.into(), 0]))?;
        self.registers[warp] = count;
        self.free[warp / self.shape.warps] = free + has - count;
        Ok(true)
    }

    /// What a warp that waits for registers lacks.
    pub fn lacking(&self, warp: usize) -> String {
        let (has, free) = (self.registers[warp], self.free[warp / self.shape.warps]);
        format!("registers: each of its threads has {has}, and its block has {free} more to give")
    }

    /// Fails if a warp of a warpgroup has not executed what another has.
    pub fn finish(&self) -> Result<(), Failure> {
        for (number, log) in self.logs.iter().enumerate() {
            if let Some((line, _)) = log.records.front() {
                let groups = self.shape.warps.div_ceil(WARPS);
                let first = number / groups * self.shape.warps + number % groups * WARPS;
                let missing = log.done.iter().position(|&done| done == log.before).unwrap_or(0);
                let problem = "the other warps of its warpgroup have executed this instruction, and it has not";
                return Err((Who { warp: first + missing, lane: 0 }, *line, problem.to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(warps: usize) -> Warpgroups {
        Warpgroups::new(Shape { blocks: 2, warps, shared_bytes: 0 }, Some(168))
    }

    #[test]
    fn warps_execute_the_same_instructions() {
        let mut groups = groups(8);
        let record = (7, [1, 2, 3]);
        for warp in [4, 6, 5] {
            assert_eq!(groups.step(warp, record), Ok(1));
            assert!(!groups.have_all_done(warp, 1));
        }
        assert!(groups.finish().unwrap_err().0.warp == 7);
        assert!(groups.step(7, (8, [1, 2, 3])).unwrap_err().contains("at line 7"));
        assert!(groups.step(7, (7, [1, 2, 4])).unwrap_err().contains("different operands"));
        assert_eq!(groups.step(7, record), Ok(1));
        assert!(groups.have_all_done(4, 1) && groups.finish().is_ok());
        assert!(super::Warpgroups::new(Shape { blocks: 1, warps: 6, shared_bytes: 0 }, None).step(5, record).is_err());
    }

    #[test]
    fn registers_come_from_the_pool_of_the_block() {
        let mut groups = groups(12);
        assert_eq!(groups.change(8, 240, true, 1), Ok(false));
        (0..3).for_each(|warp| assert_eq!(groups.change(warp, 24, false, 2), Ok(true)));
        // The other block's pool is empty.
        assert_eq!(groups.change(12, 240, true, 1), Ok(false));
        (8..12).for_each(|warp| assert_eq!(groups.change(warp, 240, true, 1), Ok(true)));
        assert_eq!(groups.change(4, 240, true, 1), Ok(true));
        assert_eq!(groups.change(5, 240, true, 1), Ok(true));
        assert_eq!(groups.change(6, 240, true, 1), Ok(false));
        assert!(groups.change(4, 232, true, 1).unwrap_err().contains("that has 240"));
        assert!(groups.change(3, 176, false, 1).unwrap_err().contains("that has 168"));
    }
}
