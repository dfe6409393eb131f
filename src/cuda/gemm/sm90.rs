//! `linear` on Hopper: `kernels/gemm_sm90.cu`.

use super::{Fused, OPERATION};
use crate::cuda::choice::Tile;
use crate::cuda::params::{Address, TensorMap, params};
use crate::cuda::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::{Error, Result};
use crate::ops::gemm::{Activation, Linear, LinearArgs};

/// Threads of a block: a warpgroup that copies, and two that multiply in turn.
pub(crate) const THREADS: u32 = 384;

params! {
    /// See `kernels/gemm_sm90.cu`.
    GemmSm90Params {
        x_map: TensorMap,
        weight_map: TensorMap,
        bias: Address,
        gate: Address,
        statistics: Address,
        columns: Address,
        moments: Address,
        out: Address,
        rows: i32,
        in_features: i32,
        out_features: i32,
        activation: i32,
        store: i32,
        wide: i32,
        rows_per_gate: i32,
        gate_stride: i32,
        gate_offset: i32,
        first_row: i32,
    }
}

/// Steps of k in a stage: the bytes of the swizzle.
const TILE_K: u32 = 64;
const SWIZZLE: u32 = 128;

/// A kernel: its tile, the blocks of a cluster, which make tiles below each other, and its shared memory.
struct Kernel {
    tile: Tile,
    cluster: usize,
    shared_bytes: usize,
}

/// The tiles of `kernels/gemm_sm90.cu`. An element has the same bits in each.
const KERNELS: [Kernel; 2] = [
    Kernel { tile: Tile::of_warpgroup("small", [64, 64]), cluster: 1, shared_bytes: 161 << 10 },
    Kernel { tile: Tile::of_warpgroup("large", [128, 192]), cluster: 2, shared_bytes: 209 << 10 },
];

/// Whether the kernels can compute this layer.
pub(super) fn takes(op: &Linear) -> bool {
    op.in_features.is_multiple_of(8)
}

impl Kernel {
    /// Tiles of the product, in whole clusters.
    fn tiles(&self, op: &Linear) -> usize {
        // Half of a gated tile's columns are values, the other half their gates.
        let columns =
            if op.activation == Activation::GatedGeluTanh { self.tile.columns / 2 } else { self.tile.columns };
        op.rows.div_ceil(self.tile.rows * self.cluster) * self.cluster * op.out_features.div_ceil(columns)
    }
}

/// Launches [`Linear`].
pub(super) fn linear(cuda: &Cuda, op: &Linear, args: LinearArgs<'_, Buffer, Weight>, fused: &Fused) -> Result<()> {
    let candidates = KERNELS.iter().map(|kernel| (kernel.tile, kernel.tiles(op)));
    let choice = cuda.choose(OPERATION, candidates)?;
    let kernel = KERNELS.iter().find(|kernel| kernel.tile.name == choice.taken.name).expect("it is a candidate");
    let place = op.place();
    let map = |address: Address, row: usize, rows: usize, box_rows: usize| {
        let address = Address(address.0 + (2 * row * op.in_features) as u64);
        let sizes = [op.in_features, rows];
        TensorMap::new(address, sizes, &[op.in_features], [TILE_K, box_rows as u32], SWIZZLE)
            .map_err(Error::Unsupported)
    };
    let params = GemmSm90Params {
        x_map: map(args.x.half(), place.x_row, op.rows, kernel.tile.rows)?,
        weight_map: map(args.weight.address(), place.weight_row, op.weight_rows(), kernel.tile.columns / 2)?,
        bias: fused.bias,
        gate: fused.gate,
        statistics: fused.statistics,
        columns: fused.columns,
        moments: fused.moments,
        out: fused.out,
        rows: int(op.rows)?,
        in_features: int(op.in_features)?,
        out_features: int(op.out_features)?,
        activation: fused.activation,
        store: fused.store,
        wide: fused.wide,
        rows_per_gate: fused.rows_per_gate,
        gate_stride: fused.gate_stride,
        gate_offset: fused.gate_offset,
        first_row: fused.first_row,
    };
    // Blocks stay on their multiprocessors and make one tile after another.
    let together = cuda.multiprocessors / kernel.cluster * kernel.cluster;
    let plan = LaunchPlan {
        kernel: format!("linear_sm90_{}_{}", kernel.tile.name, cuda.half.suffix()),
        grid: [choice.taken.blocks.min(together.max(kernel.cluster)), 1, 1],
        threads: THREADS,
        shared_bytes: kernel.shared_bytes,
        flops: op.flops(),
        bytes: args.bytes(op, 2),
    };
    cuda.launch_chosen(&plan, Some(&choice), &params)
}
