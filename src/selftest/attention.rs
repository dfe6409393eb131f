//! `kernels/attention.cu`: every team and width, in the layouts of the model, with bias, mask and RoPE. Also
//! `kernels/attention_wide.cu`, which takes no bias, mask or RoPE, and `kernels/attention_sm90.cu`.

use super::Work;
use super::trial::{Body, Kernels, Trial, ensure_same, host};
use super::values::{half_values, rounded, values};
use crate::backend::Backend;
use crate::cuda::{Half, Variant};
use crate::error::Result;
use crate::ops::attention::{Attention, AttentionArgs, TokenLayout};

/// How tokens lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TokenOrder {
    /// q, k and v side by side; a sequence is a frame.
    Spatial,
    /// q, k and v side by side; a sequence is a position.
    Temporal,
    /// k and v side by side, shared by all inner sequences.
    Cross,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: TokenOrder,
    /// outer, inner, heads
    sequences: [usize; 3],
    head_dim: usize,
    queries: usize,
    keys: usize,
    /// Factor on q, k and v.
    amplitude: f32,
    bias: bool,
    mask: bool,
    /// Groups of RoPE; 0 for no RoPE.
    rope_groups: usize,
    /// Whether every key scores higher than those before it, for every query. Spatial only.
    rising: bool,
}

impl Case {
    /// Two frames and one head, without bias, mask and RoPE.
    fn spatial(head_dim: usize, tokens: usize) -> Self {
        Self {
            kind: TokenOrder::Spatial,
            sequences: [1, 2, 1],
            head_dim,
            queries: tokens,
            keys: tokens,
            amplitude: 2.0,
            bias: false,
            mask: false,
            rope_groups: 0,
            rising: false,
        }
    }

    fn descriptor(&self) -> Attention {
        let &Self { kind, sequences: [outer, inner, heads], head_dim, queries, keys, .. } = self;
        let row = heads * head_dim;
        // Tokens of `width` elements, `queries` of them in each of `inner` sequences, starting at `offset`.
        let layout = |offset: usize, width: usize| TokenLayout {
            offset,
            outer_stride: inner * queries * width,
            inner_stride: if kind == TokenOrder::Temporal { width } else { queries * width },
            token_stride: if kind == TokenOrder::Temporal { inner * width } else { width },
        };
        let shared = |offset: usize| TokenLayout {
            offset,
            outer_stride: keys * 2 * row,
            inner_stride: 0,
            token_stride: 2 * row,
        };
        let (q, k, v) = match kind {
            TokenOrder::Cross => (layout(0, row), shared(0), shared(row)),
            _ => (layout(0, 3 * row), layout(row, 3 * row), layout(2 * row, 3 * row)),
        };
        Attention {
            outer,
            inner,
            heads,
            head_dim,
            queries,
            keys,
            scale: (head_dim as f32).sqrt().recip(),
            q,
            k,
            v,
            // Eight elements in front and eight behind each token, which stay as they are.
            out: layout(8, row + 8),
            rope_group: head_dim / self.rope_groups.max(1),
        }
    }

    /// Makes queries positive, and keys larger with their place in the sequence.
    fn raise(&self, token: usize, qkv: &mut [f32]) {
        let row = qkv.len() / 3;
        let height = self.amplitude * (token % self.keys) as f32 / self.keys as f32;
        let (q, kv) = qkv.split_at_mut(row);
        q.iter_mut().for_each(|q| *q = q.abs());
        kv[..row].iter_mut().for_each(|k| *k = 0.01 * *k + height);
    }
}

impl Body for Case {
    fn run<B: Backend>(&self, backend: &B, half: Half) -> Result<Vec<f32>> {
        let op = self.descriptor();
        let (tokens, row) = (op.outer * op.inner * op.queries, op.heads * op.head_dim);
        let upload = |seed: u64, len: usize| {
            let mut values: Vec<f32> = half_values(seed, len, half).iter().map(|x| self.amplitude * x).collect();
            if self.rising {
                values.chunks_exact_mut(3 * row).enumerate().for_each(|(token, qkv)| self.raise(token, qkv));
            }
            backend.upload(&rounded(&values, half))
        };
        let (q, kv) = match self.kind {
            TokenOrder::Cross => (upload(1, tokens * row)?, Some(upload(2, op.outer * op.keys * 2 * row)?)),
            _ => (upload(1, tokens * 3 * row)?, None),
        };
        let kv = kv.as_ref().unwrap_or(&q);
        let single = |wanted: bool, values: Vec<f32>| wanted.then(|| backend.upload_f32(&values)).transpose();
        let bias = single(self.bias, values(3, op.heads * op.queries * op.keys))?;
        let mask = single(self.mask, masked(op.outer, op.keys))?;
        let rope = single(self.rope_groups > 0, rotations(op.queries, op.head_dim))?;
        let (bias, mask, rope) = (bias.as_ref(), mask.as_ref(), rope.as_ref());
        let mut out = backend.upload(&vec![0.5; 8 + tokens * (row + 8)])?;
        backend.attention(&op, AttentionArgs { q: &q, k: kv, v: kv, bias, mask, rope, out: &mut out })?;
        host(backend, &out)
    }
}

/// A mask: −∞ for the first two thirds of the keys, which are whole tiles if there are enough keys, and for some later
/// keys, but never for the last.
fn masked(outer: usize, keys: usize) -> Vec<f32> {
    let value = |(i, value): (usize, f32)| {
        let key = i % keys;
        if key + 1 < keys && (3 * key < 2 * keys || value < -0.3) { f32::NEG_INFINITY } else { value }
    };
    values(4, outer * keys).into_iter().enumerate().map(value).collect()
}

/// Cosines and sines of pseudo-random angles, a different one for each feature.
fn rotations(tokens: usize, head_dim: usize) -> Vec<f32> {
    let angles = values(5, tokens * head_dim);
    let both = |token: &[f32]| {
        let (cosines, sines): (Vec<f32>, Vec<f32>) = token.iter().map(|x| ((4.0 * x).cos(), (4.0 * x).sin())).unzip();
        [cosines, sines].concat()
    };
    angles.chunks_exact(head_dim).flat_map(both).collect()
}

fn check(trial: &mut Trial, cases: impl IntoIterator<Item = Case>) -> Result<()> {
    cases.into_iter().try_for_each(|case| trial.against_the_cpu(&case))
}

/// As [`check`], with the kernels of each variant.
fn check_variants(trial: &mut Trial, cases: impl IntoIterator<Item = Case> + Clone) -> Result<()> {
    trial.with_each_variant(|trial| check(trial, cases.clone()))
}

fn sequences_of_any_length_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check_variants(trial, [1, 5, 16, 17, 33, 64, 65, 129, 193].map(|tokens| Case::spatial(72, tokens)))
}

fn heads_of_any_width_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for tokens in [5, 20, 40, 70] {
        check(trial, [16, 64, 128].map(|head_dim| Case::spatial(head_dim, tokens)))?;
    }
    check(trial, [8, 40, 80, 120].map(|head_dim| Case::spatial(head_dim, 33)))
}

fn temporal_attention_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // Several sequences share a block, and some blocks are not full.
    check_variants(
        trial,
        [5, 17, 56].map(|tokens| Case {
            kind: TokenOrder::Temporal,
            sequences: [2, 3, 1],
            ..Case::spatial(72, tokens)
        }),
    )
}

fn shared_and_masked_keys_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let case = Case { kind: TokenOrder::Cross, sequences: [2, 2, 2], mask: true, ..Case::spatial(72, 70) };
    check_variants(
        trial,
        [Case { keys: 33, ..case }, Case { queries: 9, keys: 120, ..case }, Case { mask: false, keys: 50, ..case }],
    )
}

/// More keys than Hopper's kernels hold at a time, with a mask and without; another width.
fn many_keys_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let many = Case { kind: TokenOrder::Cross, sequences: [2, 2, 2], keys: 523, ..Case::spatial(72, 20) };
    let masked = Case { mask: true, ..many };
    let cases = [
        masked,
        Case { head_dim: 64, keys: 170, ..masked },
        Case { queries: 70, ..many },
        Case { head_dim: 64, ..Case::spatial(72, 150) },
    ];
    trial.with_variant(Variant::Sm90, |trial| check(trial, cases))
}

/// With few multiprocessors a block makes many tasks one after another. It keeps its keys if the next task has them, too.
fn a_block_makes_many_tasks_with_the_same_bits(trial: &mut Trial) -> Result<()> {
    let cross = Case { kind: TokenOrder::Cross, sequences: [2, 3, 2], keys: 170, ..Case::spatial(72, 140) };
    let cases = [
        cross,
        Case { mask: true, ..cross },
        Case { queries: 70, keys: 600, mask: true, sequences: [1, 2, 2], ..cross },
        Case { sequences: [1, 3, 2], ..Case::spatial(72, 200) },
        Case { kind: TokenOrder::Temporal, sequences: [2, 5, 3], ..Case::spatial(72, 9) },
    ];
    let compare = |kernels: &Kernels, half, case: &Case| {
        let whole = case.run(kernels, half)?;
        [1, 2, 5]
            .into_iter()
            .try_for_each(|count| ensure_same(&case.run(&kernels.on_multiprocessors(count), half)?, &whole, &count))
    };
    trial.with_variant(Variant::Sm90, |trial| {
        cases.iter().try_for_each(|case| trial.each(case, |kernels, half| compare(kernels, half, case)))
    })
}

fn relative_positions_and_masked_tiles_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let case = |tokens| Case { sequences: [2, 1, 2], bias: true, ..Case::spatial(64, tokens) };
    check(trial, [9, 31, 130].map(|tokens| Case { mask: true, ..case(tokens) }))?;
    check(trial, [case(65)])
}

fn masks_and_biases_of_any_width_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for head_dim in [16, 40, 64, 72, 128] {
        let case = Case { sequences: [2, 2, 1], ..Case::spatial(head_dim, 70) };
        check(trial, [Case { mask: true, ..case }, Case { bias: true, ..case }])?;
    }
    Ok(())
}

fn rope_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    for groups in [1, 2] {
        // Larger scores would make the rounding of rotated queries and keys visible.
        let case = |head_dim, tokens| Case { amplitude: 1.0, rope_groups: groups, ..Case::spatial(head_dim, tokens) };
        check(trial, [case(72, 5), case(72, 65), case(16, 20), case(64, 40), case(104, 33)])?;
    }
    check(trial, [Case { amplitude: 1.0, rope_groups: 1, mask: true, bias: true, ..Case::spatial(72, 40) }])
}

fn large_scores_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // The running maximum grows from tile to tile, and by more than exp's range.
    check_variants(
        trial,
        [
            Case { amplitude: 12.0, ..Case::spatial(72, 300) },
            Case { amplitude: 12.0, bias: true, ..Case::spatial(16, 300) },
            Case { rising: true, ..Case::spatial(72, 140) },
        ],
    )
}

fn teams_of_many_queries_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let with_rope = Case { amplitude: 1.0, rope_groups: 2, ..Case::spatial(72, 65) };
    let cases = [
        Case::spatial(72, 33),
        Case::spatial(72, 129),
        Case::spatial(72, 193),
        Case::spatial(64, 130),
        Case::spatial(40, 70),
        Case::spatial(16, 130),
        Case::spatial(8, 70),
        with_rope,
        Case { kind: TokenOrder::Cross, sequences: [2, 2, 2], keys: 50, ..Case::spatial(72, 70) },
        Case { amplitude: 12.0, ..Case::spatial(72, 300) },
        Case { rising: true, ..Case::spatial(72, 140) },
    ];
    trial.forcing("attention=q128", |trial| check(trial, cases))
}

fn teams_that_meet_as_many_keys_give_the_same_bits(trial: &mut Trial) -> Result<()> {
    for case in [Case::spatial(72, 130), Case::spatial(16, 40), Case { rope_groups: 2, ..Case::spatial(64, 70) }] {
        trial.alike("attention", &["q64", "q128"], &case, |kernels, half| case.run(kernels, half))?;
    }
    Ok(())
}

fn wide_heads_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    check(trial, [1, 15, 64, 65, 200].map(|tokens| Case::spatial(512, tokens)))?;
    check(trial, [136, 160, 256].map(|head_dim| Case::spatial(head_dim, 70)))?;
    let heads = |head_dim, tokens| Case { sequences: [2, 2, 2], ..Case::spatial(head_dim, tokens) };
    check(trial, [heads(264, 33), Case { kind: TokenOrder::Cross, keys: 50, ..heads(192, 20) }])
}

fn wide_temporal_attention_agrees_with_the_cpu(trial: &mut Trial) -> Result<()> {
    let case =
        |head_dim, tokens| Case { kind: TokenOrder::Temporal, sequences: [2, 3, 1], ..Case::spatial(head_dim, tokens) };
    check(trial, [case(512, 17), case(512, 2), case(256, 40)])
}

fn large_scores_of_wide_heads_agree_with_the_cpu(trial: &mut Trial) -> Result<()> {
    // Scores of 30 and more, once in any order and once with the largest last; with 256 features beyond exp's range.
    check(
        trial,
        [
            Case { amplitude: 4.5, ..Case::spatial(512, 100) },
            Case { rising: true, ..Case::spatial(512, 100) },
            Case { amplitude: 12.0, ..Case::spatial(256, 100) },
        ],
    )
}

/// Two samples of spatial, temporal and cross-attention, and the VAE's attention for the frames of a tile.
pub(super) fn work() -> Vec<Work> {
    let heads = Case { sequences: [2, 17, 16], amplitude: 1.0, ..Case::spatial(72, 1024) };
    vec![
        Work::of("34 frames of 1,024 tokens, 16 heads of 72", heads),
        Work::of(
            "2,048 positions of 17 frames, 16 heads of 72",
            Case { kind: TokenOrder::Temporal, sequences: [2, 1024, 16], queries: 17, keys: 17, ..heads },
        ),
        Work::of(
            "34,816 tokens on 120 of a caption, masked",
            Case { kind: TokenOrder::Cross, keys: 120, mask: true, ..heads },
        ),
        Work::of("17 frames of 1,024 tokens of 512", Case { sequences: [1, 17, 1], ..Case::spatial(512, 1024) }),
    ]
}

checks! {
    sequences_of_any_length_agree_with_the_cpu,
    heads_of_any_width_agree_with_the_cpu,
    temporal_attention_agrees_with_the_cpu,
    shared_and_masked_keys_agree_with_the_cpu,
    many_keys_agree_with_the_cpu,
    a_block_makes_many_tasks_with_the_same_bits,
    relative_positions_and_masked_tiles_agree_with_the_cpu,
    masks_and_biases_of_any_width_agree_with_the_cpu,
    rope_agrees_with_the_cpu,
    large_scores_agree_with_the_cpu,
    teams_of_many_queries_agree_with_the_cpu,
    teams_that_meet_as_many_keys_give_the_same_bits,
    wide_heads_agree_with_the_cpu,
    wide_temporal_attention_agrees_with_the_cpu,
    large_scores_of_wide_heads_agree_with_the_cpu,
}
