//! Boxes of a decoded 9×256×256 window, and its bytes, in bytes moved.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::tile::{BlendAxis, BlendBox, BoxAt, CopyBox, ToBytes};

fn tile(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "tile");
    let cpu = Cpu::new();
    let size = [9, 256, 256];
    let len = size.iter().product::<usize>() * 3;
    let x = cpu.upload(&values(len)).unwrap();
    let mut out = cpu.upload(&values(len)).unwrap();

    let whole = BoxAt::whole(size);
    let op = CopyBox { extent: [9, 192, 192], channels: 3, from: whole, to: BoxAt { origin: [0, 64, 64], ..whole } };
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("copy_box", |bencher| bencher.iter(|| cpu.copy_box(&op, &x, &mut out).unwrap()));

    for axis in [BlendAxis::Rows, BlendAxis::Columns] {
        let op = BlendBox { neighbour: size, tile: size, channels: 3, axis, blend: 64 };
        group.throughput(Throughput::Bytes(op.bytes(4)));
        group.bench_function(format!("blend_box {axis:?}"), |bencher| {
            bencher.iter(|| cpu.blend_box(&op, &x, &mut out).unwrap());
        });
    }

    let op = ToBytes { offset: 0, len };
    let mut bytes = vec![0; len];
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("to_bytes", |bencher| bencher.iter(|| cpu.to_bytes(&op, &x, &mut bytes).unwrap()));
}

criterion_group!(benches, tile);
criterion_main!(benches);
