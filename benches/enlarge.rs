//! Enlargements that are folded into weights, in bytes moved: the decoder's layers.

mod common;

use common::{Ceiling, Target, Work, bench, values};
use criterion::{Criterion, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::enlarge::{FoldEnlargement, FoldEnlargementArgs};
use osp::tensor::Tensor;

fn run<B: Target>(criterion: &mut Criterion, backend: &B) {
    let ceiling = Ceiling::measure(backend);
    let mut group = common::group(criterion, "fold_enlargement");
    for channels in [512, 256] {
        let op = FoldEnlargement { cout: channels, kt: 1, cin: channels };
        let weight = Tensor::from_f32(&[channels, 1, 3, 3, channels], &values(9 * channels * channels));
        let weight = backend.weight(vec![weight]).unwrap();
        let mut folded = backend.alloc_weight(&op.folded_shape()).unwrap();
        let name = format!("{channels}-{channels}");
        bench(&mut group, backend, &ceiling, &name, Work::Bytes(op.bytes(B::ELEMENT)), || {
            backend.fold_enlargement(&op, FoldEnlargementArgs { weight: &weight, folded: &mut folded }).unwrap();
        });
    }
}

fn enlarge(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu),
        None => run(criterion, &Cpu::new()),
    }
}

criterion_group!(benches, enlarge);
criterion_main!(benches);
