//! `kernels/facts_sm90.cu`: facts about Hopper that its kernels rely on, for the self-test.

use super::params::{Address, TensorMap, params};
use super::{Cuda, Half, LaunchPlan, facts};
use crate::error::{Error, Result};

/// Threads of a block: one, three and four warpgroups.
pub(crate) const THREADS: [u32; 3] = [128, 384, 512];

params! {
    /// See `kernels/facts_sm90.cu`.
    BoxFactParams {
        map: TensorMap,
        out: Address,
        start[4]: i32,
        step[4]: i32,
    }
}

params! {
    /// See `kernels/facts_sm90.cu`.
    GroupFactParams {
        a_map: TensorMap,
        b_map: TensorMap,
        c: Address,
        out: Address,
        shift: i32,
        unused: i32,
    }
}

params! {
    /// See `kernels/facts_sm90.cu`.
    MulticastFactParams {
        map: TensorMap,
        out: Address,
        rounds: i32,
        unused: i32,
    }
}

params! {
    /// See `kernels/facts_sm90.cu`.
    RegistersFactParams {
        out: Address,
    }
}

/// Elements of a row in shared memory: the width of the swizzle.
const PANEL: usize = 64;
/// The bytes that a swizzle mixes.
const SWIZZLE: u32 = 128;

/// One instruction, or a short sequence, on many operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HopperFact {
    /// Boxes of 2×8×8 rows of 64 elements of a tensor whose rows have 72: the first box begins `before` its start in
    /// each dimension, and the last ends behind it.
    Box {
        /// Elements.
        before: i32,
    },
    /// Products of 64×64 by 64×64, with A from row `shift` on.
    Group {
        /// Rows, at most 8.
        shift: usize,
    },
    /// Products of 64×64 by 64×72, with the columns innermost in B.
    GroupN72,
    /// Products of 64×64 in registers by 64×8, with the columns innermost in B.
    GroupLeft,
    /// Boxes that two blocks load for each other.
    Multicast {
        /// Boxes.
        rounds: usize,
    },
    /// Exchanged registers.
    Registers {
        /// Warpgroups of a block: 3 or 4.
        groups: usize,
    },
}

/// Sizes of the tensor of [`HopperFact::Box`], the innermost first.
const BOX_TENSOR: [usize; 4] = [72, 19, 13, 5];

impl HopperFact {
    /// Bytes of two operands, of the summands, and of the output, for this number of blocks.
    pub fn bytes(self, blocks: usize) -> [usize; 4] {
        let a = (64 * blocks + 8) * PANEL * 2;
        match self {
            Self::Box { .. } => [BOX_TENSOR.iter().product::<usize>() * 2, 0, 0, blocks * 128 * PANEL * 2],
            Self::Group { .. } | Self::GroupN72 | Self::GroupLeft => {
                let [b, sums] = [2, 4].map(|element| blocks * 64 * self.columns() * element);
                [a, b, sums, sums]
            }
            Self::Multicast { rounds } => [rounds * 64 * PANEL * 2, 0, 0, blocks * 128 * 4],
            Self::Registers { groups } => [0, 0, 0, blocks * groups * 128 * 4],
        }
    }

    /// Columns of the products.
    fn columns(self) -> usize {
        match self {
            Self::GroupN72 => 72,
            Self::GroupLeft => 8,
            _ => PANEL,
        }
    }

    fn kernel(self, half: Half) -> String {
        match self {
            Self::Box { .. } => "fact_box_f32".into(),
            Self::Group { .. } => format!("fact_group_{}", half.suffix()),
            Self::GroupN72 => format!("fact_group_n72_{}", half.suffix()),
            Self::GroupLeft => format!("fact_group_left_{}", half.suffix()),
            Self::Multicast { .. } => "fact_multicast_f32".into(),
            Self::Registers { groups: 3 } => "fact_registers_three_f32".into(),
            Self::Registers { .. } => "fact_registers_four_f32".into(),
        }
    }

    fn shared_bytes(self) -> usize {
        match self {
            Self::Box { .. } | Self::Multicast { .. } => 17 << 10,
            Self::Group { .. } => 18 << 10,
            Self::GroupN72 => 26 << 10,
            Self::GroupLeft => 11 << 10,
            Self::Registers { .. } => 0,
        }
    }

    fn plan(self, blocks: usize, half: Half) -> LaunchPlan {
        let threads = if let Self::Registers { groups } = self { THREADS[groups - 2] } else { THREADS[0] };
        LaunchPlan {
            kernel: self.kernel(half),
            grid: [blocks, 1, 1],
            threads,
            shared_bytes: self.shared_bytes(),
            flops: 0,
            bytes: self.bytes(blocks).iter().sum::<usize>() as u64,
        }
    }
}

/// A map of a matrix with rows of `columns` elements.
fn matrix(address: Address, rows: usize, columns: usize, box_rows: u32) -> Result<TensorMap> {
    TensorMap::new(address, [columns, rows], &[columns], [PANEL as u32, box_rows], SWIZZLE).map_err(Error::Failed)
}

/// Whether the device has Hopper's instructions.
pub(crate) fn has_facts(cuda: &Cuda) -> bool {
    cuda.device().has(&HopperFact::Box { before: 0 }.kernel(cuda.half))
}

/// Runs a fact's kernel and returns its output. The inputs have the bytes of [`HopperFact::bytes`].
///
/// # Errors
/// As for [`Device::launch`](super::device::Device::launch).
pub(crate) fn hopper_fact(cuda: &Cuda, fact: HopperFact, blocks: usize, inputs: [&[u8]; 3]) -> Result<Vec<u8>> {
    let (plan, [.., out_bytes]) = (fact.plan(blocks, cuda.half), fact.bytes(blocks));
    let [a, b, c] = inputs;
    match fact {
        HopperFact::Box { before } => facts::run(cuda, &plan, [a], out_bytes, |[x], out| {
            let [row, w, h, _] = BOX_TENSOR;
            let map = TensorMap::new(x, BOX_TENSOR, &[row, row * w, row * w * h], [64, 8, 8, 2], SWIZZLE);
            Ok(BoxFactParams { map: map.map_err(Error::Failed)?, out, start: [-before; 4], step: [9, 5, 3, 1] })
        }),
        HopperFact::Group { .. } | HopperFact::GroupN72 | HopperFact::GroupLeft => {
            let shift = if let HopperFact::Group { shift } = fact { shift as i32 } else { 0 };
            let columns = fact.columns();
            // A narrow box has no swizzle.
            let [width, swizzle] = if columns < PANEL { [columns as u32, 0] } else { [PANEL as u32, SWIZZLE] };
            facts::run(cuda, &plan, [a, b, c], out_bytes, |[a, b, c], out| {
                let a_map = matrix(a, 64 * blocks + 8, PANEL, 72)?;
                let b_map = TensorMap::new(b, [columns, 64 * blocks], &[columns], [width, 64], swizzle);
                let b_map = b_map.map_err(Error::Failed)?;
                Ok(GroupFactParams { a_map, b_map, c, out, shift, unused: 0 })
            })
        }
        HopperFact::Multicast { rounds } => facts::run(cuda, &plan, [a], out_bytes, |[x], out| {
            let map = matrix(x, rounds * 64, PANEL, 32)?;
            Ok(MulticastFactParams { map, out, rounds: rounds as i32, unused: 0 })
        }),
        HopperFact::Registers { .. } => {
            facts::run(cuda, &plan, [], out_bytes, |[], out| Ok(RegistersFactParams { out }))
        }
    }
}
