//! Patches to tokens and back at 5×32×32 latents, in bytes moved.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::patch::{PatchEmbed, Unpatchify};
use osp::weights::Tensor;

fn patch(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "patch");
    let cpu = Cpu::new();

    let op = PatchEmbed { frames: 5, height: 32, width: 32, cin: 4, cout: 1152, patch: 2 };
    let x = cpu.upload(&values(5 * 32 * 32 * 4)).unwrap();
    let weight = cpu.weight(vec![Tensor::from_f32(&[1152, 2, 2, 4], &values(1152 * 16))]).unwrap();
    let bias = cpu.weight(vec![Tensor::from_f32(&[1152], &values(1152))]).unwrap();
    let mut out = cpu.alloc(op.frames * op.tokens() * op.cout).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("patch_embed", |bencher| {
        bencher.iter(|| cpu.patch_embed(&op, &x, &weight, &bias, &mut out).unwrap());
    });

    let op = Unpatchify { frames: 5, rows: 16, columns: 16, patch: 2, channels: 8, kept: 4 };
    let x = cpu.upload(&values(5 * 32 * 32 * 8)).unwrap();
    let mut out = cpu.alloc(5 * 32 * 32 * 4).unwrap();
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function("unpatchify", |bencher| bencher.iter(|| cpu.unpatchify(&op, &x, &mut out).unwrap()));
}

criterion_group!(benches, patch);
criterion_main!(benches);
