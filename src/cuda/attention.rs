//! `attention`: `kernels/attention.cu`, and `kernels/attention_wide.cu` for more than 128 features a head.

use super::params::{Address, params};
use super::{Buffer, Cuda, Half, Plan, attention_wide, int};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionExtras, TokenLayout};

/// Threads of a block.
pub(crate) const THREADS: u32 = 128;
/// Rows of keys and values that a block holds, whatever its teams.
const SHARED_ROWS: usize = 256;
/// Queries of a team that adds a bias or a mask, and keys of its tiles.
const MASKED_QUERIES: usize = 64;
/// Bytes that one access moves.
pub(super) const VECTOR: usize = 16;
/// The most features a head that its teams have room for.
const LARGEST_TEAM: usize = 128;

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

/// What a kernel adds to the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Added {
    Nothing,
    Mask,
    /// And perhaps a mask.
    Bias,
}

impl Added {
    fn of<B>(extras: &AttentionExtras<'_, B>) -> Self {
        match (extras.bias, extras.mask) {
            (Some(_), _) => Self::Bias,
            (None, Some(_)) => Self::Mask,
            (None, None) => Self::Nothing,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Mask => "mask_",
            Self::Bias => "bias_",
        }
    }
}

/// A kernel: queries of a team, the features that it has room for, and what it adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Team {
    queries: usize,
    head_dim: usize,
    added: Added,
}

impl Team {
    /// The smallest that takes a sequence whole, or the largest.
    fn of(queries: usize, head_dim: usize, added: Added) -> Self {
        let head_dim = [16, 64, 72].into_iter().find(|&room| head_dim <= room).unwrap_or(LARGEST_TEAM);
        let largest = if head_dim == LARGEST_TEAM { 64 } else { 128 };
        let queries = match added {
            Added::Nothing => [16, 32, 64].into_iter().find(|&team| queries <= team).unwrap_or(largest),
            Added::Mask | Added::Bias => MASKED_QUERIES,
        };
        Self { queries, head_dim, added }
    }

    fn kernel(self, half: Half) -> String {
        format!("attention_{}q{}_d{}_{}", self.added.name(), self.queries, self.head_dim, half.suffix())
    }

    /// Teams of a block.
    fn per_block(self) -> usize {
        (64 / self.queries).max(1)
    }

    /// Shared memory of a block: rows of an odd number of vectors, and two tiles' masks.
    fn shared_bytes(self) -> usize {
        let pitch = ((self.head_dim * 2 / VECTOR) | 1) * VECTOR;
        let masks = if self.added == Added::Mask { 2 * MASKED_QUERIES * size_of::<f32>() } else { 0 };
        SHARED_ROWS * pitch + masks
    }
}

/// The first element of a layout, and its strides.
fn place(buffer: &Buffer, layout: &TokenLayout) -> Result<(Address, [i64; 3])> {
    let &TokenLayout { offset, outer_stride, inner_stride, token_stride } = layout;
    let strides = [outer_stride, inner_stride, token_stride];
    if !strides.iter().chain([&offset]).all(|len| len.is_multiple_of(VECTOR / 2)) {
        return Err(Error::Unsupported(format!("attention with {layout:?}: only multiples of {}", VECTOR / 2)));
    }
    Ok((Address(buffer.half().0 + 2 * offset as u64), strides.map(|stride| stride as i64)))
}

/// The parameters of any kernel of attention, for `tasks` tiles of queries.
pub(super) fn pack(
    op: &Attention,
    tasks: usize,
    [q, k, v]: [&Buffer; 3],
    extras: &AttentionExtras<'_, Buffer>,
    out: &Buffer,
) -> Result<AttentionParams> {
    let (q, [q_outer, q_inner, q_token]) = place(q, &op.q)?;
    let (k, [k_outer, k_inner, k_token]) = place(k, &op.k)?;
    let (v, [v_outer, v_inner, v_token]) = place(v, &op.v)?;
    let (out, [out_outer, out_inner, out_token]) = place(out, &op.out)?;
    let optional = |buffer: Option<&Buffer>| buffer.map_or(Address::NULL, Buffer::single);
    Ok(AttentionParams {
        q,
        k,
        v,
        out,
        bias: optional(extras.bias),
        mask: optional(extras.mask),
        rope: optional(extras.rope),
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

/// Launches [`Attention`].
pub(super) fn attention(
    cuda: &Cuda,
    op: &Attention,
    qkv: [&Buffer; 3],
    extras: &AttentionExtras<'_, Buffer>,
    out: &mut Buffer,
) -> Result<()> {
    if op.scale.is_nan() || op.scale <= 0.0 {
        return Err(Error::Unsupported(format!("attention with a scale of {}: only positive ones", op.scale)));
    }
    if op.head_dim > attention_wide::LARGEST || !op.head_dim.is_multiple_of(VECTOR / 2) {
        return Err(Error::Unsupported(format!(
            "attention with {} features a head: at most {}, a multiple of {}",
            op.head_dim,
            attention_wide::LARGEST,
            VECTOR / 2
        )));
    }
    if op.head_dim > LARGEST_TEAM {
        return attention_wide::attention(cuda, op, qkv, extras, out);
    }
    if extras.rope.is_some() && !op.rope_group.is_multiple_of(4) {
        return Err(Error::Unsupported(format!("RoPE in groups of {}: only multiples of 4", op.rope_group)));
    }
    let team = Team::of(op.queries, op.head_dim, Added::of(extras));
    let tasks = op.outer * op.inner * op.heads * op.queries.div_ceil(team.queries);
    let params = pack(op, tasks, qkv, extras, out)?;
    let plan = Plan {
        kernel: team.kernel(cuda.half),
        grid: [tasks.div_ceil(team.per_block()), 1, 1],
        threads: THREADS,
        shared_bytes: team.shared_bytes(),
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}
