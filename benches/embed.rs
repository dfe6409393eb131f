//! Look-up in a table and addition of a table, in bytes moved: the tokens of a caption, and the positions of a
//! 17×256×256 video; on a GPU the positions of two samples of 65 and of 221 frames of 512×512.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::embed::{AddRows, AddRowsArgs, Embedding, EmbeddingArgs};
use osp::tensor::Tensor;

const CHANNELS: usize = 1152;

/// A video in tokens.
struct Video {
    samples: usize,
    frames: usize,
    positions: usize,
}

fn run<B: Target>(criterion: &mut Criterion, backend: &B, vocabulary: usize, videos: &[Video]) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "embed");

    let op = Embedding { tokens: 300, vocabulary, channels: 4096 };
    let table = [op.vocabulary, op.channels];
    let table = backend.weight(vec![Tensor::from_f32(&table, &values(op.vocabulary * op.channels))]).unwrap();
    let ids: Vec<u32> = (0..300).map(|i| i * 337 % 1000).collect();
    let mut out = backend.alloc(op.tokens * op.channels).unwrap();
    bench(&mut group, backend, &ceiling, "embedding", Work::Bytes(op.bytes(B::ELEMENT)), || {
        backend.embedding(&op, EmbeddingArgs { ids: &ids, table: &table, out: &mut out }).unwrap();
    });

    for &Video { samples, frames, positions } in videos {
        let mut x = backend.upload(&values(samples * frames * positions * CHANNELS)).unwrap();
        let space = AddRows { outer: samples * frames, rows: positions, inner: 1, channels: CHANNELS };
        let time = AddRows { outer: samples, rows: frames, inner: positions, channels: CHANNELS };
        for (axis, op) in [("positions", space), ("frames", time)] {
            // The table is zeros, so repeated additions do not change the sum.
            let table = backend.upload(&vec![0.0; op.rows * CHANNELS]).unwrap();
            let name = format!("add_rows {axis} {samples}x{frames}x{positions}");
            bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
                backend.add_rows(&op, AddRowsArgs { table: &table, x: &mut x }).unwrap();
            });
        }
    }
}

fn embed(criterion: &mut Criterion) {
    let video = |samples, frames, positions| Video { samples, frames, positions };
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, 32_128, &[video(2, 17, 1024), video(2, 56, 1024)]),
        None => run(criterion, &Cpu::new(), 1000, &[video(1, 5, 256)]),
    }
}

criterion_group!(benches, embed);
criterion_main!(benches);
