//! `group_norm` with and without SiLU, in bytes moved, at levels of the VAE's decoder.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::groupnorm::GroupNorm;
use osp::weights::Tensor;

fn group_norm(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "group_norm");
    let cpu = Cpu::new();
    for (frames, side, channels, silu) in
        [(9, 128, 128, true), (9, 128, 128, false), (5, 64, 256, true), (3, 32, 512, true)]
    {
        let op = GroupNorm {
            frames,
            positions: side * side,
            channels,
            groups: 32,
            eps: 1e-6,
            per_frame: false,
            silu,
            moments_known: false,
        };
        let mut moments = cpu.alloc_moments(&op.moments()).unwrap();
        let x = cpu.upload(&values(frames * side * side * channels)).unwrap();
        let mut out = cpu.alloc(x.len()).unwrap();
        let [weight, bias] =
            [(); 2].map(|()| cpu.weight(vec![Tensor::from_f32(&[channels], &values(channels))]).unwrap());
        group.throughput(Throughput::Bytes(op.bytes(4)));
        let name = format!("{frames}x{side}x{side}x{channels}{}", if silu { " silu" } else { "" });
        group.bench_function(name, |bencher| {
            bencher.iter(|| cpu.group_norm(&op, &x, &mut moments, &weight, &bias, &mut out).unwrap());
        });
    }
}

criterion_group!(benches, group_norm);
criterion_main!(benches);
