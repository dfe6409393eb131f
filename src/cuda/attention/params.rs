//! The parameters of all attention kernels, and the layouts that they take.

use crate::cuda::params::{Address, params};
use crate::cuda::{Buffer, int};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};

/// Bytes that one access moves.
pub(super) const VECTOR: usize = 16;

params! {
    /// See `kernels/common/attention.cuh`.
    AttentionParams {
        q: Address,
        k: Address,
        v: Address,
        out: Address,
        bias: Address,
        mask: Address,
        rope: Address,
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
        tasks: i32,
        inner: i32,
        heads: i32,
        head_dim: i32,
        queries: i32,
        keys: i32,
        rope_group: i32,
        scale: f32,
    }
}

/// The first element of a layout, and its strides.
fn place(buffer: &Buffer, layout: &TokenLayout) -> Result<(Address, [i64; 3])> {
    let &TokenLayout { offset, outer_stride, inner_stride, token_stride } = layout;
    let strides = [outer_stride, inner_stride, token_stride];
    if !strides.iter().chain([&offset]).all(|len| len.is_multiple_of(VECTOR / 2)) {
        return Err(Error::Unsupported(format!(
            "attention with {layout:?}: each must be a multiple of {}",
            VECTOR / 2
        )));
    }
    Ok((Address(buffer.half().0 + 2 * offset as u64), strides.map(|stride| stride as i64)))
}

/// The parameters of an attention kernel, for `tasks` tiles of queries.
pub(super) fn pack(op: &Attention, tasks: usize, args: &AttentionArgs<'_, Buffer>) -> Result<AttentionParams> {
    let (q, [q_outer, q_inner, q_token]) = place(args.q, &op.q)?;
    let (k, [k_outer, k_inner, k_token]) = place(args.k, &op.k)?;
    let (v, [v_outer, v_inner, v_token]) = place(args.v, &op.v)?;
    let (out, [out_outer, out_inner, out_token]) = place(args.out, &op.out)?;
    let optional = |buffer: Option<&Buffer>| buffer.map_or(Address::NULL, Buffer::single);
    Ok(AttentionParams {
        q,
        k,
        v,
        out,
        bias: optional(args.bias),
        mask: optional(args.mask),
        rope: optional(args.rope),
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
        tasks: int(tasks)?,
        inner: int(op.inner)?,
        heads: int(op.heads)?,
        head_dim: int(op.head_dim)?,
        queries: int(op.queries)?,
        keys: int(op.keys)?,
        rope_group: int(op.rope_group)?,
        scale: op.scale,
    })
}
