//! `attention` with more than 128 features per head: `kernels/attention_wide.cu`.

use super::params::{VECTOR, pack};
use crate::cuda::{Buffer, Cuda, LaunchPlan};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionArgs};

/// Threads of a block for up to 512 features, and for up to 256.
pub(crate) const THREADS: [u32; 2] = [256, 128];
/// The most features per head.
pub(super) const LARGEST: usize = 512;
/// Queries of a block.
const QUERIES: usize = 64;
/// Rows of keys and values that a block holds.
const SHARED_ROWS: usize = 64;
/// Bytes of the scores that a warp shares: two tiles of 32 queries and 16 keys, in f32.
const WARP_SCORES: usize = 2 * 32 * 16 * 4;

/// Launches [`Attention`] with up to [`LARGEST`] features per head, a multiple of 8.
pub(super) fn attention(cuda: &Cuda, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
    if args.bias.is_some() || args.mask.is_some() || args.rope.is_some() {
        return Err(Error::Unsupported(format!(
            "attention with {} features per head and a bias, a mask or RoPE: the kernels take at most 128",
            op.head_dim
        )));
    }
    let tasks = op.outer * op.inner * op.heads * op.queries.div_ceil(QUERIES);
    let params = pack(op, tasks, &args)?;
    let [wide, narrow] = THREADS;
    let (room, threads) = if op.head_dim <= 256 { (256, narrow) } else { (LARGEST, wide) };
    // An odd number of vectors per row keeps the rows of a matrix in different banks.
    let row_bytes = 2 * room + VECTOR;
    let plan = LaunchPlan {
        kernel: format!("attention_wide_d{room}_{}", cuda.half.suffix()),
        grid: [tasks, 1, 1],
        threads,
        shared_bytes: SHARED_ROWS * row_bytes + threads as usize / 32 * WARP_SCORES,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}
