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
    /// What each lane asks of barriers in shared memory and bulk copies.
    Bulk(Bulk),
    /// The lanes of a warp, together.
    Gather(Gather),
}

/// An operation of a lane on a barrier in shared memory, or on bulk copies. Its addresses are the first sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// `mbarrier.init`, and `mbarrier.inval`.
    Begin,
    End,
    /// `mbarrier.arrive`, maybe with a count, or `.expect_tx` with bytes.
    Arrive {
        far: bool,
        counted: bool,
        expects: bool,
    },
    Expect,
    /// `mbarrier.try_wait.parity`, which suspends the lane, or `test_wait`.
    Wait {
        suspends: bool,
    },
    /// `fence.mbarrier_init`.
    Publish,
    /// `fence.proxy.async`.
    Show,
    /// Plain bytes to shared memory.
    LoadBytes,
    /// A box to shared memory. Sources: its place there, the map, coordinates, the barrier and, maybe, the blocks.
    LoadBox {
        rank: u8,
        multicast: bool,
    },
    /// A box from shared memory. Sources: the map, coordinates, and its place.
    StoreBox {
        rank: u8,
    },
    /// Forms a group of the lane's stores.
    Commit,
    /// Waits for all but this many groups.
    WaitStores {
        pending: u32,
        only_reads: bool,
    },
    /// `prefetch.tensormap`.
    CheckMap,
}

/// An instruction of several lanes. The mask of lanes is its last source, or it needs the whole warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// A barrier of the block, at which the warp waits or only arrives. Sources: its number and, maybe, its count of
    /// threads.
    Barrier {
        counted: bool,
        waits: bool,
    },
    /// The barrier of the cluster.
    ClusterArrive {
        releases: bool,
    },
    ClusterWait {
        acquires: bool,
    },
    SyncWarp,
    /// `elect.sync`.
    Elect {
        named: bool,
    },
    Shuffle(Shuffle),
    Vote(Vote),
    /// `ldmatrix`.
    Matrices {
        count: u8,
        transposed: bool,
    },
    /// `stmatrix`. Sources: the address of a row, and the registers.
    StoreMatrices {
        count: u8,
        transposed: bool,
    },
    /// `mma`, by the emulator's number of the variant.
    Product {
        variant: u32,
        deep: bool,
    },
    Warpgroup(Warpgroup),
}

/// An instruction of a warpgroup, of which each warp executes its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warpgroup {
    /// `wgmma.fence`.
    Fence,
    /// `wgmma.mma_async`, by its number in the program. Sources: A (a description or four registers), the description of
    /// B, and whether to add.
    Multiply(u32),
    Commit,
    /// Waits for all but this many groups of products.
    Wait(u32),
    /// `setmaxnreg`.
    Registers {
        count: u16,
        takes: bool,
    },
}

/// The form of a `wgmma.mma_async`: a 64×16 matrix A times a 16×N matrix B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multiplication {
    pub f16: bool,
    /// N.
    pub columns: usize,
    /// Whether A comes from registers.
    pub from_registers: bool,
    /// Whether the signs of A and B change.
    pub negated: [bool; 2],
    /// Whether m is innermost in A, and n in B.
    pub by_rows: [bool; 2],
    /// The registers of a lane's N/2 sums.
    pub sums: Vec<Slot>,
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
    /// The block's place in its cluster, and the number of its blocks.
    Rank,
    Ranks,
    /// The cluster's place among the clusters, and their number.
    Cluster(u8),
    Clusters(u8),
}

/// The address of the first parameter. No other space has such addresses.
pub const PARAMETERS: u64 = 1 << 60;
/// The address of the block's dynamic shared memory. Null is not an address in it.
pub const SHARED: u32 = 1024;
/// An address in another block's shared memory has that block's rank plus 1 in the bits from this one on.
pub const FAR_BITS: u32 = 24;

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
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Registers of a thread at the start, in a kernel that says how many blocks a multiprocessor has.
    pub entry_registers: Option<u32>,
    pub parameter_bytes: usize,
    /// Rows of 32-bit registers, of 64-bit registers, and predicates, with those of constants.
    pub words: usize,
    pub doubles: usize,
    pub predicates: usize,
    /// Registers that have their values from the start.
    pub fixed: Vec<(Class, Slot, Fixed)>,
    /// The names of registers, by number.
    pub names: Vec<String>,
    pub multiplications: Vec<Multiplication>,
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
