//! `row_moments`, `row_statistics`, `fold_norm`: `kernels/folded.cu`.

use super::params::{Address, params};
use super::{Buffer, Cuda, LaunchPlan, Weight, int};
use crate::error::Result;
use crate::ops::folded::{FoldNorm, FoldNormArgs, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs};

/// Threads of every kernel here.
pub(crate) const THREADS: u32 = 256;
/// Threads that take a group of columns together, in a kernel for moments.
const GROUP_THREADS: usize = 4;
/// Rows of a block, where a warp takes a row.
const BLOCK_ROWS: usize = THREADS as usize / 32;

params! {
    /// See `kernels/folded.cu`.
    RowMomentsParams {
        x: Address,
        moments: Address,
        rows: i32,
        channels: i32,
        groups: i32,
        padding: i32,
    }
}

params! {
    /// See `kernels/folded.cu`.
    RowStatisticsParams {
        moments: Address,
        statistics: Address,
        rows: i32,
        channels: i32,
        groups: i32,
        eps: f32,
    }
}

params! {
    /// See `kernels/folded.cu`.
    FoldNormParams {
        weight: Address,
        bias: Address,
        modulation: Address,
        folded: Address,
        columns: Address,
        in_features: i32,
        out_features: i32,
        shift_offset: i32,
        scale_offset: i32,
    }
}

fn plan(kernel: String, blocks: usize, flops: u64, bytes: u64) -> LaunchPlan {
    LaunchPlan { kernel, grid: [blocks, 1, 1], threads: THREADS, shared_bytes: 0, flops, bytes }
}

/// Launches [`RowMoments`].
pub(super) fn row_moments(cuda: &Cuda, op: &RowMoments, args: RowMomentsArgs<'_, Buffer>) -> Result<()> {
    let threads = op.rows * op.groups() * GROUP_THREADS;
    let params = RowMomentsParams {
        x: args.x.half(),
        moments: args.moments.single(),
        rows: int(op.rows)?,
        channels: int(op.channels)?,
        groups: int(op.groups())?,
        padding: 0,
    };
    let kernel = format!("row_moments_{}", cuda.half.suffix());
    cuda.launch(&plan(kernel, threads.div_ceil(THREADS as usize), op.flops(), op.bytes(2)), &params)
}

/// Launches [`RowStatistics`].
pub(super) fn row_statistics(cuda: &Cuda, op: &RowStatistics, args: RowStatisticsArgs<'_, Buffer>) -> Result<()> {
    let params = RowStatisticsParams {
        moments: args.moments.single(),
        statistics: args.statistics.single(),
        rows: int(op.rows)?,
        channels: int(op.channels)?,
        groups: int(op.moments().groups())?,
        eps: op.eps,
    };
    let kernel = "row_statistics_f32".to_owned();
    cuda.launch(&plan(kernel, op.rows.div_ceil(BLOCK_ROWS), op.flops(), op.bytes()), &params)
}

/// Launches [`FoldNorm`].
pub(super) fn fold_norm(cuda: &Cuda, op: &FoldNorm, args: FoldNormArgs<'_, Buffer, Weight>) -> Result<()> {
    let params = FoldNormParams {
        weight: args.weight.address(),
        bias: args.bias.map_or(Address::NULL, Weight::address),
        modulation: args.modulation.half(),
        folded: args.folded.address(),
        columns: args.columns.single(),
        in_features: int(op.in_features)?,
        out_features: int(op.out_features)?,
        shift_offset: int(op.shift)?,
        scale_offset: int(op.scale)?,
    };
    let kernel = format!("fold_norm_{}", cuda.half.suffix());
    cuda.launch(&plan(kernel, op.out_features.div_ceil(BLOCK_ROWS), op.flops(), op.bytes(2)), &params)
}
