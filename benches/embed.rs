//! Look-up and adding of tables, in bytes moved.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::embed::{AddRows, Embedding};
use osp::weights::Tensor;

fn embed(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "embed");
    let cpu = Cpu::new();

    let op = Embedding { tokens: 300, vocabulary: 1000, channels: 4096 };
    let table = [op.vocabulary, op.channels];
    let table = cpu.weight(vec![Tensor::from_f32(&table, &values(op.vocabulary * op.channels))]).unwrap();
    let ids: Vec<u32> = (0..300).map(|i| i * 337 % 1000).collect();
    let mut out = cpu.alloc(op.tokens * op.channels).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("embedding", |bencher| {
        bencher.iter(|| cpu.embedding(&op, &ids, &table, &mut out).unwrap());
    });

    let op = AddRows { outer: 1, rows: 5, inner: 256, channels: 1152 };
    let table = cpu.upload(&vec![0.0; op.rows * op.channels]).unwrap();
    let mut x = cpu.upload(&values(op.rows * op.inner * op.channels)).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("add_rows", |bencher| bencher.iter(|| cpu.add_rows(&op, &table, &mut x).unwrap()));
}

criterion_group!(benches, embed);
criterion_main!(benches);
