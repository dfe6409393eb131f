//! Wrong operands of norms.

use super::{Answers, buffer, groups, len, shape, short, single, weight};
use osp::backend::Backend;
use osp::ops::folded::{FoldNorm, FoldNormArgs, RowMoments, RowMomentsArgs, RowStatistics, RowStatisticsArgs};
use osp::ops::groupnorm::{GroupNorm, GroupNormArgs, Moments, MomentsArgs, Statistics, StatisticsArgs};
use osp::ops::norm::{AdaLayerNorm, AdaLayerNormArgs, LayerNorm, LayerNormArgs, RmsNorm, RmsNormArgs};

pub fn ada_layer_norm<B: Backend>(on: &B) -> Answers {
    let call = |op: AdaLayerNorm, [x, modulation, out]: [usize; 3]| {
        let (x, modulation, mut out) = (buffer(on, x), buffer(on, modulation), buffer(on, out));
        on.ada_layer_norm(&op, AdaLayerNormArgs { x: &x, modulation: &modulation, out: &mut out })
    };
    let (rows, channels, eps, modulation_stride) = (4, 8, 1e-6, 16);
    let op = AdaLayerNorm { rows, channels, eps, rows_per_modulation: 2, modulation_stride, shift: 0, scale: 8 };
    let shared = |rows_per_modulation: usize| {
        let said = format!("rows_per_modulation has {rows_per_modulation}, expected a divisor of rows");
        (call(AdaLayerNorm { rows_per_modulation, ..op }, [32; 3]), said)
    };
    vec![
        (call(op, [32; 3]), String::new()),
        shared(0),
        shared(3),
        (call(op, [31, 32, 32]), len("x", 31, 32)),
        (call(op, [32, 31, 32]), short("modulation", 31, 32)),
        (call(op, [32, 32, 33]), len("out", 33, 32)),
    ]
}

pub fn layer_norm<B: Backend>(on: &B) -> Answers {
    let op = LayerNorm { rows: 3, channels: 4, eps: 1e-5 };
    let call = |[x, weights, bias, out]: [usize; 4]| {
        let (x, weight, bias, mut out) = (buffer(on, x), weight(on, &[weights]), weight(on, &[bias]), buffer(on, out));
        on.layer_norm(&op, LayerNormArgs { x: &x, weight: &weight, bias: &bias, out: &mut out })
    };
    vec![
        (call([12, 4, 4, 12]), String::new()),
        (call([13, 4, 4, 12]), len("x", 13, 12)),
        (call([12, 5, 4, 12]), len("weight", 5, 4)),
        (call([12, 4, 3, 12]), len("bias", 3, 4)),
        (call([12, 4, 4, 11]), len("out", 11, 12)),
    ]
}

pub fn rms_norm<B: Backend>(on: &B) -> Answers {
    let op = RmsNorm { rows: 3, channels: 4, eps: 1e-5 };
    let call = |[x, weights, out]: [usize; 3]| {
        let (x, weight, mut out) = (buffer(on, x), weight(on, &[weights]), buffer(on, out));
        on.rms_norm(&op, RmsNormArgs { x: &x, weight: &weight, out: &mut out })
    };
    vec![
        (call([12, 4, 12]), String::new()),
        (call([16, 4, 12]), len("x", 16, 12)),
        (call([12, 3, 12]), len("weight", 3, 4)),
        (call([12, 4, 11]), len("out", 11, 12)),
    ]
}

pub fn group_moments<B: Backend>(on: &B) -> Answers {
    let call = |op: Moments, x: usize, moments: usize| {
        let (x, mut moments) = (buffer(on, x), single(on, moments));
        on.group_moments(&op, MomentsArgs { x: &x, moments: &mut moments })
    };
    let op = Moments { frames: 2, positions: 130, channels: 8, groups: 4 };
    let (kept, of_one) = (on.moments_len(&op), on.moments_len(&Moments { frames: 1, ..op }));
    vec![
        (call(op, 2080, kept), String::new()),
        (call(Moments { groups: 0, ..op }, 2080, kept), groups("groups", 0, 8)),
        (call(Moments { groups: 3, ..op }, 2080, kept), groups("groups", 3, 8)),
        (call(op, 2079, kept), len("x", 2079, 2080)),
        (call(op, 2080, of_one), len("moments", of_one, kept)),
        (call(op, 2080, kept + 1), len("moments", kept + 1, kept)),
    ]
}

pub fn group_statistics<B: Backend>(on: &B) -> Answers {
    let call = |op: Statistics, stretches: [(usize, usize); 2], statistics: usize| {
        let stretches = stretches.map(|(len, frames)| (single(on, len), frames));
        let stretches = [0, 1].map(|i| (&stretches[i].0, stretches[i].1));
        let mut statistics = single(on, statistics);
        on.group_statistics(&op, StatisticsArgs { stretches: &stretches, statistics: &mut statistics })
    };
    let op = Statistics { frames: 3, positions: 130, channels: 8, groups: 4, eps: 1e-6, per_frame: false };
    let [one, two] = [1, 2].map(|frames| on.moments_len(&op.moments(frames)));
    let (kept, of_two) = (on.statistics_len(3, 4), on.statistics_len(2, 4));
    let right = [(one, 1), (two, 2)];
    vec![
        (call(op, right, kept), String::new()),
        (call(Statistics { groups: 0, ..op }, right, kept), groups("groups", 0, 8)),
        (call(Statistics { groups: 5, ..op }, right, kept), groups("groups", 5, 8)),
        (call(op, [(one, 1), (one, 1)], kept), "stretches has 2, expected 3 frames in all".into()),
        (call(op, right, of_two), len("statistics", of_two, kept)),
        (call(op, right, kept + 1), len("statistics", kept + 1, kept)),
        (call(op, [(one, 1), (one, 2)], kept), short("moments", one, two)),
    ]
}

pub fn group_norm<B: Backend>(on: &B) -> Answers {
    let call = |op: GroupNorm, [x, weights, bias, out]: [usize; 4], statistics: usize| {
        let (x, statistics, mut out) = (buffer(on, x), single(on, statistics), buffer(on, out));
        let (weight, bias) = (&weight(on, &[weights]), &weight(on, &[bias]));
        on.group_norm(&op, GroupNormArgs { x: &x, statistics: &statistics, weight, bias, out: &mut out })
    };
    let (frames, positions, channels) = (2, 3, 8);
    let op =
        GroupNorm { frames, positions, channels, groups: 4, silu: false, x_frame: 1, out_frame: 2, video_frame: 1 };
    let [kept, of_two] = [3, 2].map(|frames| on.statistics_len(frames, 4));
    let right = [72, 8, 8, 96];
    vec![
        (call(op, right, kept), String::new()),
        (call(GroupNorm { groups: 0, ..op }, right, kept), groups("groups", 0, 8)),
        (call(GroupNorm { groups: 3, ..op }, right, kept), groups("groups", 3, 8)),
        (call(op, [71, 8, 8, 96], kept), short("x", 71, 72)),
        (call(op, [72, 7, 8, 96], kept), len("weight", 7, 8)),
        (call(op, [72, 8, 9, 96], kept), len("bias", 9, 8)),
        (call(op, [72, 8, 8, 95], kept), short("out", 95, 96)),
        (call(op, right, of_two), short("statistics", of_two, kept)),
    ]
}

fn eights(argument: &str, found: usize) -> String {
    format!("{argument} has {found}, expected a multiple of 8, at least 8")
}

pub fn row_moments<B: Backend>(on: &B) -> Answers {
    let call = |channels: usize, [x, moments]: [usize; 2]| {
        let (x, mut moments) = (buffer(on, x), single(on, moments));
        on.row_moments(&RowMoments { rows: 3, channels }, RowMomentsArgs { x: &x, moments: &mut moments })
    };
    vec![
        (call(40, [120, 12]), String::new()),
        (call(0, [0, 0]), eights("channels", 0)),
        (call(36, [108, 12]), eights("channels", 36)),
        (call(40, [119, 12]), len("x", 119, 120)),
        (call(40, [120, 6]), len("moments", 6, 12)),
    ]
}

pub fn row_statistics<B: Backend>(on: &B) -> Answers {
    let call = |channels: usize, [moments, statistics]: [usize; 2]| {
        let op = RowStatistics { rows: 3, channels, eps: 1e-6 };
        let (moments, mut statistics) = (single(on, moments), single(on, statistics));
        on.row_statistics(&op, RowStatisticsArgs { moments: &moments, statistics: &mut statistics })
    };
    vec![
        (call(40, [12, 6]), String::new()),
        (call(41, [12, 6]), eights("channels", 41)),
        (call(40, [6, 6]), len("moments", 6, 12)),
        (call(40, [12, 3]), len("statistics", 3, 6)),
    ]
}

pub fn fold_norm<B: Backend>(on: &B) -> Answers {
    let op = FoldNorm { in_features: 16, out_features: 3, shift: 8, scale: 24 };
    let call = |op: FoldNorm, weights: &[usize], folded: &[usize], [bias, modulation, columns]: [usize; 3]| {
        let (weight, bias, modulation) = (weight(on, weights), weight(on, &[bias]), buffer(on, modulation));
        let (mut folded, mut columns) = (on.alloc_weight(folded).unwrap(), single(on, columns));
        let (bias, folded, columns) = (Some(&bias), &mut folded, &mut columns);
        on.fold_norm(&op, FoldNormArgs { weight: &weight, bias, modulation: &modulation, folded, columns })
    };
    let (right, sizes) = ([3, 16], [3, 40, 6]);
    let odd = |argument: &str, found: usize| format!("{argument} has {found}, expected a multiple of 8");
    vec![
        (call(op, &right, &right, sizes), String::new()),
        (call(FoldNorm { in_features: 12, ..op }, &[3, 12], &[3, 12], sizes), eights("in_features", 12)),
        (call(FoldNorm { shift: 4, ..op }, &right, &right, sizes), odd("shift", 4)),
        (call(FoldNorm { scale: 25, ..op }, &right, &right, sizes), odd("scale", 25)),
        (call(op, &[4, 16], &right, sizes), shape("weight", &[4, 16], &right)),
        (call(op, &right, &[16, 3], sizes), shape("folded", &[16, 3], &right)),
        (call(op, &right, &right, [2, 40, 6]), len("bias", 2, 3)),
        (call(op, &right, &right, [3, 39, 6]), short("modulation", 39, 40)),
        (call(op, &right, &right, [3, 40, 3]), len("columns", 3, 6)),
    ]
}
