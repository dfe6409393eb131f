//! `attention` against softmax(q·kᵀ·scale + bias + mask)·v in f64.

use super::values::{assert_close, on_one_and_three_threads, values};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::attention::{Attention, AttentionArgs, TokenLayout};
use proptest::prelude::*;

/// The order of tokens in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum TokenOrder {
    /// q, k and v side by side; a sequence is a frame.
    Spatial,
    /// q, k and v side by side; a sequence is a position.
    Temporal,
    /// k and v side by side, shared by all inner sequences.
    Cross,
}

/// The sizes of a case.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    outer: usize,
    inner: usize,
    heads: usize,
    head_dim: usize,
    queries: usize,
    keys: usize,
}

/// The descriptor, and the sizes of the buffers of q, of k and v, and of the output, in elements.
fn describe(kind: TokenOrder, sizes: Sizes) -> (Attention, [usize; 3]) {
    let Sizes { outer, inner, heads, head_dim, queries, keys } = sizes;
    let row = heads * head_dim;
    // Each of `inner` sequences has `tokens` tokens of `width` elements, starting at `offset`.
    let layout = |offset: usize, tokens: usize, width: usize| TokenLayout {
        offset,
        outer_stride: inner * tokens * width,
        inner_stride: if kind == TokenOrder::Temporal { width } else { tokens * width },
        token_stride: if kind == TokenOrder::Temporal { inner * width } else { width },
    };
    let shared =
        |offset: usize| TokenLayout { offset, outer_stride: keys * 2 * row, inner_stride: 0, token_stride: 2 * row };
    let count = outer * inner * queries;
    let (q, k, v, lens) = match kind {
        TokenOrder::Cross => (layout(0, queries, row), shared(0), shared(row), [count * row, outer * keys * 2 * row]),
        _ => {
            let [q, k, v] = [0, row, 2 * row].map(|offset| layout(offset, queries, 3 * row));
            (q, k, v, [count * 3 * row; 2])
        }
    };
    // The output has a margin of 3 elements before and 2 after each token.
    let out = layout(3, queries, row + 2);
    let op = Attention {
        outer,
        inner,
        heads,
        head_dim,
        queries,
        keys,
        scale: 1.0 / (head_dim as f32).sqrt(),
        q,
        k,
        v,
        out,
        rope_group: head_dim,
    };
    (op, [lens[0], lens[1], 3 + count * (row + 2)])
}

/// The values of a case. Absent operands are empty.
#[derive(Clone, Default)]
struct Arguments {
    q: Vec<f32>,
    kv: Vec<f32>,
    bias: Vec<f32>,
    mask: Vec<f32>,
    rope: Vec<f32>,
    out: usize,
}

/// The value of elements that attention must not touch.
const UNTOUCHED: f32 = 77.0;

fn run(op: &Attention, arguments: &Arguments) -> Vec<f32> {
    let cpu = Cpu::new();
    let upload = |values: &[f32]| cpu.upload(values).unwrap();
    let optional = |values: &[f32]| (!values.is_empty()).then(|| upload(values));
    let (bias, mask, rope) = (optional(&arguments.bias), optional(&arguments.mask), optional(&arguments.rope));
    let (bias, mask, rope) = (bias.as_ref(), mask.as_ref(), rope.as_ref());
    let mut out = upload(&vec![UNTOUCHED; arguments.out]);
    let (q, kv) = (upload(&arguments.q), upload(&arguments.kv));
    cpu.attention(op, AttentionArgs { q: &q, k: &kv, v: &kv, bias, mask, rope, out: &mut out }).unwrap();
    out.to_vec()
}

/// Head `head` of a token, rotated if there is a table.
fn load(
    op: &Attention,
    values: &[f32],
    layout: &TokenLayout,
    [o, i, token, head]: [usize; 4],
    rope: &[f32],
) -> Vec<f64> {
    let start = layout.offset + o * layout.outer_stride + i * layout.inner_stride + token * layout.token_stride;
    let x: Vec<f64> = values[start + head * op.head_dim..][..op.head_dim].iter().map(|&x| f64::from(x)).collect();
    if rope.is_empty() {
        return x;
    }
    let table = |part: usize, f: usize| f64::from(rope[(token * 2 + part) * op.head_dim + f]);
    let half = op.rope_group / 2;
    let rotated = |f: usize| {
        let partner = if f % op.rope_group < half { -x[f + half] } else { x[f - half] };
        x[f] * table(0, f) + partner * table(1, f)
    };
    (0..op.head_dim).map(rotated).collect()
}

fn formula(op: &Attention, arguments: &Arguments) -> Vec<f64> {
    let Arguments { q, kv, bias, mask, rope, out } = arguments;
    let mut expected = vec![f64::from(UNTOUCHED); *out];
    for (o, i, h) in sequences(op) {
        let keys: Vec<_> = (0..op.keys).map(|t| load(op, kv, &op.k, [o, i, t, h], rope)).collect();
        let values: Vec<_> = (0..op.keys).map(|t| load(op, kv, &op.v, [o, i, t, h], &[])).collect();
        for t in 0..op.queries {
            let query = load(op, q, &op.q, [o, i, t, h], rope);
            let score = |key: usize| {
                let dot: f64 = query.iter().zip(&keys[key]).map(|(q, k)| q * k).sum();
                let bias = bias.get((h * op.queries + t) * op.keys + key).map_or(0.0, |&bias| f64::from(bias));
                let mask = mask.get(o * op.keys + key).map_or(0.0, |&mask| f64::from(mask));
                dot * f64::from(op.scale) + bias + mask
            };
            let scores: Vec<f64> = (0..op.keys).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let start = op.out.offset + o * op.out.outer_stride + i * op.out.inner_stride + t * op.out.token_stride;
            for f in 0..op.head_dim {
                let mean = weights.iter().zip(&values).map(|(weight, value)| weight * value[f]).sum::<f64>() / sum;
                expected[start + h * op.head_dim + f] = mean;
            }
        }
    }
    expected
}

/// All triples (outer, inner, head).
fn sequences(op: &Attention) -> impl Iterator<Item = (usize, usize, usize)> {
    let (inner, heads) = (op.inner, op.heads);
    (0..op.outer * inner * heads).map(move |i| (i / heads / inner, i / heads % inner, i % heads))
}

/// Random values; about a third of the keys masked with −∞, but never the last.
fn arguments(op: &Attention, [q, kv, out]: [usize; 3], bias: bool, mask: bool, rope: bool) -> Arguments {
    let angles = if rope { values(5, op.queries * 2 * op.head_dim) } else { Vec::new() };
    let masked =
        |i: usize, value: f32| if value < -0.3 && !(i + 1).is_multiple_of(op.keys) { f32::NEG_INFINITY } else { value };
    let marks = if mask { values(6, op.outer * op.keys) } else { Vec::new() };
    Arguments {
        q: values(1, q).iter().map(|x| 3.0 * x).collect(),
        kv: values(2, kv).iter().map(|x| 3.0 * x).collect(),
        bias: if bias { values(3, op.heads * op.queries * op.keys) } else { Vec::new() },
        mask: marks.iter().enumerate().map(|(i, &value)| masked(i, value)).collect(),
        rope: angles,
        out,
    }
}

fn cases() -> impl Strategy<Value = (TokenOrder, Sizes)> {
    let kind = prop::sample::select(vec![TokenOrder::Spatial, TokenOrder::Temporal, TokenOrder::Cross]);
    let head_dim = prop_oneof![1..40usize, Just(64), Just(72)];
    let tokens = || prop_oneof![1..20usize, 1..150usize];
    (kind, 1..3usize, 1..5usize, 1..4usize, head_dim, tokens(), tokens()).prop_map(
        |(kind, outer, inner, heads, head_dim, queries, keys)| {
            let keys = if kind == TokenOrder::Cross { keys } else { queries };
            (kind, Sizes { outer, inner, heads, head_dim, queries, keys })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn attention_is_the_formula((kind, sizes) in cases(), (bias, mask, rope, halves) in any::<(bool, bool, bool, bool)>()) {
        let (mut op, lens) = describe(kind, sizes);
        if halves && op.head_dim.is_multiple_of(4) {
            op.rope_group /= 2;
        }
        let rope = rope && op.queries == op.keys && op.rope_group.is_multiple_of(2);
        let arguments = arguments(&op, lens, bias, mask, rope);
        assert_close(&run(&op, &arguments), &formula(&op, &arguments), 1e-5);
    }
}

#[test]
fn one_head_of_512_features_attends_to_a_thousand_keys() {
    let sizes = Sizes { outer: 1, inner: 1, heads: 1, head_dim: 512, queries: 200, keys: 1024 };
    let (op, lens) = describe(TokenOrder::Cross, sizes);
    let arguments = arguments(&op, lens, false, false, false);
    assert_close(&run(&op, &arguments), &formula(&op, &arguments), 1e-5);
}

#[test]
fn many_masked_keys_at_the_front_make_no_nan() {
    let sizes = Sizes { outer: 2, inner: 2, heads: 2, head_dim: 16, queries: 37, keys: 700 };
    let (op, lens) = describe(TokenOrder::Cross, sizes);
    let mut arguments = arguments(&op, lens, true, false, false);
    arguments.mask = vec![f32::NEG_INFINITY; 1400];
    arguments.mask[690] = 0.0;
    arguments.mask[700 + 3] = -1.0;
    assert_close(&run(&op, &arguments), &formula(&op, &arguments), 1e-5);
}

#[test]
fn scores_of_any_size_neither_overflow_nor_vanish() {
    let sizes = Sizes { outer: 1, inner: 1, heads: 1, head_dim: 8, queries: 9, keys: 300 };
    let (op, lens) = describe(TokenOrder::Cross, sizes);
    let mut arguments = arguments(&op, lens, true, false, false);
    // Rising, falling, and everywhere far beyond the range of exp.
    for (i, bias) in arguments.bias.iter_mut().enumerate() {
        let (query, key) = (i / 300, (i % 300) as f32);
        *bias += [3.0 * key, -3.0 * key, -1e4][query % 3];
    }
    assert_close(&run(&op, &arguments), &formula(&op, &arguments), 2e-4);
}

#[test]
fn attention_does_not_depend_on_the_number_of_threads() {
    for kind in [TokenOrder::Spatial, TokenOrder::Temporal] {
        let sizes = Sizes { outer: 1, inner: 5, heads: 2, head_dim: 72, queries: 260, keys: 260 };
        let (op, lens) = describe(kind, sizes);
        on_one_and_three_threads(|| run(&op, &arguments(&op, lens, true, true, true)));
    }
}
