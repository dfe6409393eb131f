//! Wrong operands of matrix products, attention and convolutions.

use super::{Answers, buffer, groups, len, shape, short, single, weight};
use osp::backend::Backend;
use osp::ops::attention::{Attention, AttentionArgs, TokenLayout};
use osp::ops::conv3d::{Conv3d, ConvArgs, DepthwiseConv, DepthwiseConvArgs, SpacePadding};
use osp::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use osp::ops::folded::FoldedNorm;
use osp::ops::gemm::{Activation, Linear, LinearArgs, LinearPart, Store};

#[derive(Clone)]
struct LinearSizes {
    x: usize,
    weight: Vec<usize>,
    bias: usize,
    gate: Option<usize>,
    out: usize,
}

pub fn linear<B: Backend>(on: &B) -> Answers {
    let call = |op: Linear, sizes: LinearSizes| {
        let (x, weights, bias) = (buffer(on, sizes.x), weight(on, &sizes.weight), weight(on, &[sizes.bias]));
        let (gate, mut out) = (sizes.gate.map(|len| buffer(on, len)), buffer(on, sizes.out));
        let (bias, gate) = (Some(&bias), gate.as_ref());
        on.linear(&op, LinearArgs { bias, gate, ..LinearArgs::new(&x, &weights, &mut out) })
    };
    // Statistics, columns, and the moments of the result.
    let fused = |op: Linear, out: usize, bias: Option<usize>, [statistics, columns, moments]: [usize; 3]| {
        let (x, weights, mut out) = (buffer(on, 32), weight(on, &[out, 8]), buffer(on, 4 * out));
        let bias = bias.map(|len| weight(on, &[len]));
        let (statistics, columns, mut moments) = (single(on, statistics), single(on, columns), single(on, moments));
        let norm = Some(FoldedNorm { statistics: &statistics, columns: &columns });
        let args = LinearArgs { bias: bias.as_ref(), norm, ..LinearArgs::new(&x, &weights, &mut out) };
        on.linear(&op, LinearArgs { moments: Some(&mut moments), ..args })
    };
    let op = Linear::new(4, 8, 6);
    let forty = Linear::new(4, 8, 40);
    let right = || LinearSizes { x: 32, weight: vec![6, 8], bias: 6, gate: None, out: 24 };
    let gate = |len| LinearSizes { gate: Some(len), ..right() };
    let store = |rows_per_gate| op.store(Store::AddGated { rows_per_gate, gate_stride: 6, gate_offset: 0 });
    let part = |whole_rows, x_row, out_row, weight_row| op.part(LinearPart { whole_rows, x_row, out_row, weight_row });
    let gated = op.activation(Activation::GatedGeluTanh);
    let double = || LinearSizes { weight: vec![12, 8], bias: 12, ..right() };
    let gated_part = "part.weight_row has 1, expected 0 for a gated activation";
    // Two rows after seven others; their gates are the second and the third.
    let behind = store(3).part(LinearPart { whole_rows: 9, x_row: 0, out_row: 7, weight_row: 0 });
    let behind = Linear { rows: 2, ..behind };
    let of_behind = |len| LinearSizes { x: 16, out: 54, ..gate(len) };
    vec![
        (call(op, right()), String::new()),
        (call(Linear { in_features: 0, ..op }, right()), "in_features has 0, expected at least one".into()),
        (call(op, LinearSizes { x: 31, ..right() }), len("x", 31, 32)),
        (call(op, LinearSizes { weight: vec![5, 8], ..right() }), shape("weight", &[5, 8], &[6, 8])),
        (call(op, LinearSizes { weight: vec![48], ..right() }), shape("weight", &[48], &[6, 8])),
        (call(op, LinearSizes { bias: 5, ..right() }), len("bias", 5, 6)),
        (call(op, LinearSizes { out: 25, ..right() }), len("out", 25, 24)),
        (call(op, gate(12)), "gate has Some(12), expected given if and only if the store is gated".into()),
        (call(store(2), right()), "gate has None, expected given if and only if the store is gated".into()),
        (call(store(2), gate(12)), String::new()),
        (call(store(2), gate(11)), short("gate", 11, 12)),
        (call(store(3), gate(12)), "rows_per_gate has 3, expected a divisor of rows".into()),
        (call(store(0), gate(12)), "rows_per_gate has 0, expected a divisor of rows".into()),
        (call(part(3, 0, 0, 0), right()), "part.whole_rows has 3, expected at least the part's".into()),
        (call(part(9, 1, 0, 0), right()), short("x", 32, 40)),
        (call(part(9, 0, 1, 0), right()), short("out", 24, 30)),
        (call(part(9, 0, usize::MAX, 0), right()), short("out", 24, usize::MAX)),
        (call(part(9, 0, 0, 2), right()), shape("weight", &[6, 8], &[8, 8])),
        (
            call(part(9, 1, 1, 2), LinearSizes { x: 40, weight: vec![8, 8], bias: 8, gate: None, out: 30 }),
            String::new(),
        ),
        (call(behind, of_behind(18)), String::new()),
        (call(behind, of_behind(17)), short("gate", 17, 18)),
        (fused(forty, 40, None, [8, 80, 16]), String::new()),
        (
            fused(forty, 40, Some(40), [8, 80, 16]),
            "norm has false, expected neither a gated activation nor a bias".into(),
        ),
        (fused(forty, 40, None, [7, 80, 16]), short("norm.statistics", 7, 8)),
        (fused(forty, 40, None, [8, 40, 16]), len("norm.columns", 40, 80)),
        (fused(forty, 40, None, [8, 80, 15]), short("moments", 15, 16)),
        (fused(op, 6, None, [8, 12, 16]), "moments has 6, expected a multiple of 8 columns, not gated".into()),
        (call(gated, double()), String::new()),
        (call(gated, right()), shape("weight", &[6, 8], &[12, 8])),
        (
            call(gated.part(LinearPart { whole_rows: 4, x_row: 0, out_row: 0, weight_row: 1 }), double()),
            gated_part.into(),
        ),
    ]
}

#[derive(Clone, Copy)]
struct AttentionSizes {
    q: usize,
    k: usize,
    v: usize,
    bias: usize,
    mask: usize,
    rope: usize,
    out: usize,
}

pub fn attention<B: Backend>(on: &B) -> Answers {
    let call = |op: Attention, sizes: AttentionSizes| {
        let [q, k, v] = [sizes.q, sizes.k, sizes.v].map(|len| buffer(on, len));
        let [bias, mask, rope] = [sizes.bias, sizes.mask, sizes.rope].map(|len| single(on, len));
        let (bias, mask, rope) = (Some(&bias), Some(&mask), Some(&rope));
        let mut out = buffer(on, sizes.out);
        on.attention(&op, AttentionArgs { q: &q, k: &k, v: &v, bias, mask, rope, out: &mut out })
    };
    let layout = TokenLayout { offset: 0, outer_stride: 96, inner_stride: 48, token_stride: 16 };
    let (outer, inner, heads, head_dim, queries, keys, scale) = (2, 2, 2, 8, 3, 3, 0.1);
    let [q, k, v, out] = [layout; 4];
    let op = Attention { outer, inner, heads, head_dim, queries, keys, scale, q, k, v, out, rope_group: 8 };
    let right = AttentionSizes { q: 192, k: 192, v: 192, bias: 18, mask: 6, rope: 48, out: 192 };
    let apart = |out: TokenLayout| {
        let said = format!("out has {out:?}, expected a layout whose rows do not overlap");
        (call(Attention { out, ..op }, right), said)
    };
    let even = |rope_group: usize| {
        let said = format!("rope_group has {rope_group}, expected an even divisor of head_dim");
        (call(Attention { rope_group, ..op }, right), said)
    };
    let fewer = AttentionSizes { bias: 12, ..right };
    // Twice the stride is 2⁶⁴.
    let three_far_apart = Attention { outer: 3, out: TokenLayout { outer_stride: 1 << 63, ..layout }, ..op };
    vec![
        (call(op, right), String::new()),
        (call(Attention { keys: 0, ..op }, right), "keys has 0, expected at least one".into()),
        (call(Attention { head_dim: 0, ..op }, right), "head_dim has 0, expected at least one".into()),
        (call(op, AttentionSizes { q: 191, ..right }), short("q", 191, 192)),
        (call(op, AttentionSizes { k: 191, ..right }), short("k", 191, 192)),
        (call(op, AttentionSizes { v: 191, ..right }), short("v", 191, 192)),
        (call(op, AttentionSizes { out: 191, ..right }), short("out", 191, 192)),
        (call(three_far_apart, AttentionSizes { q: 288, k: 288, v: 288, ..right }), short("out", 192, usize::MAX)),
        apart(TokenLayout { inner_stride: 0, ..layout }),
        apart(TokenLayout { token_stride: 15, ..layout }),
        apart(TokenLayout { outer_stride: 48, ..layout }),
        (call(op, AttentionSizes { bias: 17, ..right }), len("bias", 17, 18)),
        (call(op, AttentionSizes { mask: 5, ..right }), len("mask", 5, 6)),
        (call(op, AttentionSizes { rope: 47, ..right }), len("rope", 47, 48)),
        (call(Attention { queries: 2, ..op }, fewer), "rope has (2, 3), expected as many queries as keys".into()),
        even(0),
        even(1),
        even(6),
    ]
}

#[derive(Clone)]
struct ConvSizes {
    x: usize,
    weight: [usize; 5],
    bias: usize,
    other: usize,
    moments: usize,
    out: usize,
}

pub fn conv3d<B: Backend>(on: &B) -> Answers {
    let call = |op: Conv3d, sizes: ConvSizes| {
        let (x, weights, bias) = (buffer(on, sizes.x), weight(on, &sizes.weight), weight(on, &[sizes.bias]));
        let (other, mut moments, mut out) = (buffer(on, sizes.other), single(on, sizes.moments), buffer(on, sizes.out));
        let (bias, other, moments) = (Some(&bias), Some(&other), Some(&mut moments));
        on.conv3d(&op, ConvArgs { x: &x, weight: &weights, bias, other, moments, out: &mut out })
    };
    let op = Conv3d { moment_groups: 4, ..Conv3d::new(2, 3, 4, 8, 8, [1, 3, 3]) };
    let kept = |frames| on.moments_len(&op.moments(frames));
    let right = || ConvSizes { x: 192, weight: [8, 1, 3, 3, 8], bias: 8, other: 192, moments: kept(2), out: 192 };
    let only = |only: [usize; 2]| {
        (
            call(Conv3d { only: Some(only), ..op }, right()),
            format!("only has Some({only:?}), expected frames of the output"),
        )
    };
    let stride = |stride: [usize; 2]| {
        (call(Conv3d { stride, ..op }, right()), format!("stride has {stride:?}, expected at least one"))
    };
    let nothing = Conv3d { height: 0, moment_groups: 0, ..op };
    // Two frames of 16×8, four phases.
    let twice = Conv3d { height: 16, width: 8, upsample: true, ..op };
    let of_twice = || {
        let moments = on.moments_len(&twice.moments(2));
        ConvSizes { x: 2048, weight: [32, 1, 2, 2, 8], bias: 8, other: 8192, moments, out: 8192 }
    };
    let way = |op: Conv3d| {
        let way = (op.kernel, op.stride, op.padding);
        (
            call(op, of_twice()),
            format!("upsample has {way:?}, expected 3x3 taps in space at stride 1, padded on all sides"),
        )
    };
    let half_slabs = Conv3d { height: 8, ..twice };
    let of_one = || ConvSizes { moments: kept(1), ..right() };
    vec![
        (call(op, right()), String::new()),
        (call(Conv3d { kernel: [1, 0, 3], ..op }, right()), "kernel has [1, 0, 3], expected at least one tap".into()),
        stride([0, 1]),
        stride([1, 0]),
        only([1, 3]),
        only([2, 1]),
        (call(Conv3d { cin: 0, ..op }, right()), "cin has 0, expected at least one".into()),
        (call(Conv3d { frames: 0, ..op }, right()), "frames has 0, expected at least one".into()),
        (call(op, ConvSizes { x: 191, ..right() }), len("x", 191, 192)),
        (
            call(op, ConvSizes { weight: [8, 1, 3, 8, 3], ..right() }),
            shape("weight", &[8, 1, 3, 8, 3], &[8, 1, 3, 3, 8]),
        ),
        (call(op, ConvSizes { bias: 7, ..right() }), len("bias", 7, 8)),
        (call(op, ConvSizes { other: 193, ..right() }), len("other", 193, 192)),
        (call(Conv3d { other_frame: Some(1), ..op }, right()), short("other", 192, 288)),
        (call(op, ConvSizes { out: 191, ..right() }), len("out", 191, 192)),
        (call(Conv3d { out_frame: Some(1), ..op }, right()), short("out", 192, 288)),
        (call(Conv3d { out_frame: Some(usize::MAX), ..op }, right()), short("out", 192, usize::MAX)),
        (call(Conv3d { moment_groups: 0, ..op }, right()), groups("moment_groups", 0, 8)),
        (call(Conv3d { moment_groups: 3, ..op }, right()), groups("moment_groups", 3, 8)),
        (call(nothing, ConvSizes { x: 0, other: 0, out: 0, ..right() }), groups("moment_groups", 0, 8)),
        (call(op, of_one()), short("moments", kept(1), kept(2))),
        (call(Conv3d { only: Some([1, 2]), ..op }, of_one()), short("moments", kept(1), kept(2))),
        (call(Conv3d { only: Some([0, 1]), ..op }, of_one()), String::new()),
        (call(twice, of_twice()), String::new()),
        way(Conv3d { kernel: [1, 3, 5], ..twice }),
        way(Conv3d { stride: [1, 2], ..twice }),
        way(Conv3d { padding: SpacePadding::RightBottom, ..twice }),
        (
            call(twice, ConvSizes { weight: [8, 1, 3, 3, 8], ..of_twice() }),
            shape("weight", &[8, 1, 3, 3, 8], &[32, 1, 2, 2, 8]),
        ),
        (
            call(half_slabs, ConvSizes { x: 1024, other: 4096, out: 4096, ..of_twice() }),
            "moments has [8, 8], expected whole slabs of 128 positions in a phase".into(),
        ),
    ]
}

pub fn fold_enlargement<B: Backend>(on: &B) -> Answers {
    let op = FoldEnlargement { cout: 3, kt: 2, cin: 5 };
    let call = |weights: &[usize], folded: &[usize]| {
        let (weight, mut folded) = (weight(on, weights), on.alloc_weight(folded).unwrap());
        on.fold_enlargement(&op, FoldEnlargementArgs { weight: &weight, folded: &mut folded })
    };
    let (right, folded) = ([3, 2, 3, 3, 5], [12, 2, 2, 2, 5]);
    vec![
        (call(&right, &folded), String::new()),
        (call(&folded, &folded), shape("weight", &folded, &right)),
        (call(&right, &[3, 2, 2, 2, 5]), shape("folded", &[3, 2, 2, 2, 5], &folded)),
    ]
}

pub fn depthwise_conv<B: Backend>(on: &B) -> Answers {
    let call = |op: DepthwiseConv, x: usize, shape: &[usize], bias: usize, out: usize| {
        let (x, weights, bias, mut out) = (buffer(on, x), weight(on, shape), weight(on, &[bias]), buffer(on, out));
        on.depthwise_conv(&op, DepthwiseConvArgs { x: &x, weight: &weights, bias: &bias, out: &mut out })
    };
    let space = |factor| DepthwiseConv::Space { outer: 1, height: 4, width: 4, channels: 8, factor };
    let time = |factor| DepthwiseConv::Time { outer: 1, frames: 3, positions: 4, channels: 8, factor };
    let none = || "factor has 0, expected at least one".to_owned();
    vec![
        (call(space(2), 128, &[8, 2, 2], 8, 32), String::new()),
        (call(space(0), 128, &[8, 2, 2], 8, 32), none()),
        (call(space(2), 127, &[8, 2, 2], 8, 32), len("x", 127, 128)),
        (call(space(2), 128, &[8, 2], 8, 32), shape("weight", &[8, 2], &[8, 2, 2])),
        (call(space(2), 128, &[8, 2, 2], 7, 32), len("bias", 7, 8)),
        (call(space(2), 128, &[8, 2, 2], 8, 33), len("out", 33, 32)),
        (call(time(2), 96, &[8, 2], 8, 64), String::new()),
        (call(time(0), 96, &[8, 2], 8, 64), none()),
        (call(time(2), 96, &[8, 2, 2], 8, 64), shape("weight", &[8, 2, 2], &[8, 2])),
        (call(time(2), 96, &[8, 2], 8, 32), len("out", 32, 64)),
    ]
}
