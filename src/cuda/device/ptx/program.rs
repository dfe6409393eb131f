//! A kernel that is ready to run: instructions whose operands are places in the registers of a warp.

use super::forms::Compute;
use super::parse::Class;

/// The place of a register or a constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its number among all registers.
    pub id: u16,
    /// Its row among the registers of its kind.
    pub row: u16,
}

/// An instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    pub action: Action,
    /// The predicate under which it runs, and whether it is negated.
    pub guard: Option<(Slot, bool)>,
    /// Its line in the file.
    pub line: u32,
    /// The number of results, and the number of sources.
    pub results: u8,
    pub sources: u8,
    pub d: [Slot; 4],
    pub s: [Slot; 10],
}

/// What an instruction does.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Each lane computes for itself.
    Compute(Compute),
    /// Each lane takes one of two sources.
    Select(Compute),
    /// Goes to the instruction of this number.
    Branch(u32),
    Return,
    Load(Access),
    Store(Access),
    /// An asynchronous copy of this many bytes to shared memory. Sources: both addresses and, maybe, how many bytes to
    /// read.
    Copy {
        bytes: u8,
        partial: bool,
    },
    /// Forms a group of asynchronous copies.
    Commit,
    /// Waits for all but this many groups.
    Wait(u32),
    /// The lanes of a warp, together.
    Gather(Gather),
}

/// An instruction of several lanes. The mask of lanes is its last source, or it needs the whole warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// A barrier of the block. Sources: its number and, maybe, its count of threads.
    Barrier {
        counted: bool,
    },
    SyncWarp,
    Shuffle(Shuffle),
    Vote(Vote),
    /// `ldmatrix`.
    Matrices {
        count: u8,
        transposed: bool,
    },
    /// `mma`, by the emulator's number of the variant.
    Product {
        variant: u32,
        deep: bool,
    },
}

/// Which lane a lane reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What the lanes learn about their predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    All,
    Any,
    Ballot,
}

/// A load or a store. Its first source is the base of the address; a store's values follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub space: Space,
    /// The number of values.
    pub count: u8,
    /// Bytes of a value.
    pub bytes: u8,
    /// Whether a load extends the sign.
    pub signed: bool,
    /// Whether the values' registers have 64 bits.
    pub wide: bool,
    /// Whether the base of the address has 64 bits.
    pub wide_base: bool,
    pub offset: i32,
}

/// A space of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Parameter,
    Global,
    Shared,
}

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
}

/// The address of the first parameter. No other space has such addresses.
pub const PARAMETERS: u64 = 1 << 60;
/// The address of the block's dynamic shared memory. Null is not an address in it.
pub const SHARED: u32 = 1024;

/// The value of a constant's register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fixed {
    Constant(u64),
    Special(Special),
}

/// A kernel.
#[derive(Debug)]
pub struct Program {
    pub code: Vec<Instruction>,
    /// Threads of a block, if the text says so.
    pub threads: Option<u64>,
    pub parameter_bytes: usize,
    /// Rows of 32-bit registers, of 64-bit registers, and predicates, with those of constants.
    pub words: usize,
    pub doubles: usize,
    pub predicates: usize,
    /// Registers that have their values from the start.
    pub fixed: Vec<(Class, Slot, Fixed)>,
    /// The names of registers, by number.
    pub names: Vec<String>,
}

/// An instruction that the lanes of `mask` of a warp execute.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    pub i: &'a Instruction,
    pub mask: u32,
    pub warp: usize,
}

impl Running<'_> {
    /// The lanes.
    pub fn lanes(&self) -> impl Iterator<Item = usize> + use<> {
        let mask = self.mask;
        (0..u32::BITS as usize).filter(move |lane| mask >> lane & 1 != 0)
    }
}

impl Instruction {
    /// The sources.
    pub fn read(&self) -> &[Slot] {
        &self.s[..self.sources as usize]
    }

    /// The results.
    pub fn written(&self) -> &[Slot] {
        &self.d[..self.results as usize]
    }
}
