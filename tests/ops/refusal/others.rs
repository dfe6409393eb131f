//! Wrong operands of resampling, tables, patches, states, windows and bytes.

use super::{Answers, buffer, len, shape, short, single, weight};
use osp::backend::Backend;
use osp::ops::distance::{Distance, DistanceArgs};
use osp::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use osp::ops::finite::{Finite, FiniteArgs};
use osp::ops::patch::{PatchEmbed, PatchEmbedArgs, Unpatchify, UnpatchifyArgs};
use osp::ops::pixels::{FromBytes, FromBytesArgs, ToBytes, ToBytesArgs};
use osp::ops::resample::{RegroupFrames, RegroupFramesArgs, TimeAverage, TimeAverageArgs, TimeDouble, TimeDoubleArgs};
use osp::ops::sampler::{Combine, CombineArgs, Hold, HoldArgs};
use osp::ops::tile::{BlendAxis, BlendBox, BlendBoxArgs, BoxAt, CopyBox, CopyBoxArgs};

pub fn time_average<B: Backend>(on: &B) -> Answers {
    let call = |frames: usize, x: usize, out: usize| {
        let (x, mut out) = (buffer(on, x), buffer(on, out));
        on.time_average(&TimeAverage { frames, frame_len: 4 }, TimeAverageArgs { x: &x, out: &mut out })
    };
    vec![
        (call(3, 12, 8), String::new()),
        (call(0, 0, 0), "frames has 0, expected at least one".into()),
        (call(3, 11, 8), len("x", 11, 12)),
        (call(3, 12, 9), len("out", 9, 8)),
    ]
}

pub fn time_double<B: Backend>(on: &B) -> Answers {
    let call = |frames: usize, x: usize, out: usize| {
        let (x, mut out) = (buffer(on, x), buffer(on, out));
        on.time_double(&TimeDouble { frames, frame_len: 4 }, TimeDoubleArgs { x: &x, out: &mut out })
    };
    vec![
        (call(3, 12, 20), String::new()),
        (call(0, 0, 0), "frames has 0, expected at least one".into()),
        (call(3, 11, 20), len("x", 11, 12)),
        (call(3, 12, 24), len("out", 24, 20)),
    ]
}

pub fn regroup_frames<B: Backend>(on: &B) -> Answers {
    let op = RegroupFrames { frames: 2, positions: 3, channels: 4, inverse: false };
    let call = |x: usize, out: usize| {
        let (x, mut out) = (buffer(on, x), buffer(on, out));
        on.regroup_frames(&op, RegroupFramesArgs { x: &x, out: &mut out })
    };
    vec![(call(24, 24), String::new()), (call(23, 24), len("x", 23, 24)), (call(24, 25), len("out", 25, 24))]
}

pub fn embedding<B: Backend>(on: &B) -> Answers {
    let op = Embedding { tokens: 2, vocabulary: 5, channels: 4 };
    let call = |ids: &[u32], shape: &[usize], out: usize| {
        let (table, mut out) = (weight(on, shape), buffer(on, out));
        on.embedding(&op, EmbeddingArgs { ids, table: &table, out: &mut out })
    };
    vec![
        (call(&[0, 4], &[5, 4], 8), String::new()),
        (call(&[0], &[5, 4], 8), len("ids", 1, 2)),
        (call(&[0, 5], &[5, 4], 8), "ids has 5, expected ids below the vocabulary's size".into()),
        (call(&[0, 4], &[4, 5], 8), shape("table", &[4, 5], &[5, 4])),
        (call(&[0, 4], &[5, 4], 7), len("out", 7, 8)),
    ]
}

pub fn add_rows<B: Backend>(on: &B) -> Answers {
    let op = AddRows { outer: 2, rows: 2, inner: 1, channels: 3 };
    let call = |table: usize, x: usize| {
        let (table, mut x) = (buffer(on, table), buffer(on, x));
        on.add_rows(&op, AddRowsArgs { table: &table, x: &mut x })
    };
    vec![(call(6, 12), String::new()), (call(6, 11), len("x", 11, 12)), (call(3, 12), len("table", 3, 6))]
}

pub fn patch_embed<B: Backend>(on: &B) -> Answers {
    let call = |op: PatchEmbed, x: usize, shape: &[usize], bias: usize, out: usize| {
        let (x, weights, bias, mut out) = (buffer(on, x), weight(on, shape), weight(on, &[bias]), buffer(on, out));
        on.patch_embed(&op, PatchEmbedArgs { x: &x, weight: &weights, bias: &bias, out: &mut out })
    };
    let op = PatchEmbed { frames: 1, height: 4, width: 4, cin: 2, cout: 3, patch: 2 };
    let whole = |found: [usize; 2]| format!("x has {found:?}, expected a multiple of the patch in height and width");
    vec![
        (call(op, 32, &[3, 2, 2, 2], 3, 12), String::new()),
        (call(PatchEmbed { height: 5, ..op }, 40, &[3, 2, 2, 2], 3, 12), whole([5, 4])),
        (call(PatchEmbed { patch: 0, ..op }, 32, &[3, 2, 2, 2], 3, 12), whole([4, 4])),
        (call(op, 31, &[3, 2, 2, 2], 3, 12), len("x", 31, 32)),
        (call(op, 32, &[3, 8], 3, 12), shape("weight", &[3, 8], &[3, 2, 2, 2])),
        (call(op, 32, &[3, 2, 2, 2], 4, 12), len("bias", 4, 3)),
        (call(op, 32, &[3, 2, 2, 2], 3, 13), len("out", 13, 12)),
    ]
}

pub fn unpatchify<B: Backend>(on: &B) -> Answers {
    let call = |kept: usize, x: usize, out: usize| {
        let op = Unpatchify { frames: 1, rows: 2, columns: 2, patch: 2, channels: 3, kept };
        let (x, mut out) = (buffer(on, x), buffer(on, out));
        on.unpatchify(&op, UnpatchifyArgs { x: &x, out: &mut out })
    };
    vec![
        (call(2, 48, 32), String::new()),
        (call(4, 48, 64), "kept has 4, expected at most the channels".into()),
        (call(2, 47, 32), len("x", 47, 48)),
        (call(2, 48, 48), len("out", 48, 32)),
    ]
}

pub fn combine<B: Backend>(on: &B) -> Answers {
    let call = |coefficients: &[f32], inputs: &[usize], out: usize| {
        let inputs: Vec<_> = inputs.iter().map(|&len| single(on, len)).collect();
        let (inputs, mut out): (Vec<_>, _) = (inputs.iter().collect(), single(on, out));
        let op = Combine { len: 4, coefficients, clamp: None };
        on.combine(&op, CombineArgs { inputs: &inputs, out: &mut out })
    };
    vec![
        (call(&[1.0; 2], &[4, 4], 4), String::new()),
        (call(&[], &[], 4), "coefficients has 0, expected between 1 and 8 terms".into()),
        (call(&[1.0; 9], &[4; 9], 4), "coefficients has 9, expected between 1 and 8 terms".into()),
        (call(&[1.0; 2], &[4], 4), "inputs has 1, expected one input per coefficient".into()),
        (call(&[1.0; 2], &[4, 5], 4), len("input", 5, 4)),
        (call(&[1.0; 2], &[4, 4], 5), len("out", 5, 4)),
    ]
}

pub fn hold<B: Backend>(on: &B) -> Answers {
    let call = |lens: [usize; 4]| {
        let [original, noise, weight, mut sample] = lens.map(|len| single(on, len));
        let args = HoldArgs { original: &original, noise: &noise, weight: &weight, sample: &mut sample };
        on.hold(&Hold { len: 4, signal: 0.8, noise_level: 0.6 }, args)
    };
    vec![
        (call([4; 4]), String::new()),
        (call([3, 4, 4, 4]), len("original", 3, 4)),
        (call([4, 5, 4, 4]), len("noise", 5, 4)),
        (call([4, 4, 0, 4]), len("weight", 0, 4)),
        (call([4, 4, 4, 8]), len("sample", 8, 4)),
    ]
}

pub fn copy_box<B: Backend>(on: &B) -> Answers {
    let call = |op: CopyBox, x: usize, out: usize| {
        let (x, mut out) = (buffer(on, x), buffer(on, out));
        on.copy_box(&op, CopyBoxArgs { x: &x, out: &mut out })
    };
    let (from, to) = (BoxAt::whole([1, 3, 2]), BoxAt { size: [2, 2, 2], origin: [1, 0, 0] });
    let op = CopyBox { extent: [1, 2, 2], channels: 3, from, to };
    let outside =
        |argument: &str, at: BoxAt| format!("{argument} has {:?}, expected a box inside the buffer", (at, op.extent));
    let (low, late) = (BoxAt { origin: [0, 2, 0], ..from }, BoxAt { origin: [2, 0, 0], ..to });
    vec![
        (call(op, 18, 24), String::new()),
        (call(CopyBox { from: low, ..op }, 18, 24), outside("x", low)),
        (call(CopyBox { to: late, ..op }, 18, 24), outside("out", late)),
        (call(op, 17, 24), len("x", 17, 18)),
        (call(op, 18, 25), len("out", 25, 24)),
    ]
}

pub fn blend_box<B: Backend>(on: &B) -> Answers {
    let call = |blend: usize, neighbour: usize, tile: usize| {
        let axis = BlendAxis::Rows;
        let op = BlendBox { neighbour: [1, 2, 3], tile: [1, 3, 3], channels: 2, axis, blend };
        let (neighbour, mut tile) = (buffer(on, neighbour), buffer(on, tile));
        on.blend_box(&op, BlendBoxArgs { neighbour: &neighbour, tile: &mut tile })
    };
    vec![
        (call(2, 12, 18), String::new()),
        (call(3, 12, 18), "blend has 3, expected at most the side of either tile".into()),
        (call(2, 11, 18), len("neighbour", 11, 12)),
        (call(2, 12, 19), len("tile", 19, 18)),
    ]
}

pub fn from_bytes<B: Backend>(on: &B) -> Answers {
    let call = |bytes: &[u8], out: usize| {
        let mut out = buffer(on, out);
        on.from_bytes(&FromBytes { len: 3 }, FromBytesArgs { bytes, out: &mut out })
    };
    vec![
        (call(&[0, 127, 255], 3), String::new()),
        (call(&[0, 127], 3), len("bytes", 2, 3)),
        (call(&[0, 127, 255], 4), len("out", 4, 3)),
    ]
}

pub fn to_bytes<B: Backend>(on: &B) -> Answers {
    let op = ToBytes { offset: 2, len: 5 };
    let call = |x: usize| on.to_bytes(&op, ToBytesArgs { x: &buffer(on, x) }).map(drop);
    vec![(call(7), String::new()), (call(6), short("x", 6, 7))]
}

pub fn distance<B: Backend>(on: &B) -> Answers {
    let op = Distance { len: 5 };
    let call = |a: usize, b: usize| on.distance(&op, DistanceArgs { a: &buffer(on, a), b: &buffer(on, b) }).map(drop);
    vec![(call(5, 5), String::new()), (call(6, 5), len("a", 6, 5)), (call(5, 4), len("b", 4, 5))]
}

pub fn finite<B: Backend>(on: &B) -> Answers {
    let op = Finite { offset: 2, len: 5 };
    let call = |x: usize| on.finite(&op, FiniteArgs { x: &buffer(on, x) }).map(drop);
    vec![(call(7), String::new()), (call(6), short("x", 6, 7))]
}
