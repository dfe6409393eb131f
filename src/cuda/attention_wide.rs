//! `attention` with more than 128 features a head: `kernels/attention_wide.cu`.

use super::attention::{VECTOR, place};
use super::device::Device;
use super::params::{Address, params};
use super::{Buffer, Cuda, Plan, int};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionExtras};

/// Threads of a block for up to 512 features, and for up to 256.
pub(crate) const THREADS: [u32; 2] = [256, 128];
/// The most features a head.
pub(super) const LARGEST: usize = 512;
/// Queries of a block.
const QUERIES: usize = 64;
/// Rows of keys and values that a block holds.
const SHARED_ROWS: usize = 64;
/// What a warp leaves of its scores: two tiles of 32 queries and 16 keys, in f32.
const WARP_SCORES: usize = 2 * 32 * 16 * 4;

params! {
    /// See `kernels/attention_wide.cu`.
    AttentionWideParams {
        q: Address,
        k: Address,
        v: Address,
        out: Address,
        q_outer: i64,
        q_inner: i64,
        q_token: i64,
        k_outer: i64,
        k_inner: i64,
        k_token: i64,
        v_outer: i64,
        v_inner: i64,
        v_token: i64,
        out_outer: i64,
        out_inner: i64,
        out_token: i64,
        inner: i32,
        heads: i32,
        head_dim: i32,
        queries: i32,
        keys: i32,
        scale: f32,
    }
}

/// Launches [`Attention`] with up to [`LARGEST`] features a head, a multiple of 8.
pub(super) fn attention<D: Device>(
    cuda: &Cuda<D>,
    op: &Attention,
    [q, k, v]: [&Buffer<D::Memory>; 3],
    extras: &AttentionExtras<'_, Buffer<D::Memory>>,
    out: &mut Buffer<D::Memory>,
) -> Result<()> {
    if extras.bias.is_some() || extras.mask.is_some() || extras.rope.is_some() {
        return Err(Error::Unsupported(format!(
            "attention with {} features a head and a bias, a mask or RoPE: at most 128",
            op.head_dim
        )));
    }
    let (q, [q_outer, q_inner, q_token]) = place(q, &op.q)?;
    let (k, [k_outer, k_inner, k_token]) = place(k, &op.k)?;
    let (v, [v_outer, v_inner, v_token]) = place(v, &op.v)?;
    let (out, [out_outer, out_inner, out_token]) = place(out, &op.out)?;
    let params = AttentionWideParams {
        q,
        k,
        v,
        out,
        q_outer,
        q_inner,
        q_token,
        k_outer,
        k_inner,
        k_token,
        v_outer,
        v_inner,
        v_token,
        out_outer,
        out_inner,
        out_token,
        inner: int(op.inner)?,
        heads: int(op.heads)?,
        head_dim: int(op.head_dim)?,
        queries: int(op.queries)?,
        keys: int(op.keys)?,
        scale: op.scale,
    };
    let [wide, narrow] = THREADS;
    let (room, threads) = if op.head_dim <= 256 { (256, narrow) } else { (LARGEST, wide) };
    // A row is an odd number of vectors.
    let row_bytes = 2 * room + VECTOR;
    let plan = Plan {
        kernel: format!("attention_wide_d{room}_{}", cuda.half.suffix()),
        grid: [op.outer * op.inner * op.heads * op.queries.div_ceil(QUERIES), 1, 1],
        threads,
        shared_bytes: SHARED_ROWS * row_bytes + threads as usize / 32 * WARP_SCORES,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}
