//! A warp: groups of lanes, each with its own program counter.
//!
//! Lanes separate at a branch, and join again where their program counters meet. In the plain order the group that is
//! behind runs first, so groups meet as early as possible. Other seeds let any group run. Instructions that need several
//! lanes wait until these lanes have arrived at the same instruction.

mod hopper;

pub use hopper::Awaited;

use super::clocks::Clocks;
use super::cluster::Cluster;
use super::copies::Copies;
use super::gather::{self, first};
use super::memory::Memory;
use super::parse::Class;
use super::program::{Action, Fixed, Gather, Instruction, Program, Running, Slot, Special};
use super::random::Random;
use super::registers::{ALL, LANES, Registers};
use super::stores::Stores;
use super::wgmma::Products;

/// Why a warp stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It waits at a barrier of the block for this many threads, or only arrives there.
    Barrier { id: u32, threads: Option<u32>, waits: bool },
    /// It goes on only after an event of the cluster.
    Blocked,
    /// It has looked at a barrier whose phase is not over, and others may run now.
    Yielded,
    /// All lanes have ended.
    Ended,
    /// It has executed enough instructions.
    Paused,
}

/// What went wrong, at which line of the text, in which lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub warp: usize,
    pub lane: usize,
    pub line: u32,
    pub problem: String,
}

/// Lanes with the same program counter.
#[derive(Clone, Copy, Debug)]
struct Group {
    at: usize,
    mask: u32,
    waits: Waits,
}

/// What a group waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    No,
    /// Other lanes of the warp.
    Lanes,
    /// The next event of the cluster; the number counts those before it.
    Event(u64),
}

/// A warp of a block.
#[derive(Debug)]
pub struct Warp {
    /// Its number in the cluster, and in its block.
    number: usize,
    in_block: usize,
    registers: Registers,
    pub copies: Copies,
    pub stores: Stores,
    products: Products,
    groups: Vec<Group>,
    ended: u32,
}

/// What a warp runs with.
pub struct Surroundings<'a, 'm> {
    pub program: &'a Program,
    pub memory: &'a mut Memory<'m>,
    pub clocks: &'a mut Clocks,
    pub random: &'a mut Random,
    pub cluster: &'a mut Cluster,
}

/// Threads and blocks of a launch, and the block's place among them.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub threads: u32,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Blocks of a cluster.
    pub cluster: u32,
}

impl Warp {
    pub fn new(number: usize, in_block: usize, program: &Program) -> Self {
        let registers = Registers::new(program.words, program.doubles, program.predicates);
        Self {
            number,
            in_block,
            registers,
            copies: Copies::default(),
            stores: Stores::default(),
            products: Products::default(),
            groups: Vec::new(),
            ended: 0,
        }
    }

    /// Begins a block: only the registers of constants have values.
    pub fn begin(&mut self, program: &Program, position: Position) {
        let first_thread = (self.in_block * LANES) as u32;
        let mask =
            if position.threads - first_thread < 32 { (1 << (position.threads - first_thread)) - 1 } else { ALL };
        self.groups = vec![Group { at: 0, mask, waits: Waits::No }];
        self.products.begin(program);
        // Lanes that the block does not have count as ended.
        self.ended = !mask;
        self.registers.defined.fill(0);
        for &(class, slot, value) in &program.fixed {
            let row = slot.row as usize;
            match (class, value) {
                (Class::Predicate, Fixed::Constant(value)) => {
                    self.registers.predicates[row] = if value != 0 { ALL } else { 0 };
                }
                (Class::Double, Fixed::Constant(value)) => self.registers.doubles[row].fill(value),
                (_, Fixed::Constant(value)) => self.registers.words[row].fill(value as u32),
                (_, Fixed::Special(special)) => {
                    let value = |lane| self.special(special, position, lane);
                    let values = std::array::from_fn(value);
                    self.registers.words[row] = values;
                }
            }
            self.registers.defined[slot.id as usize] = ALL;
        }
    }

    fn special(&self, special: Special, position: Position, lane: usize) -> u32 {
        let of = |values: [u32; 3], axis: u8| values[usize::from(axis)];
        match special {
            Special::Thread(0) => (self.in_block * LANES + lane) as u32,
            Special::Thread(_) => 0,
            Special::Threads(0) => position.threads,
            Special::Threads(_) => 1,
            Special::Block(axis) => of(position.block, axis),
            Special::Blocks(axis) => of(position.grid, axis),
            Special::Lane => lane as u32,
            Special::Warp => self.in_block as u32,
            Special::Rank => position.block[0] % position.cluster,
            Special::Ranks => position.cluster,
            Special::Cluster(0) => position.block[0] / position.cluster,
            Special::Cluster(axis) => of(position.block, axis),
            Special::Clusters(0) => position.grid[0] / position.cluster,
            Special::Clusters(axis) => of(position.grid, axis),
        }
    }

    fn fault(&self, lane: usize, line: u32, problem: impl Into<String>) -> Fault {
        Fault { warp: self.number, lane, line, problem: problem.into() }
    }

    /// The group that runs next. In the plain order it is the one that is behind.
    fn next(&mut self, random: &mut Random, events: u64) -> Option<Group> {
        let can_run = |waits: Waits| waits != Waits::Lanes && waits != Waits::Event(events);
        let ready = || self.groups.iter().enumerate().filter(|(_, group)| can_run(group.waits));
        let chosen = if random.shuffles() {
            let count = ready().count();
            ready().nth(if count > 1 { random.below(count) } else { 0 })
        } else {
            ready().min_by_key(|(_, group)| group.at)
        };
        let chosen = chosen?.0;
        Some(Group { waits: Waits::No, ..self.groups.swap_remove(chosen) })
    }

    /// Lets the lanes after a branch join those that are at the same place.
    fn join(&mut self, group: &mut Group) {
        self.groups.retain(|other| {
            let meets = other.waits == Waits::No && other.at == group.at;
            if meets {
                group.mask |= other.mask;
            }
            !meets
        });
    }

    /// Runs at most `most` instructions.
    pub fn run(&mut self, with: &mut Surroundings<'_, '_>, most: usize) -> Result<Stop, Fault> {
        let mut left = most;
        while let Some(mut group) = self.next(with.random, with.cluster.events) {
            loop {
                if !self.groups.is_empty() {
                    self.join(&mut group);
                    let behind = |other: &Group| other.waits == Waits::No && other.at < group.at;
                    if !with.random.shuffles() && self.groups.iter().any(behind) {
                        self.groups.push(group);
                        break;
                    }
                }
                if left == 0 {
                    self.groups.push(group);
                    return Ok(Stop::Paused);
                }
                left -= 1;
                match self.step(&mut group, with)? {
                    Step::Continue => {}
                    Step::Separate(other) => self.groups.push(other),
                    Step::Wait => {
                        self.groups.push(Group { waits: Waits::Lanes, ..group });
                        break;
                    }
                    Step::Block => {
                        self.groups.push(Group { waits: Waits::Event(with.cluster.events), ..group });
                        break;
                    }
                    Step::Yield => {
                        self.groups.push(Group { at: group.at + 1, ..group });
                        return Ok(Stop::Yielded);
                    }
                    Step::Barrier { id, threads, waits } => {
                        self.groups.push(Group { at: group.at + 1, ..group });
                        return Ok(Stop::Barrier { id, threads, waits });
                    }
                    Step::End => break,
                }
            }
        }
        let blocked = |group: &Group| group.waits != Waits::Lanes;
        match self.groups.first() {
            None => Ok(Stop::Ended),
            Some(_) if self.groups.iter().any(blocked) => Ok(Stop::Blocked),
            Some(group) => {
                let line = with.program.code[group.at].line;
                Err(self.fault(first(group.mask), line, "waits for lanes that wait elsewhere"))
            }
        }
    }

    /// Executes one instruction of a group.
    fn step(&mut self, group: &mut Group, with: &mut Surroundings<'_, '_>) -> Result<Step, Fault> {
        let i = &with.program.code[group.at];
        let mut active = group.mask;
        if let Some((slot, negated)) = i.guard {
            self.check_defined(slot.id, i, active, with.program)?;
            let value = self.registers.predicate(slot);
            active &= if negated { !value } else { value };
        }
        let others = Group { at: group.at + 1, mask: group.mask & !active, waits: Waits::No };
        match i.action {
            Action::Branch(target) => {
                if active != 0 {
                    (group.at, group.mask) = (target as usize, active);
                } else {
                    group.at += 1;
                    return Ok(Step::Continue);
                }
                return Ok(if others.mask == 0 { Step::Continue } else { Step::Separate(others) });
            }
            Action::Return => {
                self.ended |= active;
                self.check_waiting(with.program)?;
                *group = others;
                return Ok(if group.mask == 0 { Step::End } else { Step::Continue });
            }
            _ if active == 0 => {}
            Action::Bulk(bulk) => return self.bulk(bulk, Running { i, mask: active, warp: self.number }, group, with),
            Action::Gather(kind) => {
                group.mask = active;
                if others.mask != 0 {
                    self.groups.push(others);
                }
                return self.meet(kind, i, group, with);
            }
            _ => {
                self.touch(i, active, with.program)?;
                self.execute(i, active, with)?;
            }
        }
        group.at += 1;
        Ok(Step::Continue)
    }

    fn check_defined(&self, id: u16, i: &Instruction, mask: u32, program: &Program) -> Result<(), Fault> {
        let missing = mask & !self.registers.defined[usize::from(id)];
        if missing == 0 {
            return Ok(());
        }
        let name = &program.names[usize::from(id)];
        Err(self.fault(
            first(missing),
            i.line,
            format!("uses {name}, which nothing was written to, or which depends on such a register"),
        ))
    }

    /// Executes an instruction whose lanes need not meet.
    #[inline]
    fn execute(&mut self, i: &Instruction, mask: u32, with: &mut Surroundings<'_, '_>) -> Result<(), Fault> {
        let (registers, warp) = (&mut self.registers, self.number);
        if let Action::Compute(compute) | Action::Select(compute) = i.action {
            let of = |slot: &Slot| registers.defined[usize::from(slot.id)];
            let defined = match (i.action, i.read()) {
                (Action::Select(_), [a, b, chosen]) => {
                    let predicate = registers.predicate(*chosen);
                    of(chosen) & (of(a) & predicate | of(b) & !predicate)
                }
                (_, sources) => sources.iter().fold(ALL, |all, source| all & of(source)),
            };
            compute(registers, i, mask);
            for result in i.written() {
                let lanes = &mut registers.defined[usize::from(result.id)];
                *lanes = *lanes & !mask | defined & mask;
            }
            return match registers.undefined.take() {
                Some(lanes) if lanes & defined & mask != 0 => {
                    Err(self.fault(first(lanes & defined & mask), i.line, "divides by zero"))
                }
                _ => Ok(()),
            };
        }
        for source in i.read() {
            self.check_defined(source.id, i, mask, with.program)?;
        }
        let Surroundings { memory, clocks, random, .. } = with;
        let (registers, running) = (&mut self.registers, Running { i, mask, warp });
        let done = match &i.action {
            Action::Load(access) => memory.load(access, running, registers, clocks),
            Action::Store(access) => memory.store(access, running, registers, clocks),
            Action::Copy { bytes, partial } => {
                self.copies.issue((*bytes, *partial), running, registers, memory, clocks, random)
            }
            Action::Commit => {
                self.copies.commit(mask);
                Ok(())
            }
            Action::Wait(pending) => {
                self.copies.wait(*pending, mask, warp, memory, clocks);
                Ok(())
            }
            _ => Ok(()),
        };
        done.map_err(|(lane, problem)| self.fault(lane, i.line, problem))?;
        for result in i.written() {
            self.registers.defined[usize::from(result.id)] |= mask;
        }
        Ok(())
    }

    /// Lets a group arrive at an instruction that several lanes execute together.
    fn meet(
        &mut self,
        kind: Gather,
        i: &Instruction,
        group: &mut Group,
        with: &mut Surroundings<'_, '_>,
    ) -> Result<Step, Fault> {
        for source in i.read() {
            self.check_defined(source.id, i, group.mask, with.program)?;
        }
        self.groups.retain(|other| {
            let meets = other.waits == Waits::Lanes && other.at == group.at;
            if meets {
                group.mask |= other.mask;
            }
            !meets
        });
        let failed = |(lane, problem)| self.fault(lane, i.line, problem);
        let needed = gather::needed(kind, i, &self.registers, group.mask).map_err(failed)?;
        self.check_lanes(needed, group, i, with.program)?;
        if needed != group.mask {
            return Ok(Step::Wait);
        }
        let running = Running { i, mask: needed, warp: self.number };
        match kind {
            Gather::Barrier { counted, waits } => return self.barrier(counted, waits, i),
            Gather::ClusterArrive { .. } | Gather::ClusterWait { .. } | Gather::Warpgroup(_) => {
                return self.together(kind, running, group, with);
            }
            _ => self.touch(i, needed, with.program)?,
        }
        let done = gather::execute(kind, running, &mut self.registers, with.memory, with.clocks);
        done.map_err(|(lane, problem)| self.fault(lane, i.line, problem))?;
        for result in i.written() {
            self.registers.defined[usize::from(result.id)] |= needed;
        }
        group.at += 1;
        Ok(Step::Continue)
    }

    /// Fails if a lane that is needed has ended, or waits at another instruction.
    fn check_lanes(&self, needed: u32, group: &Group, i: &Instruction, program: &Program) -> Result<(), Fault> {
        let lane = first(group.mask);
        let ended = needed & self.ended;
        if ended != 0 {
            let problem = format!("lane {} of its mask has ended or does not exist", first(ended));
            return Err(self.fault(lane, i.line, problem));
        }
        match self.groups.iter().find(|other| other.waits == Waits::Lanes && other.mask & needed != 0) {
            None => Ok(()),
            Some(other) => {
                let (thread, line) = (self.number * LANES + first(other.mask), program.code[other.at].line);
                Err(self.fault(lane, i.line, format!("thread {thread} of the same warp is at line {line}")))
            }
        }
    }

    /// Fails if a group waits for a lane that has ended.
    fn check_waiting(&self, program: &Program) -> Result<(), Fault> {
        for group in self.groups.iter().filter(|group| group.waits == Waits::Lanes) {
            let i = &program.code[group.at];
            if let Action::Gather(kind) = i.action {
                let failed = |(lane, problem)| self.fault(lane, i.line, problem);
                let needed = gather::needed(kind, i, &self.registers, group.mask).map_err(failed)?;
                self.check_lanes(needed, group, i, program)?;
            }
        }
        Ok(())
    }

    fn barrier(&self, counted: bool, waits: bool, i: &Instruction) -> Result<Step, Fault> {
        let value = |number: usize| gather::same(&self.registers, i.s[number], ALL);
        let differs = || self.fault(0, i.line, "the lanes name different barriers");
        let id = value(0).ok_or_else(differs)?;
        let threads = if counted { Some(value(1).ok_or_else(differs)?) } else { None };
        Ok(Step::Barrier { id, threads, waits })
    }

    /// The line at which a lane of the warp is.
    pub fn line(&self, program: &Program) -> u32 {
        let of = |group: &Group| match group.waits {
            Waits::No => program.code[group.at.saturating_sub(1)].line,
            _ => program.code[group.at].line,
        };
        self.groups.first().map_or(0, of)
    }
}

/// What a group does after an instruction.
enum Step {
    Continue,
    /// These lanes go on by themselves.
    Separate(Group),
    Wait,
    /// It tries the instruction again after an event of the cluster.
    Block,
    Yield,
    Barrier {
        id: u32,
        threads: Option<u32>,
        waits: bool,
    },
    End,
}
