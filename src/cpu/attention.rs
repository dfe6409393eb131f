//! `attention`: for each block of queries, a loop over blocks of keys.
//!
//! The matrix of all scores is never stored. For each query, the loop keeps the largest score up to now and the sum of
//! exponentials relative to it. When a larger score comes, the earlier sums are scaled down (online softmax, Milakov
//! and Gimelshein 2018, in the arrangement of FlashAttention, Dao et al. 2022). A task packs the keys and values of one
//! head of one sequence for the matrix product, then loops over its queries. Only the sizes decide the order of every
//! sum.

use super::Buffer;
use super::math::{self, exp};
use super::micro::{Micro, Rows, RowsMut};
use super::scratch::Scratch;
use super::shared::SharedMut;
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block: four of the largest register tiles.
const QUERIES: usize = 56;

/// Keys of a block: the scores of a block of queries then fit into the first-level cache.
const KEYS: usize = 128;

/// Scores that are processed together: a multiple of every vector's lanes. Rows of scores are padded with −∞ to a
/// multiple.
const LANES: usize = 16;

/// The least operations of a task.
const TASK_FLOPS: usize = 2_000_000;

pub(super) fn attention(op: &Attention, args: AttentionArgs<'_, Buffer>) {
    let AttentionArgs { q, k, v, bias, mask, rope, out } = args;
    let heads = op.outer * op.inner * op.heads;
    let blocks = op.queries.div_ceil(QUERIES);
    if heads * blocks == 0 {
        return;
    }
    // A head is divided only if there are fewer heads than the threads need: every piece packs the keys again.
    let pieces = (2 * rayon::current_num_threads()).div_ceil(heads).min(blocks);
    let flops = 4 * op.queries * op.keys * op.head_dim / pieces;
    let problem = Problem { op, q, k, v, bias, mask, rope, out: SharedMut::new(out), micro: Micro::best() };
    (0..heads * pieces).into_par_iter().with_min_len(TASK_FLOPS / flops + 1).for_each_init(
        || Work::new(&problem),
        |work, task| {
            let (sequence, piece) = (task / pieces / op.heads, task % pieces);
            let head = Head { outer: sequence / op.inner, inner: sequence % op.inner, head: task / pieces % op.heads };
            problem.pack(head, work);
            for block in piece * blocks / pieces..(piece + 1) * blocks / pieces {
                problem.block(head, cut(op.queries, QUERIES, block), work);
            }
        },
    );
}

/// Piece `index` of `0..len`, divided into pieces of `size`.
fn cut(len: usize, size: usize, index: usize) -> Range<usize> {
    index * size..len.min((index + 1) * size)
}

/// A call's arguments.
struct Problem<'a> {
    op: &'a Attention,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    bias: Option<&'a Buffer>,
    mask: Option<&'a Buffer>,
    rope: Option<&'a Buffer>,
    out: SharedMut<'a>,
    micro: &'static Micro,
}

/// One head of one sequence.
#[derive(Clone, Copy)]
struct Head {
    outer: usize,
    inner: usize,
    head: usize,
}

/// The state of a query after some keys: the largest score, and Σ e^(score − largest).
#[derive(Clone, Copy)]
struct Met {
    largest: f32,
    total: f32,
}

const NOTHING_MET: Met = Met { largest: f32::NEG_INFINITY, total: 0.0 };

/// Memory of a task.
struct Work {
    /// Packed keys of a head, block after block.
    keys: Scratch,
    /// Packed values of a head, block after block.
    values: Scratch,
    /// Rotated keys or scaled queries of a block: `[tokens, head_dim]`.
    tokens: Scratch,
    /// Scores of a block, `[queries, keys]`; later their exponentials.
    scores: Scratch,
    /// Σ e^(score − largest)·value of a block of queries: `[queries, packed head_dim]`.
    sums: Scratch,
    met: [Met; QUERIES],
}

impl Work {
    fn new(Problem { op, micro, .. }: &Problem<'_>) -> Self {
        let (queries, keys) = (op.queries.min(QUERIES), op.keys.next_multiple_of(LANES));
        let width = micro.packed_columns(op.head_dim);
        Self {
            keys: Scratch::new(keys * op.head_dim),
            values: Scratch::new(keys * width),
            tokens: Scratch::new(queries.max(op.keys.min(KEYS)) * op.head_dim),
            scores: Scratch::new(queries * keys.min(KEYS)),
            sums: Scratch::new(queries * width),
            met: [NOTHING_MET; QUERIES],
        }
    }
}

impl Problem<'_> {
    /// First feature of a token.
    fn start(&self, layout: &TokenLayout, Head { outer, inner, head }: Head, token: usize) -> usize {
        let sequence = layout.offset + outer * layout.outer_stride + inner * layout.inner_stride;
        sequence + token * layout.token_stride + head * self.op.head_dim
    }

    /// Packs the keys and values of a head.
    fn pack(&self, head: Head, work: &mut Work) {
        let &Attention { keys, head_dim, ref k, ref v, .. } = self.op;
        let width = self.micro.packed_columns(head_dim);
        for block in (0..keys.div_ceil(KEYS)).map(|block| cut(keys, KEYS, block)) {
            let mut rows = Rows { values: &self.k[self.start(k, head, block.start)..], stride: k.token_stride };
            if self.rope.is_some() {
                self.load(self.k, k, head, block.clone(), 1.0, &mut work.tokens);
                rows = Rows { values: &work.tokens, stride: head_dim };
            }
            self.micro.pack_columns([block.len(), head_dim], rows, &mut work.keys[block.start * head_dim..]);
            let rows = Rows { values: &self.v[self.start(v, head, block.start)..], stride: v.token_stride };
            self.micro.pack_rows([head_dim, block.len()], rows, &mut work.values[block.start * width..]);
        }
    }

    /// Copies tokens to `[tokens, head_dim]`, rotated if there is a table, then scaled.
    fn load(&self, values: &[f32], layout: &TokenLayout, head: Head, tokens: Range<usize>, scale: f32, to: &mut [f32]) {
        let head_dim = self.op.head_dim;
        math::widest(
            #[inline(always)]
            || {
                for (row, token) in to.chunks_exact_mut(head_dim).zip(tokens.clone()) {
                    let start = self.start(layout, head, token);
                    row.iter_mut().zip(&values[start..start + head_dim]).for_each(|(to, value)| *to = value * scale);
                    if let Some(rope) = self.rope {
                        rotate(row, &rope[token * 2 * head_dim..][..2 * head_dim], self.op.rope_group);
                    }
                }
            },
        );
    }

    /// Computes the output of a block of queries.
    fn block(&self, head: Head, queries: Range<usize>, work: &mut Work) {
        let &Attention { keys, head_dim, scale, ref q, .. } = self.op;
        let (m, width) = (queries.len(), self.micro.packed_columns(head_dim));
        self.load(self.q, q, head, queries.clone(), scale, &mut work.tokens);
        let sums = &mut work.sums[..m * width];
        let met = &mut work.met[..m];
        sums.fill(0.0);
        met.fill(NOTHING_MET);
        for block in (0..keys.div_ceil(KEYS)).map(|block| cut(keys, KEYS, block)) {
            let (n, stride) = (block.len(), block.len().next_multiple_of(LANES));
            let scores = &mut work.scores[..m * stride];
            // Products compute whole registers of columns; the surplus columns become zero.
            self.micro.gemm_block(
                [m, self.micro.packed_columns(n), head_dim],
                Rows { values: &work.tokens, stride: head_dim },
                &work.keys[block.start * head_dim..],
                RowsMut { values: scores, stride },
                false,
            );
            self.weigh(head, queries.start, block.clone(), scores, met, sums);
            self.micro.gemm_block(
                [m, width, n],
                Rows { values: scores, stride },
                &work.values[block.start * width..],
                RowsMut { values: sums, stride: width },
                true,
            );
        }
        self.store(head, queries, met, sums);
    }

    /// Adds bias and mask to the scores of a block, and turns them into exponentials.
    fn weigh(
        &self,
        Head { outer, head, .. }: Head,
        first_query: usize,
        keys: Range<usize>,
        scores: &mut [f32],
        met: &mut [Met],
        sums: &mut [f32],
    ) {
        let op = self.op;
        let (stride, width) = (scores.len() / met.len(), sums.len() / met.len());
        let mask = self.mask.map(|mask| &mask[outer * op.keys..][keys.clone()]);
        math::widest(
            #[inline(always)]
            || {
                let rows = scores.chunks_exact_mut(stride).zip(sums.chunks_exact_mut(width)).zip(&mut *met);
                for (index, ((scores, sums), met)) in rows.enumerate() {
                    let (scores_of_keys, surplus) = scores.split_at_mut(keys.len());
                    if let Some(bias) = self.bias {
                        let bias = &bias[(head * op.queries + first_query + index) * op.keys..][keys.clone()];
                        add(scores_of_keys, bias);
                    }
                    if let Some(mask) = mask {
                        add(scores_of_keys, mask);
                    }
                    surplus.fill(f32::NEG_INFINITY);
                    meet(scores, sums, met);
                }
            },
        );
    }

    /// Divides the sums by the totals and stores the results.
    fn store(&self, head: Head, queries: Range<usize>, met: &[Met], sums: &[f32]) {
        let width = sums.len() / met.len();
        math::widest(
            #[inline(always)]
            || {
                for ((query, met), sums) in queries.clone().zip(met).zip(sums.chunks_exact(width)) {
                    let start = self.start(&self.op.out, head, query);
                    // SAFETY: validation has checked that the rows of the output share no element and that their places
                    // do not overflow. No two tasks have the same head of the same query, and this task has one slice
                    // at a time.
                    let out = unsafe { self.out.slice(start..start + self.op.head_dim) };
                    let factor = 1.0 / met.total;
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * factor);
                }
            },
        );
    }
}

#[inline(always)]
fn add(scores: &mut [f32], summands: &[f32]) {
    scores.iter_mut().zip(summands).for_each(|(score, summand)| *score += summand);
}

/// Turns a row of scores into exponentials relative to the largest score up to now, and rescales the earlier sums.
#[inline(always)]
fn meet(scores: &mut [f32], sums: &mut [f32], met: &mut Met) {
    let mut largest = [met.largest; LANES];
    for scores in scores.chunks_exact(LANES) {
        for (largest, &score) in largest.iter_mut().zip(scores) {
            *largest = if score > *largest { score } else { *largest };
        }
    }
    let largest = fold(largest, |a, b| if a > b { a } else { b });
    // If all keys were masked up to now, nothing is subtracted: −∞ − (−∞) is NaN.
    let origin = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
    let mut totals = [0.0; LANES];
    for scores in scores.chunks_exact_mut(LANES) {
        for (total, score) in totals.iter_mut().zip(scores) {
            *score = exp(*score - origin);
            *total += *score;
        }
    }
    let fade = exp(met.largest - origin);
    *met = Met { largest, total: met.total * fade + fold(totals, |a, b| a + b) };
    if fade != 1.0 {
        sums.iter_mut().for_each(|sum| *sum *= fade);
    }
}

/// Reduces the lanes: joins the upper half with the lower half until one lane remains.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Rotates the halves of every group of a row by the token's cosines and sines, `table [2, head_dim]`.
#[inline(always)]
fn rotate(row: &mut [f32], table: &[f32], group: usize) {
    let (cosines, sines) = table.split_at(row.len());
    let groups = row.chunks_exact_mut(group).zip(cosines.chunks_exact(group)).zip(sines.chunks_exact(group));
    for ((row, cosines), sines) in groups {
        let half = group / 2;
        let (a, b) = row.split_at_mut(half);
        for i in 0..half {
            let (x, y) = (a[i], b[i]);
            a[i] = x * cosines[i] - y * sines[i];
            b[i] = y * cosines[half + i] + x * sines[half + i];
        }
    }
}
