//! `attention` on Hopper: `kernels/attention_sm90.cu`.

use super::params::VECTOR;
use crate::cuda::params::{Address, TensorMap, params};
use crate::cuda::{Buffer, Cuda, LaunchPlan, int};
use crate::error::{Error, Result};
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};

/// Threads of a block: a warpgroup that copies, and two that multiply.
pub(crate) const THREADS: u32 = 384;

params! {
    /// See `kernels/attention_sm90.cu`.
    AttentionSm90Params {
        q_map: TensorMap,
        q_rest_map: TensorMap,
        k_map: TensorMap,
        k_rest_map: TensorMap,
        v_map: TensorMap,
        v_rest_map: TensorMap,
        mask_map: TensorMap,
        out_map: TensorMap,
        tasks: i32,
        inner: i32,
        heads: i32,
        queries: i32,
        keys: i32,
        own_keys: i32,
        scale: f32,
        unused: i32,
    }
}

/// Features of a panel, and their bytes, which a swizzle mixes.
const PANEL: usize = 64;
const SWIZZLE: u32 = 128;
/// Features behind the panel that a box of q and k holds, and their bytes; and those of a box of v, without a swizzle.
const REST: u32 = 16;
const REST_SWIZZLE: u32 = 32;
const VALUE_REST: u32 = 8;
/// The features of a head for which the kernels have room.
const LARGEST: usize = 72;
/// Queries of a warpgroup.
const GROUP_QUERIES: usize = 64;

/// A kernel: its teams in a block, the queries of each, and the keys of a tile.
struct Team {
    name: &'static str,
    teams: usize,
    queries: usize,
    keys: u32,
    shared_bytes: usize,
}

const SHORT: Team = Team { name: "q64", teams: 2, queries: GROUP_QUERIES, keys: 64, shared_bytes: 193 << 10 };
const WIDE: Team = Team { name: "q128", teams: 1, queries: 2 * GROUP_QUERIES, keys: 128, shared_bytes: 211 << 10 };
const MASKED: Team = Team { name: "mask_q128", keys: 160, shared_bytes: 206 << 10, ..WIDE };

/// Whether the kernels can compute this attention. The number of sequences does not count, so that a part of them has the
/// bits of the whole.
pub(super) fn takes(op: &Attention, args: &AttentionArgs<'_, Buffer>) -> bool {
    let plain = args.bias.is_none() && args.rope.is_none() && [PANEL, LARGEST].contains(&op.head_dim);
    // A copy cannot repeat tokens, but the inner sequences may share their keys.
    let apart = |layout: &TokenLayout| layout.token_stride > 0 && (op.outer == 1 || layout.outer_stride > 0);
    let own = |layout: &TokenLayout| op.inner == 1 || layout.inner_stride > 0;
    let layouts = [op.q, op.k, op.v, op.out];
    let whole = |layout: &TokenLayout| {
        [layout.offset, layout.outer_stride, layout.inner_stride, layout.token_stride]
            .iter()
            .all(|len| len.is_multiple_of(VECTOR / 2))
    };
    let any = op.outer * op.inner * op.heads * op.queries > 0;
    any && plain && layouts.iter().all(apart) && layouts.iter().all(whole) && own(&op.q) && own(&op.k) == own(&op.v)
}

/// A tensor of tokens, as one map of it has it.
struct Tokens<'a> {
    buffer: &'a Buffer,
    layout: &'a TokenLayout,
    tokens: usize,
}

impl Tokens<'_> {
    /// A map in boxes of `features` features of `rows` tokens.
    fn map(&self, op: &Attention, [features, rows]: [u32; 2], swizzle: u32) -> Result<TensorMap> {
        let &TokenLayout { offset, outer_stride, inner_stride, token_stride } = self.layout;
        // Sequences that share their tokens are one; its stride is not used, but must be a valid one.
        let shared = inner_stride == 0;
        let inner = if shared { 1 } else { op.inner };
        let used = |count: usize, stride: usize| if count > 1 { stride } else { op.head_dim };
        let strides =
            [op.head_dim, used(self.tokens, token_stride), used(inner, inner_stride), used(op.outer, outer_stride)];
        let sizes = [op.head_dim, op.heads, self.tokens, inner, op.outer];
        let address = Address(self.buffer.half().0 + 2 * offset as u64);
        TensorMap::new(address, sizes, &strides, [features, 1, rows, 1, 1], swizzle).map_err(Error::Unsupported)
    }
}

/// Launches [`Attention`], which [`takes`] must have accepted.
pub(super) fn attention(cuda: &Cuda, op: &Attention, args: AttentionArgs<'_, Buffer>) -> Result<()> {
    let team = match args.mask {
        Some(_) => MASKED,
        None if op.queries <= SHORT.queries => SHORT,
        None => WIDE,
    };
    let tokens = |buffer, layout, tokens| Tokens { buffer, layout, tokens };
    let q = tokens(args.q, &op.q, op.queries);
    let [k, v] = [tokens(args.k, &op.k, op.keys), tokens(args.v, &op.v, op.keys)];
    let out = tokens(args.out, &op.out, op.queries);
    let [panel, rest, rows] = [PANEL as u32, REST, team.queries as u32];
    let q_map = q.map(op, [panel, rows], SWIZZLE)?;
    let mask_map = args.mask.map_or(Ok(q_map), |mask| {
        let masks = [op.outer * op.keys, 1];
        TensorMap::of_floats(mask.single(), masks, &[masks[0].next_multiple_of(VECTOR)], [team.keys, 1])
            .map_err(Error::Unsupported)
    })?;
    let tasks = op.outer * op.inner * op.heads * op.queries.div_ceil(team.queries);
    let own_keys = op.inner == 1 || op.k.inner_stride > 0;
    let params = AttentionSm90Params {
        q_map,
        q_rest_map: q.map(op, [rest, rows], REST_SWIZZLE)?,
        k_map: k.map(op, [panel, team.keys], SWIZZLE)?,
        k_rest_map: k.map(op, [rest, team.keys], REST_SWIZZLE)?,
        v_map: v.map(op, [panel, team.keys], SWIZZLE)?,
        v_rest_map: v.map(op, [VALUE_REST, team.keys], 0)?,
        mask_map,
        out_map: out.map(op, [LARGEST as u32, GROUP_QUERIES as u32], 0)?,
        tasks: int(tasks)?,
        inner: int(op.inner)?,
        heads: int(op.heads)?,
        queries: int(op.queries)?,
        keys: int(op.keys)?,
        own_keys: i32::from(own_keys),
        scale: op.scale,
        unused: 0,
    };
    // The launch fails beyond 2³¹ elements of a mask.
    int(op.outer * op.keys)?;
    // Blocks stay on their multiprocessors and make one task after another. Heads vary fastest among tasks; if their number
    // divides the blocks', a block stays with a head, and keeps its keys if all inner sequences share them.
    let together = cuda.multiprocessors.max(1);
    let kept = if own_keys || together < op.heads { together } else { together / op.heads * op.heads };
    let plan = LaunchPlan {
        kernel: format!("attention_sm90_{}_d{LARGEST}_{}", team.name, cuda.half.suffix()),
        grid: [tasks.div_ceil(team.teams).min(kept), 1, 1],
        threads: THREADS,
        shared_bytes: team.shared_bytes,
        flops: op.flops(),
        bytes: op.bytes(2),
    };
    cuda.launch(&plan, &params)
}
