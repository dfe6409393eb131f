//! The norms over channels, in bytes moved, at the tokens of a 17×256×256 video and of a caption; on a GPU at those of two
//! samples of 221×512×512, with a copy of as many bytes beside them.

mod common;

use common::{Target, values};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use osp::cpu::Cpu;
use osp::ops::norm::{AdaLayerNorm, LayerNorm, RmsNorm};
use osp::weights::Tensor;

const CHANNELS: usize = 1152;
/// Tokens and channels of T5-XXL.
const TEXT: [usize; 2] = [300, 4096];

fn run<B: Target>(criterion: &mut Criterion, backend: &B, rows: usize) {
    let mut group = common::group(criterion, "norm");
    let parameter = |len: usize| backend.weight(vec![Tensor::from_f32(&[len], &values(len))]).unwrap();

    let x = backend.upload(&values(rows * CHANNELS)).unwrap();
    let mut out = backend.alloc(rows * CHANNELS).unwrap();
    let modulation = backend.upload(&values(2 * CHANNELS)).unwrap();
    let op = AdaLayerNorm {
        rows,
        channels: CHANNELS,
        eps: 1e-6,
        rows_per_modulation: rows,
        modulation_stride: 0,
        shift: 0,
        scale: CHANNELS,
    };
    group.throughput(Throughput::Bytes(op.bytes(B::ELEMENT)));
    group.bench_function(format!("copy {rows}x{CHANNELS}"), |bencher| {
        bencher.iter_custom(|iterations| {
            backend.time(iterations, &mut || common::copy(backend, rows * CHANNELS, &x, &mut out))
        });
    });
    group.bench_function(format!("ada_layer_norm {rows}x{CHANNELS}"), |bencher| {
        bencher.iter_custom(|iterations| {
            backend.time(iterations, &mut || backend.ada_layer_norm(&op, &x, &modulation, &mut out).unwrap())
        });
    });

    let op = LayerNorm { rows, channels: CHANNELS, eps: 1e-5 };
    let (weight, bias) = (parameter(CHANNELS), parameter(CHANNELS));
    group.bench_function(format!("layer_norm {rows}x{CHANNELS}"), |bencher| {
        bencher.iter_custom(|iterations| {
            backend.time(iterations, &mut || backend.layer_norm(&op, &x, &weight, &bias, &mut out).unwrap())
        });
    });

    let [rows, channels] = TEXT;
    let x = backend.upload(&values(rows * channels)).unwrap();
    let mut out = backend.alloc(rows * channels).unwrap();
    let op = RmsNorm { rows, channels, eps: 1e-6 };
    let weight = parameter(channels);
    group.throughput(Throughput::Bytes(op.bytes(B::ELEMENT)));
    group.bench_function(format!("rms_norm {rows}x{channels}"), |bencher| {
        bencher.iter_custom(|iterations| {
            backend.time(iterations, &mut || backend.rms_norm(&op, &x, &weight, &mut out).unwrap())
        });
    });
}

fn norms(criterion: &mut Criterion) {
    match common::gpu() {
        Some(gpu) => run(criterion, &gpu, 114_688),
        None => run(criterion, &Cpu::new(), 1280),
    }
}

criterion_group!(benches, norms);
criterion_main!(benches);
