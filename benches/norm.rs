//! The norms over channels, in bytes moved, at the token counts of a 17×256×256 video and of a caption.

mod common;

use common::values;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::backend::Backend;
use osp::cpu::Cpu;
use osp::ops::norm::{AdaLayerNorm, LayerNorm, RmsNorm};
use osp::weights::Tensor;

fn norms(criterion: &mut Criterion) {
    let mut group = common::group(criterion, "norm");
    let cpu = Cpu::new();
    let parameter = |len: usize| cpu.weight(vec![Tensor::from_f32(&[len], &values(len))]).unwrap();

    let (rows, channels) = (1280, 1152);
    let x = cpu.upload(&values(rows * channels)).unwrap();
    let mut out = cpu.alloc(x.len()).unwrap();
    let modulation = cpu.upload(&values(2 * channels)).unwrap();
    let op = AdaLayerNorm {
        rows,
        channels,
        eps: 1e-6,
        rows_per_modulation: rows,
        modulation_stride: 0,
        shift: 0,
        scale: channels,
    };
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function(format!("ada_layer_norm {rows}x{channels}"), |bencher| {
        bencher.iter(|| cpu.ada_layer_norm(&op, &x, &modulation, &mut out).unwrap());
    });

    let op = LayerNorm { rows, channels, eps: 1e-5 };
    let (weight, bias) = (parameter(channels), parameter(channels));
    group.bench_function(format!("layer_norm {rows}x{channels}"), |bencher| {
        bencher.iter(|| cpu.layer_norm(&op, &x, &weight, &bias, &mut out).unwrap());
    });

    let (rows, channels) = (300, 4096);
    let x = cpu.upload(&values(rows * channels)).unwrap();
    let mut out = cpu.alloc(x.len()).unwrap();
    let op = RmsNorm { rows, channels, eps: 1e-6 };
    let weight = parameter(channels);
    group.throughput(Throughput::Bytes(op.bytes(4)));
    group.bench_function(format!("rms_norm {rows}x{channels}"), |bencher| {
        bencher.iter(|| cpu.rms_norm(&op, &x, &weight, &mut out).unwrap());
    });
}

criterion_group!(benches, norms);
criterion_main!(benches);
